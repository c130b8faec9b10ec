"""Hyper-parameters of MEDIDA on Kuramoto-Sivashinsky.

R. Mojgani, A. Chattopadhyay and P. Hassanzadeh, Chaos 32 (2022) 061105. Where a default deviates
from the paper, its docstring says so and why.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from separatrix.agents.common.requirements import (
    require,
    require_at_least_0,
    require_fraction,
    require_positive,
)

Regression = Literal["bayes", "ensemble"]
"""The relevance vector machine, as in the paper, or ensemble SINDy."""

Assimilation = Literal["filter", "truncation", "none"]
"""What makes states of noisy observations: an ensemble filter, as in the paper; leaving out the
waves that do not stand out of the noise; or nothing."""


@dataclass(frozen=True)
class MedidaConfig:
    """Observations, filter and regression."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    length: float = 100.0
    """Period of the box."""

    points: int = 512
    """Points of the grid. The paper has 1024; the spectrum of the flow is at the level of rounding
    beyond the 170 waves that 512 points carry. White noise of given size at the points has half the
    power in each wave on twice as many."""

    pairs: int = 100
    """Pairs of observations. Each is of a flow of its own; the paper's are of one flow, 10 units of
    time apart."""

    settling: float = 200.0
    """Time that each flow takes from random waves to the attractor."""

    interval: float = 5e-3
    """Time between the two observations of a pair, one step of the model."""

    truth_steps: int = 5
    """Time steps of the truth in an interval."""

    noise: float = 0.0
    """Standard deviation of the noise of all observations, over that of the signal; it is known to
    the method."""

    assimilation: Assimilation = "filter"
    """What makes states of noisy observations; without noise they are taken as they are."""

    members: int = 150
    """Members of the filter, which must be more than twice the waves that stand out of the noise.
    The paper's stochastic filter has ten for each point."""

    spread: float = 0.2
    """Standard deviation of the forecast's perturbations over that of the signal; the paper's 0.25
    is as much. It must be large beside the noise, or the filter believes the imperfect model."""

    resolved: float = 10.0
    """Amplitude over that of the noise that a wave must have to take part in the regression."""

    rounds: int = 2
    """How often the error is sought; from the second on in the corrected model. The paper has
    one, after which what was found in one step of a wrong model is wrong by terms of the order of
    the interval."""

    regression: Regression = "bayes"
    """How the terms are found."""

    threshold: float = 0.1
    """Smallest root mean square that a term contributes, over that of what all terms explain. The
    paper prunes at a precision of 100, which is 0.1, too, but in the unit of the equation."""

    relevance: float = 25.0
    """Squared ratio of a term to its error bar from which on it is relevant, see `SparseBayes`.
    Rows of filtered observations are not independent, and their noise is not white, so that the
    usual 9 is too little."""

    resamples: int = 50
    """Members of ensemble SINDy."""

    inclusion: float = 0.6
    """Share of the members of ensemble SINDy that a term must be in (Fasel et al. 2022)."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(
            self, "length", "points", "pairs", "settling", "interval", "truth_steps", "spread"
        )
        require_positive(self, "rounds", "resamples", "resolved")
        require_at_least_0(self, "noise", "threshold")
        require_fraction(self, "inclusion")
        require(self.members >= 2, "members", self.members, "2 or more")
        require(self.relevance >= 1, "relevance", self.relevance, "1 or more")


PAPER = MedidaConfig(points=1024)
"""As the paper, but for what is said above."""

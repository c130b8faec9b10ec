"""Hyper-parameters of the distillation of a policy into a dictionary."""

from dataclasses import dataclass

from pydantic import ConfigDict

from separatrix.agents.common.requirements import (
    require,
    require_at_least_0,
    require_fraction,
    require_positive,
)


@dataclass(frozen=True)
class DistillationConfig:
    """How a policy becomes a sparse one; see `separatrix.agents.sindy_rl.distillation`.

    The paper (arXiv:2403.09110) regresses once on data of the teacher, over a grid of thresholds,
    and keeps the fit of the smallest error. What goes beyond it is named at its field.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    names: tuple[str, ...] = ()
    """Names of the components of the observation, for the equations; x0, x1, ... by default."""

    degrees: tuple[int, ...] = (2, 3)
    """Degrees of the polynomial libraries among which the selection chooses."""

    bias: bool = False
    """Whether the libraries hold the constant 1."""

    rounds: int = 3
    """Collections of data; in the paper 1. From the second on, the student acts as well and the
    teacher labels where that leads (DAgger)."""

    teacher_share: float = 0.5
    """Share of the actions that are the teacher's in the second round; its powers in later ones."""

    episodes: int = 64
    """Episodes of a round."""

    samples: int = 4000
    """Observations kept of a round, drawn at random."""

    query_noise: float = 0.1
    """Every observation kept is also disturbed and labelled: standard deviation of that noise, as a
    share of the observations'; 0 for a teacher that reads the state. The paper's is 0.1 absolute.
    """

    saturation: float = 0.99
    """Labels of at least this magnitude only bound the student's unclipped action from one side;
    above 1 none do, as in the paper."""

    ridges: tuple[float, ...] = (1e-6,)
    """Weights of the squared coefficients of features of unit mean square, for each row."""

    judge_episodes: int = 8
    """Episodes whose mean return selects; the paper selects by the error of the regression."""

    tolerance: float = 0.02
    """Of the candidates whose return falls short of the best by at most this share of its
    magnitude, that of fewest terms is selected."""

    members: int = 5
    """Resampled data sets on which the selected number of terms is chosen anew, to tell how often
    each term is among them; 0 for none."""

    refine: bool = True
    """Whether the coefficients are tuned by the return itself, and terms left out for as long as
    the return stays within the tolerance."""

    refine_iterations: int = 8
    """Populations of the cross-entropy method for each number of terms."""

    refine_population: int = 32
    """Policies of a population."""

    refine_episodes: int = 4
    """Episodes that judge each of them."""

    refine_deviation: float = 0.2
    """Standard deviation of the first population, as a share of each coefficient."""

    seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require(bool(self.degrees), "degrees", self.degrees, "one or more")
        require(bool(self.ridges), "ridges", self.ridges, "one or more")
        require_positive(self, "degrees", "rounds", "episodes", "samples", "saturation", "ridges")
        require_positive(self, "judge_episodes", "refine_iterations", "refine_episodes")
        require_positive(self, "refine_deviation")
        require_fraction(self, "teacher_share", "tolerance")
        require_at_least_0(self, "query_noise", "members", "seed")
        require(self.refine_population >= 4, "refine_population", self.refine_population, "from 4")

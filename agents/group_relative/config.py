"""Hyper-parameters of group-relative policy gradients.

Z. Shao et al., DeepSeekMath, arXiv:2402.03300 (GRPO); the covariance options are those of G. Cui et
al., The entropy mechanism of reinforcement learning for reasoning language models,
arXiv:2505.22617.
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


@dataclass(frozen=True)
class GroupRelativeConfig:
    """A policy of choices whose episodes are judged by the mean of their group, without critic."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    algorithm: Literal["group_relative"] = "group_relative"
    """The algorithm these hyper-parameters belong to."""

    group_size: int = 8
    """Episodes from the same start; the number of environments is a multiple of it."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    epochs: int = 4
    """Passes over the episodes of a round."""

    batches: int = 4
    """Minibatches of a pass."""

    clip_range: float = 0.2
    """The probability ratio is clipped to 1 - clip_range .. 1 + clip_range."""

    normalize_advantage: bool = True
    """Whether returns are divided by their standard deviation in the group."""

    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""

    covariance: Literal["none", "clip", "penalty"] = "none"
    """What is done about the choices whose advantage and log-probability vary together most, which
    is what entropy is lost by: nothing, their gradients are left out (Clip-Cov), or their
    probabilities are held (KL-Cov)."""

    covariance_share: float = 0.002
    """Share of the choices that this concerns."""

    covariance_range: tuple[float, float] = (1.0, 5.0)
    """Covariances among which choices are left out, drawn at random; of "clip" alone."""

    covariance_weight: float = 1.0
    """Weight of the change of the log-probabilities that are held; of "penalty" alone."""

    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm."""

    layers: tuple[int, ...] = (128, 128)
    """Hidden units of each layer of the policy."""

    embedding_size: int = 16
    """Components of the embedding of each token that is observed."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require(self.group_size > 1, "group_size", self.group_size, "2 or more")
        require_positive(self, "learning_rate", "epochs", "batches", "clip_range", "layers")
        require_positive(self, "max_gradient_norm", "embedding_size")
        require_at_least_0(self, "entropy_coefficient", "covariance_weight")
        require_fraction(self, "covariance_share")
        low, high = self.covariance_range
        require(low < high, "covariance_range", self.covariance_range, "ascending numbers")

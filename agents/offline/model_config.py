"""Hyper-parameters of learned dynamics, of rollouts in them, and of MOREC's transition filter."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict

from separatrix.agents.common.requirements import require, require_positive

Source = Literal["learned", "true"]
"""Dynamics: an ensemble fitted to the data, or the environment itself, where its observation
determines its state."""

Outcome = Literal["known", "learned"]
"""Whether rewards or ends of episodes are the environment's functions of observations and action,
where it has them, or predicted by the model."""

Floor = Literal["recorded", "generated"]
"""Below what a discriminator's logit counts no less: its mean on generated transitions, as
published; or, where that is lower, what only a hundredth of the recorded ones lie below."""

OnCut = Literal["lowest_value", "drop", "terminate"]
"""What becomes of a transition that the filter does not believe: its next observation has the
lowest value; it is left out; or it ends the episode, as in the authors' code, which is a prize
where rewards are negative."""


@dataclass(frozen=True)
class ModelConfig:
    """The dynamics of observations: an ensemble of normal distributions (MBPO's)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: Source = "learned"
    """Where the dynamics come from."""

    members: int = 7
    """Networks."""

    elites: int = 5
    """How many of them, the best on held-out data, propose transitions."""

    layers: tuple[int, ...] = (200, 200, 200, 200)
    """Hidden units of each layer."""

    learning_rate: float = 1e-3
    """Learning rate of AdamW."""

    max_epochs: int = 200
    """Passes over the data, at most."""

    patience: int = 5
    """Passes without any improvement on held-out data after which training stops."""

    reward: Outcome = "learned"
    """Where rewards come from."""

    termination: Outcome = "known"
    """Where ends of episodes come from; "known" of an environment that never terminates is none."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "members", "layers", "learning_rate", "max_epochs", "patience")
        allowed = f"1 to {self.members} members"
        require(1 <= self.elites <= self.members, "elites", self.elites, allowed)


@dataclass(frozen=True)
class RolloutsConfig:
    """Short rollouts of the policy from recorded observations (M. Janner et al., NeurIPS 2019)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    every: int = 1000
    """Updates between rollouts."""

    starts: int = 2000
    """Rollouts at a time."""

    length: int = 5
    """Steps of a rollout."""

    kept: int = 5
    """Times of rollouts whose transitions are kept."""

    recorded_share: float = 0.05
    """Share of recorded transitions in a batch."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "every", "starts", "length", "kept")
        share = self.recorded_share
        require(0 <= share < 1, "recorded_share", share, "from 0 to below 1")


@dataclass(frozen=True)
class DynamicsRewardConfig:
    """MOREC's reward of transitions, learned against a generator, as an ensemble over training."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    layers: tuple[int, ...] = (128, 128)
    """Hidden units of each layer of the discriminator."""

    updates: int = 5000
    """Updates of discriminator and generator."""

    batch_size: int = 256
    """Transitions of an update."""

    learning_rate: float = 3e-4
    """Learning rate of the discriminator's Adam."""

    generator_learning_rate: float = 1e-4
    """Learning rate of the generator's Adam."""

    gradient_penalty: float = 1.0
    """Weight of half the squared gradient of the logit at recorded transitions (R1: L. Mescheder et
    al., ICML 2018), in normalised units."""

    smooth_label: float = 0.9
    """Label of recorded transitions; that of generated ones is 0."""

    changes: bool = True
    """Whether the discriminator sees the change of the observation, rather than the next one."""

    snapshots: int = 10
    """Discriminators that are averaged, taken at equal ratios of time, the last at the end."""

    first_share: float = 0.02
    """Share of training from which these ratios count."""

    floor: Floor = "recorded"
    """Where each of them is clamped from below. The mean on generated transitions, as published,
    comes so near to the recorded ones as the generator learns that many of them lie below it."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "layers", "updates", "batch_size", "learning_rate")
        require_positive(self, "generator_learning_rate", "snapshots")
        require(0.5 < self.smooth_label <= 1, "smooth_label", self.smooth_label, "above 0.5, to 1")
        require(self.gradient_penalty >= 0, "gradient_penalty", self.gradient_penalty, "0 or more")
        require(0 < self.first_share < 1, "first_share", self.first_share, "above 0, below 1")
        room = int((1 - self.first_share) * self.updates)
        allowed = f"1 to {room}, the updates after the first_share"
        require(self.snapshots <= room, "snapshots", self.snapshots, allowed)


@dataclass(frozen=True)
class FilterConfig:
    """MOREC's transition filter: F. Luo et al., ICLR 2024, arXiv:2310.05422.

    Of several candidates for the next observation, those that the dynamics reward finds likely are
    taken.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    choice: Literal["argmax", "softmax", "random"] = "softmax"
    """How a candidate is chosen: the best, by the exponentials of the rewards over `temperature`,
    or, for comparison, any."""

    temperature: float = 0.1
    """Of the softmax."""

    samples: int = 2
    """Candidates of each elite."""

    threshold: float = 0.6
    """Dynamics reward below which the chosen candidate is not believed; rewards lie between 0.313
    and 1.313, and 0.693 is undecided."""

    on_cut: OnCut = "lowest_value"
    """What becomes of it. The rollout ends in any case."""

    reward: DynamicsRewardConfig = field(default_factory=DynamicsRewardConfig)
    """The dynamics reward."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "temperature", "samples")
        require(self.threshold >= 0, "threshold", self.threshold, "0 or more")

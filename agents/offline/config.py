"""Hyper-parameters of learning from recorded data alone.

Methods differ by `method`. Those that learn a model of the dynamics hold, beside their own numbers,
`model`, `rollouts` and, for MOREC, `filter`; see `separatrix.agents.offline.model_config`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator

from separatrix.agents.common.requirements import (
    require,
    require_at_least_0,
    require_positive,
)
from separatrix.agents.offline.model_config import FilterConfig, ModelConfig, RolloutsConfig

Schedule = Literal["constant", "cosine"]
"""How a policy's learning rate changes over a run: not at all, or along a cosine to 0."""


@dataclass(frozen=True)
class BehaviourCloningConfig:
    """Behaviour cloning: the recorded actions by least squares."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["behaviour_cloning"] = "behaviour_cloning"
    """The method these hyper-parameters belong to."""

    learning_rate: float = 3e-4
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "learning_rate")


@dataclass(frozen=True)
class TD3BehaviourCloningConfig:
    """TD3+BC: S. Fujimoto and S. Gu, NeurIPS 2021, arXiv:2106.06860."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["td3_bc"] = "td3_bc"
    """The method these hyper-parameters belong to."""

    alpha: float = 2.5
    """Weight of the values, scaled by their mean size, beside the squared distance to the recorded
    actions."""

    policy_noise: float = 0.2
    """Standard deviation of the noise on the actions of targets."""

    noise_limit: float = 0.5
    """Largest noise on these actions."""

    policy_every: int = 2
    """Updates of the critics for one of the policy and of the targets."""

    policy_learning_rate: float = 3e-4
    """Learning rate of the policy's Adam."""

    critic_learning_rate: float = 3e-4
    """Learning rate of the critics' Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "policy_every", "policy_learning_rate", "critic_learning_rate")
        require_at_least_0(self, "alpha", "policy_noise", "noise_limit")


@dataclass(frozen=True)
class ImplicitQLearningConfig:
    """IQL: I. Kostrikov, A. Nair and S. Levine, ICLR 2022, arXiv:2110.06169."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["iql"] = "iql"
    """The method these hyper-parameters belong to."""

    expectile: float = 0.7
    """Expectile of the action values that the value of an observation is."""

    temperature: float = 3.0
    """Factor of the advantages whose exponentials weigh the recorded actions."""

    largest_weight: float = 100.0
    """Bound of these weights."""

    policy_learning_rate: float = 3e-4
    """Learning rate of the policy's Adam."""

    policy_schedule: Schedule = "cosine"
    """How the policy's learning rate changes."""

    critic_learning_rate: float = 3e-4
    """Learning rate of the critics' and of the value's Adam."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require(0 < self.expectile < 1, "expectile", self.expectile, "above 0, below 1")
        require_positive(self, "temperature", "largest_weight")
        require_positive(self, "policy_learning_rate", "critic_learning_rate")


@dataclass(frozen=True)
class SoftActorCriticConfig:
    """What the methods on soft actor-critic share: T. Haarnoja et al., arXiv:1812.05905."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    critics: int = 2
    """Critics, whose smallest value counts."""

    policy_learning_rate: float = 1e-4
    """Learning rate of the policy's Adam."""

    policy_schedule: Schedule = "constant"
    """How the policy's learning rate changes."""

    critic_learning_rate: float = 3e-4
    """Learning rate of the critics' Adam."""

    entropy_learning_rate: float = 1e-4
    """Learning rate of the weight of the entropy; 0 keeps the weight."""

    initial_entropy_weight: float = 1.0
    """Weight of the entropy at the start."""

    entropy_in_targets: bool = True
    """Whether the targets of the critics hold the entropy to come."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "critics", "policy_learning_rate", "critic_learning_rate")
        require_positive(self, "initial_entropy_weight")
        require_at_least_0(self, "entropy_learning_rate")


@dataclass(frozen=True)
class ConservativeConfig(SoftActorCriticConfig):
    """CQL: A. Kumar, A. Zhou, G. Tucker and S. Levine, NeurIPS 2020, arXiv:2006.04779."""

    kind: Literal["cql"] = "cql"
    """The method these hyper-parameters belong to."""

    weight: float = 5.0
    """Weight of the gap between the values of all actions and those of recorded ones."""

    actions: int = 10
    """Actions of each source, uniform, of the policy here, of the policy there, in that gap."""

    entropy_in_targets: bool = False
    """Whether the targets of the critics hold the entropy to come."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_at_least_0(self, "weight")
        require_positive(self, "actions")


@dataclass(frozen=True)
class DiverseCriticsConfig(SoftActorCriticConfig):
    """EDAC: G. An, S. Moon, J.-H. Kim and H. O. Song, NeurIPS 2021, arXiv:2110.01548."""

    kind: Literal["edac"] = "edac"
    """The method these hyper-parameters belong to."""

    critics: int = 10
    """Critics, whose smallest value counts; the paper's hopper takes 50."""

    diversity: float = 1.0
    """Weight of the mean cosine between the critics' gradients by the action; 0 is SAC-N."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_at_least_0(self, "diversity")


@dataclass(frozen=True)
class ModelBasedConfig(SoftActorCriticConfig):
    """What the methods with a model of the dynamics share."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The dynamics."""

    rollouts: RolloutsConfig = field(default_factory=RolloutsConfig)
    """Rollouts of the policy in the dynamics."""

    filter: FilterConfig | None = None
    """MOREC's transition filter; null for none."""


@dataclass(frozen=True)
class MopoConfig(ModelBasedConfig):
    """MOPO: T. Yu et al., NeurIPS 2020, arXiv:2005.13239; a penalty of 0 makes it MBPO."""

    kind: Literal["mopo"] = "mopo"
    """The method these hyper-parameters belong to."""

    penalty: float = 1.0
    """What is taken off the rewards of the model, for each unit of the largest norm that the
    standard deviation of a member has; in units of the standard deviations of the data."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_at_least_0(self, "penalty")


@dataclass(frozen=True)
class MobileConfig(ModelBasedConfig):
    """MOBILE: Y. Sun et al., ICML 2023."""

    kind: Literal["mobile"] = "mobile"
    """The method these hyper-parameters belong to."""

    penalty: float = 1.0
    """What is taken off the targets of transitions of the model, for each unit of the standard
    deviation of their next values over the members."""

    samples: int = 10
    """Next observations of each member in these values."""

    entropy_in_targets: bool = False
    """Whether the targets of the critics hold the entropy to come."""

    clamp_at_zero: bool = False
    """Whether no target is below 0, as in the authors' code: right where no return is negative.
    Otherwise none is below the lowest value, see `OfflineConfig.lowest_value`."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_at_least_0(self, "penalty")
        require_positive(self, "samples")


@dataclass(frozen=True)
class ComboConfig(ModelBasedConfig):
    """COMBO: T. Yu et al., NeurIPS 2021, arXiv:2102.08363."""

    kind: Literal["combo"] = "combo"
    """The method these hyper-parameters belong to."""

    weight: float = 0.5
    """Weight of the gap between values on transitions of the model and on recorded ones."""

    actions: int = 10
    """Actions of each source in that gap."""

    entropy_in_targets: bool = False
    """Whether the targets of the critics hold the entropy to come."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_at_least_0(self, "weight")
        require_positive(self, "actions")
        share = self.rollouts.recorded_share
        require(share > 0, "rollouts.recorded_share", share, "above 0")


@dataclass(frozen=True)
class RavlConfig(ModelBasedConfig):
    """RAVL: A. Sims, C. Lu, J. Foerster and Y. W. Teh, NeurIPS 2024, arXiv:2402.12527."""

    kind: Literal["ravl"] = "ravl"
    """The method these hyper-parameters belong to."""

    critics: int = 10
    """Critics, whose smallest value counts."""

    diversity: float = 1.0
    """Weight of the mean cosine between the critics' gradients by the action."""

    policy_learning_rate: float = 3e-4
    """Learning rate of the policy's Adam."""

    entropy_learning_rate: float = 3e-4
    """Learning rate of the weight of the entropy; 0 keeps the weight."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_at_least_0(self, "diversity")


MethodConfig = (
    BehaviourCloningConfig
    | TD3BehaviourCloningConfig
    | ImplicitQLearningConfig
    | ConservativeConfig
    | DiverseCriticsConfig
    | MopoConfig
    | MobileConfig
    | ComboConfig
    | RavlConfig
)
"""The methods that an experiment can name."""


@dataclass(frozen=True)
class OfflineConfig:
    """Learning a policy from recorded transitions, without any step of the environment."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    dataset: str
    """Folder or file of the data, see `separatrix.agents.offline.data.files`; `separatrix collect`
    makes those of the experiments that come with the package."""

    algorithm: Literal["offline"] = "offline"
    """The algorithm these hyper-parameters belong to."""

    method: Annotated[MethodConfig, Discriminator("kind")] = field(
        default_factory=BehaviourCloningConfig
    )
    """How the policy is learned."""

    layers: tuple[int, ...] = (256, 256)
    """Hidden units of each layer of policy and critics."""

    batch_size: int = 256
    """Transitions of an update."""

    gamma: float = 0.99
    """Discount per control interval, below 1."""

    target_rate: float = 0.005
    """Share of the critics that enters their slowly moving targets in an update."""

    normalise_observations: bool = True
    """Whether networks see observations shifted and scaled by mean and deviation of the data."""

    lowest_value: float | None = None
    """Value of a next observation that is not believed, and the least target of MOBILE; null for
    the smallest recorded reward over 1 - gamma, or 0 if that is positive: an end of the episode is
    worth 0, which is the worst where rewards are positive, and a prize where they are negative."""

    log_every: int = 1000
    """Updates between rows of the log."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require(self.dataset != "", "dataset", repr(self.dataset), "a folder or a file")
        require_positive(self, "layers", "batch_size", "log_every")
        require(0 <= self.gamma < 1, "gamma", self.gamma, "from 0 to below 1")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "above 0, at most 1")

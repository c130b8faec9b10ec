"""Hyper-parameters of SINDy-RL.

N. Zolman, C. Lagemann, U. Fasel, J. N. Kutz and S. L. Brunton, "SINDy-RL: interpretable and
efficient model-based reinforcement learning", arXiv:2403.09110 (2024). Where a default deviates
from the paper, its docstring says so and why.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.requirements import (
    require,
    require_at_least_0,
    require_fraction,
    require_positive,
)
from separatrix.agents.common.stable_baselines3.config import PPOConfig, SACConfig

Reward = Literal["known", "learned"]
"""Where the rewards of the surrogate come from: the task itself, or a model fitted to the data."""


@dataclass(frozen=True)
class SparseModelConfig:
    """A sparse model of the dynamics: change = p(observation) + q(observation) action."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["sparse"] = "sparse"
    """The kind of model."""

    names: tuple[str, ...] = ()
    """Names of the components of the observation, for the equations; x0, x1, ... by default."""

    degree: int = 2
    """Highest degree of the polynomials p."""

    influence_degree: int = 2
    """Highest degree of the polynomials q; 0 makes the actions enter linearly."""

    interactions: bool = True
    """Whether p and q have products of different components."""

    angles: tuple[int, ...] = ()
    """Components that are angles, whose sines and cosines p and q may use too."""

    target: Literal["change", "next", "derivative"] = "change"
    """What is fitted: the change over a control interval, the next observation (the paper), or the
    derivative of differential equations, which a step integrates by Runge-Kutta."""

    threshold: float = 0.01
    """Smallest coefficient that is kept. See `scaled`."""

    alpha: float = 1e-6
    """Weight of the squared coefficients, for each transition. See `scaled`."""

    scaled: bool = True
    """Whether features and targets are divided by their root mean squares for the regression, so
    that threshold and alpha have no units and do not depend on the control interval. The paper does
    not, and its alpha is not for each transition but for all."""

    members: int = 20
    """Models of the ensemble, each fitted to transitions drawn with replacement."""

    drop: int = 0
    """Features that each member goes without, drawn at random. The paper drops 1; in a small
    library the members that miss a term that is needed then spoil the median."""

    aggregate: Literal["median", "mean"] = "median"
    """How the coefficients of the members make those of the model."""

    trim: float = 12.0
    """Transitions whose error is more robust standard deviations than this are left out, such as
    hits of a stop, which no polynomial describes; 0 keeps all, as the paper does."""

    reward: Reward = "known"
    """Where rewards come from. Learned ones are polynomials of an observation and the action."""

    reward_at: Literal["next", "middle"] = "next"
    """The observation that a learned reward depends on: the next one, or the mean of both, which
    suits rewards of a displacement. It is the same in the fit and in the surrogate."""

    reward_degree: int = 2
    """Degree of the polynomials of a learned reward."""

    reward_threshold: float = 0.01
    """Threshold of a learned reward."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "degree", "members", "reward_degree")
        require_at_least_0(
            self, "influence_degree", "threshold", "alpha", "drop", "trim", "reward_threshold"
        )


@dataclass(frozen=True)
class NeuralModelConfig:
    """An ensemble of networks in the place of the sparse model: the loop is the same.

    Changes of the observation are predicted, inputs and targets are normalised, and training stops
    by held-out rollouts, none of which the paper's comparison has.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["neural"] = "neural"
    """The kind of model."""

    members: int = 5
    """Networks."""

    hidden: tuple[int, ...] = (64, 64)
    """Hidden units of each layer."""

    learning_rate: float = 1e-3
    """Learning rate of AdamW."""

    max_epochs: int = 60
    """Passes over the data after each collection, at most."""

    patience: int = 5
    """Passes without any improvement after which training stops."""

    reward: Reward = "known"
    """Where rewards come from."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "members", "hidden", "learning_rate", "max_epochs", "patience")


@dataclass(frozen=True)
class SurrogateConfig:
    """The environment that the model makes."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_envs: int = 256
    """Surrogate environments side by side."""

    horizon: int = 200
    """Steps of a surrogate episode, at most. The paper's are as long as real ones."""

    initial_share: float = 0.25
    """Share of the surrogate episodes that start where real ones did; the others start from any
    observation in the data. The paper's share is 1, or 0 for flows."""

    limits: tuple[float, ...] = ()
    """Largest magnitude of each component of the observation; beyond it an episode ends as if the
    lowest reward of the data followed for ever. By default those of the environment."""

    circles: tuple[tuple[int, int], ...] = ()
    """Pairs of components that are cosine and sine of an angle: they are kept on the circle."""

    wrapped: tuple[int, ...] = ()
    """Components that are angles in radians between -pi and pi."""

    tolerance: float = 0.0
    """Error of held-out rollouts, in standard deviations of the observation, at which surrogate
    episodes end; 0 does not shorten them."""

    lyapunov_times: float = 0.0
    """Length of surrogate episodes, at most, in Lyapunov times of the model; 0 does not shorten
    them."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "num_envs", "horizon", "limits")
        require_fraction(self, "initial_share")
        require_at_least_0(self, "tolerance", "lyapunov_times")


@dataclass(frozen=True)
class UncertaintyConfig:
    """What is done about uncertainty; 0 switches a use off. The paper has none of them.

    The deviation is that of the members' predictions, in units of a typical change. The leverage
    tells how far features are from those of the data, 1 being the mean over the data (for sparse
    models alone).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    penalty: float = 0.0
    """Reward that is taken for each unit of deviation, at most the width of the reward range."""

    deviation_limit: float = 0.0
    """Deviation at which a surrogate episode is truncated."""

    leverage_limit: float = 0.0
    """Leverage at which a surrogate episode is truncated."""

    candidates: int = 1
    """Perturbed actions of which exploration takes the one with the largest deviation; 1 takes the
    first."""

    refit_above: float = 0.0
    """The model is fitted again if its error on new data is larger than this times the one on
    held-out data; 0 always fits."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_at_least_0(self, "penalty", "deviation_limit", "leverage_limit", "refit_above")
        require_positive(self, "candidates")


@dataclass(frozen=True)
class CollectionConfig:
    """How real steps are taken; all of them are counted."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    initial_steps: int = 2000
    """Real steps with random actions before the first fit (8000 in the paper's swing-up)."""

    initial_hold: int = 10
    """Steps for which a random action is held; the paper's is 1, which moves a body less."""

    initial_reset: int = 0
    """Steps after which a new episode starts before the first fit; 0 lets them go on."""

    steps: int = 1000
    """Real steps between two fits."""

    noise: float = 0.2
    """Standard deviation of the exploration, added to the action; the paper's is 0."""

    noise_hold: int = 10
    """Steps for which it is held."""

    capacity: int = 100_000
    """Real steps that are kept, the latest."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "initial_steps", "initial_hold", "steps", "noise_hold", "capacity")
        require_at_least_0(self, "initial_reset", "noise")


@dataclass(frozen=True)
class PopulationConfig:
    """Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) of the policies.

    Every member trains in surrogates of its own and acts in a real environment of its own; all
    share the data and the model. After a round the worst take the weights of the best and change
    their hyper-parameters.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    members: int = 1
    """Policies; the number of real environments must be a multiple. 1 is no population."""

    every: int = 2
    """Rounds between two selections."""

    quantile: float = 0.25
    """Share of the population that is replaced, and that it is replaced by."""

    resample: float = 0.25
    """Probability with which a hyper-parameter is drawn anew instead of changed by a fifth."""

    learning_rates: tuple[float, float] = (1e-5, 3e-3)
    """Range of the learning rate."""

    discounts: tuple[float, float] = (0.98, 0.9999)
    """Range of gamma."""

    gae_lambdas: tuple[float, float] = (0.9, 1.0)
    """Range of PPO's gae_lambda."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "members", "every", "learning_rates")
        require_fraction(self, "quantile", "resample")
        for name in ("learning_rates", "discounts", "gae_lambdas"):
            low, high = getattr(self, name)
            require(low < high, name, (low, high), "ascending")
        for name in ("discounts", "gae_lambdas"):
            require(getattr(self, name)[1] <= 1, name, getattr(self, name), "at most 1")


ModelConfig = SparseModelConfig | NeuralModelConfig
"""The models of the dynamics."""

PolicyConfig = PPOConfig | SACConfig | AnalyticPolicyConfig
"""The algorithms that train a policy in a surrogate."""


@dataclass(frozen=True)
class SindyRLConfig:
    """A model, a policy that is trained in it, and the loop around both."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    algorithm: Literal["sindy_rl"] = "sindy_rl"
    """The algorithm these hyper-parameters belong to."""

    model: Annotated[ModelConfig, Discriminator("kind")] = field(default_factory=SparseModelConfig)
    """The model of the dynamics."""

    policy: Annotated[PolicyConfig, Discriminator("algorithm")] = field(default_factory=PPOConfig)
    """The algorithm that trains the policy in the surrogate."""

    policy_steps: int = 100_000
    """Surrogate steps of the policy's training between two collections."""

    surrogate: SurrogateConfig = field(default_factory=SurrogateConfig)
    """The environment that the model makes."""

    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    """What is done about uncertainty."""

    collection: CollectionConfig = field(default_factory=CollectionConfig)
    """How real steps are taken."""

    population: PopulationConfig = field(default_factory=PopulationConfig)
    """Population-based training."""

    rollback: float = 0.5
    """If the return of a collection falls below this share of the best one so far (below a negative
    one by the rest of its magnitude), the policy goes back to the one that had it; 0 never does, as
    in the paper."""

    select: bool = True
    """Whether the policy that is kept is the one whose collection had the largest return, or the
    last one. Collections are real steps that are counted; evaluations are never looked at."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "policy_steps")
        require_fraction(self, "rollback")

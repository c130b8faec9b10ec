"""Hyper-parameters of PPO, PPO with masked choices, SAC and TD3.

Each field is one of stable-baselines3's arguments; where its name is an abbreviation there, the
docstring gives it. Defaults are stable-baselines3's, which follow the papers and their authors'
code; a deviation says so.

Schulman et al. (2017), arXiv:1707.06347 (PPO); Haarnoja et al. (2018), arXiv:1812.05905 (SAC);
Fujimoto, van Hoof and Meger (2018), arXiv:1802.09477 (TD3).
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

Activation = Literal["tanh", "relu", "elu"]
"""Activation between the hidden layers of a network."""

Schedule = Literal["constant", "linear"]
"""Learning rate over training: constant, or falling linearly to 0 at the run's last step."""


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    algorithm: Literal["ppo"] = "ppo"
    """The algorithm these hyper-parameters belong to."""

    learning_rate: float = 3e-4
    """Learning rate of Adam."""

    learning_rate_schedule: Schedule = "constant"
    """How the learning rate changes over training."""

    rollout_steps: int = 2048
    """Steps of each environment between two updates (n_steps)."""

    batch_size: int = 64
    """Transitions of a minibatch; best a divisor of rollout_steps * num_envs."""

    epochs: int = 10
    """Passes over each rollout (n_epochs)."""

    gamma: float = 0.99
    """Discount per control interval."""

    gae_lambda: float = 0.95
    """Trade-off of bias and variance in the generalised advantage estimate."""

    clip_range: float = 0.2
    """The probability ratio is clipped to 1 - clip_range .. 1 + clip_range."""

    normalize_advantage: bool = True
    """Whether advantages are standardised within each minibatch."""

    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus (ent_coef)."""

    value_coefficient: float = 0.5
    """Weight of the value loss (vf_coef)."""

    max_gradient_norm: float = 0.5
    """Gradients are scaled down to this norm (max_grad_norm)."""

    target_kl: float | None = None
    """An update stops early once its KL divergence passes 1.5 times this; None never does."""

    policy_layers: tuple[int, ...] = (64, 64)
    """Hidden units of each layer of the policy (net_arch, pi)."""

    value_layers: tuple[int, ...] = (64, 64)
    """Hidden units of each layer of the value function (net_arch, vf)."""

    activation: Activation = "tanh"
    """Activation between the layers (activation_fn)."""

    observation_scale: tuple[float, ...] = ()
    """Factors of the observation's components before the networks; none changes nothing."""

    initial_log_std: float = 0.0
    """Logarithm of the policy's standard deviation at the start (log_std_init)."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(
            self, "learning_rate", "rollout_steps", "epochs", "clip_range", "max_gradient_norm"
        )
        require_positive(self, "policy_layers", "value_layers", "observation_scale")
        require(self.batch_size > 1, "batch_size", self.batch_size, "2 or more")
        require_fraction(self, "gamma", "gae_lambda")
        require_at_least_0(self, "entropy_coefficient", "value_coefficient")
        if self.target_kl is not None:
            require_positive(self, "target_kl")


@dataclass(frozen=True)
class MaskablePPOConfig(PPOConfig):
    """Proximal policy optimisation that never makes a choice that makes no sense.

    S. Huang and S. Ontañón, A closer look at invalid action masking in policy gradient algorithms,
    FLAIRS (2022), arXiv:2006.14171; from sb3-contrib.
    """

    algorithm: Literal["maskable_ppo"] = "maskable_ppo"  # type: ignore[assignment]
    """The algorithm these hyper-parameters belong to."""


@dataclass(frozen=True)
class OffPolicyConfig:
    """What SAC and TD3 share; where their defaults differ, these are SAC's."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    learning_rate: float = 3e-4
    """Learning rate of Adam, for all networks."""

    learning_rate_schedule: Schedule = "constant"
    """How the learning rate changes over training."""

    buffer_size: int = 1_000_000
    """Transitions kept for replay, over all environments."""

    learning_starts: int = 100
    """Environment steps of uniformly random actions before the first update."""

    batch_size: int = 256
    """Transitions of a minibatch."""

    tau: float = 0.005
    """Share of a network that enters its slowly moving target at each update of the target."""

    gamma: float = 0.99
    """Discount per control interval."""

    train_every: int = 1
    """Steps of each environment between two rounds of updates (train_freq)."""

    gradient_steps: int = 1
    """Updates of a round; -1 makes as many as there were transitions since the last round."""

    actor_layers: tuple[int, ...] = (256, 256)
    """Hidden units of each layer of the actor (net_arch, pi)."""

    critic_layers: tuple[int, ...] = (256, 256)
    """Hidden units of each layer of the critics (net_arch, qf)."""

    activation: Activation = "relu"
    """Activation between the layers (activation_fn)."""

    observation_scale: tuple[float, ...] = ()
    """Factors of the observation's components before the networks; none changes nothing."""

    log_every: int = 1000
    """Environment steps between two rows of the log."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "learning_rate", "buffer_size", "batch_size", "train_every")
        require_positive(self, "actor_layers", "critic_layers", "log_every", "observation_scale")
        require_at_least_0(self, "learning_starts")
        require_fraction(self, "tau", "gamma")
        steps = self.gradient_steps
        require(steps == -1 or steps > 0, "gradient_steps", steps, "-1, or 1 or more")


@dataclass(frozen=True)
class SACConfig(OffPolicyConfig):
    """Soft actor-critic, with the entropy coefficient adapted to a target entropy."""

    algorithm: Literal["sac"] = "sac"
    """The algorithm these hyper-parameters belong to."""

    entropy_coefficient: float | Literal["auto"] = "auto"
    """Weight of the entropy in the return (ent_coef); auto adapts it."""

    target_entropy: float | Literal["auto"] = "auto"
    """Entropy aimed at by auto; auto is minus the number of action components."""

    target_update_interval: int = 1
    """Updates between two steps of the target networks."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_positive(self, "target_update_interval")
        if self.entropy_coefficient != "auto":
            require_at_least_0(self, "entropy_coefficient")


@dataclass(frozen=True)
class TD3Config(OffPolicyConfig):
    """Twin delayed deep deterministic policy gradient."""

    algorithm: Literal["td3"] = "td3"
    """The algorithm these hyper-parameters belong to."""

    learning_rate: float = 1e-3
    """Learning rate of Adam, for actor and critics."""

    actor_layers: tuple[int, ...] = (400, 300)
    """Hidden units of each layer of the actor (net_arch, pi)."""

    critic_layers: tuple[int, ...] = (400, 300)
    """Hidden units of each layer of the critics (net_arch, qf)."""

    exploration_noise: float = 0.1
    """Standard deviation of the Gaussian noise added to actions in [-1, 1] while training.

    The paper's; stable-baselines3 adds none unless it is told to (action_noise).
    """

    policy_delay: int = 2
    """Updates of the critics for each update of the actor."""

    target_policy_noise: float = 0.2
    """Standard deviation of the noise that smooths the target policy."""

    target_noise_clip: float = 0.5
    """Bound of that noise."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        super().__post_init__()
        require_positive(self, "policy_delay")
        require_at_least_0(self, "exploration_noise", "target_policy_noise", "target_noise_clip")


ModelFreeConfig = PPOConfig | MaskablePPOConfig | SACConfig | TD3Config
"""The algorithms of stable-baselines3."""

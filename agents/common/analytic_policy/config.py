"""Hyper-parameters of a policy trained by analytic gradients.

J. Xu et al., "Accelerated policy learning with parallel differentiable simulation", ICLR 2022,
arXiv:2204.07137 (SHAC). Defaults are those of the authors' cart-pole swing-up; a deviation says so.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from separatrix.agents.common.requirements import require, require_fraction, require_positive

Activation = Literal["tanh", "elu"]
"""Activation between the hidden layers of a network; smooth, for gradients flow through it."""

Schedule = Literal["constant", "linear"]
"""How a learning rate changes over training: not at all, or linearly from its value to 0."""


@dataclass(frozen=True)
class AnalyticPolicyConfig:
    """Short-horizon actor-critic: gradients through short windows, and a critic beyond them."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    algorithm: Literal["analytic"] = "analytic"
    """The algorithm these hyper-parameters belong to."""

    window: int = 32
    """Steps of each environment through which the gradient flows, between two updates."""

    gamma: float = 0.99
    """Discount per control interval, below 1."""

    td_lambda: float = 0.95
    """Trade-off of bias and variance in the targets of the critic."""

    policy_learning_rate: float = 1e-2
    """Learning rate of the policy's Adam."""

    critic_learning_rate: float = 1e-3
    """Learning rate of the critic's Adam."""

    learning_rate_schedule: Schedule = "constant"
    """How both learning rates change over training. The paper's fall linearly to 0."""

    adam_betas: tuple[float, float] = (0.7, 0.95)
    """Decay of the first and of the second moments of both Adams."""

    critic_epochs: int = 4
    """Passes over a window that train the critic. The paper makes 16, which takes longer."""

    critic_batches: int = 4
    """Minibatches of a pass."""

    target_rate: float = 0.8
    """Share of the critic that enters its slowly moving target after each window."""

    max_gradient_norm: float = 1.0
    """Gradients of policy and critic are scaled down to this norm."""

    policy_layers: tuple[int, ...] = (64, 64)
    """Hidden units of each layer of the policy."""

    critic_layers: tuple[int, ...] = (64, 64)
    """Hidden units of each layer of the critic."""

    activation: Activation = "tanh"
    """Activation between the layers. The paper's is elu, which learned more slowly here."""

    initial_log_std: float = -1.0
    """Logarithm of the policy's standard deviation at the start, of actions before tanh."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a value makes no sense."""
        require_positive(self, "window", "policy_learning_rate", "critic_learning_rate")
        require_positive(self, "critic_epochs", "critic_batches", "max_gradient_norm")
        require_positive(self, "policy_layers", "critic_layers")
        require_fraction(self, "td_lambda")
        require(0 <= self.gamma < 1, "gamma", self.gamma, "from 0 to below 1")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "above 0, at most 1")
        betas = self.adam_betas
        require(all(0 <= b < 1 for b in betas), "adam_betas", betas, "two from 0 to below 1")

"""IQL: an upper expectile of recorded actions' values, and the actions that are above it."""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.agents.offline.config import ImplicitQLearningConfig
from separatrix.agents.offline.learner import Batch, OfflineLearner
from separatrix.agents.offline.networks import Critics, GaussianPolicy


class ImplicitQLearning(OfflineLearner):
    """IQL: I. Kostrikov, A. Nair and S. Levine, ICLR 2022, arXiv:2110.06169, eq. 5 to 7.

    No action but recorded ones is ever asked for its value.
    """

    def _build(self) -> None:
        method = self.config.method
        assert isinstance(method, ImplicitQLearningConfig)
        self._method = method
        (observation_size, _), layers, generator = self.sizes, self.config.layers, self.generator
        policy = GaussianPolicy(*self.sizes, layers, generator)
        decaying = method.policy_schedule == "cosine"
        self._policy = self._add("policy", policy, method.policy_learning_rate, decaying=decaying)
        critics = Critics(2, *self.sizes, layers, generator)
        self.critics = self._add("critics", critics, method.critic_learning_rate)
        self.targets = self._add_target("targets", critics)
        value = Critics(1, observation_size, 0, layers, generator)
        self.value = self._add("value", value, method.critic_learning_rate)

    @property
    def policy(self) -> GaussianPolicy:
        """The network that acts."""
        return self._policy

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        method, observation, action = self._method, batch.observation, batch.action
        with torch.no_grad():
            action_value = self.targets(observation, action).amin(0)
            target = self._bootstrap(batch, self.value(batch.next_observation)[0])
        advantage = action_value - self.value(observation)[0]
        value_loss = expectile_loss(advantage, method.expectile)
        self._step("value", value_loss)
        scalars = self._improve_critics(self.critics(observation, action), target)
        weight = (method.temperature * advantage.detach()).exp().clamp_max(method.largest_weight)
        likelihood = self._policy.log_probability(observation, action)
        policy_loss = -(weight * likelihood).mean()
        self._step("policy", policy_loss)
        self._follow(self.targets, self.critics)
        scalars |= {"value_loss": value_loss, "policy_loss": policy_loss}
        return scalars | {"advantage": advantage.mean(), "weight": weight.mean()}


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Returns the mean of squares, positive ones times the expectile, the rest times 1 less it.

    Over x it is smallest for differences y - x where x is that expectile of y; for 0.5 the mean.
    """
    weight = torch.where(difference > 0, expectile, 1 - expectile)
    return (weight * difference.square()).mean()

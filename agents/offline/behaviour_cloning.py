"""Behaviour cloning: the recorded actions, by least squares."""

from __future__ import annotations

from torch import Tensor

from separatrix.agents.offline.config import BehaviourCloningConfig
from separatrix.agents.offline.learner import Batch, OfflineLearner
from separatrix.agents.offline.networks import DeterministicPolicy


class BehaviourCloning(OfflineLearner):
    """Regression from observations to recorded actions.

    Of a behaviour that draws its actions it learns the mean.
    """

    def _build(self) -> None:
        method = self.config.method
        assert isinstance(method, BehaviourCloningConfig)
        policy = DeterministicPolicy(*self.sizes, self.config.layers, self.generator)
        self._policy = self._add("policy", policy, method.learning_rate)

    @property
    def policy(self) -> DeterministicPolicy:
        """The network that acts."""
        return self._policy

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        loss = (self._policy.mode(batch.observation) - batch.action).square().mean()
        self._step("policy", loss)
        return {"policy_loss": loss}

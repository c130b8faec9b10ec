"""TD3+BC: the values of two critics against the distance to the recorded actions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.offline.config import TD3BehaviourCloningConfig
from separatrix.agents.offline.learner import Batch, OfflineLearner
from separatrix.agents.offline.networks import Critics, DeterministicPolicy


class TD3BehaviourCloning(OfflineLearner):
    """TD3+BC: S. Fujimoto and S. Gu, NeurIPS 2021, arXiv:2106.06860.

    The policy maximises alpha times the first critic, whose values are divided by their mean size,
    less the squared distance to the recorded actions.
    """

    def _build(self) -> None:
        method = self.config.method
        assert isinstance(method, TD3BehaviourCloningConfig)
        self._method = method
        sizes, layers, generator = self.sizes, self.config.layers, self.generator
        policy = DeterministicPolicy(*sizes, layers, generator)
        self._policy = self._add("policy", policy, method.policy_learning_rate)
        critics = Critics(2, *sizes, layers, generator)
        self.critics = self._add("critics", critics, method.critic_learning_rate)
        self._target_policy = self._add_target("target_policy", policy)
        self.targets = self._add_target("targets", critics)

    @property
    def policy(self) -> DeterministicPolicy:
        """The network that acts."""
        return self._policy

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        target = self._target(batch)
        scalars = self._improve_critics(self.critics(batch.observation, batch.action), target)
        if (self.updates + 1) % self._method.policy_every == 0:
            scalars |= self._improve_policy(batch)
            self._follow(self.targets, self.critics)
            self._follow(self._target_policy, self._policy)
        return scalars

    @torch.no_grad()
    def _target(self, batch: Batch) -> Float[Tensor, " rows"]:
        """Returns what the critics are to say, at actions with noise."""
        method, action = self._method, self._target_policy.mode(batch.next_observation)
        noise = torch.empty_like(action).normal_(0, method.policy_noise, generator=self.generator)
        action = (action + noise.clamp(-method.noise_limit, method.noise_limit)).clamp(-1, 1)
        return self._bootstrap(batch, self.targets(batch.next_observation, action).amin(0))

    def _improve_policy(self, batch: Batch) -> dict[str, Tensor]:
        action = self._policy.mode(batch.observation)
        value = self.critics(batch.observation, action, first=1, frozen=True)[0]
        weight = self._method.alpha / value.detach().abs().mean()
        distance = (action - batch.action).square().mean()
        loss = distance - weight * value.mean()
        self._step("policy", loss)
        return {"policy_loss": loss, "behaviour_distance": distance}

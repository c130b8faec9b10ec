"""Soft actor-critic on batches, with an ensemble of critics; other methods change its pieces."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from separatrix.agents.offline.config import SoftActorCriticConfig
from separatrix.agents.offline.learner import Batch, OfflineLearner
from separatrix.agents.offline.networks import Critics, SquashedPolicy


class EntropyWeight(nn.Module):
    """The weight of the entropy, learned so that the entropy is minus the number of actions.

    Args:
        initial: Its start.
        device: Where it is.
    """

    def __init__(self, initial: float, device: torch.device) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(float(initial), device=device).log())

    @property
    def value(self) -> Float[Tensor, ""]:
        """The weight, detached."""
        return self.log.detach().exp()


class SoftActorCritic(OfflineLearner):
    """SAC with N critics whose smallest value counts (T. Haarnoja et al., arXiv:1812.05905).

    The method's hyper-parameters are a `SoftActorCriticConfig`.
    """

    def _build(self) -> None:
        method = self.config.method
        assert isinstance(method, SoftActorCriticConfig)
        self._sac = method
        sizes, generator = self.sizes, self.generator
        decaying = method.policy_schedule == "cosine"
        policy = SquashedPolicy(*sizes, self.config.layers, generator)
        self._policy = self._add("policy", policy, method.policy_learning_rate, decaying=decaying)
        critics = Critics(method.critics, *sizes, self.config.layers, generator)
        self.critics = self._add("critics", critics, method.critic_learning_rate)
        self.targets = self._add_target("targets", critics)
        entropy = EntropyWeight(method.initial_entropy_weight, generator.device)
        self.entropy = self._add("entropy", entropy, method.entropy_learning_rate or None)

    @property
    def policy(self) -> SquashedPolicy:
        """The network that acts."""
        return self._policy

    @torch.no_grad()
    def act(self, observation: Float[Tensor, "rows observation"]) -> Float[Tensor, "rows action"]:
        """Draws actions of the policy."""
        return self._policy.sample(self.normalizer(observation), self.generator)[0]

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        target = self._target(batch)
        values, penalty, scalars = self._critic_terms(batch)
        scalars |= self._improve_critics(values, target, penalty)
        scalars |= self._improve_policy(batch)
        self._follow(self.targets, self.critics)
        return scalars

    @torch.no_grad()
    def _target(self, batch: Batch) -> Float[Tensor, " rows"]:
        """Returns what the critics are to say of the rows of a batch."""
        action, log_probability = self._policy.sample(batch.next_observation, self.generator)
        value = self.targets(batch.next_observation, action).amin(0)
        if self._sac.entropy_in_targets:
            value = value - self.entropy.value * log_probability
        return self._bootstrap(batch, value)

    def _critic_terms(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "critics rows"], Tensor | float, dict[str, Tensor]]:
        """Returns the critics' values, what a method adds to their loss, scalars for the log."""
        return self.critics(batch.observation, batch.action), 0.0, {}

    def _improve_policy(self, batch: Batch) -> dict[str, Tensor]:
        action, log_probability = self._policy.sample(batch.observation, self.generator)
        value = self.critics(batch.observation, action, frozen=True).amin(0)
        loss = (self.entropy.value * log_probability - value).mean()
        self._step("policy", loss)
        entropy = -log_probability.detach().mean()
        if "entropy" in self._optimizers:
            # Up while the entropy is below the one that is wanted.
            self._step("entropy", self.entropy.log * (entropy + self.sizes[1]))
        return {"policy_loss": loss, "entropy": entropy, "entropy_weight": self.entropy.value}

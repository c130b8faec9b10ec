"""MOBILE: targets less the disagreement of the model's members on the value to come."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.offline.config import MobileConfig, OfflineConfig
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.model.dynamics import Dynamics
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic


class Mobile(SoftActorCritic):
    """Model-Bellman inconsistency penalised offline policy optimisation: Y. Sun et al., ICML 2023.

    From the targets of the model's transitions it takes `penalty` times the standard deviation,
    over the elites, of the mean over samples of the smallest target value at the next observations
    that they predict, of actions of the policy there. No target is below the lowest value or, as an
    option, below 0.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        config: Hyper-parameters; the method's are a `MobileConfig`.
        seed: Seed of weights and of everything drawn.
        device: Where the networks are.
        total_updates: Updates of the whole run.
        lowest_value: Value of next observations that are not believed, and the least target.
        dynamics: What the transitions were made in.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: OfflineConfig,
        seed: int,
        device: torch.device | str,
        total_updates: int,
        lowest_value: float,
        dynamics: Dynamics,
    ) -> None:
        sizes = observation_size, action_size
        super().__init__(*sizes, config, seed, device, total_updates, lowest_value)
        self._dynamics = dynamics

    @torch.no_grad()
    def _target(self, batch: Batch) -> Float[Tensor, " rows"]:
        method = self._sac
        assert isinstance(method, MobileConfig)
        target = super()._target(batch)
        penalty = method.penalty * self.inconsistency(
            batch.observation[batch.recorded :], batch.action[batch.recorded :]
        )
        target[batch.recorded :] -= penalty
        return target.clamp_min(0.0 if method.clamp_at_zero else self.lowest_value)

    @torch.no_grad()
    def inconsistency(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
    ) -> Float[Tensor, " rows"]:
        """Returns the standard deviation over the elites of the value that each expects.

        It is the one with the number of elites less one below, as in the authors' code; one member
        agrees with itself.

        Args:
            observation: Normalised.
            action: Held from there on.
        """
        method = self._sac
        assert isinstance(method, MobileConfig)
        following = self._dynamics.members(
            self.normalizer.inverse(observation), action, method.samples, self.generator
        )
        seen = self.normalizer(following).flatten(0, -2)
        value = self.targets(seen, self._policy.sample(seen, self.generator)[0]).amin(0)
        expected = value.view(following.shape[:-1]).mean(1)
        return expected.std(0, correction=min(1, len(expected) - 1))

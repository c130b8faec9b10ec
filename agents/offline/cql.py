"""CQL: critics that are lower on actions that were not recorded."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.offline.config import ConservativeConfig
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.networks import Critics, SquashedPolicy
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic


class ConservativeCritics(SoftActorCritic):
    """CQL(H): A. Kumar, A. Zhou, G. Tucker and S. Levine, NeurIPS 2020, arXiv:2006.04779, eq. 4.

    The weight of the gap is fixed.
    """

    def _critic_terms(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "critics rows"], Tensor | float, dict[str, Tensor]]:
        method = self._sac
        assert isinstance(method, ConservativeConfig)
        values, _, scalars = super()._critic_terms(batch)
        gap = conservative_gap(
            self.critics,
            self.policy,
            batch.observation,
            batch.next_observation,
            values,
            method.actions,
            self.generator,
        )
        return values, method.weight * gap.sum(), scalars | {"gap": gap.mean()}


def conservative_gap(
    critics: Critics,
    policy: SquashedPolicy,
    observation: Float[Tensor, "rows observation"],
    next_observation: Float[Tensor, "rows observation"],
    recorded: Float[Tensor, "critics recorded"],
    actions: int,
    generator: torch.Generator,
) -> Float[Tensor, " critics"]:
    """Returns how far the values of all actions lie above those of recorded ones.

    The former are the mean over rows of the logarithm of the integral, over all actions, of the
    exponentials of their values, by importance sampling, as in the authors' code: uniform actions,
    the policy's, and the policy's at the next observation.

    Args:
        critics: Give the values.
        policy: Draws actions; no gradient flows to it.
        observation: Where actions are valued.
        next_observation: Where the third kind of actions is drawn.
        recorded: Values of recorded transitions, which need not be those of the observations.
        actions: Actions of each of the three kinds, for every row.
        generator: Source of randomness.
    """
    rows = len(observation)
    with torch.no_grad():
        both = torch.cat((observation, next_observation))
        drawn, log_probability = policy.samples(both, actions, generator)
        uniform = torch.rand(
            drawn[:, :rows].shape, generator=generator, device=drawn.device, dtype=drawn.dtype
        )
        action = torch.cat((2 * uniform - 1, drawn[:, :rows], drawn[:, rows:]))
        # The density of uniform actions is one half along each axis.
        density = torch.full_like(log_probability[:, :rows], -math.log(2) * action.shape[2])
        density = torch.cat((density, log_probability[:, :rows], log_probability[:, rows:]))
    everywhere = observation.repeat(3 * actions, 1)
    values = critics(everywhere, action.flatten(0, 1)[None]).unflatten(1, (3 * actions, rows))
    integral = (values - density).logsumexp(1) - math.log(3 * actions)
    return integral.mean(1) - recorded.mean(1)

"""EDAC: an ensemble of critics kept diverse, whose smallest value counts."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.offline.config import DiverseCriticsConfig, RavlConfig
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic


class DiverseCritics(SoftActorCritic):
    """EDAC: G. An, S. Moon, J.-H. Kim and H. O. Song, NeurIPS 2021, arXiv:2110.01548, eq. 5.

    On transitions of a model it is RAVL (A. Sims et al., NeurIPS 2024, arXiv:2402.12527).
    """

    def _critic_terms(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "critics rows"], Tensor | float, dict[str, Tensor]]:
        method = self._sac
        assert isinstance(method, DiverseCriticsConfig | RavlConfig)
        if method.diversity == 0 or method.critics == 1:
            return super()._critic_terms(batch)
        # Each critic has the actions for itself, to be differentiated by them.
        action = batch.action.expand(method.critics, -1, -1).clone().requires_grad_()
        values = self.critics(batch.observation, action)
        (gradient,) = torch.autograd.grad(values.sum(), action, create_graph=True)
        cosine = mean_cosine(gradient)
        return values, method.diversity * cosine, {"cosine": cosine}


def mean_cosine(gradient: Float[Tensor, "critics rows action"]) -> Float[Tensor, ""]:
    """Returns the sum over pairs of critics of their gradients' cosine, over critics - 1.

    It is the mean over rows, between -critics / (critics - 1) and critics. Gradients are divided by
    their norm plus 1e-10, as those of saturated networks may vanish.
    """
    members = len(gradient)
    unit = gradient / (gradient.norm(dim=2, keepdim=True) + 1e-10)
    # Over ordered pairs: the square of the sum, without the squares of each.
    pairs = unit.sum(0).square().sum(1) - unit.square().sum((0, 2))
    return pairs.mean() / (members - 1)

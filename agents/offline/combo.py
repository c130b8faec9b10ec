"""COMBO: critics that are lower on what is made up than on what was recorded."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from separatrix.agents.offline.config import ComboConfig
from separatrix.agents.offline.cql import conservative_gap
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic


class Combo(SoftActorCritic):
    """Conservative offline model-based policy optimisation: T. Yu et al., NeurIPS 2021, eq. 3.

    To CQL's gap the observations of all rows of a batch contribute actions that nobody took, those
    of a model and recorded ones, as they are mixed in the batch; the recorded actions are those of
    recorded rows alone. So at least one row must be recorded.
    """

    def _critic_terms(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "critics rows"], Tensor | float, dict[str, Tensor]]:
        method = self._sac
        assert isinstance(method, ComboConfig)
        values, _, scalars = super()._critic_terms(batch)
        gap = conservative_gap(
            self.critics,
            self._policy,
            batch.observation,
            batch.next_observation,
            values[:, : batch.recorded],
            method.actions,
            self.generator,
        )
        return values, method.weight * gap.sum(), scalars | {"gap": gap.mean()}

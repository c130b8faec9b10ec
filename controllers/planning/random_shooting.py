"""Random shooting: the best of uniformly random sequences."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.planning.planner import Planner, check_whole
from separatrix.controllers.planning.sequences import Best
from separatrix.envs.core.environment import Environment


class RandomShooting(Planner):
    """Draws sequences uniformly in [-1, 1] and takes the best of them and of the last plan.

    As a planner with learned models: A. Nagabandi et al., ICRA 2018, section IV-C.

    Args:
        model: See `Planner`.
        horizon: Steps of a plan.
        population: Number of sequences of each environment.
        discount: See `Planner`.
        warm_start: See `Planner`.
        seed: See `Planner`.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        model: Environment,
        *,
        horizon: int = 20,
        population: int = 1000,
        discount: float = 1.0,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            model, horizon=horizon, discount=discount, warm_start=warm_start, seed=seed
        )
        check_whole(population=population)
        self.population = population

    def search(
        self, state: Any, memory: Float[Tensor, "batch 1 horizon action"]
    ) -> tuple[Float[Tensor, "batch horizon action"], Float[Tensor, "batch 1 horizon action"]]:
        """Returns the best sequence, and keeps it."""
        shape = (len(memory), self.population - 1, self.horizon, self.num_actions)
        drawn = memory.new_empty(shape).uniform_(-1.0, 1.0, generator=self.generator)
        candidates = torch.cat((memory, drawn), 1)
        returns = self.returns(state, candidates)
        best = Best.before(memory[:, 0]).update(candidates, returns)
        return best.sequence, best.sequence[:, None]

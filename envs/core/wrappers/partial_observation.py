"""Observations without some of their components."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Box
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.actions import Action
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.wrappers.wrapped_environment import WrappedEnvironment


class SelectedObservation(WrappedEnvironment):
    """See `separatrix.envs.core.wrappers.PartialObservation`."""

    def __init__(self, inner: Environment, indices: tuple[int, ...]) -> None:
        super().__init__(inner)
        space, size = inner.observation_space, inner.observation_space.shape[0]
        if max(indices) >= size:
            raise ValueError(f"indices: got {indices}; allowed: 0 to {size - 1}")
        chosen = list(indices)
        self.observation_space = Box(space.low[chosen], space.high[chosen], dtype=space.dtype)
        self._indices = torch.tensor(chosen, device=inner.device)

    def observe(self, state: Any) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return self.inner.observe(state).index_select(1, self._indices)

    def step(self, state: Any, action: Action) -> Transition:
        """Advances every environment by one control interval."""
        result = self.inner.step(state, action)
        return result._replace(observation=result.observation.index_select(1, self._indices))

"""Observations of the last steps, one after the other."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.actions import Action
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.wrappers.wrapped_environment import RememberingEnvironment, WrappedState


class StackedObservation(RememberingEnvironment):
    """See `separatrix.envs.core.wrappers.FrameStack`; remembers the observations it shows."""

    def __init__(self, inner: Environment, frames: int) -> None:
        super().__init__(inner)
        self._frames = frames
        space = inner.observation_space
        low, high = np.tile(space.low, frames), np.tile(space.high, frames)
        self.observation_space = Box(low, high, dtype=space.dtype)

    def initial_memory(
        self, observation: Float[Tensor, "batch observation"]
    ) -> Float[Tensor, "batch stacked"]:
        """Returns the first observation, as often as there are frames."""
        return observation.repeat(1, self._frames)

    def observe(self, state: WrappedState) -> Float[Tensor, "batch stacked"]:
        """Returns the observations of states."""
        return state.memory.clone()  # not the state itself: shells hand it out

    def step(self, state: WrappedState, action: Action) -> Transition:
        """Advances every environment by one control interval."""
        result = self.inner.step(state.inner, action)
        newest = result.observation
        memory = torch.cat((state.memory[:, newest.shape[1] :], newest), 1)
        next_state = WrappedState(result.state, memory)
        return result._replace(state=next_state, observation=self.observe(next_state))

"""Observations with normal noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.actions import Action
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.stream import OBSERVATION_NOISE, Stream
from separatrix.envs.core.wrappers.wrapped_environment import WrappedEnvironment

LARGEST = 6.77
"""No standard normal number of a `Stream` is larger."""


class NoisyObservation(WrappedEnvironment):
    """See `separatrix.envs.core.wrappers.ObservationNoise`."""

    def __init__(self, inner: Environment, standard_deviation: float) -> None:
        super().__init__(inner)
        self._standard_deviation = standard_deviation
        space = inner.observation_space
        widest = np.asarray(LARGEST * standard_deviation, space.dtype)
        self.observation_space = Box(space.low - widest, space.high + widest, dtype=space.dtype)
        self._purpose = OBSERVATION_NOISE
        below = inner
        while isinstance(below, WrappedEnvironment):  # noise upon noise must be other noise
            self._purpose += isinstance(below, NoisyObservation)
            below = below.inner

    def observe(self, state: Any) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states, always with the same noise."""
        return self._disturb(self.inner.observe(state), state)

    def step(self, state: Any, action: Action) -> Transition:
        """Advances every environment by one control interval."""
        result = self.inner.step(state, action)
        return result._replace(observation=self._disturb(result.observation, result.state))

    def _disturb(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch observation"]:
        # The step is the number of the draw: nothing to remember, nothing taken from the physics.
        stream = Stream(state.stream.seed, state.stream.episode, state.interval)
        noise, _ = stream.normal(observation.shape[1], observation.dtype, self._purpose)
        return observation + noise * self._standard_deviation

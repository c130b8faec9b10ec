"""Environments over environments: what all of them share."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from separatrix.envs.core.actions import Action
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.stream import Stream


class WrappedEnvironment(Environment):
    """An environment that is another one but for what a subclass overrides.

    Args:
        inner: The environment inside.
    """

    def __init__(self, inner: Environment) -> None:
        self.inner, self.system, self.horizon = inner, inner.system, inner.horizon
        self.observation_space, self.action_space = inner.observation_space, inner.action_space
        self.reward_range, self.metric_names = inner.reward_range, inner.metric_names

    @property
    def unwrapped(self) -> Environment:
        """The environment inside all wrappers."""
        return self.inner.unwrapped

    def restart(self, stream: Stream) -> tuple[Any, Float[Tensor, "batch observation"]]:
        """Starts an episode at given positions of the random streams."""
        state, _ = self.inner.restart(stream)
        return state, self.observe(state)

    def observe(self, state: Any) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return self.inner.observe(state)

    def step(self, state: Any, action: Action) -> Transition:
        """Advances every environment by one control interval."""
        return self.inner.step(state, action)

    def allowed_actions(self, state: Any) -> Bool[Tensor, "batch choices"] | None:
        """Tells which choices make sense in states; None where all do."""
        return self.inner.allowed_actions(state)

    def state_from(self, observation: Float[Tensor, "batch observation"], state: Any) -> Any:
        """Returns the state of the modelled environment, which has the same wrappers."""
        return state

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the environment of some rows of the batch; itself if parameters are shared."""
        inner = self.inner.select(rows)
        return self if inner is self.inner else self.around(inner)

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the environment with other physics inside the same wrappers."""
        return self.around(self.inner.with_parameters(parameters, num_envs))

    def around(self, inner: Environment) -> Self:
        """Returns the same wrapper around another environment of the same kind."""
        other = copy.copy(self)
        other.inner, other.system = inner, inner.system
        return other

    def render(self, state: Any, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the state of one environment."""
        return self.inner.render(state, row)


@dataclass(frozen=True)
class WrappedState:
    """State of an environment that remembers something of the past.

    Attributes:
        inner: State of the environment inside.
        memory: What is remembered, one row an environment.
    """

    inner: Any
    memory: Float[Tensor, "batch ..."]

    @property
    def stream(self) -> Stream:
        """Position of each environment in its random stream."""
        return self.inner.stream

    @property
    def interval(self) -> Int64[Tensor, " batch"]:
        """Number of control intervals since the start of the episode."""
        return self.inner.interval

    @property
    def unwrapped(self) -> Any:
        """State of the environment inside all wrappers."""
        return self.inner.unwrapped


class RememberingEnvironment(WrappedEnvironment):
    """An environment over another one whose state is a `WrappedState`."""

    def restart(self, stream: Stream) -> tuple[WrappedState, Float[Tensor, "batch observation"]]:
        """Starts an episode at given positions of the random streams."""
        inner, observation = self.inner.restart(stream)
        state = WrappedState(inner, self.initial_memory(observation))
        return state, self.observe(state)

    @abstractmethod
    def initial_memory(
        self, observation: Float[Tensor, "batch observation"]
    ) -> Float[Tensor, "batch ..."]:
        """Returns what is remembered at the start of episodes with these first observations."""

    def observe(self, state: WrappedState) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return self.inner.observe(state.inner)

    def allowed_actions(self, state: WrappedState) -> Bool[Tensor, "batch choices"] | None:
        """Tells which choices make sense in states; None where all do."""
        return self.inner.allowed_actions(state.inner)

    def render(self, state: WrappedState, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the state of one environment."""
        return self.inner.render(state.inner, row)

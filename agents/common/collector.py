"""Collecting experience: a controller acts in an environment and the transitions are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.replay import ReplayBuffer, Transitions
from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.state import copied, from_tensors, put, take, tensors


class Collector:
    """Steps every environment of a batch, episode after episode, and fills a replay buffer.

    An environment whose episode has ended starts the next one of its random stream, and the
    controller is told so. Episodes go on from one call of `collect` to the next.

    Args:
        environment: The environment.
        buffer: What is filled; its `num_envs` is that of the environment.
        seed: Environment i has the seed `seed + i`.
    """

    def __init__(self, environment: Environment, buffer: ReplayBuffer, seed: int) -> None:
        self._environment, self._buffer = environment, buffer
        with torch.no_grad():
            self._state, self._observation = environment.reset(seed)
        self._returns = torch.zeros_like(self._observation[:, 0])

    def collect(
        self,
        controller: Controller,
        steps: int,
        *,
        cut: bool = False,
        until: Callable[[], bool] | None = None,
    ) -> Float[Tensor, " episodes"]:
        """Takes control intervals in every environment.

        Args:
            controller: Who acts; it is reset first, as it may not have seen the episodes begin.
            steps: Control intervals of each environment.
            cut: Whether the episodes that are under way at the end are cut off there, so that the
                next controller starts new ones.
            until: Asked after every step whether it was the last one.

        Returns:
            The returns of the episodes that ended, in the order in which they did.
        """
        environment, finished = self._environment, []
        with torch.no_grad():
            controller.reset(torch.ones_like(self._returns, dtype=torch.bool))
            for step in range(steps):
                action = controller.act(self._observation, self._state)
                transition = environment.step(self._state, action)
                self._state = transition.state
                ended = transition.terminated | (self._state.interval >= environment.horizon)
                last = ended | (cut and step == steps - 1)
                self._buffer.add(
                    Transitions(
                        self._observation,
                        action,
                        transition.reward,
                        transition.observation,
                        transition.terminated,
                        last,
                    )
                )
                self._observation = transition.observation
                self._returns = self._returns + transition.reward
                if last.any():
                    finished.append(self._returns[ended])
                    self._start_again(last.nonzero()[:, 0])
                    controller.reset(last)
                if until is not None and until():
                    break
        return torch.cat(finished) if finished else self._returns[:0]

    def _start_again(self, rows: Tensor) -> None:
        streams = take(self._state.stream, rows).next_episode()
        state, observation = self._environment.select(rows).restart(streams)
        self._state = put(self._state, rows, state)
        self._observation = self._observation.index_copy(0, rows, observation)
        self._returns = self._returns.index_fill(0, rows, 0.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns where the episodes stand, for a checkpoint."""
        return {**tensors(self._state, "state."), "returns": self._returns}

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned, for an environment made the same way.

        Raises:
            ValueError: A tensor is missing or has another shape.
        """
        state: Any = from_tensors(self._state, found, "state.")
        self._returns = copied(found, "returns", self._returns)
        self._state = state
        with torch.no_grad():
            self._observation = self._environment.observe(state)

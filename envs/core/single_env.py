"""The Gymnasium shell of one environment: numpy in, numpy out."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

from separatrix.envs.core.environment import ArrayStepper, Environment
from separatrix.envs.core.inputs import (
    RENDER_MODES,
    check_options,
    check_render_mode,
    check_reset_options,
    random_seed,
    read_actions,
    read_choices,
    read_seeds,
)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream

FRAMES_PER_SECOND = 20
"""Frames a second of a video of one frame a step, whatever the system's unit of time."""


class SingleEnv(gymnasium.Env[np.ndarray, Any]):
    """One environment as a `gymnasium.Env`; time limits come from Gymnasium's `TimeLimit`.

    `reset(seed=s)` starts episode 0 of seed s; every later `reset()` starts the next episode of
    the same seed, as environment 0 of a batch does.

    Args:
        environment_id: Registered id; or an environment made before.
        render_mode: None or "rgb_array".
        options: As for `make_environment`.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": FRAMES_PER_SECOND}  # noqa: RUF012

    def __init__(
        self, environment_id: str | Environment, render_mode: str | None = None, **options: Any
    ) -> None:
        check_render_mode(render_mode)
        check_options(options)
        self.environment = make_environment(environment_id, 1, **options)
        self.observation_space = self.environment.observation_space
        self.action_space = self.environment.action_space
        self.render_mode = render_mode
        self._state: Any = None
        self._arrays: ArrayStepper | None = None
        self._shape = self.environment.action_shape
        self._dtype = self.environment.observation_space.dtype

    @property
    def state(self) -> Any:
        """The state, a batch of one; None before the first reset. It can be set."""
        return self._state if self._arrays is None else self._arrays.state

    @state.setter
    def state(self, state: Any) -> None:
        self._state, self._arrays = state, self.environment.array_stepper(state)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Seed of the random stream; None continues it, and draws a seed the first time.
            options: None are defined.

        Raises:
            ValueError: The seed is not a number from 0 to 2^63 - 1, or an option was given.
        """
        check_reset_options(options)
        if seed is None and self.state is not None:
            stream = self.state.stream.next_episode()
        else:
            seeds = read_seeds(random_seed() if seed is None else seed, 1)
            stream = Stream.start(seeds.to(self.environment.device))
        super().reset(seed=None if seed is None else int(stream.seed[0]))
        with torch.no_grad():
            self.state, observation = self.environment.restart(stream)
        return observation[0].cpu().numpy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advances by one control interval.

        Args:
            action: An array of the shape of the action space, or anything that numpy makes one
                of; clipped to [-1, 1]. Choices are integers.

        Raises:
            ValueError: The action has another shape, a NaN, something else than real numbers, or a
                choice that there is not.
            RuntimeError: The environment was not reset.
        """
        if self._state is None:
            raise RuntimeError("step() before the first reset()")
        if self._arrays is not None:
            observation, reward, terminated, info = self._arrays.step(self._action_array(action))
            return observation, reward, terminated, False, info
        values = torch.from_numpy(self._action_array(action)).to(self.environment.device)
        with torch.no_grad():
            found = self.environment.step(self._state, values)
        self._state = found.state
        info = {name: value.item() for name, value in found.info.items()}
        observation = found.observation[0].cpu().numpy()
        return observation, float(found.reward), bool(found.terminated), False, info

    def _action_array(self, action: Any) -> np.ndarray:
        """Returns an action as a new array (1, action) of the environment's dtype; or choices."""
        space = self.environment.action_space
        if not isinstance(space, Box):
            # Of the shape of the action itself, so that the message speaks of that.
            given = np.asarray(action)[None] if np.shape(action) == space.shape else action
            return read_choices(given, space, 1).numpy()
        given = isinstance(action, np.ndarray)
        if not (given and action.dtype == self._dtype and action.shape == self._shape):
            action = read_actions(action, self._shape, self.environment.dtype).numpy()
        values = np.array(action, order="C").reshape(1, -1)
        if np.isnan(values).any():
            raise ValueError(f"actions: got {values[0].tolist()}; NaN is not allowed")
        return values

    def render(self) -> np.ndarray | None:
        """Returns the frame (height, width, 3) in uint8, or None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs render_mode='rgb_array' at make")
            return None
        if self.state is None:
            raise RuntimeError("render() before the first reset()")
        return self.environment.render(self.state)

"""Environments over MuJoCo: numpy throughout, as MuJoCo is, and torch at the border."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Self

import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

from separatrix.envs.core.actions import action_box
from separatrix.envs.core.environment import ArrayStepper, Environment, Transition
from separatrix.envs.mechanics.mujoco_system import MujocoState, MujocoSystem, as_arrays
from separatrix.envs.mechanics.mujoco_task import MujocoTask

Draw = Callable[[np.ndarray, mujoco.MjModel], np.ndarray]


class _Step(NamedTuple):
    """What a step gives, one row an environment, in the environment's dtype but for `physics`."""

    physics: Float64[np.ndarray, "batch physics"]
    observation: Float[np.ndarray, "batch observation"]
    reward: Float[np.ndarray, " batch"]
    terminated: Bool[np.ndarray, " batch"]
    info: dict[str, np.ndarray]


class MujocoEnvironment(Environment):
    """A body of MuJoCo with a task. Its actions are signals of its motors, in [-1, 1].

    Args:
        system: The body.
        task: What is seen and rewarded, and what ends an episode.
        horizon: Steps of an episode.
        draw: Draws one environment from its positions and velocities and its model.
    """

    system: MujocoSystem
    task: MujocoTask

    def __init__(self, system: MujocoSystem, task: MujocoTask, horizon: int, draw: Draw) -> None:
        self.system, self.task, self.horizon, self._draw = system, task, horizon, draw
        self._dtype = {torch.float32: np.float32, torch.float64: np.float64}[system.dtype]
        bound = task.observation_limits(system).astype(self._dtype)
        self.observation_space = Box(-bound, bound, dtype=self._dtype)  # type: ignore[arg-type]
        self.action_space = action_box(system.models[0].nu)
        self.reward_range, self.metric_names = task.reward_range(system), task.metric_names

    def observe(self, state: MujocoState) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return torch.from_numpy(self._observe(*as_arrays(state.physics)))

    def step(self, state: MujocoState, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval.

        Raises:
            ValueError: A gradient is asked for.
        """
        stepped = self.step_arrays(*as_arrays(state.physics, action))
        physics, observation, reward, terminated = map(torch.from_numpy, stepped[:4])
        info = {name: torch.from_numpy(values) for name, values in stepped.info.items()}
        next_state = replace(state, physics=physics, interval=state.interval + 1)
        return Transition(next_state, observation, reward, terminated, info)

    def step_arrays(
        self, physics: Float64[np.ndarray, "batch physics"], action: Float[np.ndarray, "batch _"]
    ) -> _Step:
        """Does in numpy what `step` does."""
        system, action = self.system, action.clip(-1.0, 1.0).astype(np.float64)
        advanced = system.advance_arrays(physics, self.task.control(action))
        inside = system.inside_arrays(advanced)
        advanced = np.where(inside[:, None], advanced, physics)
        before, after = system.coordinates(physics), system.coordinates(advanced)
        reward = np.where(inside, self.task.reward(before, after, action), self.reward_range[0])
        metrics = self.task.metrics(before, after, action)
        info = {name: values.astype(self._dtype) for name, values in metrics.items()}
        info["diverged"] = ~inside
        terminated = self.task.terminated(after) | ~inside
        observation, reward = self._observe(advanced), reward.astype(self._dtype)
        return _Step(advanced, observation, reward, terminated, info)

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return self.task.observe(self.system.coordinates(physics)).astype(self._dtype)

    def known_outcome(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> tuple[Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Returns reward and termination of steps of which only the observations are known."""
        size, controls = self.observation_space.shape, self.action_shape
        rows = observation.shape[:1]
        allowed = [(*rows, *size), (*rows, *controls), (*rows, *size)]
        got = [tuple(tensor.shape) for tensor in (observation, action, next_observation)]
        if got != allowed:
            raise ValueError(
                f"observation, action and next_observation: got shapes {got}; allowed: {allowed}"
            )
        clipped = action.to(observation.dtype).clamp(-1.0, 1.0)
        reward = self.task.known_reward(observation, clipped, next_observation)
        if reward is None:
            return super().known_outcome(observation, action, next_observation)
        return reward, self.task.known_termination(next_observation)

    def known_termination(
        self, next_observation: Float[Tensor, "rows observation"]
    ) -> Bool[Tensor, " rows"]:
        """Returns the termination of steps, which the task knows even where no reward is known."""
        return self.task.known_termination(next_observation)

    def array_stepper(self, state: MujocoState) -> MujocoArrayStepper | None:
        """Returns a faster way to step one environment."""
        return MujocoArrayStepper(self, state) if self.num_envs == 1 else None

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the environment of some rows of the batch; itself if all rows are alike."""
        system, task = self.system.select(rows), self.task.select(rows)
        if system is self.system and task is self.task:
            return self
        selected = copy.copy(self)
        selected.system, selected.task = system, task
        return selected

    def render(self, state: MujocoState, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the state of one environment."""
        coordinates = self.system.coordinates(state.physics.detach().numpy())[row]
        return self._draw(coordinates, self.system.model_of(row))


class MujocoArrayStepper(ArrayStepper):
    """Steps one environment without torch."""

    def __init__(self, environment: MujocoEnvironment, state: MujocoState) -> None:
        self._environment = environment
        self.state = state

    @property
    def state(self) -> MujocoState:
        """The state, a batch of one."""
        return replace(
            self._start,
            physics=torch.from_numpy(self._physics.copy()),
            interval=self._start.interval + self._steps,
        )

    @state.setter
    def state(self, state: MujocoState) -> None:
        self._start, self._steps = state, 0
        self._physics = state.physics.detach().numpy().copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, float | bool]]:
        """Advances by one control interval."""
        stepped = self._environment.step_arrays(self._physics, action)
        self._physics, observation, reward, terminated, info = stepped
        self._steps += 1
        found = {name: values.item() for name, values in info.items()}
        return observation[0], reward.item(), terminated.item(), found

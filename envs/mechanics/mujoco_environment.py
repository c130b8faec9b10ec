"""Environments over MuJoCo: numpy throughout, as MuJoCo is, and torch at the border."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from separatrix.envs.core.environment import ArrayStepper, Environment, Transition, action_box
from separatrix.envs.mechanics.mujoco_system import MujocoState, MujocoSystem, as_arrays

HIDDEN = 2
"""The first positions, x and y, are not observed: nothing depends on where the body is."""


@dataclass(frozen=True)
class MoveForward:
    """The task of Gymnasium's bodies: move along x, the first position, at little cost of control.

    Observations are all other positions but y, the second, and the velocities, as they are. The
    reward is, with x before and after the step, dt apart,

        forward_reward_weight dx / dt - ctrl_cost_weight |action|^2

    Attributes:
        forward_reward_weight: See above.
        ctrl_cost_weight: See above.
    """

    forward_reward_weight: float
    ctrl_cost_weight: float

    def reward(
        self, forward_velocity: Float64[np.ndarray, " batch"], action: Float[np.ndarray, "batch _"]
    ) -> Float64[np.ndarray, " batch"]:
        """Returns the reward of a step."""
        cost = self.ctrl_cost_weight * np.square(action).sum(-1)
        return self.forward_reward_weight * forward_velocity - cost

    def reward_range(self, fastest: float, controls: int) -> tuple[float, float]:
        """Returns lowest and highest reward within a largest velocity."""
        largest = abs(self.forward_reward_weight) * fastest
        return -largest - self.ctrl_cost_weight * controls, largest


class _Step(NamedTuple):
    """What a step gives, one row an environment, in the environment's dtype but for `physics`."""

    physics: Float64[np.ndarray, "batch physics"]
    observation: Float[np.ndarray, "batch observation"]
    reward: Float[np.ndarray, " batch"]
    info: dict[str, np.ndarray]


class MujocoEnvironment(Environment):
    """A body of MuJoCo that is to move forward. Its actions are the signals of its motors.

    Args:
        system: The body.
        task: What is rewarded.
        horizon: Steps of an episode.
        draw: Draws one environment from its positions and velocities.
    """

    system: MujocoSystem
    metric_names = ("forward_velocity", "energy")

    def __init__(
        self,
        system: MujocoSystem,
        task: MoveForward,
        horizon: int,
        draw: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.system, self.task, self.horizon, self._draw = system, task, horizon, draw
        self._dtype = {torch.float32: np.float32, torch.float64: np.float64}[system.dtype]
        bound = system.limits[HIDDEN:].astype(self._dtype)
        self.observation_space = Box(-bound, bound, dtype=self._dtype)  # type: ignore[arg-type]
        self.action_space = action_box(system.model.nu)
        fastest = system.limits[system.model.nq].item()
        self.reward_range = task.reward_range(fastest, system.model.nu)

    def observe(self, state: MujocoState) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return torch.from_numpy(self._observe(*as_arrays(state.physics)))

    def step(self, state: MujocoState, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval.

        Raises:
            ValueError: A gradient is asked for.
        """
        stepped = self.step_arrays(*as_arrays(state.physics, action))
        physics, observation, reward = (torch.from_numpy(array) for array in stepped[:3])
        info = {name: torch.from_numpy(values) for name, values in stepped.info.items()}
        next_state = replace(state, physics=physics, interval=state.interval + 1)
        return Transition(next_state, observation, reward, info["diverged"].clone(), info)

    def step_arrays(
        self, physics: Float64[np.ndarray, "batch physics"], action: Float[np.ndarray, "batch _"]
    ) -> _Step:
        """Does in numpy what `step` does."""
        system, action = self.system, action.clip(-1.0, 1.0).astype(np.float64)
        advanced = system.advance_arrays(physics, action)
        inside = system.inside_arrays(advanced)
        advanced = np.where(inside[:, None], advanced, physics)
        before, after = (system.coordinates(each)[:, 0] for each in (physics, advanced))
        velocity = (after - before) / system.control_interval
        reward = np.where(inside, self.task.reward(velocity, action), self.reward_range[0])
        metrics = (velocity, np.square(action).mean(-1))
        info = {
            name: values.astype(self._dtype)
            for name, values in zip(self.metric_names, metrics, strict=True)
        }
        info["diverged"] = ~inside
        return _Step(advanced, self._observe(advanced), reward.astype(self._dtype), info)

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return self.system.coordinates(physics)[:, HIDDEN:].astype(self._dtype)

    def array_stepper(self, state: MujocoState) -> MujocoArrayStepper | None:
        """Returns a faster way to step one environment."""
        return MujocoArrayStepper(self, state) if self.num_envs == 1 else None

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns itself: all environments have the same parameters."""
        return self

    def render(self, state: MujocoState, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the state of one environment."""
        return self._draw(self.system.coordinates(state.physics.detach().numpy())[row])


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
        self._physics, observation, reward, info = self._environment.step_arrays(
            self._physics, action
        )
        self._steps += 1
        found = {name: values.item() for name, values in info.items()}
        return observation[0], reward.item(), found["diverged"], found

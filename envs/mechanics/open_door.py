"""The task of the door: reach the handle, turn it, open the door."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from separatrix.envs.mechanics.door import Handle
from separatrix.envs.mechanics.door_model import BALL, HAND, HINGE, SPEED, STICK, TURN_SPEED
from separatrix.envs.mechanics.mujoco_system import MujocoSystem
from separatrix.envs.mechanics.observed_task import ObservedTask, length

LENGTH = 0.2
"""Unit of observed positions, in m."""
WRIST, DOOR, HANDLE = 3, 4, 5
"""Coordinates that are angles; their velocities stand 6 behind, and the grip is the last."""
SCALE = np.array((LENGTH,) * 3 + (1.0,) + (SPEED,) * 3 + (TURN_SPEED, 1.0, 2.0, 1.0, 1.0, 1.0))
SEEN_DOOR, SEEN_HANDLE = 10, 11
"""Observations of the door's and the handle's angle, in rad."""


class OpenDoor(ObservedTask):
    """Observes the hand from the handle's end, and rewards reaching, turning and opening.

    Args:
        handles: The handle of all environments, or of each.
        control_weight: Cost of the action's length, see `Door`.
    """

    metric_names = ("door", "handle", "energy")

    def __init__(self, handles: Sequence[Handle], control_weight: float) -> None:
        self.handles, self.control_weight = list(handles), control_weight
        self._side, self._reach, _ = np.array(handles, np.float64).T

    def observation_limits(self, system: MujocoSystem) -> Float64[np.ndarray, " observation"]:
        """Returns the bounds of the safe box, of the hand's position those from a handle."""
        limits = np.concatenate((system.limits[:3] + 1.0, system.limits[3:]))
        return _seen(limits[None], limits[None, :3])[0]

    def reward_range(self, system: MujocoSystem) -> tuple[float, float]:
        """Returns lowest and highest reward: of full actions far away, and of an open door."""
        return -self.control_weight * 5**0.5, 1.0

    def observe(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Float64[np.ndarray, "batch observation"]:
        """Returns the hand's position from the handle's end, velocities, angles and grip."""
        return _seen(coordinates, coordinates[:, :3] - self.ends(coordinates))

    def ends(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Float64[np.ndarray, "batch 3"]:
        """Returns where the ends of the handles are, in m from the axis of a closed one."""
        door, handle = coordinates[:, DOOR], coordinates[:, HANDLE]
        along = self._reach * np.cos(handle) - HINGE * self._side  # from the hinge
        x = -STICK * np.cos(door) - along * np.sin(door)
        y = -STICK * np.sin(door) + along * np.cos(door) + HINGE * self._side
        return np.stack((x, y, self._reach * np.sin(handle)), 1)

    def judge(self, observation: Any, action: Any, tanh: Callable[[Any], Any]) -> Any:
        """Returns rewards of steps, see `ObservedTask`."""
        gap = (LENGTH * length(*observation[:, :3].T) - HAND - BALL).clip(min=0.0)
        turned = abs(observation[:, SEEN_HANDLE]).clip(max=1.0)
        opened = (abs(observation[:, SEEN_DOOR]) / (math.pi / 2)).clip(max=1.0)
        gain = 0.2 * (1 - tanh(5 * gap)) + 0.2 * turned + 0.6 * opened
        return gain - self.control_weight * length(*action.T)

    def metrics(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> dict[str, Float64[np.ndarray, " batch"]]:
        """Returns how far door and handle are turned, in rad, and the mean squared action."""
        door, handle = np.abs(after[:, [DOOR, HANDLE]]).T
        return {"door": door, "handle": handle, "energy": np.square(action).mean(-1)}

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the task of some environments; itself if all have the same handle."""
        if len(self.handles) == 1:
            return self
        return type(self)([self.handles[row] for row in rows.tolist()], self.control_weight)


def _seen(coordinates: np.ndarray, hand: np.ndarray) -> Float64[np.ndarray, "batch observation"]:
    """Returns coordinates in the order and the units of observations."""
    wrist, angles, grip = (
        coordinates[:, [WRIST]],
        coordinates[:, [DOOR, HANDLE]],
        coordinates[:, 12:],
    )
    found: np.ndarray = np.concatenate((hand, wrist, coordinates[:, 6:12], angles, grip), 1) / SCALE
    return found

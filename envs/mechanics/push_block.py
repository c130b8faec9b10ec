"""The task of the pusher: a block to its goal pose, judged by its four corners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from separatrix.envs.mechanics.mujoco_system import MujocoSystem
from separatrix.envs.mechanics.observed_task import ObservedTask, length
from separatrix.envs.mechanics.pusher_model import HALF_WIDTH, SPEED

LENGTH, TURN_RATE = 0.2, 2.0
"""Units of observed positions, in m, and of the block's angular velocity, in rad/s."""
SCALE = np.array((LENGTH,) * 4 + (1.0, 1.0) + (SPEED,) * 4 + (TURN_RATE,))
YAW, PLANE, VELOCITIES = 5, slice(4), [8, 9, 10, 11, 13]
"""Coordinates that are observed: the block's angle, positions in the plane, and velocities."""
CORNERS = [(HALF_WIDTH * x, HALF_WIDTH * y) for x in (-1, 1) for y in (-1, 1)]


@dataclass(frozen=True)
class PushBlock(ObservedTask):
    """Observes tool and block in the plane, and rewards corners near where they are at the goal.

    Attributes:
        control_weight: Cost of the action's length, see `Pusher`.
    """

    control_weight: float

    metric_names = ("distance", "energy")

    def observation_limits(self, system: MujocoSystem) -> Float64[np.ndarray, " observation"]:
        """Returns the bounds of the safe box, and 1 for cosine and sine, scaled."""
        limits = system.limits
        return np.concatenate((limits[PLANE], (1.0, 1.0), limits[VELOCITIES])) / SCALE

    def reward_range(self, system: MujocoSystem) -> tuple[float, float]:
        """Returns lowest and highest reward: of full actions far away, and at the goal."""
        return -self.control_weight * 2**0.5 / 4, 1.0

    def observe(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Float64[np.ndarray, "batch observation"]:
        """Returns positions, cosine and sine of the block's angle, and velocities, scaled."""
        yaw = coordinates[:, YAW, None]
        moving = coordinates[:, VELOCITIES]
        parts = (coordinates[:, PLANE], np.cos(yaw), np.sin(yaw), moving)
        return np.concatenate(parts, 1) / SCALE

    def judge(self, observation: Any, action: Any, tanh: Callable[[Any], Any]) -> Any:
        """Returns rewards of steps, see `ObservedTask`."""
        near = sum(1 - tanh(10 * distance) for distance in corner_distances(observation))
        return (near - self.control_weight * length(*action.T)) / 4

    def metrics(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> dict[str, Float64[np.ndarray, " batch"]]:
        """Returns the mean distance of the corners and the mean squared action."""
        distance = sum(corner_distances(self.observe(after))) / 4
        return {"distance": distance, "energy": np.square(action).mean(-1)}


def corner_distances(observation: Any) -> list[Any]:
    """Returns how far each corner of the block is from where it is at the goal, in m.

    Args:
        observation: Observations, an array or a tensor, one row an environment.
    """
    x, y, cosine, sine = (observation[:, i] for i in range(2, 6))
    return [
        length(
            LENGTH * x + right * (cosine - 1) - left * sine,
            LENGTH * y + right * sine + left * (cosine - 1),
        )
        for right, left in CORNERS
    ]

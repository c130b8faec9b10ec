"""The task of Gymnasium's hopper: move along x without falling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from separatrix.envs.mechanics.move_forward import MoveForward
from separatrix.envs.mechanics.mujoco_system import MujocoSystem

LARGEST_SEEN = 10.0
"""Velocities are observed up to this magnitude, in m/s and rad/s."""
HEALTHY_STATE = 100.0
"""A larger angle (rad) or velocity (m/s, rad/s) is unhealthy."""


@dataclass(frozen=True)
class HopForward(MoveForward):
    """As `MoveForward`, with a reward for being healthy, until it no longer is.

    Healthy is a body whose second position, the height, is above `healthy_height`, whose third, the
    angle, is within `healthy_angle`, and whose angles and velocities are all below 100. The
    velocities are observed up to 10, so that the observation tells health but for velocities
    above 100.

    Attributes:
        healthy_reward: Of a step after which the body is healthy.
        healthy_height: In m.
        healthy_angle: In rad.
    """

    healthy_reward: float
    healthy_height: float
    healthy_angle: float

    def observation_limits(self, system: MujocoSystem) -> Float64[np.ndarray, " observation"]:
        """Returns the largest magnitudes of observations in the safe box of a system."""
        return self.observe(system.limits[None])[0]

    def reward_range(self, system: MujocoSystem) -> tuple[float, float]:
        """Returns lowest and highest reward by twice the largest velocity along x in the safe box.

        Where links spin at the limits of the box, the mean velocity over a step may be larger than
        at both of its ends; a search over the box found 1.74 times its largest.
        """
        low, high = super().reward_range(system)
        cost = self.ctrl_cost_weight * system.models[0].nu
        low, high = 2 * (low + cost) - cost, 2 * high
        return low + min(self.healthy_reward, 0.0), high + max(self.healthy_reward, 0.0)

    def observe(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Float64[np.ndarray, "batch observation"]:
        """Returns what the agent sees."""
        positions, velocities = np.split(coordinates, 2, axis=1)
        seen = velocities.clip(-LARGEST_SEEN, LARGEST_SEEN)
        return np.concatenate((positions[:, self.hidden :], seen), 1)

    def reward(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> Float64[np.ndarray, " batch"]:
        """Returns the reward of a step, in Gymnasium's order of sums."""
        forward = self.forward_reward_weight * self._velocity(before, after)
        healthy = self.healthy_reward * ~self.terminated(after)
        return forward + healthy - self.ctrl_cost_weight * np.square(action).sum(-1)

    def terminated(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Bool[np.ndarray, " batch"]:
        """Tells which bodies are not healthy."""
        found: np.ndarray = ~self._healthy(coordinates[:, self.hidden :])
        return found

    def known_termination(
        self, observation: Float[Tensor, "rows observation"]
    ) -> Bool[Tensor, " rows"]:
        """Tells which bodies are seen not to be healthy."""
        found: Tensor = ~self._healthy(observation)
        return found

    def _healthy(self, seen: Any) -> Any:
        """Of the height, the angles and the velocities, all arrays or all tensors."""
        upright = (seen[:, 0] > self.healthy_height) & (abs(seen[:, 1]) < self.healthy_angle)
        return upright & (abs(seen[:, 1:]) < HEALTHY_STATE).all(-1)

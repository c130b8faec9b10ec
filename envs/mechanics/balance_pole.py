"""The task of Gymnasium's inverted pendulum: keep the pole from falling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from separatrix.envs.mechanics.mujoco_system import MujocoSystem
from separatrix.envs.mechanics.mujoco_task import MujocoTask


@dataclass(frozen=True)
class BalancePole(MujocoTask):
    """Observes all as it is, and rewards every step after which the pole still stands.

    The second position is the angle of the pole from upright.

    Attributes:
        healthy_angle: Beyond it the pole has fallen, in rad.
        strength: Control at action 1.
    """

    healthy_angle: float
    strength: float

    metric_names = ("angle", "energy")

    def observation_limits(self, system: MujocoSystem) -> Float64[np.ndarray, " observation"]:
        """Returns the bounds of the safe box."""
        return system.limits

    def reward_range(self, system: MujocoSystem) -> tuple[float, float]:
        """Returns the reward of a fall and of any other step."""
        return 0.0, 1.0

    def control(
        self, action: Float64[np.ndarray, "batch action"]
    ) -> Float64[np.ndarray, "batch action"]:
        """Scales actions to controls."""
        return self.strength * action

    def observe(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Float64[np.ndarray, "batch observation"]:
        """Returns what the agent sees."""
        return coordinates

    def reward(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> Float64[np.ndarray, " batch"]:
        """Returns the reward of a step."""
        return (~self.terminated(after)).astype(np.float64)

    def terminated(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Bool[np.ndarray, " batch"]:
        """Tells where the pole has fallen."""
        return np.abs(coordinates[:, 1]) > self.healthy_angle

    def metrics(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> dict[str, Float64[np.ndarray, " batch"]]:
        """Returns the magnitude of the angle and the mean squared action."""
        return {"angle": np.abs(after[:, 1]), "energy": np.square(action).mean(-1)}

    def known_reward(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> Float[Tensor, " rows"]:
        """Returns rewards of steps from observations alone; their derivatives are zero."""
        return (~self.known_termination(next_observation)).to(observation.dtype)

    def known_termination(
        self, observation: Float[Tensor, "rows observation"]
    ) -> Bool[Tensor, " rows"]:
        """Tells where the pole is seen to have fallen."""
        return observation[:, 1].abs() > self.healthy_angle

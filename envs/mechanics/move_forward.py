"""The task of Gymnasium's bodies: move along x, the first position, at little cost of control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from separatrix.envs.mechanics.mujoco_system import MujocoSystem
from separatrix.envs.mechanics.mujoco_task import MujocoTask


@dataclass(frozen=True)
class MoveForward(MujocoTask):
    """Moves along x, which is not observed, so that the observation does not give the reward.

    The reward is, with x before and after the step, dt apart,

        forward_reward_weight dx / dt - ctrl_cost_weight |action|^2

    Attributes:
        forward_reward_weight: See above.
        ctrl_cost_weight: See above.
        control_interval: Time of a step, dt, in s.
        hidden: Number of first positions that are not observed, because nothing depends on where
            the body is; all other positions and the velocities are, as they are.
    """

    forward_reward_weight: float
    ctrl_cost_weight: float
    control_interval: float
    hidden: int

    metric_names = ("forward_velocity", "energy")

    def observation_limits(self, system: MujocoSystem) -> Float64[np.ndarray, " observation"]:
        """Returns the largest magnitudes of observations in the safe box of a system."""
        return system.limits[self.hidden :]

    def reward_range(self, system: MujocoSystem) -> tuple[float, float]:
        """Returns lowest and highest reward by the largest velocity along x in the safe box."""
        model = system.models[0]
        largest = abs(self.forward_reward_weight) * system.limits[model.nq].item()
        return -largest - self.ctrl_cost_weight * model.nu, largest

    def observe(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Float64[np.ndarray, "batch observation"]:
        """Returns what the agent sees."""
        return coordinates[:, self.hidden :]

    def reward(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> Float64[np.ndarray, " batch"]:
        """Returns the reward of a step."""
        cost = self.ctrl_cost_weight * np.square(action).sum(-1)
        return self.forward_reward_weight * self._velocity(before, after) - cost

    def metrics(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> dict[str, Float64[np.ndarray, " batch"]]:
        """Returns dx / dt and the mean squared action."""
        velocity, energy = self._velocity(before, after), np.square(action).mean(-1)
        return dict(zip(self.metric_names, (velocity, energy), strict=True))

    def _velocity(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        found: np.ndarray = (after[:, 0] - before[:, 0]) / self.control_interval
        return found

"""Tasks over MuJoCo: what is seen and rewarded and what ends, in numpy as MuJoCo itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from separatrix.envs.mechanics.mujoco_system import MujocoSystem


class MujocoTask(ABC):
    """Observations, rewards and ends as pure functions of coordinates, positions then velocities.

    All is in float64; the environment rounds.

    Attributes:
        metric_names: Names of the quantities that `metrics` reports.
    """

    metric_names: tuple[str, ...] = ()

    @abstractmethod
    def observation_limits(self, system: MujocoSystem) -> Float64[np.ndarray, " observation"]:
        """Returns the largest magnitudes of observations in the safe box of a system."""

    @abstractmethod
    def reward_range(self, system: MujocoSystem) -> tuple[float, float]:
        """Returns lowest and highest reward in the safe box; a diverged step gets the lowest."""

    def control(
        self, action: Float64[np.ndarray, "batch action"]
    ) -> Float64[np.ndarray, "batch action"]:
        """Turns clipped actions into the controls of MuJoCo; by default they are these."""
        return action

    @abstractmethod
    def observe(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Float64[np.ndarray, "batch observation"]:
        """Returns what the agent sees."""

    @abstractmethod
    def reward(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> Float64[np.ndarray, " batch"]:
        """Returns the reward of a step.

        Args:
            before: Coordinates before the step.
            after: Coordinates after it.
            action: Clipped actions.
        """

    def terminated(
        self, coordinates: Float64[np.ndarray, "batch coordinate"]
    ) -> Bool[np.ndarray, " batch"]:
        """Tells which states end their episode; by default none does."""
        return np.zeros(len(coordinates), dtype=bool)

    def metrics(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> dict[str, Float64[np.ndarray, " batch"]]:
        """Returns named quantities of a step, for evaluation only; arguments as for `reward`."""
        return {}

    def known_reward(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> Float[Tensor, " rows"] | None:
        """Returns rewards of steps from observations alone, differentiably, of clipped actions.

        None if the observation does not determine them, as by default.
        """
        return None

    def known_termination(
        self, observation: Float[Tensor, "rows observation"]
    ) -> Bool[Tensor, " rows"]:
        """Tells which observed states end their episode; by default none does."""
        return torch.zeros(len(observation), dtype=torch.bool, device=observation.device)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the task of some environments; itself if all have the same, as by default."""
        return self

"""Keep the glucose of patients in range."""

from __future__ import annotations

import copy
import math
from typing import Self

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.actions import action_box
from separatrix.envs.core.system import System
from separatrix.envs.core.task import Task
from separatrix.envs.twin.glucose.meals import DAY
from separatrix.envs.twin.glucose.risk import (
    HIGH,
    LARGEST_RISK,
    LOW,
    SEVERE,
    kovatchev_risk,
    low_and_high_risk,
    magni_risk,
)
from separatrix.envs.twin.glucose.system import READINGS, GlucoseState, GlucoseSystem

REWARDS = ("kovatchev", "magni", "in_range")
DEADLY_LOW, DEADLY_HIGH = 10.0, 600.0
"""Glucose at which an episode ends, mg/dL, as in simglucose."""
MIDDLE, SCALE = 140.0, 100.0
"""Of readings in the observation, mg/dL."""
MOST_BASAL = 4.0
"""Times the patient's own, at action 1."""


class GlucoseTask(Task):
    """Insulin as actions, readings and what the pump knows as observation, risk as reward.

    Args:
        system: The patients.
        reward: Its name, of `REWARDS`.
        bolus_hours: Hours of the patient's own basal insulin in the largest bolus.
        announced: Whether meals that begin in the coming interval are seen.
    """

    reward_range = (0.0, 1.0)
    metric_names = (
        "glucose", "in_range", "below_range", "above_range", "severe", "risk", "low_risk",
        "high_risk", "insulin", "bolus", "carbohydrates",
    )  # fmt: skip

    def __init__(
        self, system: GlucoseSystem, reward: str, bolus_hours: float, announced: bool
    ) -> None:
        self._system, self._reward, self._announced = system, reward, announced
        self._bolus_hours = bolus_hours
        self._basal = system.basal.to(system.device, system.dtype)
        dtype = {torch.float32: np.float32, torch.float64: np.float64}[system.dtype]
        bound = np.full(READINGS + 5, 10.0, dtype)
        self.observation_space = Box(-bound, bound, dtype=dtype)  # type: ignore[arg-type]
        self.action_space = action_box(2)

    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Returns basal insulin in U/h, own times (1 + a)^2, and a bolus in U, none below a = 0."""
        basal = self._basal * (1 + action[:, 0]).to(self._basal) ** 2
        bolus = self._basal * self._bolus_hours * action[:, 1].to(self._basal).clamp_min(0)
        return torch.stack((basal, bolus), 1)

    def action(self, basal: Float[Tensor, " batch"], bolus: Float[Tensor, " batch"]) -> Tensor:
        """Returns the action that gives basal insulin in U/h and a bolus in U, or the nearest.

        Returns:
            (batch, 2), in [-1, 1].
        """
        first = (basal.clamp_min(0) / self._basal).sqrt() - 1
        second = bolus / (self._basal * self._bolus_hours)
        return torch.stack((first, second), 1).clamp(-1, 1)

    def observe(self, state: GlucoseState) -> Float[Tensor, "batch observation"]:
        """Returns readings, insulin on board, carbohydrates ahead, time of day, last insulin."""
        system = self._system
        hour = (state.interval * system.minutes % DAY).double() * (2 * math.pi / DAY)
        _, ahead = system.meal_ahead(state)
        ahead = ahead if self._announced else torch.zeros_like(hour)
        columns = (
            system.on_board_beyond_basal(state) / system.on_board_at_basal,
            ahead / 50,
            hour.sin(),
            hour.cos(),
            state.delivered / (self._basal * self._bolus_hours),
        )
        seen = torch.stack([column.to(state.readings) for column in columns], 1)
        return torch.cat(((state.readings - MIDDLE) / SCALE, seen), 1).clamp(-10, 10)

    def reward(
        self, state: GlucoseState, control: Float[Tensor, "batch control"], next_state: GlucoseState
    ) -> Float[Tensor, " batch"]:
        """Returns 1 - risk / 100 of the glucose after the step, or whether it is in range."""
        glucose = self._system.glucose(next_state)
        dead = self.terminated(next_state)
        if self._reward == "in_range":
            found = ((glucose >= LOW) & (glucose <= HIGH)).to(glucose)
        else:
            risk = {"kovatchev": kovatchev_risk, "magni": magni_risk}[self._reward]
            found = 1 - risk(glucose) / LARGEST_RISK
        return torch.where(dead, 0.0, found)

    def terminated(self, state: GlucoseState) -> Bool[Tensor, " batch"]:
        """Tells whose glucose is below 10 or above 600 mg/dL."""
        glucose = self._system.glucose(state)
        return (glucose < DEADLY_LOW) | (glucose > DEADLY_HIGH)

    def metrics(
        self, state: GlucoseState, control: Float[Tensor, "batch control"], next_state: GlucoseState
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Returns glucose, where it is, its risks, and what was given and eaten."""
        glucose = self._system.glucose(next_state)
        low, high = low_and_high_risk(glucose)
        ranges = {
            "in_range": (glucose >= LOW) & (glucose <= HIGH),
            "below_range": glucose < LOW,
            "above_range": glucose > HIGH,
            "severe": glucose < SEVERE,
        }
        return {
            "glucose": glucose,
            **{name: found.to(glucose) for name, found in ranges.items()},
            "risk": low + high,
            "low_risk": low,
            "high_risk": high,
            "insulin": next_state.delivered,
            "bolus": control[:, 1],
            "carbohydrates": self._system.meal_ahead(state)[1].to(glucose),
        }

    def with_system(self, system: System) -> Self:
        """Returns the task that reads glucose by other parameters; the pump stays as it was."""
        assert isinstance(system, GlucoseSystem)
        changed = copy.copy(self)
        changed._system = system
        return changed

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the task of some environments only; itself if they are one patient."""
        system = self._system.select(rows)
        if system is self._system:
            return self
        return type(self)(system, self._reward, self._bolus_hours, self._announced)

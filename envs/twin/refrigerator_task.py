"""Keep a refrigerator at its set-point at little power."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.core.actions import action_box
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.task import Task
from separatrix.envs.twin.refrigerator_system import (
    COLDEST,
    WARMEST,
    RefrigeratorState,
    RefrigeratorSystem,
)

SCALE = 10.0
"""Unit of observed temperatures, in degrees Celsius."""
DEVIATION_WEIGHT = 0.1
"""Cost of a degree off the set-point."""


class KeepTemperature(Task):
    """Power as the action; temperature, door and set-point as the observation.

    Args:
        system: The refrigerators, whose set-points and dtype count.
        power_weight: Cost of full power.
    """

    metric_names = ("deviation", "power", "door_open")

    def __init__(self, system: RefrigeratorSystem, power_weight: float) -> None:
        self.power_weight = power_weight
        dtype = {torch.float32: np.float32, torch.float64: np.float64}[system.dtype]
        high = np.array([WARMEST / SCALE, 1.0, WARMEST / SCALE], dtype)
        low = np.array([COLDEST / SCALE, 0.0, COLDEST / SCALE], dtype)
        self.observation_space = Box(low, high, dtype=dtype)  # type: ignore[arg-type]
        self.action_space = action_box(1)
        wanted = system.set_point
        farthest = torch.maximum(wanted - COLDEST, WARMEST - wanted).max().item()
        self.reward_range = (-DEVIATION_WEIGHT * farthest - power_weight, 0.0)

    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Returns the power, from 0 to 1."""
        return (1 + action) / 2

    def observe(self, state: RefrigeratorState) -> Float[Tensor, "batch observation"]:
        """Returns temperature, door and set-point."""
        warm = state.temperature
        return torch.stack((warm / SCALE, state.door, state.set_point / SCALE), 1)

    def state_of(self, observation: Float[Tensor, "batch observation"]) -> RefrigeratorState:
        """Returns the state."""
        warm, door, set_point = observation.unbind(1)
        zero = torch.zeros(len(warm), dtype=torch.int64, device=warm.device)
        stream = Stream(zero, zero, zero)
        return RefrigeratorState(stream, zero, SCALE * warm, SCALE * set_point, door)

    def reward(
        self,
        state: RefrigeratorState,
        control: Float[Tensor, "batch control"],
        next_state: RefrigeratorState,
    ) -> Float[Tensor, " batch"]:
        """Returns the negative costs of the deviation after the step and of the power."""
        power = control[:, 0].to(next_state.temperature)
        return -DEVIATION_WEIGHT * _deviation(next_state) - self.power_weight * power

    def terminated(self, state: RefrigeratorState) -> Bool[Tensor, " batch"]:
        """Returns False: nothing ends an episode early."""
        return torch.zeros_like(state.door, dtype=torch.bool)

    def metrics(
        self,
        state: RefrigeratorState,
        control: Float[Tensor, "batch control"],
        next_state: RefrigeratorState,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Returns the deviation in degrees, the power, and whether the door was open."""
        warm = next_state.temperature
        return {
            "deviation": _deviation(next_state),
            "power": control[:, 0].to(warm),
            "door_open": state.door,
        }


def _deviation(state: RefrigeratorState) -> Float[Tensor, " batch"]:
    return (state.temperature - state.set_point).abs()

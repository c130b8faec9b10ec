"""The task on bodies in a stream: little drag, and little lift besides."""

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
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.task import Task
from separatrix.envs.steppers.lattice_system import Flow, LatticeState, LatticeSystem

LOWEST, HIGHEST = -10.0, 10.0
LARGEST = 50.0
"""Of observations, which are clipped to it; in a flow that goes on they are below 5."""
RATE = 2.0
"""Size of the rate of change of the lift of a cylinder."""


class BodyTask(Task):
    """Reduces the drag of all bodies together.

    The reward of a step is D_0 - D - w |L|, with the mean coefficients of drag and lift over the
    control interval, summed over the bodies, and the mean drag D_0 without control; clipped to
    [-10, 10].

    Args:
        system: The physics.
        drag: D_0, one for all environments or one for each.
        sensors: Places where velocities and pressure are seen, in diameters from the lower left
            corner of the box; none: then forces are seen.
        authority: Velocity of the surface at action 1.
        lift_weight: w.
    """

    reward_range = (LOWEST, HIGHEST)
    metric_names = ("drag", "lift", "energy")

    def __init__(
        self,
        system: LatticeSystem,
        drag: Float[Tensor, " rows"],
        sensors: Float[np.ndarray, "sensor 2"],
        authority: float,
        lift_weight: float,
    ) -> None:
        self._system, self._sensors = system, len(sensors)
        self.authority, self.lift_weight = authority, lift_weight
        self.drag = drag.to(system.device, system.dtype)
        if self._sensors:
            self._sites, self._weights = _interpolation(sensors, system)
        bodies, controls = system.program.bodies, system.program.controls
        size = 3 * self._sensors if self._sensors else 3 * bodies + controls
        dtype = {torch.float32: np.float32, torch.float64: np.float64}[system.dtype]
        limit = np.full(size, LARGEST, dtype)
        self.observation_space = Box(-limit, limit, dtype=dtype)  # type: ignore[arg-type]
        self.action_space = action_box(controls)

    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Scales actions to velocities of surfaces."""
        return action * self.authority

    def observe(self, state: LatticeState) -> Float[Tensor, "batch observation"]:
        """Returns velocities and pressures at the sensors, or forces and controls in force.

        Forces of each body: drag less its mean without control (of all bodies, shared equally),
        lift, and the rate of change of the lift divided by 2.
        """
        if self._sensors:
            around = state.flow.populations.flatten(2)[:, :, self._sites]
            seen = self._system.fields(around)
            found = torch.stack([(part * self._weights).sum(2) for part in seen], 1).flatten(1)
        else:
            force, bodies = state.flow.force, self._system.program.bodies
            drag = force[:, :, 0] - self.drag[:, None] / bodies
            lift = force[:, :, 1]
            interval = self._system.control_interval
            change = (lift - state.flow.previous_force[:, :, 1]) / (RATE * interval)
            found = torch.cat([drag, lift, change, state.control / self.authority], 1)
        return found.clamp(-LARGEST, LARGEST)

    def state_of(self, observation: Float[Tensor, "batch observation"]) -> LatticeState:
        """Returns a state with the forces that are seen, and no flow.

        Raises:
            ValueError: Forces are not seen.
        """
        if self._sensors:
            raise ValueError(
                "velocities and pressures do not determine the reward of this environment; "
                "allowed for that: observed='forces'; else learn the reward"
            )
        bodies = self._system.program.bodies
        drag = observation[:, :bodies] + self.drag[:, None].to(observation) / bodies
        force = torch.stack([drag, observation[:, bodies : 2 * bodies]], 2)
        zero = torch.zeros(len(force), dtype=torch.int64, device=force.device)
        flow = Flow(force.new_zeros((len(force), 9, 0, 0)), force, force)
        control = force.new_zeros((len(force), self._system.program.controls))
        return LatticeState(Stream(zero, zero, zero), zero, flow, control)

    def reward(
        self, state: LatticeState, control: Float[Tensor, "batch control"], next_state: LatticeState
    ) -> Float[Tensor, " batch"]:
        """Returns the reward of a step."""
        drag, lift = next_state.flow.force.sum(1).unbind(1)
        reward: Tensor = self.drag.to(drag) - drag - self.lift_weight * lift.abs()
        return reward.clamp(LOWEST, HIGHEST)

    def terminated(self, state: LatticeState) -> Bool[Tensor, " batch"]:
        """Tells which states end their episode: none, but for divergence."""
        force = state.flow.force
        return torch.zeros(len(force), dtype=torch.bool, device=force.device)

    def metrics(
        self, state: LatticeState, control: Float[Tensor, "batch control"], next_state: LatticeState
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Returns drag and lift of all bodies, and the mean squared action."""
        drag, lift = next_state.flow.force.sum(1).unbind(1)
        return {"drag": drag, "lift": lift, "energy": (control / self.authority).square().mean(1)}

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the task of some environments only; itself unless it has a row for each."""
        if self._system.shared:
            return self
        selected = copy.copy(self)
        selected.drag, selected._system = self.drag[rows], self._system.select(rows)
        return selected


def _interpolation(
    sensors: Float[np.ndarray, "sensor 2"], system: LatticeSystem
) -> tuple[Tensor, Tensor]:
    """Returns the four sites around every sensor, and their weights by distance."""
    program = system.program
    width = program.columns + 2
    sites, weights = [], []
    for x, y in (sensors * program.resolution + 0.5).tolist():
        column = min(max(math.floor(x), 1), program.columns - 1)
        row = min(max(math.floor(y), 1), program.rows - 1)
        right, up = x - column, y - row
        first = row * width + column
        sites.append([first, first + 1, first + width, first + width + 1])
        weights.append([(1 - right) * (1 - up), right * (1 - up), (1 - right) * up, right * up])
    return (
        torch.tensor(sites, device=system.device),
        torch.tensor(weights, device=system.device, dtype=system.dtype),
    )

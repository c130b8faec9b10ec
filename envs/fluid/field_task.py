"""Tasks on fields: actuators and sensors from the environment, and an objective of the user's."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.actions import action_box
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.task import Task
from separatrix.envs.fluid.objectives import FieldStep, Objective
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.steppers.spectral_system import FieldState, SpectralSystem


class FieldTask(Task):
    """A task on the fields of a PDE.

    Args:
        system: The physics.
        sensors: What is seen of the fields.
        observed: Indices of the fields that are seen.
        scale: Size of each field, by which what is seen of it is divided.
        authority: Force of each control at action 1.
        objective: What is wanted.
    """

    def __init__(
        self,
        system: SpectralSystem,
        sensors: Sensors,
        observed: tuple[int, ...],
        scale: tuple[float, ...],
        authority: float,
        objective: Objective,
    ) -> None:
        self._system, self.objective = system, objective
        self.authority, self.scale = authority, scale
        self.reward_range = objective.reward_range(system, authority)
        self.metric_names = objective.metric_names
        self._reader, self._observed = _Reader(sensors, system), observed
        self._scale = torch.tensor(scale, dtype=system.dtype, device=system.device)[:, None]
        bounds = [self._reader.gain * system.definition.bound[i] / scale[i] for i in observed]
        dtype = {torch.float32: np.float32, torch.float64: np.float64}[system.dtype]
        # Rounded means of values at the bound may lie above it.
        limit = np.repeat(np.array(bounds, dtype), self._reader.count) * dtype(1 + 1e-5)
        limit = np.tile(limit, 2 if objective.moves else 1)
        self.observation_space = Box(-limit, limit, dtype=dtype)  # type: ignore[arg-type]
        self.action_space = action_box(len(system.actuators))
        found = objective.numbers(system)
        self._own = {name: value.to(system.device, system.dtype) for name, value in found.items()}

    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Scales actions to forces."""
        return action * self.authority

    def observe(self, state: FieldState) -> Float[Tensor, "batch observation"]:
        """Returns what the sensors see, field after field; then the same of a target that moves."""
        seen = [state.field]
        if self.objective.moves:
            target = self.target(state)
            assert target is not None
            seen.append(target)
        readings = [self._reader.read(f[:, i].flatten(1)) for f in seen for i in self._observed]
        scale = self._scale[list(self._observed)].repeat(len(seen), 1)
        return (torch.stack(readings, 1) / scale).flatten(1)

    def state_of(self, observation: Float[Tensor, "batch observation"]) -> FieldState:
        """Returns the state that the seen modes make; shorter waves and the mean are zero in it.

        That is all there is of a field whose mean is conserved, but for waves that viscosity takes
        away within a control interval (by a factor e at least) and that others alone maintain.

        Raises:
            ValueError: Other things are unseen, or the objective depends on time.
        """
        reader, fields = self._reader, len(self._observed)
        if not reader.complete or fields < len(self.scale) or self.objective.moves:
            raise ValueError(
                "the sensors of this environment do not determine its reward; allowed for that: "
                "sensor_shape 'mode' in one dimension, of all fields, whose means are conserved, "
                "with so many sensors that unseen waves decay within a control interval; else "
                "learn the reward"
            )
        shaped = observation.unflatten(1, (fields, reader.count))
        field = reader.synthesize(shaped * self._scale[list(self._observed)].to(shaped))
        zero = torch.zeros(len(field), dtype=torch.int64, device=field.device)
        return FieldState(Stream(zero, zero, zero), zero, field)

    def reward(
        self, state: FieldState, control: Float[Tensor, "batch control"], next_state: FieldState
    ) -> Float[Tensor, " batch"]:
        """Returns the reward of a step."""
        return self.objective.reward(self._system, self._own, self._step(control, next_state))

    def terminated(self, state: FieldState) -> Bool[Tensor, " batch"]:
        """Tells which states end their episode: none, but for divergence."""
        return torch.zeros(len(state.field), dtype=torch.bool, device=state.field.device)

    def metrics(
        self, state: FieldState, control: Float[Tensor, "batch control"], next_state: FieldState
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Returns the metrics of the objective."""
        return self.objective.metrics(self._system, self._own, self._step(control, next_state))

    def target(self, state: FieldState) -> Float[Tensor, "rows field *grid"] | None:
        """Returns the field that is wanted at the time of a state; None if there is none."""
        return self.objective.target(self._system, self._own, state)

    def _step(self, control: Tensor, state: FieldState) -> FieldStep:
        return FieldStep(state, control / self.authority, control)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the task of some environments only; itself unless it has a row for each."""
        if self._system.shared:
            return self
        selected = copy.copy(self)
        selected._own = {
            name: value if len(value) == 1 else value[rows.to(value.device)]
            for name, value in self._own.items()
        }
        selected._system = self._system.select(rows)
        return selected


class _Reader:
    """Reads sensors.

    Args:
        sensors: What is seen.
        system: Gives the grid.
    """

    def __init__(self, sensors: Sensors, system: SpectralSystem) -> None:
        sensors.check()
        grid, self._modes = system.grid, sensors.sensor_shape == "mode"
        if self._modes:
            shapes = sensors.waves(grid).flatten(1).to(system.device, system.dtype)
            self._shapes, self.count = shapes, len(shapes)
        else:
            self._windows = sensors.windows(grid).to(system.device)
            self.count = len(self._windows)
        self.gain = 2.0 if self._modes else 1.0
        """Largest reading of a field whose magnitude is at most 1."""
        self.complete = self._modes and _shows_all(system, self.count)

    def read(self, field: Float[Tensor, "batch point"]) -> Float[Tensor, "batch sensor"]:
        """Returns the readings of flat fields."""
        if self._modes:
            # A sum of products, not a matrix product, whose rounding depends on the batch.
            return 2 * (field[:, None] * self._shapes).mean(2)
        readings = field.index_select(1, self._windows.flatten())
        readings = readings.unflatten(1, self._windows.shape)
        return readings[..., 0] if self._windows.shape[1] == 1 else readings.mean(2)

    def synthesize(self, coefficients: Float[Tensor, "batch field sensor"]) -> Tensor:
        """Returns the fields (batch, field, point) of the coefficients of waves."""
        return (coefficients[..., None] * self._shapes.to(coefficients)).sum(2)


def _shows_all(system: SpectralSystem, modes: int) -> bool:
    """Tells whether so many modes of all fields leave nothing unseen that lives on its own."""
    linear, grid = system.program.linear, system.grid
    coupled = linear.ndim > 2 + grid.dimensions
    if grid.dimensions > 1 or coupled or not system.conserves_mean:
        return False
    unseen = linear.real[..., modes // 2 + 1 : grid.highest(system.definition.degree) + 1]
    return bool((unseen * system.control_interval < -1).all())

"""Patients with a pump, a sensor and meals, many at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.core.system import State, System, changed_parameters
from separatrix.envs.steppers.ode_system import choose_backend, make_stepper, rows_of, traced
from separatrix.envs.steppers.torch_backend import Interval
from separatrix.envs.twin.glucose.fasting import basal_insulin, fasting_state
from separatrix.envs.twin.glucose.meals import (
    DAY,
    LARGEST_MEAL,
    draw_meals,
    read_schedule,
    same_meals,
)
from separatrix.envs.twin.glucose.model import COMPARTMENTS, MEMORY, glucose
from separatrix.envs.twin.glucose.sensor import (
    LARGEST,
    SMALLEST,
    advance_process,
    error,
    start_process,
)

READINGS = 12
"""Of the sensor, that a state remembers."""
ACTION_TIME = 55.0
"""Minutes in which insulin leaves either of two compartments under the skin, by which a pump
estimates what is still to act (R. Hovorka et al., Physiol. Meas. 25 (2004) 905)."""
LARGEST_BASAL, LARGEST_BOLUS = 30.0, 30.0
"""What the pump gives at most, U/h and U (Insulet OmniPod)."""
GLUCOSE = [COMPARTMENTS.index(name) for name in ("Gp", "Gt", "Gs")]


@dataclass(frozen=True)
class GlucoseState(State):
    """State of a patient with pump and sensor.

    Attributes:
        values: The compartments, and what the model remembers of meals.
        readings: Of the sensor, mg/dL, the oldest first.
        on_board: Insulin in two compartments of the pump's estimate, U.
        delivered: Insulin in the last control interval, U.
        noise: Process of the sensor's error.
        meal_minute: Minutes at which meals of the episode begin.
        meal_size: Their carbohydrates, g.
    """

    values: Float[Tensor, "batch state"]
    readings: Float[Tensor, "batch reading"]
    on_board: Float[Tensor, "batch 2"]
    delivered: Float[Tensor, " batch"]
    noise: Float64[Tensor, "batch 4"]
    meal_minute: Float64[Tensor, "batch meal"]
    meal_size: Float64[Tensor, "batch meal"]


class GlucoseSystem(System):
    """Glucose of patients under basal insulin (U/h) and boluses (U), in steps of a minute.

    A bolus is given evenly over the control interval. Each minute is one Runge-Kutta step of fourth
    order.

    Args:
        parameters: Of the model by name, (1,) or (num_envs,) in float64.
        fasting_glucose: At which the patients' own basal insulin keeps them, mg/dL.
        carbohydrate_ratio: Of the patients' pumps, g/U.
        correction_factor: Of the patients' pumps, mg/dL/U.
        num_envs: Size of the batch.
        control_interval: Whole minutes during which a control is held.
        days: Days until meals repeat.
        meals: "random", or a schedule that every day repeats.
        meal_factor: Multiplies the size of random meals.
        sensor_noise: Multiplies the error of the sensor.
        start_deviation: Relative standard deviation of glucose at the start.
        device: Where the tensors live.
        dtype: torch.float32 or torch.float64.
        backend: "auto", "numba", "triton" or "torch".

    Attributes:
        settings: Of the patients' pumps, (1,) or (num_envs,), in float64: "basal" insulin (U/h),
            "carbohydrate_ratio" and "correction_factor".

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    quick_parameters = True

    def __init__(
        self,
        parameters: Mapping[str, Float64[Tensor, " rows"]],
        fasting_glucose: Float64[Tensor, " patient"],
        carbohydrate_ratio: Float64[Tensor, " patient"],
        correction_factor: Float64[Tensor, " patient"],
        *,
        num_envs: int,
        control_interval: int,
        days: int,
        meals: Any,
        meal_factor: float,
        sensor_noise: float,
        start_deviation: float,
        device: torch.device,
        dtype: torch.dtype,
        backend: str = "auto",
    ) -> None:
        if meals != "random":
            read_schedule(meals)
        self.num_envs, self.device, self.dtype = num_envs, device, dtype
        self.control_interval = float(control_interval)
        self.days, self.meals, self.meal_factor = days, meals, meal_factor
        self.sensor_noise, self.start_deviation = sensor_noise, start_deviation
        self.backend = choose_backend(backend, device)
        self.parameters = dict(parameters)
        self.settings = {
            "basal": basal_insulin(self.parameters, fasting_glucose),
            "carbohydrate_ratio": carbohydrate_ratio,
            "correction_factor": correction_factor,
        }
        low, high = glucose.bounds()
        interval = Interval(self.control_interval, control_interval, low, high)
        self._stepper = make_stepper(traced(glucose), "rk4", interval, self.backend, dtype, device)

    @property
    def minutes(self) -> int:
        """Length of a control interval."""
        return int(self.control_interval)

    @property
    def basal(self) -> Float64[Tensor, " rows"]:
        """The patients' own basal insulin, U/h."""
        return self.settings["basal"]

    @property
    def shared(self) -> bool:
        """Whether all environments are the same patient."""
        return all(len(v) == 1 for v in (*self.settings.values(), *self.parameters.values()))

    @cached_property
    def _parameter_rows(self) -> Float[Tensor, "parameter rows"]:
        return rows_of(list(self.parameters.values())).to(self.device, self.dtype)

    @cached_property
    def _start(self) -> Float[Tensor, "rows state"]:
        """The states in which patients rest under their own basal insulin, without meals."""
        fixed = {name: value.detach() for name, value in self.parameters.items()}
        compartments = fasting_state(fixed, self.basal)
        memory = compartments.new_zeros((len(compartments), len(MEMORY)))
        return torch.cat((compartments, memory), 1).to(self.device, self.dtype)

    def glucose(self, state: GlucoseState) -> Float[Tensor, " batch"]:
        """Returns the glucose under the skin, which the sensor measures, in mg/dL."""
        volume = self.parameters["Vg"].to(self.device, self.dtype)
        return state.values[:, COMPARTMENTS.index("Gs")] / volume

    def initial_state(self, stream: Stream) -> GlucoseState:
        """Draws states at midnight: fasting, with glucose off by a random factor."""
        noise, advanced = stream.normal(1, torch.float64, INITIAL_STATE)
        values = self._start.expand(len(stream.seed), -1).clone()
        spread = (self.start_deviation * noise.clamp(-3, 3)).exp().to(values)
        values[:, GLUCOSE] = values[:, GLUCOSE] * spread
        if self.meals == "random":
            minute, size = draw_meals(stream, self.days, self.meal_factor)
        else:
            minute, size = same_meals(self.meals, self.days, stream)
        process = start_process(stream)
        basal = self.basal.to(values).expand(len(values)) / 60
        state = GlucoseState(
            advanced,
            torch.zeros_like(stream.seed),
            values,
            values.new_zeros((len(values), READINGS)),
            (basal * ACTION_TIME)[:, None].expand(-1, 2).clone(),
            basal * self.minutes,
            process,
            minute.clone(),
            size.clone(),
        )
        reading = self._reading(state)
        return replace(state, readings=reading[:, None].expand(-1, READINGS).clone())

    def advance(self, state: GlucoseState, control: Float[Tensor, "batch control"]) -> GlucoseState:
        """Advances by one control interval.

        Args:
            state: Of the patients.
            control: Basal insulin (U/h) and a bolus (U); and, where a record tells of meals, the
                carbohydrates (g) of one that begins now, beside the scheduled ones.
        """
        basal = control[:, 0].clamp(0, LARGEST_BASAL)
        bolus = control[:, 1].clamp(0, LARGEST_BOLUS)
        delivered = basal * (self.minutes / 60) + bolus
        minute, size = self.meal_ahead(state)
        if control.shape[1] == 3:
            eaten = control[:, 2].double().clamp(0, LARGEST_MEAL)
            now = (state.interval * self.minutes).double()
            minute, size = torch.where(eaten > 0, now, minute), size + eaten
        inputs = torch.stack(
            (delivered / self.minutes, size.to(self.dtype), minute.to(self.dtype)), 1
        )
        result = self._stepper(state.values, inputs, self._parameter_rows)
        elapsed = state.interval * self.minutes
        moved = replace(
            state,
            interval=state.interval + 1,
            values=result.next_values,
            on_board=self._left_on_board(state.on_board, delivered),
            delivered=delivered,
            noise=advance_process(state.noise, state.stream, elapsed, self.minutes),
        )
        readings = torch.cat((state.readings[:, 1:], self._reading(moved)[:, None]), 1)
        return replace(moved, readings=readings)

    def meal_ahead(
        self, state: GlucoseState
    ) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
        """Returns minute and carbohydrates of what begins in the coming interval.

        Two meals in one interval begin together at the first; without any, the size is zero.
        """
        elapsed = state.interval * self.minutes
        start = (elapsed - elapsed % (DAY * self.days)).double()
        minutes = state.meal_minute + start[:, None]
        now = elapsed.double()[:, None]
        due = (minutes >= now) & (minutes < now + self.minutes) & (state.meal_size > 0)
        first = torch.where(due, minutes, math.inf).amin(1)
        size = torch.where(due, state.meal_size, 0.0).sum(1)
        return torch.where(due.any(1), first, -1.0), size

    @cached_property
    def on_board_at_basal(self) -> Float[Tensor, " rows"]:
        """Insulin on board under the patients' own basal insulin, U."""
        return (2 * ACTION_TIME / 60 * self.basal).to(self.device, self.dtype)

    def on_board_beyond_basal(self, state: GlucoseState) -> Float[Tensor, " batch"]:
        """Returns the insulin on board, by the pump's estimate, above that of basal insulin, U."""
        return state.on_board.sum(1) - self.on_board_at_basal

    def _left_on_board(
        self, on_board: Float[Tensor, "batch 2"], delivered: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 2"]:
        """Two linear compartments in a row under a constant rate, exactly."""
        ratio = self.minutes / ACTION_TIME
        kept = math.exp(-ratio)
        rest = delivered / ratio  # what the first would hold for ever
        first, second = on_board.unbind(1)
        excess = first - rest
        return torch.stack(
            (rest + excess * kept, rest + (second - rest + excess * ratio) * kept), 1
        )

    def _reading(self, state: GlucoseState) -> Float[Tensor, " batch"]:
        found = self.sensor_noise * error(state.noise, state.interval * self.minutes)
        return (self.glucose(state) + found.to(self.dtype)).clamp(SMALLEST, LARGEST)

    def inside(self, state: GlucoseState) -> Bool[Tensor, " batch"]:
        """Tells which states are finite and no compartment absurdly full."""
        return (state.values.abs() < 1e7).all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if they are one patient."""
        if self.shared:
            return self
        rows = rows.cpu()
        parameters, settings = (
            {k: v if len(v) == 1 else v[rows] for k, v in table.items()}
            for table in (self.parameters, self.settings)
        )
        return self._with(parameters, settings, len(rows))

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the system with other parameters; the settings of the pumps stay.

        The values may require gradients.
        """
        changed = changed_parameters(self.parameters, parameters, num_envs)
        patients = max(map(len, self.settings.values()))
        if patients not in (1, num_envs):
            raise ValueError(f"num_envs: got {num_envs}; allowed: {patients}, a pump for each")
        return self._with(changed, self.settings, num_envs)

    def _with(
        self, parameters: dict[str, Tensor], settings: dict[str, Tensor], num_envs: int
    ) -> Self:
        changed = copy.copy(self)
        for cached in ("_parameter_rows", "_start", "on_board_at_basal"):
            changed.__dict__.pop(cached, None)
        changed.num_envs, changed.settings, changed.parameters = num_envs, settings, parameters
        return changed

    def values(self, state: GlucoseState) -> Float[Tensor, "batch component"]:
        """Returns the compartments."""
        return state.values[:, : len(COMPARTMENTS)]

    def with_values(
        self, state: GlucoseState, values: Float[Tensor, "batch component"]
    ) -> GlucoseState:
        """Returns states with other compartments."""
        memory = state.values[:, len(COMPARTMENTS) :]
        return replace(state, values=torch.cat((values, memory), 1))

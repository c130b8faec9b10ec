"""Refrigerators: a temperature, and a door that someone opens."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from separatrix.envs.core.stream import INITIAL_STATE, PROCESS_NOISE, Stream
from separatrix.envs.core.system import State, System, changed_parameters

COLDEST, WARMEST = -25.0, 25.0
"""Between which the temperature is kept, in degrees Celsius."""
OPENS, CLOSES = 0.02, 0.1
"""Probabilities that a closed door is opened, and an open one closed, in a step."""


@dataclass(frozen=True)
class RefrigeratorState(State):
    """State of a refrigerator.

    Attributes:
        temperature: In degrees Celsius.
        set_point: The wanted temperature.
        door: 1 for an open door, 0 for a closed one.
    """

    temperature: Float[Tensor, " batch"]
    set_point: Float[Tensor, " batch"]
    door: Float[Tensor, " batch"]


class RefrigeratorSystem(System):
    """Refrigerators under a power from 0 to 1, their only control.

    Args:
        parameters: `ambient` (temperature), `cooling` (degrees in a step at full power),
            `leak_closed` and `leak_open` (part of the difference to the ambient temperature that
            comes in in a step) and `noise` (its standard deviation in degrees), each (1,) or
            (num_envs,) in float64.
        set_point: Wanted temperatures, likewise.
        start: Lowest and highest temperature at the start of an episode.
        opens: Whether the door is ever opened.
        num_envs: Size of the batch.
        device: Where the tensors live.
        dtype: torch.float32 or torch.float64.
    """

    control_interval = 1.0
    quick_parameters = True

    def __init__(
        self,
        parameters: Mapping[str, Float64[Tensor, " _"]],
        set_point: Float64[Tensor, " rows"],
        *,
        start: tuple[float, float],
        opens: bool,
        num_envs: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.parameters, self.set_point = dict(parameters), set_point
        self.start, self.opens = start, opens
        self.num_envs, self.device, self.dtype = num_envs, device, dtype

    def initial_state(self, stream: Stream) -> RefrigeratorState:
        """Draws temperatures within `start`, and doors as they are in the long run."""
        uniform, stream = stream.uniform(2, self.dtype, INITIAL_STATE)
        first, second = uniform.unbind(1)
        low, high = self.start
        set_point = self.set_point.to(first).expand(len(first)).clone()
        door = (second < self.opens * OPENS / (OPENS + CLOSES)).to(first)
        interval = torch.zeros_like(stream.seed)
        return RefrigeratorState(stream, interval, low + (high - low) * first, set_point, door)

    def advance(
        self, state: RefrigeratorState, control: Float[Tensor, "batch control"]
    ) -> RefrigeratorState:
        """Advances all refrigerators by one step; then doors are opened and closed."""
        warm, door = state.temperature, state.door
        normal, stream = state.stream.normal(1, warm.dtype, PROCESS_NOISE)
        uniform, stream = stream.uniform(1, warm.dtype, PROCESS_NOISE)
        p = {name: value.to(warm) for name, value in self.parameters.items()}
        leak = p["leak_closed"] + (p["leak_open"] - p["leak_closed"]) * door
        cooled = p["cooling"] * control[:, 0].to(warm).clamp(0.0, 1.0)
        after = warm - cooled - leak * (warm - p["ambient"]) + p["noise"] * normal[:, 0]
        stands_open = uniform[:, 0] < torch.where(door > 0.5, 1 - CLOSES, self.opens * OPENS)
        return replace(
            state,
            stream=stream,
            interval=state.interval + 1,
            temperature=after.clamp(COLDEST, WARMEST),
            door=stands_open.to(warm),
        )

    def inside(self, state: RefrigeratorState) -> Bool[Tensor, " batch"]:
        """Tells which temperatures are numbers: all of these are within the box."""
        return (state.temperature >= COLDEST) & (state.temperature <= WARMEST)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if parameters are shared."""
        if all(len(v) == 1 for v in (self.set_point, *self.parameters.values())):
            return self
        rows = rows.cpu()
        changed = copy.copy(self)
        changed.num_envs, changed.set_point = len(rows), _rows(self.set_point, rows)
        changed.parameters = {k: _rows(v, rows) for k, v in self.parameters.items()}
        return changed

    def with_parameters(self, parameters: Mapping[str, Float[Tensor, " _"]], num_envs: int) -> Self:
        """Returns the system with other parameters, whose values may require gradients."""
        if len(self.set_point) not in (1, num_envs):
            allowed = f"{len(self.set_point)}, one for each set-point"
            raise ValueError(f"num_envs: got {num_envs}; allowed: {allowed}")
        changed = copy.copy(self)
        changed.parameters = changed_parameters(self.parameters, parameters, num_envs)
        changed.num_envs = num_envs
        return changed

    def values(self, state: RefrigeratorState) -> Float[Tensor, "batch 1"]:
        """Returns the temperatures."""
        return state.temperature[:, None]

    def with_values(
        self, state: RefrigeratorState, values: Float[Tensor, "batch 1"]
    ) -> RefrigeratorState:
        """Returns states of other temperatures."""
        return replace(state, temperature=values[:, 0])


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values if len(values) == 1 else values[rows]

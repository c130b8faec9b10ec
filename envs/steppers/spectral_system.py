"""A periodic PDE made ready to run: parameters, grid, actuators, device, dtype and backend."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.registration import check_count, is_positive, suggest
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System, changed_parameters
from separatrix.envs.steppers.exponential import SCHEMES
from separatrix.envs.steppers.fused import recomputed
from separatrix.envs.steppers.ode_system import parameter_tensor
from separatrix.envs.steppers.spectral import LENGTH, SpectralDefinition
from separatrix.envs.steppers.spectral_grid import Grid
from separatrix.envs.steppers.spectral_program import (
    SpectralProgram,
    compile_program,
    select_rows,
)
from separatrix.envs.steppers.spectral_tangent import tangent_program
from separatrix.envs.steppers.spectral_torch import SpectralTorchStepper

BACKENDS = ("auto", "numba", "torch")

Start = Callable[[Stream, "SpectralSystem"], tuple[Tensor, Stream]]
"""Draws fields (batch, field, *grid) at the start of an episode, in float64 on any device."""


@dataclass(frozen=True)
class FieldState(State):
    """State of a PDE.

    Attributes:
        field: Values of the fields at the points of the grid.
    """

    field: Float[Tensor, "batch field *grid"]


class SpectralSystem(System):
    """A controlled PDE on a periodic box, stepped in Fourier space.

    Args:
        definition: The PDE.
        parameters: Values that differ from the defaults: a number, or one for each environment.
        start: Draws fields at the start of an episode.
        actuators: Force of each control at 1, on every field and at every point.
        points: Points along each axis, even.
        num_envs: Size of the batch.
        control_interval: Time during which a control is held.
        substeps: Time steps in a control interval.
        integrator: Name of the scheme, see `separatrix.envs.steppers.exponential`.
        device: Where the tensors live.
        dtype: torch.float32 or torch.float64.
        backend: "auto", "numba" or "torch".

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        definition: SpectralDefinition,
        parameters: Mapping[str, Any],
        start: Start,
        actuators: Float[Tensor, "control field *grid"],
        *,
        points: int,
        num_envs: int,
        control_interval: float,
        substeps: int,
        integrator: str = "etdrk4",
        device: torch.device,
        dtype: torch.dtype,
        backend: str = "auto",
    ) -> None:
        if not is_positive(control_interval):
            got = reprlib.repr(control_interval)
            raise ValueError(f"control_interval: got {got}; allowed: a number > 0")
        check_count("substeps", substeps)
        if not isinstance(integrator, str) or integrator not in SCHEMES:
            got = reprlib.repr(integrator)
            raise ValueError(f"integrator: got {got}; {suggest(integrator, SCHEMES)}")
        self.definition, self.start = definition, start
        self.num_envs, self.control_interval = num_envs, float(control_interval)
        self.device, self.dtype = device, dtype
        self.integrator = integrator
        self.backend = _choose_backend(backend, device, definition.dimensions)
        self.parameters = {
            name: parameter_tensor(name, parameters.get(name, default), num_envs)
            for name, default in definition.parameters.items()
        }
        if not (self.parameters[LENGTH] > 0).all():
            got = reprlib.repr(parameters[LENGTH])
            raise ValueError(f"parameter {LENGTH!r}: got {got}; allowed: numbers > 0")
        self.grid = check_grid(points, definition)
        self.actuators = actuators
        self.program = self._compiled(self.control_interval, substeps)
        self._free: dict[tuple[float, int], SpectralProgram] = {}
        self._others: dict[Any, Any] = {}  # steppers of these programs, and of tangents
        self.bound = torch.tensor(definition.bound, device=device, dtype=dtype).view(
            -1, *[1] * definition.dimensions
        )

    @property
    def shared(self) -> bool:
        """Whether all environments have the same parameters."""
        return all(value.shape[0] == 1 for value in self.parameters.values())

    @property
    def substeps(self) -> int:
        """Time steps in a control interval."""
        return self.program.substeps

    @property
    def length(self) -> Float[Tensor, " rows"]:
        """Side of the box, float64 on the CPU."""
        return self.parameters[LENGTH]

    @property
    def conserves_mean(self) -> bool:
        """Whether nothing but rounding changes the means of the fields."""
        program = self.program
        terms = [program.linear, program.forcing, program.actuators]
        terms += [m for m in program.outputs.values() if isinstance(m, Tensor)]
        axes = self.grid.dimensions
        means = [term.flatten(-axes).abs()[..., 0] for term in terms]  # the first mode
        return all(bool((mean < 1e-12).all()) for mean in means)

    @cached_property
    def reference(self) -> SpectralTorchStepper:
        """The stepper of torch operations, which defines what others compute."""
        return SpectralTorchStepper(self.program, self.device, self.dtype)

    @cached_property
    def _stepper(self) -> Any:
        return self._made_stepper(self.program)

    def _compiled(self, interval: float, substeps: int) -> SpectralProgram:
        return compile_program(
            self.definition,
            self.parameters,
            self.grid,
            self.actuators,
            scheme=self.integrator,
            control_interval=interval,
            substeps=substeps,
        )

    def _made_stepper(self, program: SpectralProgram) -> Any:
        if self.backend == "numba":
            from separatrix.envs.steppers.spectral_numba import SpectralNumbaStepper

            return SpectralNumbaStepper(program, self.dtype)
        return SpectralTorchStepper(program, self.device, self.dtype)

    def initial_state(self, stream: Stream) -> FieldState:
        """Draws initial fields."""
        field, stream = self.start(stream, self)
        interval = torch.zeros_like(stream.seed)
        return FieldState(stream, interval, field.to(self.device, self.dtype))

    def free_flow(
        self, field: Float[Tensor, "batch field *grid"], duration: float, substeps: int
    ) -> Float[Tensor, "batch field *grid"]:
        """Returns what fields become without control, on the system's device and in its dtype.

        Args:
            field: Fields; modes that are not kept are left out.
            duration: Time that passes.
            substeps: Time steps.
        """
        key = (duration, substeps)
        if key not in self._free:
            self._free[key] = self._compiled(duration, substeps)
        if key not in self._others:
            self._others[key] = self._made_stepper(self._free[key])
        control = torch.zeros((len(field), len(self.actuators)), dtype=self.dtype)
        return self._others[key](field.to(self.device, self.dtype), control.to(self.device))

    def tangent_stepper(self, tangents: int) -> Any:
        """Returns what advances the fields and a deviation from them, as twice the fields.

        Args:
            tangents: Deviations of each environment: so many rows of the batch in turn are its own.
        """
        key = None if self.shared else tangents
        if key not in self._others:
            program = tangent_program(self.program)
            if key is not None:
                rows = torch.arange(self.num_envs).repeat_interleave(tangents)
                program = select_rows(program, rows)
            self._others[key] = self._made_stepper(program)
        return self._others[key]

    def advance(self, state: FieldState, control: Float[Tensor, "batch control"]) -> FieldState:
        """Advances all environments by one control interval under held controls.

        Gradients flow through it and recompute the interval, so that a rollout remembers one field
        a control interval.
        """
        if self.backend == "numba":
            field = self._stepper(state.field, control)
        else:
            field = recomputed(self.reference, self.reference, state.field, control)
        return replace(state, field=field, interval=state.interval + 1)

    def inside(self, state: FieldState) -> Bool[Tensor, " batch"]:
        """Tells which fields are finite and within the bounds."""
        return (state.field.abs() <= self.bound).flatten(1).all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if parameters are shared."""
        if self.shared:
            return self
        selected = self._uncached()
        selected.num_envs = len(rows)
        selected.parameters = {
            name: value if value.shape[0] == 1 else value[rows.cpu()]
            for name, value in self.parameters.items()
        }
        selected.program = select_rows(self.program, rows.cpu())
        selected._free = {key: select_rows(p, rows.cpu()) for key, p in self._free.items()}
        return selected

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the system with other values of some parameters; its actuators stay."""
        changed = self._uncached()
        changed.num_envs = num_envs
        changed.parameters = changed_parameters(self.parameters, parameters, num_envs)
        changed.program = changed._compiled(self.control_interval, self.substeps)
        changed._free = {}
        return changed

    def values(self, state: FieldState) -> Float[Tensor, "batch component"]:
        """Returns the values of all fields at all points."""
        return state.field.flatten(1)

    def with_values(
        self, state: FieldState, values: Float[Tensor, "batch component"]
    ) -> FieldState:
        """Returns states with other fields."""
        return replace(state, field=values.reshape(-1, *state.field.shape[1:]))

    def in_double(self) -> Self:
        """Returns the system in float64 on the CPU, stepped by the torch reference."""
        precise = self._uncached()
        precise.dtype, precise.device, precise.backend = torch.float64, torch.device("cpu"), "torch"
        precise.bound = self.bound.to(precise.device, precise.dtype)
        return precise

    def _uncached(self) -> Self:
        """Returns a copy that makes its steppers anew."""
        other = copy.copy(self)
        for cached in ("reference", "_stepper"):
            other.__dict__.pop(cached, None)
        other._others = {}
        return other


def _choose_backend(backend: str, device: torch.device, dimensions: int) -> str:
    """Decides what `auto` means on a device: the fused kernel, where there is one."""
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"unknown backend {reprlib.repr(backend)}; allowed: {', '.join(BACKENDS)}")
    if backend == "auto":
        return "numba" if device.type == "cpu" and dimensions <= 2 else "torch"
    if backend == "numba" and device.type != "cpu":
        raise ValueError(f"backend 'numba' runs on device 'cpu', got {str(device)!r}")
    return backend


def check_grid(points: Any, definition: SpectralDefinition) -> Grid:
    """Returns the grid of a PDE.

    Raises:
        ValueError: The number of points is not an even integer of no prime factors but 2, 3 and 5,
            or too small to keep a mode.
    """
    smallest = 2 * (definition.degree + 1)
    rest = points if isinstance(points, int) and not isinstance(points, bool) else 0
    for factor in (2, 3, 5):
        while rest and rest % factor == 0:
            rest //= factor
    if rest != 1 or points % 2 or not smallest <= points <= 4096:
        raise ValueError(
            f"points: got {reprlib.repr(points)}; allowed: even integers from {smallest} to 4096 "
            "whose prime factors are 2, 3 and 5"
        )
    return Grid(points, definition.dimensions)

"""Bodies in a stream made ready to run: Reynolds numbers, lattice, device, dtype and backend."""

from __future__ import annotations

import copy
import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.registration import check_count, is_positive
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System
from separatrix.envs.steppers.lattice import VELOCITIES, Actuator, Domain
from separatrix.envs.steppers.lattice_program import LatticeProgram, compile_lattice
from separatrix.envs.steppers.lattice_torch import LatticeTorchStepper
from separatrix.envs.steppers.ode_system import choose_backend, parameter_tensor

FASTEST = 0.15
"""Links that the stream, or the surface of a body, may move in a time step; sound moves 0.58."""
THINNEST, COARSEST = 10.0, 40.0
"""Least viscosity in units of the cube of that velocity, and largest Reynolds number of a site.

Measured: rotation that turns at random, at the largest velocity allowed, breaks the flow at a half
of the one and at twice the other.
"""
BOUND = 0.4
"""Of the populations' deviations in the safe box; in a stream at the limits they reach 0.12."""

Start = Callable[[Stream, "LatticeSystem"], tuple["Flow", Stream]]


@dataclass(frozen=True)
class Flow:
    """A flow and the forces that it has just exerted.

    Attributes:
        populations: Deviations from fluid at rest, as collisions leave them.
        force: Mean coefficients of drag and lift of each body over the last control interval.
        previous_force: The same of the interval before.
    """

    populations: Float[Tensor, "batch 9 row column"]
    force: Float[Tensor, "batch body 2"]
    previous_force: Float[Tensor, "batch body 2"]


@dataclass(frozen=True)
class LatticeState(State):
    """State of a stream with bodies.

    Attributes:
        flow: The flow and its forces.
        control: In force now; it follows what is asked for.
    """

    flow: Flow
    control: Float[Tensor, "batch control"]


class LatticeSystem(System):
    """Bodies in a stream, by the lattice Boltzmann method.

    Args:
        domain: The box and the bodies.
        actuators: What moves the surfaces of the bodies.
        reynolds_number: Of a body of diameter 1 in a stream of mean velocity 1; one for all
            environments, or one for each.
        start: Draws flows at the start of an episode.
        resolution: Sites to a unit of length.
        speed: Velocity 1 in links a time step.
        num_envs: Size of the batch.
        control_interval: Time during which a control is asked for, rounded to whole time steps.
        smoothing_time: Time in which the control in force comes to 1/e of the way near what is
            asked for; 0 for at once.
        strongest: Largest velocity of a surface.
        device: Where the tensors live.
        dtype: torch.float32 or torch.float64.
        backend: "auto", "numba", "triton" or "torch".

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        domain: Domain,
        actuators: Sequence[Actuator],
        reynolds_number: Any,
        start: Start,
        *,
        resolution: int,
        speed: float,
        num_envs: int,
        control_interval: float,
        smoothing_time: float,
        strongest: float,
        device: torch.device,
        dtype: torch.dtype,
        backend: str = "auto",
    ) -> None:
        check_count("resolution", resolution)
        for name, value in (("control_interval", control_interval), ("speed", speed)):
            if not is_positive(value):
                raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: a number > 0")
        if smoothing_time != 0 and not is_positive(smoothing_time):
            got = reprlib.repr(smoothing_time)
            raise ValueError(f"smoothing_time: got {got}; allowed: a number >= 0")
        self.parameters = {
            "reynolds_number": parameter_tensor("reynolds_number", reynolds_number, num_envs)
        }
        _check_stable(self.reynolds_number, resolution, speed, max(1.0, strongest))
        self.domain, self.actuators, self.start = domain, tuple(actuators), start
        self.program = compile_lattice(domain, actuators, resolution, speed)
        self.substeps = max(1, round(control_interval / self.program.time_step))
        self.control_interval = self.substeps * self.program.time_step
        self.smoothing_time = float(smoothing_time)
        self.num_envs, self.device, self.dtype = num_envs, device, dtype
        self.backend = choose_backend(backend, device)

    @property
    def reynolds_number(self) -> Float[Tensor, " rows"]:
        """Of a body of diameter 1, float64 on the CPU."""
        return self.parameters["reynolds_number"]

    @property
    def shared(self) -> bool:
        """Whether all environments have the same Reynolds number."""
        return len(self.reynolds_number) == 1

    @cached_property
    def rate(self) -> Float[Tensor, " rows"]:
        """Rate of the collisions, 1 / tau."""
        viscosity = self.program.viscosity / self.reynolds_number
        return (1 / (0.5 + 3 * viscosity)).to(self.device, self.dtype)

    @cached_property
    def _stepper(self) -> Any:
        return make_stepper(
            self.program,
            math.exp(-self.program.time_step / self.smoothing_time) if self.smoothing_time else 0.0,
            self.substeps,
            self.backend,
            self.device,
            self.dtype,
        )

    def initial_state(self, stream: Stream) -> LatticeState:
        """Draws initial flows, with controls at 0."""
        flow, stream = self.start(stream, self)
        control = flow.populations.new_zeros((len(flow.populations), self.program.controls))
        return LatticeState(stream, torch.zeros_like(stream.seed), flow, control)

    def advance(self, state: LatticeState, control: Float[Tensor, "batch control"]) -> LatticeState:
        """Advances all environments by one control interval."""
        inputs = (state.flow.populations, state.control, control, self.rate)
        populations, held, force = self._stepper(*inputs)
        # Of a body of diameter 1 in a stream of velocity 1 and density 1.
        coefficient = force / (0.5 * self.program.speed**2 * self.program.resolution)
        flow = Flow(populations, coefficient, state.flow.force)
        return replace(state, flow=flow, control=held, interval=state.interval + 1)

    def inside(self, state: LatticeState) -> Bool[Tensor, " batch"]:
        """Tells which flows are finite and slow enough for the lattice."""
        return state.flow.populations.flatten(1).abs().amax(1) <= BOUND

    def fields(self, populations: Float[Tensor, "batch 9 *place"]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns velocities along and across the stream, and pressures, (batch, *place) each.

        In units of the stream and of density times its square; of fluid at rest it is zero.
        """
        shape = (-1, *[1] * (populations.ndim - 2))
        x, y = (populations.new_tensor(part).view(shape) for part in VELOCITIES.T.tolist())
        speed = self.program.speed
        u, v = ((populations * c).sum(1) / speed for c in (x, y))
        return u, v, populations.sum(1) / (3 * speed**2)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if parameters are shared."""
        if self.shared:
            return self
        selected = copy.copy(self)
        selected.__dict__.pop("rate", None)
        selected.num_envs = len(rows)
        selected.parameters = {k: value[rows.cpu()] for k, value in self.parameters.items()}
        return selected


def make_stepper(
    program: LatticeProgram,
    keep: float,
    substeps: int,
    backend: str,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """Returns what advances a batch by one control interval; see `LatticeTorchStepper`."""
    if backend == "numba":
        from separatrix.envs.steppers.lattice_numba import LatticeNumbaStepper

        return LatticeNumbaStepper(program, keep, substeps, dtype)
    if backend == "triton":
        from separatrix.envs.steppers.lattice_triton import LatticeTritonStepper

        return LatticeTritonStepper(program, keep, substeps, device, dtype)
    return LatticeTorchStepper(program, keep, substeps, device, dtype)


def _check_stable(reynolds_number: Tensor, resolution: int, speed: float, strongest: float) -> None:
    """Raises ValueError if the lattice cannot carry the flow."""
    fastest = speed * strongest
    if fastest > FASTEST:
        raise ValueError(
            f"speed: got {speed:g}, with surfaces that move up to {strongest:g} times as fast; "
            f"allowed: up to {FASTEST / strongest:.4g} links a time step"
        )
    largest = min(COARSEST * resolution, speed * resolution / (THINNEST * fastest**3))
    if not ((reynolds_number > 0) & (reynolds_number <= largest * (1 + 1e-9))).all():
        got = reprlib.repr(reynolds_number.tolist())
        raise ValueError(
            f"reynolds_number: got {got}; allowed at resolution {resolution} and speed {speed:g}: "
            f"numbers > 0 and <= {largest:.4g}. A finer resolution or a smaller speed allows more."
        )

"""A definition made ready to run: parameters, device, dtype, integrator and backend."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.util import find_spec
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.inputs import read_numbers
from separatrix.envs.core.registration import check_count, is_positive
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System, changed_parameters
from separatrix.envs.steppers.integrators import INTEGRATORS, MAP, tableau
from separatrix.envs.steppers.ode import OdeDefinition
from separatrix.envs.steppers.symbolic import Program, jacobian, trace
from separatrix.envs.steppers.torch_backend import (
    Interval,
    TorchStepper,
    stack,
    torch_function,
)

BACKENDS = ("auto", "numba", "triton", "torch")
DTYPES = {"float32": torch.float32, "float64": torch.float64}

traced = cache(trace)


@dataclass(frozen=True)
class OdeState(State):
    """State of an ODE system.

    Attributes:
        values: The state components.
    """

    values: Float[Tensor, "batch state"]


def choose_backend(backend: str, device: torch.device) -> str:
    """Decides what `auto` means on a device: a fused kernel, where there is one.

    Raises:
        ValueError: The backend is unknown, or does not run on the device.
        ImportError: The backend needs a package that is not installed.
    """
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"unknown backend {reprlib.repr(backend)}; allowed: {', '.join(BACKENDS)}")
    has_triton = find_spec("triton") is not None
    if backend == "auto":
        fused = {"cpu": "numba", "cuda": "triton" if has_triton else "torch"}
        return fused.get(device.type, "torch")
    if backend == "numba" and device.type != "cpu":
        raise ValueError(f"backend 'numba' runs on device 'cpu', got {str(device)!r}")
    if backend == "triton":
        if not has_triton:
            raise ImportError("backend 'triton' needs the package triton: pip install triton")
        from triton import knobs

        if device.type != "cuda" and not (device.type == "cpu" and knobs.runtime.interpret):
            raise ValueError(
                f"backend 'triton' runs on device 'cuda', got {str(device)!r}; allowed on 'cpu' "
                "only in Triton's interpreter: start Python with TRITON_INTERPRET=1"
            )
    return backend


def make_stepper(
    program: Program,
    scheme: str,
    interval: Interval,
    backend: str,
    dtype: torch.dtype,
    device: torch.device,
) -> Any:
    """Returns the stepper of a program on a backend, "torch", "numba" or "triton"."""
    if backend == "numba":
        from separatrix.envs.steppers.numba_backend import NumbaStepper

        return NumbaStepper(program, tableau(scheme), interval, dtype)
    if backend == "triton":
        from separatrix.envs.steppers.triton_backend import TritonStepper

        return TritonStepper(program, tableau(scheme), interval, dtype, device)
    return TorchStepper(program, tableau(scheme), interval)


def parameter_tensor(name: str, value: Any, num_envs: int) -> Float[Tensor, " rows"]:
    """Reads one parameter: a finite number, or one for each environment.

    Returns:
        float64 of shape (1,) or (num_envs,).

    Raises:
        ValueError: The value is something else.
    """
    tensor = read_numbers(f"parameter {name!r}", value).to("cpu", torch.float64, copy=True)
    if tensor.ndim == 0:
        tensor = tensor[None]
    elif tensor.shape != (num_envs,):
        raise ValueError(
            f"parameter {name!r}: got shape {tuple(tensor.shape)}; allowed: one number, or one "
            f"for each of the {num_envs} environments"
        )
    if not tensor.isfinite().all():
        raise ValueError(f"parameter {name!r}: got {reprlib.repr(value)}; allowed: finite numbers")
    return tensor


class OdeSystem(System):
    """A controlled ODE system x' = f(x, u; parameters), or a map x_{k+1} = f(x_k, u_k; parameters).

    The unit of time of a map is one iteration, and so is a sub-step; its integrator is "map". Its
    `vector_field` is f, too: the next state.

    Args:
        definition: The system.
        parameters: Values that differ from the defaults: a number, or one for each environment.
        num_envs: Size of the batch.
        control_interval: Time during which a control is held.
        substeps: Integration steps in a control interval.
        integrator: Name of the scheme.
        device: Where the tensors live.
        dtype: torch.float32 or torch.float64.
        backend: "auto", "numba", "triton" or "torch".

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    quick_parameters = True

    def __init__(
        self,
        definition: OdeDefinition,
        parameters: Mapping[str, Any],
        *,
        num_envs: int,
        control_interval: float,
        substeps: int,
        integrator: str = "rk4",
        device: torch.device,
        dtype: torch.dtype,
        backend: str = "auto",
    ) -> None:
        if not is_positive(control_interval):
            got = reprlib.repr(control_interval)
            raise ValueError(f"control_interval: got {got}; allowed: a number > 0")
        check_count("substeps", substeps)
        tableau(integrator)
        if (integrator == MAP.name) != definition.discrete:
            allowed = MAP.name if definition.discrete else ", ".join(INTEGRATORS)
            got = f"integrator: got {integrator!r} for {definition.name}"
            raise ValueError(f"{got}; allowed: {allowed}")
        if definition.discrete and control_interval != substeps:
            raise ValueError(
                f"control_interval: got {control_interval!r}; a sub-step of a map is one "
                f"iteration; allowed: the number of substeps, {substeps}"
            )
        self.definition = definition
        self.num_envs, self.control_interval = num_envs, float(control_interval)
        self.device, self.dtype = device, dtype
        self.integrator, self.backend = integrator, choose_backend(backend, device)
        self.parameters = {
            name: parameter_tensor(name, parameters.get(name, default), num_envs)
            for name, default in definition.parameters.items()
        }
        low, high = definition.bounds()
        self.interval = Interval(self.control_interval, substeps, low, high)
        self.low, self.high = (torch.tensor(b).to(device, dtype) for b in (low, high))

    @property
    def shared(self) -> bool:
        """Whether all environments have the same parameters."""
        return all(value.shape[0] == 1 for value in self.parameters.values())

    @cached_property
    def _stepper(self) -> Any:
        """Steps without a task: the control is taken as it is and the state is not guarded."""
        program = traced(self.definition)
        return make_stepper(
            program, self.integrator, self.interval, self.backend, self.dtype, self.device
        )

    @cached_property
    def _parameter_rows(self) -> Float[Tensor, "parameter rows"]:
        return rows_of(list(self.parameters.values())).to(self.device, self.dtype)

    def initial_state(self, stream: Stream) -> OdeState:
        """Draws initial states from the definition's start."""
        values, stream = self.definition.start.sample(stream)
        interval = torch.zeros_like(stream.seed)
        return OdeState(stream, interval, values.to(self.device, self.dtype))

    def advance(self, state: OdeState, control: Float[Tensor, "batch control"]) -> OdeState:
        """Advances all environments by one control interval under held controls."""
        result = self._stepper(state.values, control, self._parameter_rows)
        return replace(state, values=result.next_values, interval=state.interval + 1)

    def inside(self, state: OdeState) -> Bool[Tensor, " batch"]:
        """Tells which states are finite and within the safe box."""
        return ((state.values >= self.low) & (state.values <= self.high)).all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if parameters are shared."""
        if self.shared:
            return self
        selected = copy.copy(self)
        selected.__dict__.pop("_parameter_rows", None)
        selected.num_envs = len(rows)
        selected.parameters = {
            name: value if value.shape[0] == 1 else value[rows.cpu()]
            for name, value in self.parameters.items()
        }
        return selected

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the system with other values of some parameters.

        The values may require gradients.
        """
        changed = copy.copy(self)
        changed.__dict__.pop("_parameter_rows", None)
        changed.num_envs = num_envs
        changed.parameters = changed_parameters(self.parameters, parameters, num_envs)
        return changed

    def values(self, state: OdeState) -> Float[Tensor, "batch component"]:
        """Returns the state components."""
        return state.values

    def with_values(self, state: OdeState, values: Float[Tensor, "batch component"]) -> OdeState:
        """Returns states with other components."""
        return replace(state, values=values)

    def vector_field(
        self, values: Float[Tensor, "batch state"], control: Float[Tensor, "batch control"]
    ) -> Float[Tensor, "batch state"]:
        """Evaluates f in the dtype of its arguments."""
        x = values.T
        return stack(_field(self.definition)(x, control.T, self._rows_like(values)), x).T

    def jacobian(
        self, values: Float[Tensor, "batch state"], control: Float[Tensor, "batch control"]
    ) -> tuple[Float[Tensor, "batch state state"], Float[Tensor, "batch state control"]]:
        """Evaluates the symbolic derivatives of f by state and by control."""
        n, m = values.shape[1], control.shape[1]
        places, function = _jacobian(self.definition)
        entries = function(values.T, control.T, self._rows_like(values))
        matrix = fill(values, (n, n + m), places, entries)
        return matrix[..., :n], matrix[..., n:]

    def difference(
        self, values: Float[Tensor, "batch state"], origin: Float[Tensor, "rows state"]
    ) -> Float[Tensor, "batch state"]:
        """Returns `values - origin`, with angles wrapped to [-pi, pi]."""
        difference = values - origin
        for name in self.definition.angles:
            i = self.definition.state_names.index(name)
            turns = torch.round(difference[:, i] / (2 * torch.pi))
            difference[:, i] = difference[:, i] - 2 * torch.pi * turns
        return difference

    def _rows_like(self, values: Tensor) -> Tensor:
        return rows_of(list(self.parameters.values())).to(values)


def fill(
    like: Tensor, shape: tuple[int, int], places: Sequence[tuple[int, int]], entries: Sequence[Any]
) -> Float[Tensor, "batch row column"]:
    """Returns a batch of matrices with some entries given, (batch,) or numbers, and zeros."""
    matrix = like.new_zeros((like.shape[0], *shape))
    for (i, j), entry in zip(places, entries, strict=True):
        matrix[:, i, j] = entry
    return matrix


def rows_of(values: Sequence[Float[Tensor, " rows"]]) -> Float[Tensor, "parameter rows"]:
    """Stacks parameters, of one row or a row for each environment, into one tensor."""
    if not values:
        return torch.empty((0, 1), dtype=torch.float64)
    return torch.stack(torch.broadcast_tensors(*values))


@cache
def _field(definition: OdeDefinition) -> Any:
    program = traced(definition)
    inputs = {"x": program.state, "u": program.control, "p": program.parameter}
    return torch_function("field", inputs, program.vector_field)


@cache
def _jacobian(definition: OdeDefinition) -> tuple[list[tuple[int, int]], Any]:
    program = traced(definition)
    inputs = {"x": program.state, "u": program.control, "p": program.parameter}
    entries = jacobian(program.vector_field, (*program.state, *program.control))
    return list(entries), torch_function("jacobian", inputs, list(entries.values()))

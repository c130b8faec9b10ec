"""Maps are stepped exactly, on every backend, and offer no choice of integration.

The kernels are numba's, or with TRITON_INTERPRET=1 Triton's.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import find, make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import difference_equation, ode
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem
from separatrix.envs.steppers.symbolic import trace

KERNEL = "triton" if os.environ.get("TRITON_INTERPRET") == "1" else "numba"
backends = pytest.mark.parametrize("backend", ["torch", KERNEL])
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
HENON = "separatrix/Henon-v0"


class Anywhere:
    """Nothing here starts an episode."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        raise NotImplementedError


@difference_equation(states="x y", controls="u", start=Anywhere(), box=(-1e9, 1e9))
def fibonacci(x: Expression, y: Expression, u: Expression, *, gain: Expression = 3.0) -> Any:
    """Whole numbers stay whole."""
    return y, x + y + gain * u


@ode(states="x", controls="u", start=Anywhere(), box=(-1.0, 1.0))
def decay(x: Expression, u: Expression) -> Any:
    """No map."""
    return (u - x,)


def make(definition: Any, backend: str, dtype: torch.dtype, **changes: Any) -> OdeSystem:
    options: dict[str, Any] = {"control_interval": 1.0, "substeps": 1, "integrator": "map"}
    return OdeSystem(
        definition,
        {},
        num_envs=1,
        device=torch.device("cpu"),
        dtype=dtype,
        backend=backend,
        **options | changes,
    )


def advance(system: OdeSystem, values: Tensor, control: Tensor) -> Tensor:
    stream = Stream.start(torch.arange(len(values)))
    state = OdeState(stream, torch.zeros_like(stream.seed), values)
    return system.advance(state, control).values


def test_definition() -> None:
    assert fibonacci.discrete and not decay.discrete
    program = trace(fibonacci)
    x, y = program.state
    assert program.vector_field == (y, x + y + program.parameter[0] * program.control[0])

    @difference_equation(states="x y", controls="", start=Anywhere(), box=(-1.0, 1.0))
    def short(x: Any, y: Any) -> Any:
        return (x,)

    with pytest.raises(ValueError, match="short returns 1 values for 2 states"):
        trace(short)


@backends
@dtypes
def test_kernel_equals_the_map_exactly(backend: str, dtype: torch.dtype) -> None:
    """The next state is f itself, not a state plus a difference that rounds."""
    system = make(fibonacci, backend, dtype)
    # Beside a large x, a small y is lost in x + (y - x).
    values = torch.tensor([[2.0**26 + 8, 3.0], [1.0, -2.0], [0.0, 0.0]]).to(dtype)
    control = torch.tensor([[1.0], [-1.0], [4.0]]).to(dtype)
    found = advance(system, values, control)
    x, y, u = *values.T, control[:, 0]
    assert torch.equal(found, torch.stack([y, x + y + 3 * u], 1))
    assert torch.equal(system.vector_field(values, control), found)


@dtypes
def test_kernel_equals_torch_to_an_ulp(dtype: torch.dtype) -> None:
    """Of the Henon map, whose products a kernel may fuse with the sums."""
    name = str(dtype).removeprefix("torch.")
    fused, reference = (
        make_environment(HENON, 500, backend=b, dtype=name) for b in (KERNEL, "torch")
    )
    state, _ = reference.reset(0)
    generator = torch.Generator().manual_seed(1)
    action = 2 * torch.rand((500, 1), generator=generator, dtype=dtype) - 1
    found, expected = fused.step(state, action), reference.step(state, action)
    ulp = torch.finfo(dtype).eps * 2.0  # of the largest number on the way
    assert (found.state.values - expected.state.values).abs().max() <= ulp
    assert (expected.state.values - state.values).abs().mean() > 0.1
    assert torch.equal(found.terminated, expected.terminated)


@backends
def test_kernel_equals_the_iterate_under_a_held_control(backend: str) -> None:
    system = make(fibonacci, backend, torch.float64, control_interval=7.0, substeps=7)
    values, control = torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[1.0]]).double()
    x, y = 0.0, 1.0
    for _ in range(7):
        x, y = y, x + y + 3.0
    assert advance(system, values, control).tolist() == [[x, y]]


@backends
def test_gradient_is_the_product_of_jacobians(backend: str) -> None:
    """In both backends, through six iterations of the Henon map, for triton and the others."""
    environment: Any = make_environment(HENON, 20, backend=backend, dtype="float64")
    start, _ = environment.reset(0)
    values = start.values.clone().requires_grad_()
    state = OdeState(start.stream, start.interval, values)
    action = torch.zeros((20, 1), dtype=torch.float64)
    product = torch.eye(2, dtype=torch.float64).expand(20, 2, 2)
    for _ in range(6):
        jacobian, _ = environment.system.jacobian(state.values.detach(), action)
        product = jacobian @ product
        state = environment.step(state, action).state
    for i in range(2):
        (row,) = torch.autograd.grad(state.values[:, i].sum(), values, retain_graph=True)
        torch.testing.assert_close(row, product[:, i], rtol=1e-12, atol=1e-12)


@backends
def test_parameters_of_their_own(backend: str) -> None:
    a = torch.linspace(1.0, 1.4, 5, dtype=torch.float64)
    environment: Any = make_environment(HENON, 5, backend=backend, dtype="float64", a=a)
    state, _ = environment.reset(3)
    x, y = state.values.T
    action = torch.full((5, 1), 0.5, dtype=torch.float64)
    found = environment.step(state, action).state.values
    u = 0.5 * environment.task.authority
    expected = torch.stack([1 - (a + u) * x**2 + y, 0.3 * x], 1)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_no_option_of_integration_is_offered() -> None:
    options = find(HENON).options
    assert not {"integrator", "substeps", "control_interval"} & options.keys()
    for name, value in (("integrator", "rk4"), ("substeps", 2), ("control_interval", 2.0)):
        changes: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"unknown option '{name}'.*allowed: a, b, width"):
            make_environment(HENON, **changes)
    assert make_environment(HENON).control_interval == 1.0


def test_schemes_and_systems_must_fit() -> None:
    with pytest.raises(ValueError, match="got 'rk4' for fibonacci; allowed: map"):
        make(fibonacci, "torch", torch.float64, integrator="rk4")
    with pytest.raises(ValueError, match="got 'map' for decay; allowed: euler, heun, rk4, tsit5"):
        make(decay, "torch", torch.float64)
    with pytest.raises(ValueError, match=r"got 0\.5; a sub-step of a map is one iteration"):
        make(fibonacci, "torch", torch.float64, control_interval=0.5)
    with pytest.raises(ValueError, match="unknown integrator 'rk5'; allowed: euler, heun, rk4, "):
        make(decay, "torch", torch.float64, integrator="rk5")

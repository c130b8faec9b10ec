"""Tracing, symbolic derivatives, printing of every operation, and malformed declarations."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers import functions
from separatrix.envs.steppers.ode import OdeDefinition, ode
from separatrix.envs.steppers.ode_system import OdeSystem
from separatrix.envs.steppers.printing import Block, Printer
from separatrix.envs.steppers.symbolic import jacobian, symbols, trace
from separatrix.envs.steppers.torch_backend import torch_function

ALL_IDS = [
    name
    for name, entry in REGISTRY.items()
    if isinstance(entry.options.get("task"), str) and "points" not in entry.options
]
X, Y = symbols("x", ["a", "b"])
NAMES = {X: "x", Y: "y"}


class Anywhere:
    """Nothing here starts an episode."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        raise NotImplementedError


def declare(states: str, controls: str, **options: Any) -> Any:
    return ode(states=states, controls=controls, start=Anywhere(), box=(-1.0, 1.0), **options)


# --- tracing -----------------------------------------------------------------------------------


def test_trace_of_scalars_and_groups() -> None:
    @declare("x[3] y", "u v[2]")
    def mixed(x: Any, y: Any, u: Any, v: Any, *, gain: Any = 2.0) -> list[Any]:
        assert isinstance(x, list) and isinstance(v, list)
        return [x[1] * gain, x[2] + u, v[0] - v[1], y]

    program = trace(mixed)
    assert [str(s) for s in program.state] == ["x_x0", "x_x1", "x_x2", "x_y"]
    assert [str(s) for s in program.control] == ["u_u", "u_v0", "u_v1"]
    assert [str(s) for s in program.parameter] == ["p_gain"]
    x, (u, v0, v1), (gain,) = program.state, program.control, program.parameter
    assert program.vector_field == (x[1] * gain, x[2] + u, v0 - v1, x[3])
    assert program.law == program.action  # without a task the action is the control
    assert all(s.is_real for s in (*program.state, *program.control, *program.parameter))
    assert mixed.state_names == ("x0", "x1", "x2", "y")
    assert mixed.parameters == {"gain": 2.0}


def test_names_of_states_controls_and_parameters_do_not_collide() -> None:
    @declare("x", "u")
    def confusing(x: Any, u: Any, *, a_u: Any = 1.0, x_x: Any = 2.0) -> Any:
        return (x_x * x + a_u * u,)

    program = trace(confusing)
    every = (*program.state, *program.control, *program.action, *program.parameter)
    assert len(set(every)) == len(every) == 5


def test_wrong_number_of_derivatives() -> None:
    @declare("x y", "")
    def short(x: Any, y: Any) -> Any:
        return (x,)

    with pytest.raises(ValueError, match="short returns 1 derivatives for 2 states"):
        trace(short)


# --- malformed declarations --------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x[0]", "x[-1]", "x[", "3x", "x-y", "x,y", "x[2]y"])
def test_malformed_components(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read the component .*; write a name such as x"):
        declare(text, "")(lambda x: x)


def named(x: Any, y: Any, u: Any) -> Any:
    return x, y


def defaultless(x: Any, *, rate: Any) -> Any:
    return (x,)


@pytest.mark.parametrize(
    ("states", "controls", "function", "options", "message"),
    [
        ("x z", "u", named, {}, r"named takes ['x', 'y', 'u'], but states and controls are"),
        ("x y", "", named, {}, r"['x', 'y', 'u'], but states and controls are ['x', 'y']"),
        ("y x", "u", named, {}, r"['x', 'y', 'u'], but states and controls are ['y', 'x', 'u']"),
        ("x", "", defaultless, {}, "defaultless: parameters without a default: ['rate']"),
        ("x y", "u", named, {"angles": "y phi"}, "named: angles ['phi'] are not states"),
    ],
)
def test_malformed_declarations(
    states: str, controls: str, function: Callable[..., Any], options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        declare(states, controls, **options)(function)


# --- derivatives -------------------------------------------------------------------------------


def system(name: str) -> OdeSystem:
    environment: Any = make_environment(name, 16, dtype="float64", backend="torch")
    return environment.system


@pytest.mark.parametrize("name", ALL_IDS)
def test_symbolic_jacobian(name: str) -> None:
    """Against automatic differentiation and central differences of the vector field."""
    found = system(name)
    generator = np.random.default_rng(2)
    values = found.initial_state(Stream.start(torch.arange(16))).values
    values = values + torch.from_numpy(generator.standard_normal(values.shape))
    controls = len(found.definition.control_names)
    control = torch.from_numpy(generator.uniform(-1, 1, (16, controls)))
    by_state, by_control = found.jacobian(values, control)

    point = torch.cat([values, control], 1)
    n = values.shape[1]
    differences, gradients = torch.zeros(2, *by_state.shape[:2], point.shape[1]).double()
    for j in range(point.shape[1]):
        move = torch.zeros_like(point)
        move[:, j] = 1e-6
        ahead, behind = (
            found.vector_field(p[:, :n], p[:, n:]) for p in (point + move, point - move)
        )
        differences[:, :, j] = (ahead - behind) / 2e-6
    leaf = point.clone().requires_grad_()
    field = found.vector_field(leaf[:, :n], leaf[:, n:])
    for i in range(n):
        if field[:, i].requires_grad:
            gradients[:, i] = torch.autograd.grad(field[:, i].sum(), leaf, retain_graph=True)[0]

    both = torch.cat([by_state, by_control], 2)
    scale = both.abs().amax()
    torch.testing.assert_close(both, gradients, rtol=1e-12, atol=1e-12 * float(scale))
    torch.testing.assert_close(both, differences, rtol=1e-6, atol=1e-7 * float(scale))


def test_jacobian_names_only_entries_that_are_not_zero() -> None:
    entries = jacobian([X * Y, sympy.Integer(3), functions.sign(X)], [X, Y])
    assert entries == {(0, 0): Y, (0, 1): X}


# --- sharing -----------------------------------------------------------------------------------


def printed(*expressions: Any) -> tuple[list[str], list[str]]:
    return Block([sympy.sympify(e) for e in expressions]).source(Printer(), NAMES, "s")


def test_common_sub_expressions_are_printed_once() -> None:
    shared = functions.sin(X * Y + 1)
    lines, results = printed(shared * X, shared + 2, functions.exp(shared))
    assert " ".join((*lines, *results)).count("sin") == 1


def test_base_of_a_power_is_printed_once() -> None:
    deep = X
    for _ in range(6):
        deep = (functions.sin(deep) + Y) ** 3
    lines, results = printed(deep)
    assert " ".join((*lines, *results)).count("sin") == 6
    value = 0.3
    for _ in range(6):
        value = (math.sin(value) + 0.2) ** 3
    point = torch.tensor([[0.3], [0.2]], dtype=torch.float64)
    assert torch_function("f", {"x": (X, Y)}, [deep])(point)[0].item() == pytest.approx(value)


def test_number_of_operations() -> None:
    shared = functions.sin(X)
    assert Block([shared * Y + 1, shared]).operations == 3  # sine, product, sum
    assert Block([X]).operations == 0


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (sympy.tan(X), r"no backend can compute tan \(in tan\(x_a\)\); allowed: \+ - \* / \*\*"),
        (functions.sin(sympy.floor(X)), r"no backend can compute floor"),
        (sympy.Piecewise((X, X > 0)), r"a case of .* is undefined; give where\(\) both branches"),
    ],
)
def test_operations_that_no_backend_has(expression: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Printer()(expression, NAMES)


def test_parameters_are_not_rounded_to_float32() -> None:
    found: OdeDefinition = system("separatrix/Lorenz-v0").definition
    expected = found.parameters["beta"]
    assert expected == 8 / 3
    assert system("separatrix/Lorenz-v0").parameters["beta"].item() == expected

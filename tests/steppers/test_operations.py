"""Every operation of `functions`: the same values and derivatives on torch, numpy and the kernels.

The kernels are numba's, or with TRITON_INTERPRET=1 those of Triton.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

from separatrix.envs.steppers import functions
from separatrix.envs.steppers.fused import FusedStepper
from separatrix.envs.steppers.ode_system import make_stepper
from separatrix.envs.steppers.symbolic import Program, jacobian, symbols
from separatrix.envs.steppers.torch_backend import Interval, torch_function

KERNEL = "triton" if os.environ.get("TRITON_INTERPRET") == "1" else "numba"
X, Y = symbols("x", ["a", "b"])

# Both signs, zero, ties and values beyond one; pairs of equal and of unequal numbers.
GRID = np.array([-2.5, -1.0, -0.5, 0.0, 0.25, 1.0, 1.75, 3.0])
A, B = (values.ravel() for values in np.meshgrid(GRID, GRID))

# Expression, numpy's value of it, and numpy's derivative by the first argument.
Operation = tuple[Any, Callable[[Any, Any], Any], Callable[[Any, Any], Any]]
OPERATIONS: dict[str, Operation] = {
    "sin": (functions.sin(X), lambda a, b: np.sin(a), lambda a, b: np.cos(a)),
    "cos": (functions.cos(X), lambda a, b: np.cos(a), lambda a, b: -np.sin(a)),
    "angle_of": (
        functions.cos(functions.angle_of(X, Y)) + 2 * functions.sin(functions.angle_of(X, Y)),
        lambda a, b: np.cos(np.arctan2(b, a)) + 2 * np.sin(np.arctan2(b, a)),
        lambda a, b: (b**2 - 2 * a * b) / np.maximum(np.hypot(a, b), 1e-9) ** 3,
    ),
    "exp": (functions.exp(X), lambda a, b: np.exp(a), lambda a, b: np.exp(a)),
    "log": (
        functions.log(functions.absolute(X) + 0.125),
        lambda a, b: np.log(np.abs(a) + 0.125),
        lambda a, b: np.sign(a) / (np.abs(a) + 0.125),
    ),
    "tanh": (functions.tanh(X), lambda a, b: np.tanh(a), lambda a, b: 1 - np.tanh(a) ** 2),
    "sqrt": (
        functions.sqrt(X**2 + 0.25),
        lambda a, b: np.sqrt(a**2 + 0.25),
        lambda a, b: a / np.sqrt(a**2 + 0.25),
    ),
    "absolute": (functions.absolute(X), lambda a, b: np.abs(a), lambda a, b: np.sign(a)),
    "sign": (functions.sign(X), lambda a, b: np.sign(a), lambda a, b: 0 * a),
    "heaviside": (
        functions.heaviside(X),
        lambda a, b: np.heaviside(a, 0.5),
        lambda a, b: 0 * a,
    ),
    "maximum": (
        functions.maximum(X, Y),
        lambda a, b: np.maximum(a, b),
        lambda a, b: np.heaviside(a - b, 0.5),
    ),
    "maximum of a number": (
        functions.maximum(X, 0.1),
        lambda a, b: np.maximum(a, 0.1),
        lambda a, b: np.heaviside(a - 0.1, 0.5),
    ),
    "minimum": (
        functions.minimum(X, Y),
        lambda a, b: np.minimum(a, b),
        lambda a, b: np.heaviside(b - a, 0.5),
    ),
    "maximum of three": (
        functions.maximum(functions.maximum(X, Y), 0.3),
        lambda a, b: np.maximum(np.maximum(a, b), 0.3),
        lambda a, b: np.heaviside(a - np.maximum(b, 0.3), 0.5),
    ),
    "where": (
        functions.where(X > Y, X**2, X * Y),
        lambda a, b: np.where(a > b, a**2, a * b),
        lambda a, b: np.where(a > b, 2 * a, b),
    ),
    "where of numbers": (
        functions.where(X >= Y, 0.1, 0.3),
        lambda a, b: np.where(a >= b, 0.1, 0.3),
        lambda a, b: 0 * a,
    ),
    "where in where": (
        functions.where(X > 0, functions.where(Y < 1, X, 2 * X), 3 * X),
        lambda a, b: np.where(a > 0, np.where(b < 1, a, 2 * a), 3 * a),
        lambda a, b: np.where(a > 0, np.where(b < 1, 1.0, 2.0), 3.0),
    ),
    "logic": (
        functions.where(sympy.Or(sympy.And(X > 0, Y <= 1), sympy.Not(X < Y)), X, -X),
        lambda a, b: np.where(((a > 0) & (b <= 1)) | ~(a < b), a, -a),
        lambda a, b: np.where(((a > 0) & (b <= 1)) | ~(a < b), 1.0, -1.0),
    ),
    "equality": (
        functions.where(sympy.Eq(X, Y), X, functions.where(sympy.Ne(X, 1), 2 * X, 3 * X)),
        lambda a, b: np.where(a == b, a, np.where(a != 1, 2 * a, 3 * a)),
        lambda a, b: np.where(a == b, 1.0, np.where(a != 1, 2.0, 3.0)),
    ),
    "sums and products": (
        -X - Y + 3 * X * Y - sympy.Rational(1, 3) * X / 7,
        lambda a, b: -a - b + 3 * a * b - a / 21,
        lambda a, b: -1 + 3 * b - 1 / 21,
    ),
    "quotients": (
        -2 * X / ((Y**2 + 1) * (X**2 + 2) ** 3),
        lambda a, b: -2 * a / ((b**2 + 1) * (a**2 + 2) ** 3),
        lambda a, b: (-2 * (a**2 + 2) + 12 * a**2) / ((b**2 + 1) * (a**2 + 2) ** 4),
    ),
    "inverse root": (
        1 / functions.sqrt(X**2 + 1),
        lambda a, b: (a**2 + 1) ** -0.5,
        lambda a, b: -a * (a**2 + 1) ** -1.5,
    ),
    "powers": (
        X**8 + X**9 + (X**2 + 1) ** 1.5,
        lambda a, b: a**8 + a**9 + (a**2 + 1) ** 1.5,
        lambda a, b: 8 * a**7 + 9 * a**8 + 3 * a * np.sqrt(a**2 + 1),
    ),
    "power of a number": (
        sympy.Integer(2) ** X,
        lambda a, b: 2.0**a,
        lambda a, b: np.log(2) * 2.0**a,
    ),
    "constants": (
        X / functions.sqrt(sympy.pi) + sympy.sqrt(2) * X + functions.exp(1) + sympy.pi,
        lambda a, b: a / np.sqrt(np.pi) + np.sqrt(2) * a + np.e + np.pi,
        lambda a, b: 1 / np.sqrt(np.pi) + np.sqrt(2) + 0 * a,
    ),
}


def test_table_is_complete() -> None:
    public = {
        name
        for name, value in vars(functions).items()
        if callable(value) and getattr(value, "__module__", "") == functions.__name__
    }
    assert public <= OPERATIONS.keys()


def values_of(expression: Any, point: Tensor) -> Tensor:
    """A value of an expression for each pair of numbers, by the torch backend."""
    (result,) = torch_function("f", {"x": (X, Y)}, [sympy.sympify(expression)])(point)
    return result if isinstance(result, Tensor) else torch.full_like(point[0], result)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_on_torch(name: str, dtype: torch.dtype) -> None:
    expression, value, derivative = OPERATIONS[name]
    point = torch.tensor(np.stack([A, B]), dtype=dtype)
    found = values_of(expression, point)
    assert found.dtype == dtype
    tolerance = 8 * torch.finfo(dtype).eps
    expected = torch.from_numpy(value(A, B)).to(dtype)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)

    slope = torch.from_numpy(derivative(A, B)).to(dtype)
    entry = jacobian([expression], [X]).get((0, 0), sympy.S.Zero)
    torch.testing.assert_close(values_of(entry, point), slope, rtol=tolerance, atol=tolerance)
    point.requires_grad_()
    result = values_of(expression, point)
    gradient = torch.zeros_like(point)
    if result.requires_grad:
        (gradient,) = torch.autograd.grad(result.sum(), point)
    torch.testing.assert_close(gradient[0], slope, rtol=tolerance, atol=tolerance)


def observer(expressions: Sequence[Any], dtype: torch.dtype) -> FusedStepper:
    """A stepper whose observations are expressions of a state that stands still."""
    after = symbols("y", ["a", "b"])
    observation = [e.xreplace(dict(zip((X, Y), after, strict=True))) for e in expressions]
    still = (sympy.S.Zero, sympy.S.Zero)
    program = Program((X, Y), (), after, (), (), (), still, tuple(observation))
    interval = Interval(1.0, 1, np.full(2, -np.inf), np.full(2, np.inf))
    return make_stepper(program, "euler", interval, KERNEL, dtype, torch.device("cpu"))


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def observed(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    """The values of all operations from one kernel, so that it is compiled once."""
    stepper = observer([expression for expression, *_ in OPERATIONS.values()], request.param)
    values = torch.tensor(np.stack([A, B], 1), dtype=request.param)
    seen = stepper.observe(values, values.new_zeros((0, 1)))
    return dict(zip(OPERATIONS, seen.T, strict=True))


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_in_kernel(name: str, observed: dict[str, Tensor]) -> None:
    found = observed[name]
    epsilon = torch.finfo(found.dtype).eps
    expected = torch.from_numpy(OPERATIONS[name][1](A, B)).to(found.dtype)
    torch.testing.assert_close(found, expected, rtol=8 * epsilon, atol=8 * epsilon)


def test_extremes_do_not_hide_a_nan() -> None:
    """A NaN must reach the state, where it is found to have diverged, on either backend."""
    extremes = (functions.maximum(X, Y), functions.minimum(X, Y), functions.absolute(X + Y))
    stepper = observer(extremes, torch.float64)
    values = torch.tensor([[math.nan, 1.0], [1.0, math.nan]], dtype=torch.float64)
    for backend in (stepper, stepper.reference):
        assert backend.observe(values, values.new_zeros((0, 1))).isnan().all()

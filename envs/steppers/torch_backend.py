"""The reference stepper: a program as differentiable torch operations, on any device and dtype.

Inside, tensors are component-major, (component, batch), so that every component is contiguous; the
outside sees (batch, component).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import sympy
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.core.divergence import GradientGuard
from separatrix.envs.steppers.integrators import Tableau
from separatrix.envs.steppers.printing import Block, Names, Printer
from separatrix.envs.steppers.symbolic import Program


class StepResult(NamedTuple):
    """What a stepper returns for one control interval.

    `next_values` are the states before the interval for diverged environments, and the metrics of
    the program come one a row.
    """

    next_values: Float[Tensor, "batch state"]
    observation: Float[Tensor, "batch observation"]
    reward: Float[Tensor, " batch"]
    metrics: Float[Tensor, "metric batch"]
    terminated: Bool[Tensor, " batch"]
    diverged: Bool[Tensor, " batch"]


@dataclass(frozen=True)
class Interval:
    """Constants of a control interval.

    Attributes:
        duration: Length of the interval, in the system's unit of time.
        substeps: Number of integration steps in it.
        low, high: Safe box, each (state,) in float64.
        worst_reward: Reward of an environment that diverged.
    """

    duration: float
    substeps: int
    low: np.ndarray
    high: np.ndarray
    worst_reward: float = 0.0

    @property
    def step(self) -> float:
        """Length of one integration step."""
        return self.duration / self.substeps


def _like(value: Any, other: Any) -> Tensor:
    return value if isinstance(value, Tensor) else other.new_full((), value)


def _maximum(a: Any, b: Any) -> Tensor:
    return torch.maximum(_like(a, b), _like(b, a))


def _minimum(a: Any, b: Any) -> Tensor:
    return torch.minimum(_like(a, b), _like(b, a))


def _where(like: Tensor) -> Callable[..., Tensor]:
    """Returns `where` for this dtype: of two numbers torch's own would make float32."""
    return lambda condition, a, b: torch.where(condition, _like(a, like), b)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sqrt": torch.sqrt,
    "atan2": torch.atan2,
    "absolute": torch.abs,
    "sign": torch.sign,
    "heaviside": lambda x: torch.heaviside(x.detach(), x.new_tensor(0.5)),
    "maximum": _maximum,
    "minimum": _minimum,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_not": torch.logical_not,
}

Inputs = Mapping[str, Sequence[sympy.Symbol]]


class _Printer(Printer):
    """Prints angles, too: states of observations have them, kernels of steps do not."""

    def _call(self, expression: sympy.Basic, names: Names) -> str:
        if isinstance(expression, sympy.atan2):
            sine, cosine = (self(argument, names) for argument in expression.args)
            return f"atan2({sine}, {cosine})"
        return super()._call(expression, names)


def torch_function(
    name: str, inputs: Inputs, expressions: Sequence[sympy.Basic]
) -> Callable[..., list[Any]]:
    """Compiles expressions to a function of component-major tensors.

    Args:
        name: Name of the function, for tracebacks.
        inputs: Argument name and the symbols of its rows, in order.
        expressions: What is to be computed.

    Returns:
        A function that takes one tensor (component, batch) an input and returns one tensor
        (batch,), or a number where the expression is constant, an expression.
    """
    names = {s: f"{group}[{i}]" for group, row in inputs.items() for i, s in enumerate(row)}
    lines, results = Block(expressions).source(_Printer(), names, "shared")
    lines.insert(0, f"where = where_like({next(iter(inputs))})")
    body = "".join(f"    {line}\n" for line in lines)
    source = f"def {name}({', '.join(inputs)}):\n{body}    return [{', '.join(results)}]\n"
    namespace: dict[str, Any] = {**OPERATIONS, "where_like": _where}
    exec(compile(source, f"<separatrix {name}>", "exec"), namespace)
    return namespace[name]


def stack(rows: Sequence[Any], like: Tensor) -> Tensor:
    """Stacks rows, some of which may be numbers, into (component, batch) of `like`'s batch."""
    if not rows:
        return like.new_empty((0, like.shape[-1]))
    full = [
        row.expand(like.shape[-1])
        if isinstance(row, Tensor)
        else like.new_full((like.shape[-1],), float(row))
        for row in rows
    ]
    return torch.stack(full)


class TorchStepper:
    """Advances a batch by torch operations.

    Args:
        program: What to compute.
        scheme: The Runge-Kutta scheme.
        interval: Constants of the control interval.
    """

    def __init__(self, program: Program, scheme: Tableau, interval: Interval) -> None:
        self.program, self.scheme, self.interval = program, scheme, interval
        self._guarded = program.guarded
        self._num_observations = len(program.observation)
        x, u, y = program.state, program.control, program.next_state
        a, p = program.action, program.parameter
        self._law = torch_function("law", {"a": a, "p": p}, program.law)
        self._field = torch_function("field", {"x": x, "u": u, "p": p}, program.vector_field)
        self._jump = torch_function("jump", {"x": x, "u": u, "p": p}, program.jump)
        self._observe = torch_function("observe", {"y": y, "p": p}, program.observation)
        self._outputs = torch_function("outputs", {"x": x, "u": u, "y": y, "p": p}, program.outputs)

    def integrate(
        self,
        x: Float[Tensor, "state batch"],
        u: Float[Tensor, "control batch"],
        p: Float[Tensor, "parameter rows"],
    ) -> Float[Tensor, "state batch"]:
        """Integrates states over the interval under held controls."""
        step = self.interval.step
        for _ in range(self.interval.substeps):
            if self.program.jump:
                x = stack(self._jump(x, u, p), x)
            slopes: list[Tensor] = []
            for row in self.scheme.a:
                stage = x
                for coefficient, slope in zip(row, slopes, strict=True):
                    if coefficient:
                        stage = stage + (step * coefficient) * slope
                slopes.append(stack(self._field(stage, u, p), x))
            if self.scheme.replaces:
                x = slopes[0]
                continue
            for weight, slope in zip(self.scheme.b, slopes, strict=True):
                x = x + (step * weight) * slope
        return x

    def observe(
        self, values: Float[Tensor, "batch state"], parameters: Float[Tensor, "parameter rows"]
    ) -> Float[Tensor, "batch observation"]:
        """Observes states without advancing them."""
        x = values.T
        return stack(self._observe(x, parameters), x).T.contiguous()

    def __call__(
        self,
        values: Float[Tensor, "batch state"],
        action: Float[Tensor, "batch action"],
        parameters: Float[Tensor, "parameter rows"],
    ) -> StepResult:
        """Advances every environment by one control interval.

        Args:
            values: States.
            action: Actions, clipped here to [-1, 1] if the program is guarded.
            parameters: One column for all environments, or one an environment.
        """
        guard = GradientGuard()
        if self._guarded:
            values, action = guard(values), guard(action.clamp(-1.0, 1.0))
            if parameters.requires_grad:  # shared ones, too, must leave diverged rows out
                parameters = guard(parameters.expand(-1, values.shape[0]), batch_axis=1)
        x = values.T
        u = stack(self._law(action.T, parameters), x)
        y = self.integrate(x, u, parameters)
        inside = torch.ones_like(y[0], dtype=torch.bool)
        if self._guarded:
            low, high = (
                torch.as_tensor(bound).to(y)[:, None]
                for bound in (self.interval.low, self.interval.high)
            )
            inside = ((y >= low) & (y <= high)).all(0)
            y = torch.where(inside, y, x)
        guard.inside = inside
        *rows, reward, terminated = self._outputs(x, u, y, parameters)
        return StepResult(
            next_values=y.T.contiguous(),
            observation=stack(rows[: self._num_observations], x).T.contiguous(),
            reward=torch.where(inside, stack([reward], x)[0], self.interval.worst_reward),
            metrics=stack(rows[self._num_observations :], x),
            terminated=_like(terminated, inside).expand(inside.shape) | ~inside,
            diverged=~inside,
        )

"""Symbols and expressions of a control step, taken from a definition by calling it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy

from separatrix.envs.steppers.ode import Group, OdeDefinition


def symbols(prefix: str, names: Iterable[str]) -> tuple[sympy.Symbol, ...]:
    """Makes real symbols; the prefix keeps states, controls and parameters apart."""
    return tuple(sympy.Symbol(f"{prefix}_{name}", real=True) for name in names)


def grouped(groups: Sequence[Group], components: Sequence[Any]) -> list[Any]:
    """Arranges components as a definition's function takes them: scalars and lists."""
    remaining = iter(components)
    return [
        next(remaining) if group.size is None else [next(remaining) for _ in range(group.size)]
        for group in groups
    ]


@dataclass(frozen=True, eq=False)
class Program:
    """All that one control step computes, as expressions.

    The control is computed once from the action and held; the vector field is integrated; the
    outputs are functions of the state before, the control, and the state after the interval.

    Attributes:
        state, control, next_state, action, parameter: The symbols.
        law: The control as expressions of action and parameters.
        vector_field: Time derivative of every state, of state, control and parameters; of a map,
            the next value of every state.
        observation: Of next state and parameters.
        reward: Of state, control, next state and parameters.
        terminated: A condition on next state and parameters.
        metrics: Named quantities, of the same symbols as the reward.
        jump: State at the start of every sub-step, before it is integrated, of state, control and
            parameters; empty if nothing happens then.
        guarded: Whether actions are clipped to [-1, 1] and diverged states held, as a task wants;
            without a task the control and the state are taken as they are.
    """

    state: tuple[sympy.Symbol, ...]
    control: tuple[sympy.Symbol, ...]
    next_state: tuple[sympy.Symbol, ...]
    action: tuple[sympy.Symbol, ...]
    parameter: tuple[sympy.Symbol, ...]
    law: tuple[sympy.Expr, ...]
    vector_field: tuple[sympy.Expr, ...]
    observation: tuple[sympy.Expr, ...] = ()
    reward: sympy.Expr = sympy.S.Zero
    terminated: sympy.Basic = sympy.false
    metrics: Mapping[str, sympy.Expr] = field(default_factory=dict)
    jump: tuple[sympy.Expr, ...] = ()
    guarded: bool = False

    @property
    def outputs(self) -> tuple[sympy.Basic, ...]:
        """Observation, metrics, reward and termination, in this order."""
        return (*self.observation, *self.metrics.values(), self.reward, self.terminated)


def trace(definition: OdeDefinition) -> Program:
    """Calls a definition with symbols.

    Returns:
        A program without a task: the action is the control itself.

    Raises:
        ValueError: The function returns another number of values than there are states.
    """
    state = symbols("x", definition.state_names)
    control = symbols("u", definition.control_names)
    action = symbols("a", definition.control_names)
    parameter = dict(zip(definition.parameters, symbols("p", definition.parameters), strict=True))
    arguments = *grouped(definition.states, state), *grouped(definition.controls, control)

    def called(function: Callable[..., Any], what: str) -> tuple[sympy.Expr, ...]:
        found = tuple(sympy.sympify(value) for value in function(*arguments, **parameter))
        if len(found) != len(state):
            name = function.__name__
            raise ValueError(f"{name} returns {len(found)} {what} for {len(state)} states")
        return found

    jump = () if definition.jump is None else called(definition.jump, "values")
    return Program(
        state=state,
        control=control,
        next_state=symbols("y", definition.state_names),
        action=action,
        parameter=tuple(parameter.values()),
        law=action,
        vector_field=called(
            definition.function, "values" if definition.discrete else "derivatives"
        ),
        jump=jump,
    )


def jacobian(
    expressions: Sequence[sympy.Expr], variables: Sequence[sympy.Symbol]
) -> dict[tuple[int, int], sympy.Expr]:
    """Partial derivatives that are not identically zero, by (row, column).

    The jumps of `sign` and `heaviside` have derivative zero, as in automatic differentiation.
    """
    column = {variable: j for j, variable in enumerate(variables)}
    entries = {}
    for i, expression in enumerate(expressions):
        for variable in expression.free_symbols & column.keys():
            derivative = sympy.diff(expression, variable)
            derivative = derivative.replace(sympy.DiracDelta, lambda *_: sympy.S.Zero)
            if derivative != 0:
                entries[i, column[variable]] = derivative
    return dict(sorted(entries.items()))

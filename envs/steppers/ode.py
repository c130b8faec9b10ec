"""The definition of an ODE system or map: one plain function of its components, names and bounds.

    @ode(states="x y z", controls="u", start=..., box=(-60.0, 60.0))
    def lorenz(x, y, z, u, *, sigma=10.0, rho=28.0, beta=8 / 3):
        return sigma * (y - x), x * (rho - z) - y + u, x * y - beta * z

From it come the equations, the Jacobian and every backend. `x[40]` among the states declares a
group of forty components that reaches the function as one list. A map x <- f(x, u) is declared by
`@difference_equation`, and its function returns the next state. This module imports neither torch
nor sympy, so that defining a system costs nothing until it is made.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

    from separatrix.envs.core.stream import Stream

Bounds = tuple[np.ndarray, np.ndarray]


class Start(Protocol):
    """A distribution of initial states."""

    def sample(self, stream: Stream) -> tuple[torch.Tensor, Stream]:
        """Draws one initial state an environment, (batch, state) in float64."""
        ...


@dataclass(frozen=True)
class Group:
    """A named component, or a named list of components.

    Attributes:
        name: Name of the argument of the defining function.
        size: Number of components, or None for a single one.
    """

    name: str
    size: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the components."""
        if self.size is None:
            return (self.name,)
        return tuple(f"{self.name}{i}" for i in range(self.size))


def parse_groups(text: str) -> tuple[Group, ...]:
    """Reads a declaration such as `"x y z"` or `"x[40]"`.

    Raises:
        ValueError: A word is not a name, or a name with a positive size.
    """
    groups = []
    for word in text.split():
        match = re.fullmatch(r"([A-Za-z_]\w*)(?:\[([1-9]\d*)\])?", word)
        if match is None:
            raise ValueError(f"cannot read the component {word!r}; write a name such as x or x[40]")
        groups.append(Group(match[1], int(match[2]) if match[2] else None))
    return tuple(groups)


@dataclass(frozen=True, eq=False)
class OdeDefinition:
    """An autonomous controlled system, x' = f(x, u; parameters), as written by its author.

    Attributes:
        name: Name of the system, the function's own.
        function: f, a function of states and controls (positional) and parameters (keyword only).
        states: Groups of state components, in order.
        controls: Groups of control components, in order.
        parameters: Parameters and their default values.
        start: Distribution of initial states.
        box: Lower and upper bound of every state component; outside it a state counts as diverged.
            A callable gives them when they are first needed.
        angles: Names of state components in radians, whose differences count modulo a turn.
        discrete: Whether it is a map, x_{k+1} = f(x_k, u_k; parameters), whose unit of time is one
            iteration.
        jump: What the state becomes at the start of every sub-step, before it is integrated, a
            function of the same arguments; None if nothing happens then.
    """

    name: str
    function: Callable[..., Any]
    states: tuple[Group, ...]
    controls: tuple[Group, ...]
    parameters: Mapping[str, float]
    start: Start
    box: Bounds | Callable[[], Bounds]
    angles: tuple[str, ...] = ()
    discrete: bool = False
    jump: Callable[..., Any] | None = None

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state components."""
        return tuple(name for group in self.states for name in group.names)

    @property
    def control_names(self) -> tuple[str, ...]:
        """Names of the control components."""
        return tuple(name for group in self.controls for name in group.names)

    def bounds(self) -> Bounds:
        """Returns the safe box as two float64 arrays of shape (state,)."""
        low, high = self.box() if callable(self.box) else self.box
        shape = (len(self.state_names),)
        return (
            np.array(np.broadcast_to(low, shape), dtype=np.float64),
            np.array(np.broadcast_to(high, shape), dtype=np.float64),
        )


def ode(
    states: str,
    controls: str,
    *,
    start: Start,
    box: Any,
    angles: str = "",
    jump: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], OdeDefinition]:
    """Declares an ODE system; see the module's text for an example.

    Args:
        states: Names of the state components, in the order of the function's arguments.
        controls: Names of the control components, following the states.
        start: Distribution of initial states.
        box: `(low, high)`, each a number or one number a state; or a callable that returns them.
        angles: Names of the state components that are angles in radians.
        jump: What the state becomes at the start of every sub-step, of the same arguments.

    Returns:
        A decorator that turns the function into an `OdeDefinition`.

    Raises:
        ValueError: The function's arguments are not the declared states and controls followed by
            keyword-only parameters with defaults; or an angle is not a state.
    """
    return _decorator(states, controls, start, box, angles, discrete=False, jump=jump)


def difference_equation(
    states: str, controls: str, *, start: Start, box: Any, angles: str = ""
) -> Callable[[Callable[..., Any]], OdeDefinition]:
    """Declares a map: as `ode`, but the function returns the next state.

    @difference_equation(states="x", controls="u", start=..., box=(-1.0, 2.0))
    def logistic(x, u, *, r=3.9):
        return ((r + u) * x * (1 - x),)
    """
    return _decorator(states, controls, start, box, angles, discrete=True)


def _decorator(
    states: str,
    controls: str,
    start: Start,
    box: Any,
    angles: str,
    discrete: bool,
    jump: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], OdeDefinition]:
    def decorate(function: Callable[..., Any]) -> OdeDefinition:
        state_groups, control_groups = parse_groups(states), parse_groups(controls)
        signature = inspect.signature(function).parameters.values()
        positional = [p.name for p in signature if p.kind is not p.KEYWORD_ONLY]
        declared = [group.name for group in (*state_groups, *control_groups)]
        if positional != declared:
            raise ValueError(
                f"{function.__name__} takes {positional}, but states and controls are {declared}"
            )
        keywords = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
        missing = [name for name, default in keywords.items() if default is inspect.Parameter.empty]
        if missing:
            raise ValueError(f"{function.__name__}: parameters without a default: {missing}")
        definition = OdeDefinition(
            name=function.__name__,
            function=function,
            states=state_groups,
            controls=control_groups,
            parameters={name: float(default) for name, default in keywords.items()},
            start=start,
            box=box,
            angles=tuple(angles.split()),
            discrete=discrete,
            jump=jump,
        )
        strangers = set(definition.angles) - set(definition.state_names)
        if strangers:
            raise ValueError(f"{function.__name__}: angles {sorted(strangers)} are not states")
        return definition

    return decorate

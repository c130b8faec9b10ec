"""States that stay where they are: zeros of a flow, fixed points of a map or of a control step.

All are found by Newton's method with exact derivatives, for a whole batch of starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.analysis.coordinates import flatten, unflatten
from separatrix.envs.analysis.tangent import step_jacobian
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.inputs import read_numbers
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeSystem

Residual = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of points (batch, n): the residuals (batch, n), and their Jacobians (batch, n, n)."""

ITERATIONS = 50
SAME = 1e-6
"""Equilibria nearer to each other than this, relative to their size, count as one."""


def newton(
    residual: Residual,
    start: Float[Tensor, "batch coordinate"],
    limit: float | Float[Tensor, "batch 1"],
) -> tuple[Float[Tensor, "batch coordinate"], Bool[Tensor, " batch"]]:
    """Finds zeros by Newton's method.

    Args:
        residual: The function and its derivative.
        start: Where to start, one row a search.
        limit: Largest component of the residual at a zero.

    Returns:
        The points reached, and which of them are zeros.
    """
    values = start
    for _ in range(ITERATIONS):
        rest, jacobian = residual(values)
        found = rest.abs().amax(1, keepdim=True) <= limit
        if found.all():
            break
        # A singular row turns non-finite, and is not found.
        step, _ = torch.linalg.solve_ex(jacobian, rest)
        # Nothing of a row may depend on its neighbours, hence no more steps where it is found.
        values = torch.where(found, values, values - step)
    rest, _ = residual(values)
    return values, (rest.abs() <= limit).all(1)


def fixed_point(
    system: OdeSystem, near: Sequence[float], tolerance: float = 1e-12
) -> Float[Tensor, "rows state"]:
    """Finds the fixed point of the uncontrolled system that a search from one state leads to.

    Args:
        system: The system; every environment's own parameters are used.
        near: Where to start.
        tolerance: Largest residual, relative to the size of the starting point (at least 1).

    Returns:
        Fixed points in float64, (1, state) with shared parameters, else (num_envs, state).

    Raises:
        ValueError: Newton's method did not converge, or `near` is not a state.
    """
    batch, size = 1 if system.shared else system.num_envs, len(system.definition.state_names)
    start = read_numbers("near", near).to("cpu", torch.float64)
    if start.shape != (size,) or not start.isfinite().all():
        raise ValueError(f"near: got {near!r}; allowed: {size} finite numbers")
    control = torch.zeros((batch, len(system.definition.control_names)), dtype=torch.float64)
    limit = tolerance * max(1.0, float(start.abs().max()))
    values, found = newton(partial(_rest, system, control), start.repeat(batch, 1), limit)
    if not found.all():
        raise ValueError(
            f"{system.definition.name}: no fixed point found from {near} with parameters "
            f"{ {name: value.tolist() for name, value in system.parameters.items()} }"
        )
    return values


def equilibria(
    environment: Environment,
    starts: Float[Tensor, "starts coordinate"],
    action: Sequence[float] | None = None,
    tolerance: float = 1e-12,
) -> list[Float[Tensor, "equilibria coordinate"]]:
    """Finds all equilibria under a held action that searches from some states lead to.

    An equilibrium of an ODE system has f(x, u) = 0, of a map f(x, u) = x. Those of any other
    environment are states that one step leaves as they are, in its own dtype; a state that the
    step holds because it has diverged is none.

    Args:
        environment: The environment, ODE or other.
        starts: Coordinates of states to start from, such as points of the attractor.
        action: The action that is held; None for zero.
        tolerance: Largest residual, relative to the size of the start (at least 1); never less
            than a hundred times the rounding error of the dtype.

    Returns:
        For each environment, or once if parameters are shared, the distinct isolated equilibria in
        ascending order of the first coordinate, in float64; angles are in [-pi, pi].

    Raises:
        ValueError: None was found, or an argument has the wrong size.
    """
    size = environment.action_shape[0]
    held = read_numbers("action", [0.0] * size if action is None else action).double()
    if held.shape != (size,):
        raise ValueError(f"action: got shape {tuple(held.shape)}; allowed: {size} numbers")
    shared = is_shared(environment)
    rows = torch.arange(1 if shared else environment.num_envs).repeat_interleave(len(starts))
    copies = environment.select(rows.to(environment.device))
    points = starts.repeat(len(rows) // len(starts), 1)
    residual, precision = _residual(copies, held.expand(len(rows), -1), points)
    scale = points.abs().amax(1, keepdim=True).clamp(min=1.0).to(precision)
    limit = max(tolerance, 100 * torch.finfo(precision).eps) * scale
    values, found = newton(residual, points.to(limit), limit)
    distinct = [
        _distinct(environment, part[kept])
        for part, kept in zip(
            values.double().cpu().split(len(starts)), found.cpu().split(len(starts)), strict=True
        )
    ]
    for row, part in enumerate(distinct):
        if not len(part):
            name = "the environment" if shared else f"environment {row}"
            raise ValueError(f"{name}: Newton's method found no equilibrium from these starts")
    return distinct


def is_shared(environment: Environment) -> bool:
    """Tells whether all environments have the same parameters."""
    first = torch.zeros(1, dtype=torch.int64, device=environment.device)
    return environment.select(first) is environment


def _rest(system: OdeSystem, control: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what keeps states from rest, and its derivative by the state."""
    field, (jacobian, _) = system.vector_field(values, control), system.jacobian(values, control)
    if system.definition.discrete:
        return field - values, jacobian - torch.eye(values.shape[1]).to(values)
    return field, jacobian


def _residual(
    environment: Environment, action: Tensor, starts: Tensor
) -> tuple[Residual, torch.dtype]:
    """Returns the function whose zeros are the equilibria, and the dtype it is computed in."""
    if isinstance(environment, OdeEnvironment):
        return partial(_rest, environment.system, environment.control(action)), torch.float64
    device, dtype = environment.device, environment.dtype
    template, _ = environment.reset(torch.zeros(len(starts), dtype=torch.int64))
    held = action.to(device, dtype)

    def residual(values: Tensor) -> tuple[Tensor, Tensor]:
        state = unflatten(values, template)
        advanced, inside, jacobian, _ = step_jacobian(environment, state, held)
        rest = torch.where(inside[:, None], flatten(advanced) - values, torch.nan)
        return rest, jacobian - torch.eye(values.shape[1]).to(values)

    return residual, dtype


def _distinct(environment: Environment, values: Tensor) -> Tensor:
    """Returns the different ones among equilibria, in ascending order."""
    difference: Callable[[Tensor, Tensor], Tensor] = torch.sub
    if isinstance(environment, OdeEnvironment):  # angles count modulo a turn
        difference = environment.system.difference
    kept = values[:0]
    for value in difference(values, torch.zeros_like(values)):
        size = value.abs().max().clamp(min=1.0)
        if (difference(kept, value[None]).abs().amax(1) > SAME * size).all():
            kept = torch.cat((kept, value[None]))
    return torch.stack(sorted(kept, key=Tensor.tolist)) if len(kept) else kept

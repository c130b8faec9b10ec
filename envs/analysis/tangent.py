"""Infinitesimal deviations from a trajectory, carried along with it.

A tangent is a direction in the coordinates of a state (`separatrix.envs.analysis.coordinates`). One
step of an environment takes a state x under the action a to F(x, a), and the tangents T and the
variations of the action V to

    T  <-  dF/dx T + dF/da V.

For ODE systems and maps the equation of variations T' = df/dx T + df/du du/da V, with the symbolic
derivatives, goes through the environment's own integration scheme beside the flow: the Runge-Kutta
step of the variations is the derivative of the Runge-Kutta step (Benettin et al., Meccanica 15,
1980). Variations of a PDE are a PDE of the same kind (`separatrix.envs.steppers.spectral_tangent`),
which the environment's own stepper carries, on the modes that are kept. For other environments the
Jacobian of the step comes from automatic differentiation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.analysis.coordinates import flatten, unflatten
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.core.state import map_tensors, take
from separatrix.envs.steppers.integrators import tableau
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeState
from separatrix.envs.steppers.spectral_system import SpectralSystem


@runtime_checkable
class Policy(Protocol):
    """A differentiable feedback law without memory, such as a controller or a network."""

    def act(self, observation: Tensor, state: Any) -> Tensor:
        """Returns actions (batch, action) in [-1, 1]."""
        ...


def advance_tangents(
    environment: Environment,
    state: Any,
    action: Float[Tensor, "batch action"],
    tangents: Float[Tensor, "batch coordinate tangent"],
    action_tangents: Float[Tensor, "batch action tangent"] | None = None,
) -> tuple[Any, Float[Tensor, "batch coordinate tangent"]]:
    """Advances states and their tangents by one control interval.

    Args:
        environment: The environment; any batch if its parameters are shared, else `num_envs` rows.
        state: States. An ODE system is integrated in the dtype of their values, whatever its own.
        action: Actions, clipped to [-1, 1] as in a step.
        tangents: Directions at the states.
        action_tangents: How the actions vary along with the tangents; None holds them.

    Returns:
        The next states and tangents. Where a state leaves the safe box it is held, as in a step,
        and its tangents are NaN, for there the step has no derivative.
    """
    system, next_state = environment.system, state
    if isinstance(environment, OdeEnvironment):
        advanced, carried = _integrate(environment, state, action, tangents, action_tangents)
        inside = environment.system.inside(advanced)
        values = torch.where(inside[:, None], advanced.values, state.values)
        next_state = replace(advanced, values=values)
    elif isinstance(environment, ComposedEnvironment) and isinstance(system, SpectralSystem):
        control = _control_tangents(environment, action, action_tangents, tangents.shape[2])
        field, carried = _step_fields(system, state.field, tangents, *control)
        following = replace(state, field=field, interval=state.interval + 1)
        inside = system.inside(following)
        held = inside.view(-1, *[1] * (field.ndim - 1))
        next_state = replace(following, field=torch.where(held, field, state.field))
    else:
        next_state, inside, by_state, by_action = step_jacobian(environment, state, action)
        carried = by_state @ tangents
        if action_tangents is not None:
            carried = carried + by_action @ action_tangents
    return next_state, torch.where(inside[:, None, None], carried, torch.nan)


def act_with_tangents(
    environment: Environment,
    policy: Policy,
    state: Any,
    tangents: Float[Tensor, "batch coordinate tangent"],
) -> tuple[Float[Tensor, "batch action"], Float[Tensor, "batch action tangent"]]:
    """Returns the actions of a policy and how they vary along the tangents.

    Args:
        environment: What the policy observes.
        policy: Differentiable; it reads the observation, the state, or both, and has no memory.
        state: States.
        tangents: Directions at the states.
    """
    with torch.enable_grad():
        coordinates = flatten(state).detach().requires_grad_()
        varied = unflatten(coordinates, state)
        action = policy.act(environment.observe(varied), varied)
        rows = [gradient(component, coordinates) for component in action.unbind(1)]
    return action.detach(), torch.stack(rows, 1) @ tangents


def step_jacobian(
    environment: Environment, state: Any, action: Float[Tensor, "batch action"]
) -> tuple[
    Any,
    Bool[Tensor, " batch"],
    Float[Tensor, "batch coordinate coordinate"],
    Float[Tensor, "batch coordinate action"],
]:
    """Differentiates a step automatically, in the environment's dtype.

    Each row is repeated once for every coordinate of the next state, so that a single backward pass
    gives all derivatives.

    Returns:
        The next states, whether they stayed inside the safe box, and the derivatives of their
        coordinates by those of the states and by the actions.

    Raises:
        ValueError: The environment is not differentiable.
    """
    coordinates = flatten(state).detach()
    batch, size = coordinates.shape
    copies = torch.arange(batch, device=coordinates.device).repeat_interleave(size)
    with torch.enable_grad():
        x = coordinates.index_select(0, copies).requires_grad_()
        a = action.detach().index_select(0, copies).requires_grad_()
        result = environment.select(copies).step(unflatten(x, take(state, copies)), a)
        own = flatten(result.state).view(batch, size, size).diagonal(dim1=1, dim2=2)
        by_state, by_action = (gradient(own, inputs) for inputs in (x, a))
    first = torch.arange(0, batch * size, size, device=coordinates.device)
    next_state = take(map_tensors(torch.Tensor.detach, result.state), first)
    inside = ~result.info["diverged"].index_select(0, first)
    shape = (batch, size, -1)
    return next_state, inside, by_state.view(shape), by_action.view(shape)


def gradient(of: Tensor, by: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Returns the gradient of the sum of a tensor; zero if it does not depend on the variable."""
    if not of.requires_grad:
        return torch.zeros_like(by)
    (gradient,) = torch.autograd.grad(of.sum(), by, retain_graph=True, allow_unused=True)
    return torch.zeros_like(by) if gradient is None else gradient


def _integrate(
    environment: OdeEnvironment,
    state: OdeState,
    action: Tensor,
    tangents: Tensor,
    action_tangents: Tensor | None,
) -> tuple[OdeState, Tensor]:
    """Carries values and tangents through the environment's own Runge-Kutta scheme, or its map."""
    system = environment.system
    scheme, step = tableau(system.integrator), system.interval.step
    values = state.values
    control = environment.control(action.to(values))
    forcing = None
    if action_tangents is not None:
        forcing = environment.control_jacobian(action.to(values)) @ action_tangents
    for _ in range(system.interval.substeps):
        slopes: list[tuple[Tensor, Tensor]] = []
        for row in scheme.a:
            x, t = values, tangents
            for coefficient, (dx, dt) in zip(row, slopes, strict=True):
                if coefficient:
                    x = x + (step * coefficient) * dx
                    t = torch.add(t, dt, alpha=step * coefficient)
            by_state, by_control = system.jacobian(x, control)
            slope = by_state @ t
            if forcing is not None:
                slope = slope + by_control @ forcing
            slopes.append((system.vector_field(x, control), slope))
        if scheme.replaces:  # a map: its slope is the next state
            values, tangents = torch.zeros_like(values), torch.zeros_like(tangents)
        for weight, (dx, dt) in zip(scheme.b, slopes, strict=True):
            values = values + (step * weight) * dx
            tangents = torch.add(tangents, dt, alpha=step * weight)
    return OdeState(state.stream, state.interval + 1, values), tangents


def _control_tangents(
    environment: ComposedEnvironment, action: Tensor, action_tangents: Tensor | None, count: int
) -> tuple[Tensor, Tensor]:
    """Returns the controls (batch, control) and how they vary (batch, control, tangent)."""
    with torch.enable_grad():
        variable = action.detach().requires_grad_()
        control = environment.task.control(variable.clamp(-1.0, 1.0))
        rows = [gradient(component, variable) for component in control.unbind(1)]
    if action_tangents is None:
        return control.detach(), control.new_zeros((*control.shape, count))
    return control.detach(), torch.stack(rows, 1) @ action_tangents


def _step_fields(
    system: SpectralSystem,
    field: Tensor,
    tangents: Tensor,
    control: Tensor,
    control_tangents: Tensor,
) -> tuple[Tensor, Tensor]:
    """Carries fields and tangents through the system's own scheme, a row for each tangent."""
    fields, count = field.shape[1], tangents.shape[2]
    directions = tangents.mT.reshape(-1, *field.shape[1:])
    both = torch.cat((field.repeat_interleave(count, 0), directions), 1)
    controls = (control.repeat_interleave(count, 0), control_tangents.mT.flatten(0, 1))
    advanced = system.tangent_stepper(count)(both, torch.cat(controls, 1))
    carried = advanced[:, fields:].reshape(len(field), count, -1).mT
    return advanced[::count, :fields], carried

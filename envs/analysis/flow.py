"""The flow of an ODE system over a time of its own for every row, with its derivatives.

Steps are of the fifth-order scheme of Tsitouras (2011), in the dtype of the values. The derivatives
of the end by the start, and by the control that is held, obey the equation of variations

    T' = df/dx T + (0 | df/du),    T(0) = (1 | 0)

and are integrated beside the state. `separatrix.envs.analysis.tangent` carries tangents through the
steps of an environment; here time steps are free, as crossings and periods need them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.steppers.integrators import tableau
from separatrix.envs.steppers.ode_system import OdeSystem

SCHEME = tableau("tsit5")

Tangents = Float[Tensor, "batch state tangent"]
"""Derivatives of states by the start (state columns) and by the held control (control columns)."""


def require_flow(system: OdeSystem) -> None:
    """Checks that time is continuous.

    Raises:
        ValueError: The system is a map.
    """
    if system.definition.discrete:
        raise ValueError(f"system: got the map {system.definition.name}; allowed: an ODE system")


def no_control(system: OdeSystem, values: Float[Tensor, "batch state"]) -> Tensor:
    """Returns the control zero for every row, (batch, control)."""
    return values.new_zeros((len(values), len(system.definition.control_names)))


def initial_tangents(system: OdeSystem, values: Float[Tensor, "batch state"]) -> Tangents:
    """Returns the derivatives at the start: the identity by the state, zero by the control."""
    size = values.shape[1]
    identity = torch.eye(size, size + len(system.definition.control_names)).to(values)
    return identity.expand(len(values), -1, -1)


def flow_step(
    system: OdeSystem,
    values: Float[Tensor, "batch state"],
    control: Float[Tensor, "batch control"],
    step: Float[Tensor, " batch"],
) -> Float[Tensor, "batch state"]:
    """Advances states by one integration step, of its own length in each row."""
    return _runge_kutta(values, step[:, None], lambda x: system.vector_field(x, control))


def flow_step_with_tangents(
    system: OdeSystem,
    values: Float[Tensor, "batch state"],
    control: Float[Tensor, "batch control"],
    step: Float[Tensor, " batch"],
    tangents: Tangents,
) -> tuple[Float[Tensor, "batch state"], Tangents]:
    """Advances states and their derivatives by one integration step."""
    size = values.shape[1]

    def rate(joint: Tensor) -> Tensor:
        x = joint[..., 0]
        by_state, by_control = system.jacobian(x, control)
        slope = torch.cat(
            (system.vector_field(x, control)[..., None], by_state @ joint[..., 1:]), 2
        )
        slope[..., 1 + size :] += by_control
        return slope

    # State and tangents side by side: (batch, state, 1 + tangent).
    start = torch.cat((values[..., None], tangents), 2)
    joint = _runge_kutta(start, step[:, None, None], rate)
    return joint[..., 0], joint[..., 1:]


def _runge_kutta(start: Tensor, step: Tensor, rate: Callable[[Tensor], Tensor]) -> Tensor:
    """Advances by one step."""
    changes: list[Tensor] = []  # the slopes times the step
    for row in SCHEME.a:
        at = start
        for coefficient, change in zip(row, changes, strict=True):
            at = torch.add(at, change, alpha=coefficient)
        changes.append(step * rate(at))
    for weight, change in zip(SCHEME.b, changes, strict=True):
        start = torch.add(start, change, alpha=weight)
    return start

"""Poincare sections: where the trajectories of a flow cross a plane, and the return map.

A trajectory is followed in steps until it has crossed the plane. The crossing is then found by
Newton's method on the length of the last step, g(flow(tau)) = 0 with slope g'(flow(tau)) f: it is a
point of the integration scheme itself, exact to rounding, as in M. Henon, Physica D 5 (1982) 412.

With g the normal and f the flow at the crossing, the derivative T of the flow over the time of
flight, which differs between neighbours, becomes that of the return map by the projection

    (1 - f g^T / (g . f)) T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.analysis.flow import (
    flow_step,
    flow_step_with_tangents,
    initial_tangents,
    no_control,
    require_flow,
)
from separatrix.envs.steppers.ode_system import OdeSystem

NEWTON_STEPS = 6


@dataclass(frozen=True)
class Section:
    """A plane, normal . x = offset, that is crossed in one direction.

    Angles count unwrapped.

    Attributes:
        normal: One number a state.
        offset: Where the plane is.
        direction: 1 for crossings along the normal, -1 for those against it.

    Raises:
        ValueError: The normal is zero or not finite, or the direction is neither 1 nor -1.
    """

    normal: tuple[float, ...]
    offset: float
    direction: int = 1

    def __post_init__(self) -> None:
        if self.direction not in (1, -1):
            raise ValueError(f"direction: got {self.direction!r}; allowed: 1, -1")
        if not any(self.normal) or not all(map(math.isfinite, (*self.normal, self.offset))):
            got = f"{self.normal!r} and {self.offset!r}"
            raise ValueError(f"normal and offset: got {got}; allowed: finite, normal not zero")

    def height(self, values: Float[Tensor, "batch state"]) -> Float[Tensor, " batch"]:
        """Returns normal . x - offset times the direction, which rises through 0 at a crossing.

        Raises:
            ValueError: The normal has another number of components than the states.
        """
        if len(self.normal) != values.shape[1]:
            got, allowed = len(self.normal), values.shape[1]
            raise ValueError(f"normal: got {got} numbers; allowed: {allowed}, one a state")
        return self.direction * ((values * values.new_tensor(self.normal)).sum(1) - self.offset)

    def rise(self, flow: Float[Tensor, "batch state"]) -> Float[Tensor, " batch"]:
        """Returns the time derivative of the height along the flow."""
        return self.direction * (flow * flow.new_tensor(self.normal)).sum(1)


@dataclass(frozen=True)
class Crossing:
    """Where trajectories next crossed a section, and how that depends on where they started.

    Attributes:
        found: Whether the row crossed the section in time; if not, its numbers are NaN.
        values: Points of the section.
        time: Time of flight.
        by_state: Derivative of the point by the start.
        by_control: Derivative of the point by the control held on the way.
    """

    found: Bool[Tensor, " batch"]
    values: Float[Tensor, "batch state"]
    time: Float[Tensor, " batch"]
    by_state: Float[Tensor, "batch state state"]
    by_control: Float[Tensor, "batch state control"]


def locate(
    system: OdeSystem,
    section: Section,
    values: Float[Tensor, "batch state"],
    control: Float[Tensor, "batch control"],
    step: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Finds when states that cross a section within one integration step do so.

    Args:
        system: The system, an ODE.
        section: The section, below which the states are and above which the step leads.
        values: States before the step.
        control: Controls held.
        step: Length of the step.

    Returns:
        The time of the crossing after the start of the step, from 0 to `step`.
    """
    low = section.height(values)
    high = section.height(flow_step(system, values, control, step))
    time = step * (low / (low - high))
    for _ in range(NEWTON_STEPS):
        at = flow_step(system, values, control, time)
        slope = section.rise(system.vector_field(at, control))
        time = torch.minimum((time - section.height(at) / slope).clamp(min=0.0), step)
    return time


def next_crossing(
    system: OdeSystem,
    section: Section,
    values: Float[Tensor, "batch state"],
    control: Float[Tensor, "batch control"] | None = None,
    *,
    step: float,
    limit: float,
) -> Crossing:
    """Follows trajectories until they cross a section.

    A crossing during the first step does not count, for the trajectory may start on the section.

    Args:
        system: The system, an ODE; with parameters of their own for the environments, a row each.
        section: The section.
        values: Where to start, in the dtype of the computation.
        control: Controls held on the way; None for zero.
        step: Length of an integration step, shorter than the time above the section.
        limit: Longest time of flight.

    Raises:
        ValueError: The system is a map, or the step is not positive.
    """
    require_flow(system)
    if not step > 0:
        raise ValueError(f"step: got {step!r}; allowed: a number > 0")
    held = no_control(system, values) if control is None else control
    length = values.new_full((len(values),), step)
    tangents = initial_tangents(system, values)
    start, start_tangents = values, tangents  # of the step in which a row crosses
    found = torch.zeros_like(length, dtype=torch.bool)
    time = torch.zeros_like(length)
    height = section.height(values)
    for i in range(math.ceil(limit / step)):
        later, later_tangents = flow_step_with_tangents(system, values, held, length, tangents)
        rising = section.height(later)
        crossed = ~found & (height < 0) & (rising >= 0) & (i > 0)
        start = torch.where(crossed[:, None], values, start)
        start_tangents = torch.where(crossed[:, None, None], tangents, start_tangents)
        time = torch.where(crossed, i * step, time)
        found = found | crossed
        if found.all():
            break
        values, tangents, height = later, later_tangents, rising
    last = locate(system, section, start, held, length)
    at, carried = flow_step_with_tangents(system, start, held, last, start_tangents)
    flow = system.vector_field(at, held)
    ahead = section.direction * at.new_tensor(section.normal)[None, None, :] @ carried
    carried = carried - flow[..., None] * ahead / section.rise(flow)[:, None, None]
    size = values.shape[1]

    def known(tensor: Tensor) -> Tensor:
        return torch.where(found.view(-1, *[1] * (tensor.ndim - 1)), tensor, torch.nan)

    return Crossing(
        found, known(at), known(time + last), known(carried[..., :size]), known(carried[..., size:])
    )

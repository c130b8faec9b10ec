"""Unstable periodic orbits of flows and maps, by Newton's method from many starts at once.

Of a flow the unknowns are a point x and the period T: the trajectory must close, flow_T(x) = x, and
as any point of the orbit would do, a correction of x must be perpendicular to the flow there
(shooting; Viswanath, Nonlinearity 16 (2003) 1035). Of a map the period is a given number of
iterations. The derivative of the return by the start, the monodromy matrix, has the Floquet
multipliers as eigenvalues; one of a flow is 1, along the orbit.

Orbits of driven systems whose period is that of the drive, as functions of its phase, are
`separatrix.envs.chaotic.follow_orbit.periodic_orbit`: a task needs them in that form.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.analysis.flow import (
    flow_step,
    flow_step_with_tangents,
    initial_tangents,
    no_control,
    require_flow,
)
from separatrix.envs.steppers.ode_system import OdeSystem

ITERATIONS = 30
BOLDEST = 0.1
"""Largest change of a period in one correction, relative to it."""
SAME = 1e-6
"""Orbits whose periods and means differ by less than this, relatively, are one."""


@dataclass(frozen=True)
class PeriodicOrbits:
    """Closed trajectories, one a row, in float64.

    Attributes:
        path: States along the orbit at equal times, from its point on; of a map its iterates.
        period: Time, or number of iterations.
        monodromy: Derivative of the state after a period by the state at the point.
        converged: Whether the orbit closes and is no equilibrium of a flow; the numbers of other
            rows mean nothing.
    """

    path: Float[Tensor, "orbits sample state"]
    period: Float[Tensor, " orbits"]
    monodromy: Float[Tensor, "orbits state state"]
    converged: Bool[Tensor, " orbits"]

    @property
    def point(self) -> Float[Tensor, "orbits state"]:
        """A point of each orbit."""
        return self.path[:, 0]

    def multipliers(self) -> Tensor:
        """Returns the Floquet multipliers, complex (orbits, state), the largest first.

        Those of orbits that were not found are NaN.
        """
        known = self.converged[:, None, None]  # for a matrix of NaN has no eigenvalues
        found = torch.linalg.eigvals(torch.where(known, self.monodromy, 0.0))
        found = torch.where(self.converged[:, None], found, torch.nan)
        return found.gather(1, found.abs().argsort(dim=1, descending=True))

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns some of the orbits."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def distinct(self) -> Self:
        """Returns each converged orbit once, by increasing period.

        Left out are further starts that led to the same orbit, and several turns of a shorter
        one (if the number of turns divides the number of samples).
        """
        kept: list[int] = []
        centre, size = self.path.mean(1), self.path.abs().amax((1, 2))
        for row in self.period.argsort().tolist():
            same = [
                torch.allclose(self.period[row], self.period[other], rtol=SAME, atol=0.0)
                and bool((centre[row] - centre[other]).abs().max() < SAME * size[row])
                for other in kept
            ]
            if self.converged[row] and not any(same) and not _repeats(self.path[row]):
                kept.append(row)
        return self.select(torch.tensor(kept, dtype=torch.int64))


def _repeats(path: Float[Tensor, "sample state"]) -> bool:
    """Tells whether a path comes back to its start before its end."""
    count, limit = len(path), SAME * path.abs().max()
    turns = [k for k in range(2, count + 1) if count % k == 0]
    return any(bool((path[0] - path[count // k]).abs().max() < limit) for k in turns)


def find_periodic_orbits(
    system: OdeSystem,
    near: Float[Tensor, "orbits state"],
    period: float | Float[Tensor, " orbits"],
    *,
    steps: int = 240,
    tolerance: float = 1e-10,
) -> PeriodicOrbits:
    """Finds periodic orbits of the uncontrolled system near given points.

    Args:
        system: The system; with parameters of their own for the environments, a row each.
        near: Where the searches start.
        period: Period of a flow to start from; of a map, the number of iterations.
        steps: Integration steps in a period of a flow, which are the samples of the path.
        tolerance: Largest component by which an orbit may fail to close, relative to the largest
            of its point (at least 1).

    Raises:
        ValueError: A period is not positive, or of a map not a whole number.
    """
    values = near.to("cpu", torch.float64)
    if not bool((torch.as_tensor(period) > 0).all()):
        raise ValueError(f"period: got {period!r}; allowed: numbers > 0")
    if not system.definition.discrete:
        durations = torch.as_tensor(period, dtype=torch.float64).expand(len(values))
        return _shoot(system, values, durations, steps, tolerance)
    if isinstance(period, Tensor) or period != int(period):
        raise ValueError(f"period: got {period!r}; allowed for a map: a whole number")
    return _iterate(system, values, int(period), tolerance)


def close_returns(
    system: OdeSystem,
    starts: Float[Tensor, "batch state"],
    *,
    step: float,
    shortest: float,
    longest: float,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Finds when trajectories of a flow come closest to where they started: hints of an orbit.

    Args:
        system: The system.
        starts: States, such as points of the attractor.
        step: Length of an integration step.
        shortest: Time before which a return does not count.
        longest: Time after which none does.

    Returns:
        The time and the distance of each closest return.

    Raises:
        ValueError: The system is a map.
    """
    require_flow(system)
    values, control = starts, no_control(system, starts)
    length = starts.new_full((len(starts),), step)
    time, distance = torch.zeros_like(length), torch.full_like(length, torch.inf)
    for i in range(1, round(longest / step) + 1):
        values = flow_step(system, values, control, length)
        away = (values - starts).norm(dim=1)
        closer = (away < distance) & (i * step >= shortest)
        time, distance = torch.where(closer, i * step, time), torch.where(closer, away, distance)
    return time, distance


def _shoot(
    system: OdeSystem, values: Tensor, period: Tensor, steps: int, tolerance: float
) -> PeriodicOrbits:
    control = no_control(system, values)
    size = values.shape[1]

    def turn(x: Tensor, duration: Tensor) -> tuple[Tensor, Tensor]:
        tangents = initial_tangents(system, x)
        states = [x]
        for _ in range(steps):
            x, tangents = flow_step_with_tangents(system, x, control, duration / steps, tangents)
            states.append(x)
        return torch.stack(states, 1), tangents[..., :size]

    for iteration in range(ITERATIONS + 1):
        path, monodromy = turn(values, period)
        rest, converged = _rest(path, tolerance)
        if iteration == ITERATIONS or (converged | ~rest.isfinite().all(1)).all():
            break
        flow = system.vector_field(values, control)
        matrix = values.new_zeros((len(values), size + 1, size + 1))
        matrix[:, :size, :size] = monodromy - torch.eye(size).double()
        matrix[:, :size, size] = system.vector_field(path[:, -1], control)
        matrix[:, size, :size] = flow
        target = torch.cat((rest, rest.new_zeros((len(rest), 1))), 1)
        # A singular row turns non-finite, and does not converge.
        change, _ = torch.linalg.solve_ex(matrix, target)
        boldness = change[:, -1].abs() / (BOLDEST * period)
        change = torch.where(converged[:, None], 0.0, change / boldness.clamp(min=1.0)[:, None])
        values, period = values - change[:, :-1], period - change[:, -1]
    moving = (path - path[:, :1]).abs().amax((1, 2)) > SAME * path.abs().amax((1, 2))
    return PeriodicOrbits(path[:, :-1], period, monodromy, converged & moving)


def _iterate(system: OdeSystem, values: Tensor, period: int, tolerance: float) -> PeriodicOrbits:
    control = no_control(system, values)
    identity = torch.eye(values.shape[1]).double()

    def turn(x: Tensor) -> tuple[Tensor, Tensor]:
        tangents, states = identity.expand(len(x), -1, -1), [x]
        for _ in range(period):
            tangents = system.jacobian(x, control)[0] @ tangents
            x = system.vector_field(x, control)
            states.append(x)
        return torch.stack(states, 1), tangents

    for iteration in range(ITERATIONS + 1):
        path, monodromy = turn(values)
        rest, converged = _rest(path, tolerance)
        if iteration == ITERATIONS or (converged | ~rest.isfinite().all(1)).all():
            break
        change, _ = torch.linalg.solve_ex(monodromy - identity, rest)
        values = values - torch.where(converged[:, None], 0.0, change)
    duration = values.new_full((len(values),), period)
    return PeriodicOrbits(path[:, :-1], duration, monodromy, converged)


def _rest(path: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Returns by how much paths fail to close, and which of them close."""
    rest = path[:, -1] - path[:, 0]
    limit = tolerance * path[:, 0].abs().amax(1).clamp(min=1.0)
    return rest, rest.abs().amax(1) <= limit

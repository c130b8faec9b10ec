"""Chaos control by small parameter changes, after Ott, Grebogi and Yorke.

Near a periodic orbit x_1, ..., x_n of a map, and for small actions a,

    x_{k+1} + d' = F(x_k + d, a),    d' = A_k d + B_k a.

The action that puts d' onto the stable manifold of the orbit, where the map itself does the rest,
is the one that leaves it no component along the unstable direction: with f the left eigenvector of
the unstable multiplier of the orbit at x_{k+1}, f d' = 0, hence

    a = -(f A_k d) / (f B_k).

For n = 1 this is the law of E. Ott, C. Grebogi, J. A. Yorke, Phys. Rev. Lett. 64 (1990) 1196. If a
is larger than the window, the state is too far away, and the action is zero: chaos will bring it
near. In a flow F is the return map of a Poincare section, and the action is held from one crossing
to the next.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.analysis.flow import flow_step, no_control
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.analysis.periodic_orbit import PeriodicOrbits
from separatrix.envs.analysis.section import Section, locate, next_crossing
from separatrix.envs.core.environment import Environment
from separatrix.envs.steppers.ode_environment import OdeEnvironment

SMALLEST = 1e-9
"""Effect of the action along the unstable direction, relative to all of it, that is none."""
NEWTON_STEPS = 6


class OGY(Controller):
    """Holds an unstable periodic orbit by the law of Ott, Grebogi and Yorke.

    Args:
        environment: An environment over a map or an ODE system, with one action.
        orbit: The orbit, one for all environments or one for each, as
            `separatrix.envs.analysis.periodic_orbit.find_periodic_orbits` gives it; None, for maps
            only, for the task's fixed point.
        section: Where a flow is observed; the orbit crosses it at least once.
        window: Largest action that is taken, up to 1.

    Attributes:
        points: The orbit's iterates, or its points on the section, (rows, point, state), float64.
        multiplier: The orbit's unstable multiplier, one a row.
        gain: K of the law a = -K d at each point, (rows, point, state).

    Raises:
        ValueError: The environment has wrappers, is no map or ODE system, or has several actions;
            the orbit has not been found, or has not exactly one unstable multiplier, or the action
            does not move it; or an argument is missing or out of range.
    """

    points: Float[Tensor, "rows point state"]
    multiplier: Float[Tensor, " rows"]
    gain: Float[Tensor, "rows point state"]

    def __init__(
        self,
        environment: Environment,
        orbit: PeriodicOrbits | None = None,
        *,
        section: Section | None = None,
        window: float = 1.0,
    ) -> None:
        if not isinstance(environment, OdeEnvironment):
            got = type(environment).__name__
            raise ValueError(f"OGY reads the state of a bare map or ODE system, got {got}")
        if environment.action_shape != (1,):
            shape = environment.action_shape
            raise ValueError(f"OGY has one action, got an action space of shape {shape}")
        if not 0 < window <= 1:
            raise ValueError(f"window: got {window!r}; allowed: a number > 0 and <= 1")
        system, num_envs = environment.system, environment.num_envs
        rows = {1, num_envs} if system.shared else {num_envs}
        if orbit is not None and not (orbit.converged.all() and len(orbit.period) in rows):
            raise ValueError(
                f"orbit: got {len(orbit.period)} rows, {int(orbit.converged.sum())} of them found; "
                f"allowed: {' or '.join(map(str, sorted(rows)))}, all found"
            )
        self._environment, self._section, self._window = environment, section, window
        if system.definition.discrete:
            if section is not None:
                raise ValueError(f"section: got {section}; allowed for a map: None")
            equilibrium = environment.task.equilibrium
            self.points = equilibrium(system)[:, None] if orbit is None else orbit.path
            models = [linearize(environment, point) for point in self.points.unbind(1)]
            maps, pushes = (torch.stack([getattr(m, x) for m in models], 1) for x in "ab")
        else:
            if section is None or orbit is None:
                raise ValueError("a flow needs both an orbit and a section; one of them is None")
            self.points, maps, pushes = return_maps(environment, section, orbit)
        self.multiplier, self.gain = design(maps, pushes[..., 0])
        self._points = self.points.to(environment.device, environment.dtype)
        self._gain = self.gain.to(environment.device, environment.dtype)
        self._before = self._points.new_zeros((0, self._points.shape[2]))
        self._held = self._points.new_zeros((0, 1))

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Forgets what the environments did before, and the actions held in them."""
        if len(self._before) != len(mask):
            self._before = self._before.new_full((len(mask), self._before.shape[1]), torch.nan)
            self._held = self._held.new_zeros((len(mask), 1))
        self._before = torch.where(mask[:, None], torch.nan, self._before)
        self._held = torch.where(mask[:, None], 0.0, self._held)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the law's action; of a flow the one that the last crossing asked for."""
        values, section = state.values, self._section
        if section is None:
            return self._law(values, self._gain, self._points)
        if len(self._before) != len(values):
            self.reset(torch.ones(len(values), dtype=torch.bool, device=values.device))
        before = self._before
        # A comparison with the NaN of a new episode is false.
        crossed = (section.height(before) < 0) & (section.height(values) >= 0)
        if crossed.any():
            rows = crossed.nonzero()[:, 0]
            action = self._at_crossing(section, before, values, rows)
            self._held = self._held.index_copy(0, rows, action)
        self._before = values.clone()
        return self._held

    def _at_crossing(self, section: Section, before: Tensor, after: Tensor, rows: Tensor) -> Tensor:
        """Returns the actions for rows that have crossed the section since the last interval."""
        environment = self._environment.select(rows)
        control = environment.control(self._held[rows])
        ends = before[rows], after[rows]
        slopes = (
            environment.control_interval * environment.system.vector_field(x, control) for x in ends
        )
        values = interpolate_crossing(section, *ends, *slopes)
        shared = self._gain.shape[0] == 1
        gain, points = (x if shared else x[rows] for x in (self._gain, self._points))
        return self._law(values, gain, points)

    def _law(
        self,
        values: Float[Tensor, "batch state"],
        gain: Float[Tensor, "rows point state"],
        points: Float[Tensor, "rows point state"],
    ) -> Float[Tensor, "batch action"]:
        """Returns the action that leads to the stable manifold, where it is small enough."""
        difference = self._environment.system.difference
        deviation = torch.stack([difference(values, point) for point in points.unbind(1)], 1)
        nearest = deviation.square().sum(2).argmin(1)
        every = -(gain * deviation).sum(2)
        action = every.gather(1, nearest[:, None])
        return torch.where(action.abs() <= self._window, action, 0.0)


def interpolate_crossing(
    section: Section,
    before: Float[Tensor, "batch state"],
    after: Float[Tensor, "batch state"],
    slope_before: Float[Tensor, "batch state"],
    slope_after: Float[Tensor, "batch state"],
) -> Float[Tensor, "batch state"]:
    """Finds where trajectories cross a section between two states, by cubic interpolation.

    Args:
        section: The section, with a crossing between the states.
        before: States before the crossing.
        after: States after it.
        slope_before: Flow at the first times the time between the two.
        slope_after: Flow at the second, likewise.

    Returns:
        Points of Hermite's interpolation on the section.
    """
    change = after - before
    square = 3 * change - 2 * slope_before - slope_after
    cube = slope_before + slope_after - 2 * change

    def at(s: Tensor) -> Tensor:
        return before + s * (slope_before + s * (square + s * cube))

    low, high = section.height(before)[:, None], section.height(after)[:, None]
    s = low / (low - high)
    for _ in range(NEWTON_STEPS):
        rise = section.rise(slope_before + s * (2 * square + 3 * s * cube))[:, None]
        s = (s - section.height(at(s))[:, None] / rise).clamp(0.0, 1.0)
    return at(s)


def return_maps(
    environment: OdeEnvironment, section: Section, orbit: PeriodicOrbits
) -> tuple[
    Float[Tensor, "rows point state"],
    Float[Tensor, "rows point state state"],
    Float[Tensor, "rows point state action"],
]:
    """Linearizes the return map of a section at the points of an orbit.

    Args:
        environment: Gives the flow, and how an action that is held controls it.
        section: The section.
        orbit: The orbit, one row for each environment or one for all.

    Returns:
        The orbit's points on the section in the order of their visits; and the derivatives of the
        next crossing by the deviation at each of them and by the action.

    Raises:
        ValueError: The orbit does not cross the section, or not as often in all rows.
    """
    rows, samples, _ = orbit.path.shape
    system = environment.system
    height = section.height(orbit.path.flatten(0, 1)).view(rows, samples)
    crossing = (height < 0) & (height.roll(-1, 1) >= 0)
    counts = crossing.sum(1)
    if not counts.min() or counts.min() != counts.max():
        got = sorted(set(counts.tolist()))
        raise ValueError(f"section: the orbit crosses it {got} times; allowed: once or more, alike")
    control = no_control(system, orbit.point)
    step = orbit.period / samples
    before = orbit.path[torch.arange(rows), crossing.int().argmax(1)]
    time = locate(system, section, before, control, step)
    points = [flow_step(system, before, control, time)]
    maps, pushes = [], []
    law = environment.control_jacobian(orbit.point.new_zeros((rows, 1)))
    for _ in range(int(counts[0])):
        found = next_crossing(
            system, section, points[-1], step=float(step.min()), limit=2 * float(orbit.period.max())
        )
        points.append(found.values)
        maps.append(found.by_state)
        pushes.append(found.by_control @ law)
    return torch.stack(points[:-1], 1), torch.stack(maps, 1), torch.stack(pushes, 1)


def design(
    maps: Float[Tensor, "rows point state state"], pushes: Float[Tensor, "rows point state"]
) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows point state"]]:
    """Finds the gains that leave no component along the unstable direction.

    Args:
        maps: A_k, from each point of a cycle to the next.
        pushes: B_k, the effect of the action on the next point.

    Returns:
        The unstable multiplier of the cycle, and the gain at each point.

    Raises:
        ValueError: There is not exactly one unstable multiplier, or the action has no effect along
            its direction.
    """
    count, gains = maps.shape[1], []
    multiplier = maps.new_zeros(len(maps))
    for k in range(count):
        following = (k + 1) % count
        cycle = torch.eye(maps.shape[2]).to(maps)
        for i in range(count):
            cycle = maps[:, (following + i) % count] @ cycle
        values, vectors = torch.linalg.eig(cycle.mT)
        if not ((values.abs() > 1).sum(1) == 1).all():
            got = values.abs().sort(1, descending=True).values.tolist()
            raise ValueError(f"orbit: got multipliers of size {got}; OGY needs exactly one above 1")
        largest = values.abs().argmax(1)
        row = torch.arange(len(maps))
        # A single multiplier outside the unit circle is real, and so is its direction.
        multiplier = values[row, largest].real
        left = vectors[row, :, largest].real
        effect = (left * pushes[:, k]).sum(1, keepdim=True)
        reach = left.norm(dim=1, keepdim=True) * pushes[:, k].norm(dim=1, keepdim=True)
        if not (effect.abs() > SMALLEST * reach).all():
            raise ValueError(
                "orbit: the action does not move the state along its unstable direction"
            )
        gains.append((left[:, None] @ maps[:, k])[:, 0] / effect)
    return multiplier, torch.stack(gains, 1)

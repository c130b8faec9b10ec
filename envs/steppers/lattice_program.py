"""What a lattice stepper does in a time step, compiled from a domain: lists of populations to fill.

A step pulls every population from the neighbour that it comes from and collides. So that this needs
no case distinction, everything that would come from outside the fluid is first written there, into
"ghosts": sites around the box and inside the bodies. Each ghost population goes to one site alone.

Walls, at any place between two sites, bounce back by linear interpolation (M. Bouzidi, M.
Firdaouss, P. Lallemand, Phys. Fluids 13 (2001) 3452). Of a link along c_i from a wall that is q
links away, behind which the ghost lies, with the velocity u of the wall:

    q < 1/2:   ghost_i = 2q f_-i(x) + (1 - 2q) f_-i(x + c_i) + 6 w_i c_i.u
    q >= 1/2:  ghost_i = f_-i(x) / 2q + (1 - 1 / 2q) f_i(x) + 3 w_i c_i.u / q
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from separatrix.envs.steppers.lattice import (
    MIRRORED,
    VELOCITIES,
    WEIGHTS,
    Actuator,
    Disc,
    Domain,
    equilibrium,
)

SOUND = 3**-0.5
"""Links that sound passes in a time step."""
OUTLET_ANCHOR, SIDE_ANCHOR = 0.01, 0.05
"""Parts of a deviation that the outlet and open sides take back in a time step."""


@dataclass(frozen=True)
class Walls:
    """Links that cross a wall. Sites are indices into the flat box, ghosts around it included.

    Attributes:
        direction: Of the link, away from the wall.
        ghost: Site behind the wall.
        site: Site before the wall.
        beyond: Next site along the link; the same where that is no fluid.
        weights: Of f_-i(x), f_-i(x + c_i) and f_i(x).
        gain: Of c_i.u.
        still: Velocity of the wall at control 0, in lattice units.
        moved: What each control adds to it.
        body: Index of the body; -1 for the sides of the box.
    """

    direction: Int64[np.ndarray, " link"]
    ghost: Int64[np.ndarray, " link"]
    site: Int64[np.ndarray, " link"]
    beyond: Int64[np.ndarray, " link"]
    weights: Float[np.ndarray, "link 3"]
    gain: Float[np.ndarray, " link"]
    still: Float[np.ndarray, "link 2"]
    moved: Float[np.ndarray, "link control 2"]
    body: Int64[np.ndarray, " link"]


@dataclass(frozen=True)
class Copies:
    """Ghosts that other populations fill.

    A ghost relaxes to its source: at once where sides are periodic or slip, and at the speed of
    sound at the outlet and at open sides, where sound leaves so (M. Geier et al., Comput. Math.
    Appl. 70 (2015) 507). Nothing else fixes the pressure there, nor the stream at an open side: so
    a part of what deviates from them is taken back.

    Attributes:
        direction: Of the ghost.
        ghost: Its site.
        source_direction: Of the population.
        source: Its site.
        rate: Part of the difference that is made up in a time step.
        anchor: Part of the density of the source, times w_i, that is taken back.
        pull: Part of the difference of the source from its level that is taken back.
        level: The population in the undisturbed stream.
    """

    direction: Int64[np.ndarray, " copy"]
    ghost: Int64[np.ndarray, " copy"]
    source_direction: Int64[np.ndarray, " copy"]
    source: Int64[np.ndarray, " copy"]
    rate: Float[np.ndarray, " copy"]
    anchor: Float[np.ndarray, " copy"]
    pull: Float[np.ndarray, " copy"]
    level: Float[np.ndarray, " copy"]


@dataclass(frozen=True)
class LatticeProgram:
    """A domain on a lattice.

    Attributes:
        rows: Sites across the stream, without ghosts.
        columns: Sites along the stream, without ghosts.
        resolution: Sites to a unit of length.
        speed: Velocity 1 in links a time step.
        walls: Links that cross walls.
        copies: Other ghosts.
        solid: Flat indices of the sites inside bodies.
        bodies: Number of bodies.
        controls: Number of controls.
    """

    rows: int
    columns: int
    resolution: int
    speed: float
    walls: Walls
    copies: Copies
    solid: Int64[np.ndarray, " solid"]
    bodies: int
    controls: int

    @property
    def time_step(self) -> float:
        """In units of time."""
        return self.speed / self.resolution

    @property
    def viscosity(self) -> float:
        """In lattice units, at Reynolds number 1."""
        return self.speed * self.resolution


def compile_lattice(
    domain: Domain, actuators: Sequence[Actuator], resolution: int, speed: float
) -> LatticeProgram:
    """Puts a domain on a lattice. Its sides lie half a link outside the first and last sites.

    Args:
        domain: The box and the bodies.
        actuators: What moves the surfaces of the bodies.
        resolution: Sites to a unit of length.
        speed: Velocity 1 in links a time step.

    Raises:
        ValueError: A side of the box is no whole number of sites, or a body touches it.
    """
    columns = _sites("length", domain.length, resolution)
    rows = _sites("height", domain.height, resolution)
    row, column = np.meshgrid(np.arange(rows + 2), np.arange(columns + 2), indexing="ij")
    place = np.stack([column, row], -1) - 0.5  # in links, from the lower left corner
    owner = np.full(row.shape, -1)
    for index, disc in enumerate(domain.bodies):
        inside = np.linalg.norm(place - _centre(disc, resolution), axis=-1)
        owner[inside < disc.radius * resolution] = index
        if not _within(disc, domain, 1 / resolution):
            raise ValueError(f"bodies: got {disc}; allowed: such as lie inside the box")
    box = (row >= 1) & (row <= rows) & (column >= 1) & (column <= columns)
    builder = _Builder(domain, actuators, resolution, speed, owner, box)
    walls, copies = zip(*(builder.links(i) for i in range(1, 9)), strict=True)
    return LatticeProgram(
        rows,
        columns,
        resolution,
        speed,
        _joined(walls),
        _joined(copies),
        np.flatnonzero(box & (owner >= 0)),
        len(domain.bodies),
        1 + max((actuator.control for actuator in actuators), default=-1),
    )


@dataclass(frozen=True)
class _Builder:
    """Finds what fills the ghosts; see `compile_lattice` for the attributes.

    Attributes:
        owner: Index of the body at each site, -1 where there is none.
        box: Which sites are no ghosts.
    """

    domain: Domain
    actuators: Sequence[Actuator]
    resolution: int
    speed: float
    owner: Int64[np.ndarray, "row column"]
    box: Bool[np.ndarray, "row column"]

    def links(self, i: int) -> tuple[Walls, Copies]:
        """Returns what fills the ghosts of one direction."""
        domain, (cx, cy) = self.domain, VELOCITIES[i]
        rows, columns = self.box.shape[0] - 2, self.box.shape[1] - 2
        fluid = self.box & (self.owner < 0)
        y, x = np.nonzero(fluid)
        unknown = ~fluid[y - cy, x - cx]
        y, x = y[unknown], x[unknown]
        gy, gx = y - cy, x - cx
        through = domain.inflow == "periodic"
        beside = (gy < 1) | (gy > rows)
        inlet, outlet = (gx < 1) & (not through), (gx > columns) & (not through)
        side = beside & ~inlet & ~outlet

        # Corners of the outlet are walls between walls.
        outlet &= ~(beside & (domain.sides == "no_slip"))
        open_side, mirror = side & (domain.sides == "open"), side & (domain.sides == "slip")
        wrapped = side & (domain.sides == "periodic") | (through & ~beside & ~self.box[gy, gx])
        copied = outlet | open_side | mirror | wrapped
        sx = (gx - 1) % columns + 1 if through else np.clip(gx, 1, columns)
        sy = np.where(wrapped, (gy - 1) % rows + 1, np.clip(gy, 1, rows))
        width = columns + 2
        relaxed = outlet | open_side
        implicit = 1 + SOUND  # sources are of the new time step: (1 + c) new = old + c source
        copies = Copies(
            direction=np.full(len(y), i),
            ghost=gy * width + gx,
            source_direction=np.where(mirror, MIRRORED[i], i),
            source=sy * width + sx,
            rate=np.where(relaxed, SOUND / implicit, 1.0),
            anchor=np.where(outlet, OUTLET_ANCHOR / implicit, 0.0),
            pull=np.where(open_side, SIDE_ANCHOR / implicit, 0.0),
            level=np.full(len(y), equilibrium(self.speed)[i]),
        )
        q, weights, body = self._crossings(i, y, x, gy, gx, fluid)
        hit = (np.stack([x, y], -1) - 0.5 - q[:, None] * VELOCITIES[i]) / self.resolution
        walls = Walls(
            direction=np.full(len(y), i),
            ghost=gy * width + gx,
            site=y * width + x,
            # A weight of 0 does not make a number of what may be NaN, left by another environment.
            beyond=np.where(fluid[y + cy, x + cx], (y + cy) * width + x + cx, y * width + x),
            weights=weights,
            gain=np.where(q < 0.5, 6, 3 / q) * WEIGHTS[i],
            still=self._inflow(hit, inlet),
            moved=self._moved(hit, body),
            body=body,
        )
        return _selected(walls, ~copied), _selected(copies, copied)

    def _crossings(
        self,
        i: int,
        y: np.ndarray,
        x: np.ndarray,
        gy: np.ndarray,
        gx: np.ndarray,
        fluid: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns q, the weights and the index of the body of every link."""
        body = self.owner[gy, gx]
        q = np.full(len(y), 0.5)
        for index, disc in enumerate(self.domain.bodies):
            own = body == index
            offset = np.stack([x, y], -1)[own] - 0.5 - _centre(disc, self.resolution)
            a, b = VELOCITIES[i] @ VELOCITIES[i], offset @ VELOCITIES[i]
            c = (offset**2).sum(-1) - (disc.radius * self.resolution) ** 2
            q[own] = np.clip((b - np.sqrt(b**2 - a * c)) / a, 1e-6, 1.0)
        cx, cy = VELOCITIES[i]
        # Without a second site the wall is half way.
        q = np.where(fluid[y + cy, x + cx], q, np.maximum(q, 0.5))
        near = q < 0.5
        weights = [np.where(near, 2 * q, 0.5 / q), np.where(near, 1 - 2 * q, 0)]
        weights.append(np.where(near, 0, 1 - 0.5 / q))
        return q, np.stack(weights, 1), body

    def _inflow(self, place: np.ndarray, inlet: np.ndarray) -> np.ndarray:
        """Returns the velocity of walls at control 0, in lattice units."""
        velocity = np.zeros((len(place), 2))
        height = place[inlet, 1] / self.domain.height
        parabola = np.clip(6 * height * (1 - height), 0, None)
        velocity[inlet, 0] = parabola if self.domain.inflow == "parabola" else 1.0
        return velocity * self.speed

    def _moved(self, place: np.ndarray, body: np.ndarray) -> np.ndarray:
        """Returns what each control adds to the velocity of walls, in lattice units."""
        controls = 1 + max((actuator.control for actuator in self.actuators), default=-1)
        moved = np.zeros((len(place), controls, 2))
        for actuator in self.actuators:
            own, disc = body == actuator.body, self.domain.bodies[actuator.body]
            offset = place[own] - np.array([disc.x, disc.y])
            moved[own, actuator.control] += actuator.velocity(offset) * self.speed
        return moved


def _within(disc: Disc, domain: Domain, margin: float) -> bool:
    """Tells whether a body keeps away from the sides of the box."""
    places = ((disc.x, domain.length), (disc.y, domain.height))
    return all(disc.radius + margin <= x <= side - disc.radius - margin for x, side in places)


def _centre(disc: Disc, resolution: int) -> np.ndarray:
    return np.array([disc.x, disc.y]) * resolution


def _sites(name: str, size: float, resolution: int) -> int:
    sites = round(size * resolution)
    if abs(sites - size * resolution) > 1e-6:
        raise ValueError(
            f"resolution: got {resolution}; allowed: integers by which the {name} of the box, "
            f"{size:g}, is a whole number of sites"
        )
    return sites


def _selected(lists: Any, which: np.ndarray) -> Any:
    return type(lists)(*(getattr(lists, f.name)[which] for f in fields(lists)))


def _joined(parts: Sequence[Any]) -> Any:
    columns = zip(*([getattr(p, f.name) for f in fields(p)] for p in parts), strict=True)
    return type(parts[0])(*(np.concatenate(column) for column in columns))

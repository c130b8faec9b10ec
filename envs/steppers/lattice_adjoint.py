"""Gradients of a control interval of the lattice in numba, by hand: its time steps, back to front.

A step back needs the populations that the step pulled. So an interval is run anew: once to keep the
state before every chunk of about sqrt(substeps) steps, then chunk by chunk, last first, to keep the
populations of each of its steps. What that takes grows as the root of the number of steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from separatrix.envs.steppers.lattice import OPPOSITE, WEIGHTS
from separatrix.envs.steppers.lattice_kernel import CX, CY, OPTIONS, advance_one, collide, fill


@njit(**OPTIONS)
def fill_back(g, a, walls, copies, solid, control, force, by_control):  # type: ignore[no-untyped-def]
    """Goes back through `fill`.

    Args:
        g: Gradient (direction, site) by the filled populations, which becomes that by the others.
        a: The filled populations.
        walls: Lists of `Walls`.
        copies: Lists of `Copies`.
        solid: Sites inside bodies.
        control: (control,).
        force: Gradient by the force (body, 2).
        by_control: Gradient by the control, to which its part is added.
    """
    direction, ghost, source_direction, source, rate, anchor, pull = copies[:7]
    for n in range(len(ghost)):
        i, x = direction[n], source[n]
        found = g[i, ghost[n]]
        g[i, ghost[n]] = found - rate[n] * found
        g[source_direction[n], x] += (rate[n] - pull[n]) * found
        if anchor[n] > 0:
            for j in range(9):
                g[j, x] -= anchor[n] * a.dtype.type(WEIGHTS[i]) * found
    direction, ghost, site, beyond, weights, gain, still, moved, body = walls
    for n in range(len(ghost)):
        i, x = direction[n], site[n]
        j = OPPOSITE[i]
        back, out = g[i, ghost[n]], a.dtype.type(0)
        g[i, ghost[n]] = 0
        by_x, by_y = a.dtype.type(0), a.dtype.type(0)
        if body[n] >= 0:
            ux, uy = still[n, 0], still[n, 1]
            for k in range(len(control)):
                ux += control[k] * moved[n, k, 0]
                uy += control[k] * moved[n, k, 1]
            fx, fy = force[body[n], 0], force[body[n], 1]
            both, loss = CX[i] * fx + CY[i] * fy, ux * fx + uy * fy
            out -= both + loss
            back -= both - loss
            lost = a[j, x] - a[i, ghost[n]]
            by_x -= lost * fx
            by_y -= lost * fy
        g[j, x] += out + weights[n, 0] * back
        g[j, beyond[n]] += weights[n, 1] * back
        g[i, x] += weights[n, 2] * back
        by_x += gain[n] * CX[i] * back
        by_y += gain[n] * CY[i] * back
        for k in range(len(control)):
            by_control[k] += by_x * moved[n, k, 0] + by_y * moved[n, k, 1]
    for s in solid:
        for i in range(9):
            g[i, s] = 0


@njit(**OPTIONS)
def collide_back(a, g, h, rate, by_rate, lines):  # type: ignore[no-untyped-def]
    """Goes back through `collide`.

    Each row takes three short loops, which a compiler vectorizes where it gives up on a long one:
    too many arrays that might overlap.

    Args:
        a: The populations (direction, row, column) that it took.
        g: Gradient by those that it wrote.
        h: Where the gradient by `a` is written.
        rate: Part of the departure from equilibrium that a collision takes away.
        by_rate: Gradient by the rate, in parts to be summed (column,), to which its part is added.
        lines: Space (11, column).
    """
    T = a.dtype.type
    keep = T(1) - rate
    rows, columns = a.shape[1] - 2, a.shape[2] - 2
    us, vs = lines[0], lines[1]
    departures_xx, departures_yy, departures_xy = lines[2], lines[3], lines[4]
    by_density, by_us, by_vs = lines[5], lines[6], lines[7]
    by_xxs, by_yys, by_xys = lines[8], lines[9], lines[10]
    # Populations at the rim are pulled by no site, or by ghosts alone.
    h[:, :2], h[:, rows:], h[:, :, :2], h[:, :, columns:] = 0, 0, 0, 0
    for y in range(1, rows + 1):
        p0 = a[0, y, 1 : columns + 1]
        p1 = a[1, y, 0:columns]
        p2 = a[2, y - 1, 1 : columns + 1]
        p3 = a[3, y, 2 : columns + 2]
        p4 = a[4, y + 1, 1 : columns + 1]
        p5 = a[5, y - 1, 0:columns]
        p6 = a[6, y - 1, 2 : columns + 2]
        p7 = a[7, y + 1, 2 : columns + 2]
        p8 = a[8, y + 1, 0:columns]
        for x in range(columns):
            f1, f2, f3, f4 = p1[x], p2[x], p3[x], p4[x]
            f5, f6, f7, f8 = p5[x], p6[x], p7[x], p8[x]
            u, v = f1 - f3 + f5 - f6 - f7 + f8, f2 - f4 + f5 + f6 - f7 - f8
            diagonal = f5 + f6 + f7 + f8
            third = (p0[x] + f1 + f2 + f3 + f4 + diagonal) * T(1 / 3)
            us[x], vs[x] = u, v
            departures_xx[x] = f1 + f3 + diagonal - third - u * u
            departures_yy[x] = f2 + f4 + diagonal - third - v * v
            departures_xy[x] = f5 - f6 + f7 - f8 - u * v
        p0, p1, p2 = g[0, y, 1 : columns + 1], g[1, y, 1 : columns + 1], g[2, y, 1 : columns + 1]
        p3, p4, p5 = g[3, y, 1 : columns + 1], g[4, y, 1 : columns + 1], g[5, y, 1 : columns + 1]
        p6, p7, p8 = g[6, y, 1 : columns + 1], g[7, y, 1 : columns + 1], g[8, y, 1 : columns + 1]
        for x in range(columns):
            # Gradients by what the populations are sums of have the names of the values.
            even1, odd1 = T(1 / 9) * (p1[x] + p3[x]), T(1 / 9) * (p1[x] - p3[x])
            even2, odd2 = T(1 / 9) * (p2[x] + p4[x]), T(1 / 9) * (p2[x] - p4[x])
            even5, odd5 = T(1 / 36) * (p5[x] + p7[x]), T(1 / 36) * (p5[x] - p7[x])
            even6, odd6 = T(1 / 36) * (p6[x] + p8[x]), T(1 / 36) * (p6[x] - p8[x])
            still, sides = T(4 / 9) * p0[x], even5 + even6
            u, v = us[x], vs[x]
            mxx, myy, mxy = departures_xx[x], departures_yy[x], departures_xy[x]
            uu, vv, uv = u * u, v * v, u * v
            rest = still + even1 + even2 + sides
            fourth = T(2.25) * (still - T(2) * (even1 + even2) + T(4) * sides)
            xx = T(4.5) * (even1 + sides) - T(1.5) * rest
            yy = T(4.5) * (even2 + sides) - T(1.5) * rest + fourth * uu
            xy = T(9) * (even5 - even6)
            xyy, xxy = T(9) * (odd5 - odd6) - T(4.5) * odd1, T(9) * (odd5 + odd6) - T(4.5) * odd2
            by_xx = xx + fourth * vv + xxy * v
            by_yy = yy + xyy * u
            by_xy = xy + T(4) * fourth * uv + T(2) * (xyy * v + xxy * u)
            by_rate[x] -= by_xx * mxx + by_yy * myy + by_xy * mxy
            by_xx, by_yy, by_xy = keep * by_xx, keep * by_yy, keep * by_xy
            by_xxs[x], by_yys[x], by_xys[x] = by_xx, by_yy, by_xy
            by_density[x] = rest - T(1 / 3) * (by_xx + by_yy)
            xx, yy, xy = xx - by_xx, yy - by_yy, xy - by_xy
            nxx, nyy, nxy = keep * mxx, keep * myy, T(2) * keep * mxy
            mixed = T(2) * uv + nxy
            by_u = T(3) * (odd1 + odd5 - odd6) + xyy * (vv + nyy) + xxy * mixed
            by_v = T(3) * (odd2 + odd5 + odd6) + xxy * (uu + nxx) + xyy * mixed
            by_u += T(2) * (xx * u + fourth * (u * (vv + nyy) + v * nxy)) + xy * v
            by_v += T(2) * (yy * v + fourth * (v * nxx + u * nxy)) + xy * u
            by_us[x], by_vs[x] = by_u, by_v
        p0 = h[0, y, 1 : columns + 1]
        p1 = h[1, y, 0:columns]
        p2 = h[2, y - 1, 1 : columns + 1]
        p3 = h[3, y, 2 : columns + 2]
        p4 = h[4, y + 1, 1 : columns + 1]
        p5 = h[5, y - 1, 0:columns]
        p6 = h[6, y - 1, 2 : columns + 2]
        p7 = h[7, y + 1, 2 : columns + 2]
        p8 = h[8, y + 1, 0:columns]
        for x in range(columns):
            rest, by_u, by_v, by_xx, by_yy = by_density[x], by_us[x], by_vs[x], by_xxs[x], by_yys[x]
            p0[x] = rest
            p1[x], p3[x] = rest + by_xx + by_u, rest + by_xx - by_u
            p2[x], p4[x] = rest + by_yy + by_v, rest + by_yy - by_v
            rest += by_xx + by_yy
            even, odd = rest + by_xys[x], by_u + by_v
            p5[x], p7[x] = even + odd, even - odd
            even, odd = rest - by_xys[x], by_v - by_u
            p6[x], p8[x] = even + odd, even - odd


# Functions of their own for what `lattice_kernel` has inlined: populations of two steps, which lie
# in one array, are not seen to be apart otherwise.
@njit(**OPTIONS)
def fill_one(a, walls, copies, solid, control, force):  # type: ignore[no-untyped-def]
    """Fills the ghosts of a (direction, row, column)."""
    fill(a.reshape(9, a.shape[1] * a.shape[2]), walls, copies, solid, control, force)


@njit(**OPTIONS)
def collide_one(a, b, copies, rate):  # type: ignore[no-untyped-def]
    """Makes the next populations b of the filled a."""
    rows, columns, sites = a.shape[1] - 2, a.shape[2] - 2, a.shape[1] * a.shape[2]
    collide(a, b, 1, rows + 1, columns, rate)
    before, after = a.reshape(9, sites), b.reshape(9, sites)
    for n in range(len(copies[0])):
        after[copies[0][n], copies[1][n]] = before[copies[0][n], copies[1][n]]


@njit(**OPTIONS)
def retreat_one(  # type: ignore[no-untyped-def]
    starts, taken, g, h, walls, copies, solid, controls, target, keep, rate, force,
    by_control, by_target, by_rate,
):  # fmt: skip
    """Goes back through an interval of one environment.

    Args:
        starts: Populations (chunk, direction, row, column) before each chunk of steps, of which the
            first are given.
        taken: Space for those that each step of a chunk pulls.
        g: Gradient (direction, row, column) by the last populations.
        h: Space for as many.
        walls: Lists of `Walls`.
        copies: Lists of `Copies`.
        solid: Sites inside bodies.
        controls: Control before the interval, then in each step (1 + step, control), of which the
            first is given.
        target: (control,).
        keep: Part of the difference from the target that a step leaves.
        rate: Part of the departure from equilibrium that a collision takes away.
        force: Gradient by the sum of the forces on each body (body, 2).
        by_control: Gradient (control,) by the last control, which becomes that by the first.
        by_target: Gradient (control,) by the target, which is written.
        by_rate: Gradient (column,) by the rate, in parts to be summed, which is written.

    Returns:
        The gradient by the first populations, in g or h.
    """
    sites, chunk, substeps = g.shape[1] * g.shape[2], len(taken), len(controls) - 1
    direction, ghost = copies[0], copies[1]
    unused, held = np.empty_like(force), controls[0].copy()
    lines = np.empty((11, len(by_rate)), g.dtype)
    by_target[:] = 0
    by_rate[:] = 0
    for c in range(1, len(starts)):
        starts[c] = starts[c - 1]
        advance_one(
            starts[c], h, walls, copies, solid, held, target, keep, rate, chunk, unused
        )  # fmt: skip
    for step in range(substeps):
        for k in range(len(target)):
            controls[step + 1, k] = target[k] + keep * (controls[step, k] - target[k])
    for s in solid:
        g.reshape(9, sites)[:, s] = 0
    for c in range(len(starts) - 1, -1, -1):
        first = c * chunk
        last = min(first + chunk, substeps)
        taken[0] = starts[c]
        for step in range(first, last):
            a = taken[step - first]
            fill_one(a, walls, copies, solid, controls[step + 1], unused)
            if step + 1 < last:
                collide_one(a, taken[step + 1 - first], copies, rate)
        for step in range(last - 1, first - 1, -1):
            a = taken[step - first]
            collide_back(a, g, h, rate, by_rate, lines)
            before, after = h.reshape(9, sites), g.reshape(9, sites)
            for n in range(len(ghost)):
                before[direction[n], ghost[n]] += after[direction[n], ghost[n]]
            fill_back(
                before, a.reshape(9, sites), walls, copies, solid, controls[step + 1], force,
                by_control,
            )  # fmt: skip
            for k in range(len(target)):
                by_target[k] += by_control[k] - keep * by_control[k]
                by_control[k] *= keep
            g, h = h, g
    return g


@njit(**OPTIONS)
def retreat(  # type: ignore[no-untyped-def]
    first, last, values, control, target, rate, walls, copies, solid, keep, substeps,
    by_values, by_held, by_force, found_values, found_control, found_target, found_rate,
):  # fmt: skip
    """Goes back through an interval of some environments of a batch.

    Args:
        first: First environment.
        last: One behind the last.
        values: Populations (batch, direction, row, column) at the start.
        control: In force at the start (batch, control).
        target: (batch, control).
        rate: Rates (rows,), one, or one for each environment.
        walls: Lists of `Walls`.
        copies: Lists of `Copies`.
        solid: Sites inside bodies.
        keep: Part of the difference from the target that a step leaves.
        substeps: Time steps.
        by_values: Gradient by the populations at the end.
        by_held: Gradient by the control at the end.
        by_force: Gradient by the mean force (batch, body, 2).
        found_values: Gradient by the populations at the start, which is written, as are
        found_control: that by the control at the start,
        found_target: that by the target,
        found_rate: and that by the rate (batch,), of each environment alone.
    """
    shape = values.shape[1:]
    chunk = math.ceil(math.sqrt(substeps))
    starts = np.zeros((-(-substeps // chunk), *shape), values.dtype)
    # Zeros, for nothing writes the corners, and solid sites pull them.
    taken, space = np.zeros((chunk, *shape), values.dtype), np.zeros((2, *shape), values.dtype)
    controls = np.empty((substeps + 1, control.shape[1]), values.dtype)
    parts = np.empty(shape[2] - 2, values.dtype)
    for e in range(first, last):
        starts[0], controls[0], space[0] = values[e], control[e], by_values[e]
        found_control[e] = by_held[e]
        found_values[e] = retreat_one(
            starts, taken, space[0], space[1], walls, copies, solid, controls, target[e], keep,
            rate[e if len(rate) > 1 else 0], by_force[e] / values.dtype.type(substeps),
            found_control[e], found_target[e], parts,
        )  # fmt: skip
        found_rate[e] = parts.sum()

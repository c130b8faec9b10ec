"""The lattice's time step in numba, one environment after the other, which stays in cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from separatrix.envs.steppers.lattice import OPPOSITE, VELOCITIES, WEIGHTS

OPTIONS: dict[str, Any] = {
    "fastmath": {"contract"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
CX, CY = VELOCITIES[:, 0].copy(), VELOCITIES[:, 1].copy()


@njit(inline="always")
def fill(a, walls, copies, solid, control, force):  # type: ignore[no-untyped-def]
    """Writes the ghosts of one environment and adds the force on every body.

    Args:
        a: Populations (direction, site), which are changed.
        walls: Lists of `Walls`.
        copies: Lists of `Copies`.
        solid: Sites inside bodies.
        control: (control,).
        force: (body, 2).
    """
    direction, ghost, site, beyond, weights, gain, still, moved, body = walls
    for s in solid:  # nothing lives there, so nothing shall grow there
        for i in range(9):
            a[i, s] = 0
    for n in range(len(ghost)):
        i, x = direction[n], site[n]
        j = OPPOSITE[i]
        ux, uy = still[n, 0], still[n, 1]
        if body[n] < 0:  # half way between sites, and no control moves it: most links are such
            a[i, ghost[n]] = a[j, x] + gain[n] * (CX[i] * ux + CY[i] * uy)
            continue
        for k in range(len(control)):
            ux += control[k] * moved[n, k, 0]
            uy += control[k] * moved[n, k, 1]
        out = a[j, x]
        back = weights[n, 0] * out + weights[n, 1] * a[j, beyond[n]] + weights[n, 2] * a[i, x]
        back += gain[n] * (CX[i] * ux + CY[i] * uy)
        a[i, ghost[n]] = back
        # Momentum exchange, seen from the wall: B. Wen et al., J. Comput. Phys. 266 (2014) 161.
        both, loss = out + back, out - back
        force[body[n], 0] -= CX[i] * both + ux * loss
        force[body[n], 1] -= CY[i] * both + uy * loss
    direction, ghost, source_direction, source, rate, anchor, pull, level = copies
    for n in range(len(ghost)):
        i, g = direction[n], ghost[n]
        found = a[source_direction[n], source[n]]
        a[i, g] += rate[n] * (found - a[i, g])
        if anchor[n] > 0:
            density = a[0, source[n]]
            for j in range(1, 9):
                density += a[j, source[n]]
            a[i, g] -= anchor[n] * a.dtype.type(WEIGHTS[i]) * density
        a[i, g] -= pull[n] * (found - level[n])


@njit(inline="always")
def collide(a, b, first, last, columns, rate):  # type: ignore[no-untyped-def]
    """Pulls the populations of some rows of a box and collides them, as the reference does.

    Args:
        a: Populations (direction, row, column) with their ghosts.
        b: Where the new ones are written.
        first: First row.
        last: One behind the last.
        columns: Sites of a row, without ghosts.
        rate: Part of the departure from equilibrium that a collision takes away.
    """
    T = a.dtype.type
    keep = T(1) - rate
    for y in range(first, last):
        a0 = a[0, y, 1 : columns + 1]
        a1 = a[1, y, 0:columns]
        a2 = a[2, y - 1, 1 : columns + 1]
        a3 = a[3, y, 2 : columns + 2]
        a4 = a[4, y + 1, 1 : columns + 1]
        a5 = a[5, y - 1, 0:columns]
        a6 = a[6, y - 1, 2 : columns + 2]
        a7 = a[7, y + 1, 2 : columns + 2]
        a8 = a[8, y + 1, 0:columns]
        b0, b1, b2 = b[0, y, 1 : columns + 1], b[1, y, 1 : columns + 1], b[2, y, 1 : columns + 1]
        b3, b4, b5 = b[3, y, 1 : columns + 1], b[4, y, 1 : columns + 1], b[5, y, 1 : columns + 1]
        b6, b7, b8 = b[6, y, 1 : columns + 1], b[7, y, 1 : columns + 1], b[8, y, 1 : columns + 1]
        for x in range(columns):
            f1, f2, f3, f4 = a1[x], a2[x], a3[x], a4[x]
            f5, f6, f7, f8 = a5[x], a6[x], a7[x], a8[x]
            u, v = f1 - f3 + f5 - f6 - f7 + f8, f2 - f4 + f5 + f6 - f7 - f8
            diagonal = f5 + f6 + f7 + f8
            density = a0[x] + f1 + f2 + f3 + f4 + diagonal
            third = density * T(1 / 3)
            nxx = keep * (f1 + f3 + diagonal - third - u * u)
            nyy = keep * (f2 + f4 + diagonal - third - v * v)
            nxy = keep * (f5 - f6 + f7 - f8 - u * v)
            xx, yy, xy = u * u + nxx, v * v + nyy, u * v + nxy
            xxy = u * u * v + T(2) * u * nxy + v * nxx
            xyy = v * v * u + T(2) * v * nxy + u * nyy
            fourth = T(2.25) * (u * u * yy + v * v * nxx + T(4) * u * v * nxy)
            rest = density - T(1.5) * (xx + yy)
            b0[x] = T(4 / 9) * (rest + fourth)
            even, odd = rest + T(4.5) * xx - T(2) * fourth, T(3) * u - T(4.5) * xyy
            b1[x], b3[x] = T(1 / 9) * (even + odd), T(1 / 9) * (even - odd)
            even, odd = rest + T(4.5) * yy - T(2) * fourth, T(3) * v - T(4.5) * xxy
            b2[x], b4[x] = T(1 / 9) * (even + odd), T(1 / 9) * (even - odd)
            sides = rest + T(4.5) * (xx + yy) + T(4) * fourth
            even, odd = sides + T(9) * xy, T(3) * (u + v) + T(9) * (xyy + xxy)
            b5[x], b7[x] = T(1 / 36) * (even + odd), T(1 / 36) * (even - odd)
            even, odd = sides - T(9) * xy, T(3) * (v - u) + T(9) * (xxy - xyy)
            b6[x], b8[x] = T(1 / 36) * (even + odd), T(1 / 36) * (even - odd)


@njit(**OPTIONS)
def advance_one(a, b, walls, copies, solid, control, target, keep, rate, substeps, force):  # type: ignore[no-untyped-def]
    """Advances one environment, and leaves its populations in `a`.

    Args:
        a: Populations (direction, row, column).
        b: Space for as many.
        walls: Lists of `Walls`.
        copies: Lists of `Copies`.
        solid: Sites inside bodies.
        control: (control,); it comes nearer to the target in every step, and is changed.
        target: (control,).
        keep: Part of the difference from the target that a step leaves.
        rate: Part of the departure from equilibrium that a collision takes away.
        substeps: Time steps.
        force: Mean force on each body (body, 2), which is written.
    """
    rows, columns = a.shape[1] - 2, a.shape[2] - 2
    force[:] = 0
    odd = substeps % 2
    for _ in range(substeps):
        for k in range(len(control)):
            control[k] = target[k] + keep * (control[k] - target[k])
        flat = a.reshape(9, a.shape[1] * a.shape[2])
        fill(flat, walls, copies, solid, control, force)
        collide(a, b, 1, rows + 1, columns, rate)
        other = b.reshape(9, a.shape[1] * a.shape[2])
        for n in range(len(copies[0])):  # the outlet remembers
            other[copies[0][n], copies[1][n]] = flat[copies[0][n], copies[1][n]]
        a, b = b, a
    flat = a.reshape(9, a.shape[1] * a.shape[2])
    for s in solid:
        flat[:, s] = 0
    for n in range(len(walls[1])):
        flat[walls[0][n], walls[1][n]] = 0
    if odd:
        b[:] = a
    force /= a.dtype.type(substeps)


@njit(**OPTIONS)
def serial(  # type: ignore[no-untyped-def]
    values, control, walls, copies, solid, target, keep, rate, substeps, new_values,
    new_control, force,
):  # fmt: skip
    """Advances a batch. Rates have one row, or one for each environment."""
    scratch = np.zeros_like(values[0])
    for e in range(len(values)):
        r = e if len(rate) > 1 else 0
        new_values[e] = values[e]
        new_control[e] = control[e]
        advance_one(
            new_values[e], scratch, walls, copies, solid, new_control[e], target[e], keep,
            rate[r], substeps, force[e],
        )  # fmt: skip


@njit(parallel=True, **OPTIONS)
def threaded(  # type: ignore[no-untyped-def]
    threads, values, control, walls, copies, solid, target, keep, rate, substeps,
    new_values, new_control, force,
):  # fmt: skip
    """Advances a batch in threads, each with space for two environments in its cache."""
    batch = len(values)
    shape = (threads, 2, values.shape[1], values.shape[2], values.shape[3])
    space = np.empty(shape, values.dtype)
    space[:] = 0
    for t in prange(threads):
        for e in range(t * batch // threads, (t + 1) * batch // threads):
            r = e if len(rate) > 1 else 0
            space[t, 0] = values[e]
            new_control[e] = control[e]
            advance_one(
                space[t, 0], space[t, 1], walls, copies, solid, new_control[e], target[e], keep,
                rate[r], substeps, force[e],
            )  # fmt: skip
            new_values[e] = space[t, 0]

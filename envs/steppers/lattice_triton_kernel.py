"""The lattice's time step in Triton: two kernels, `fill` and `collide`.

Populations move between two buffers. `fill` writes the ghosts, and adds up the force on every body
in one fixed order; `collide` reads and writes every population of the box once. No program writes
what another of the same launch reads, nothing is added atomically, and nothing is specialised by
size or alignment: an environment's numbers do not depend on how many others there are.
"""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = tl.constexpr(256)
"""Sites or links that a program instance handles at a time."""
OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}
"""Options of Triton's compiler: one site or link a thread."""
POINTERS = ["a", "b", "control", "target", "force", "new_control", "rate"]
POINTERS += ["bounds", "walls", "wall_numbers", "copies", "copy_numbers"]


@triton.jit
def _fill_walls(
    a: tl.tensor, control: tl.tensor, target: tl.tensor, force: tl.tensor,
    bounds: tl.tensor, walls: tl.tensor, numbers: tl.tensor, group: tl.tensor,
    bodies: tl.constexpr, controls: tl.constexpr, links: tl.constexpr, keep: tl.constexpr,
) -> None:  # fmt: skip
    """Writes the ghosts of one group of walls, and adds the force on its body."""
    dtype: tl.constexpr = a.dtype.element_ty
    part = tl.full((), keep, dtype)  # typed, for a bare number might be rounded to float32
    push_x, push_y = tl.zeros((BLOCK,), dtype), tl.zeros((BLOCK,), dtype)
    last = tl.load(bounds + group + 1)
    for start in range(tl.load(bounds + group), last, BLOCK):
        n = start + tl.arange(0, BLOCK)
        live = n < last
        own = tl.load(walls + n, mask=live)
        out = tl.load(a + tl.load(walls + (links + n), mask=live), mask=live, other=0.0)
        near = tl.load(numbers + (links + n), mask=live, other=0.0)
        # What counts nothing is not read: it may lie in a body, where another program writes.
        second = live & (near != 0.0)
        beyond = tl.load(a + tl.load(walls + (2 * links + n), mask=live), mask=second, other=0.0)
        back = tl.load(numbers + n, mask=live, other=0.0) * out + near * beyond
        far = tl.load(numbers + (2 * links + n), mask=live, other=0.0)
        back += far * tl.load(a + own, mask=live, other=0.0)
        along_x = tl.load(numbers + (4 * links + n), mask=live, other=0.0)
        along_y = tl.load(numbers + (5 * links + n), mask=live, other=0.0)
        x = tl.load(numbers + (6 * links + n), mask=live, other=0.0)
        y = tl.load(numbers + (7 * links + n), mask=live, other=0.0)
        for k in tl.static_range(controls):
            wanted = tl.load(target + k)
            held = wanted + part * (tl.load(control + k) - wanted)
            x += held * tl.load(numbers + ((8 + 2 * k) * links + n), mask=live, other=0.0)
            y += held * tl.load(numbers + ((9 + 2 * k) * links + n), mask=live, other=0.0)
        gain = tl.load(numbers + (3 * links + n), mask=live, other=0.0)
        back += gain * (along_x * x + along_y * y)
        tl.store(a + tl.load(walls + (3 * links + n), mask=live), back, mask=live)
        # Momentum exchange, seen from the wall: B. Wen et al., J. Comput. Phys. 266 (2014) 161.
        both, loss = out + back, out - back
        push_x += along_x * both + x * loss
        push_y += along_y * both + y * loss
    if group < bodies:
        force += 2 * group
        tl.store(force, tl.load(force) - tl.sum(push_x, 0))
        tl.store(force + 1, tl.load(force + 1) - tl.sum(push_y, 0))


@triton.jit
def _fill_copies(
    a: tl.tensor, b: tl.tensor, copies: tl.tensor, numbers: tl.tensor, group: tl.tensor,
    links: tl.constexpr, size: tl.constexpr,
) -> None:  # fmt: skip
    """Writes the ghosts of one group of copies, also where the next step remembers them."""
    n = group * BLOCK + tl.arange(0, BLOCK)
    live = n < links
    found = tl.load(a + tl.load(copies + n, mask=live), mask=live, other=0.0)
    ghost = tl.load(copies + (links + n), mask=live)
    new = tl.load(a + ghost, mask=live, other=0.0)
    new += tl.load(numbers + n, mask=live, other=0.0) * (found - new)
    anchor = tl.load(numbers + (links + n), mask=live, other=0.0)
    site = tl.load(copies + (2 * links + n), mask=live)
    density = tl.zeros((BLOCK,), a.dtype.element_ty)
    for i in tl.static_range(9):
        density += tl.load(a + (i * size + site), mask=live & (anchor != 0.0), other=0.0)
    new -= anchor * density
    pull = tl.load(numbers + (2 * links + n), mask=live, other=0.0)
    new -= pull * (found - tl.load(numbers + (3 * links + n), mask=live, other=0.0))
    tl.store(a + ghost, new, mask=live)
    tl.store(b + ghost, new, mask=live)


@triton.jit(do_not_specialize_on_alignment=POINTERS)
def fill(
    a: tl.tensor, b: tl.tensor, control: tl.tensor, target: tl.tensor, force: tl.tensor,
    new_control: tl.tensor, bounds: tl.tensor, walls: tl.tensor, wall_numbers: tl.tensor,
    copies: tl.tensor, copy_numbers: tl.tensor, groups: tl.constexpr, wall_groups: tl.constexpr,
    wall_links: tl.constexpr, copy_links: tl.constexpr, size: tl.constexpr,
    bodies: tl.constexpr, controls: tl.constexpr, keep: tl.constexpr,
) -> None:  # fmt: skip
    """Writes the ghosts of one group of links of one environment; the first moves the control.

    Groups of walls come first, of which the first are the bodies, then groups of copies.

    Args:
        a: Populations (batch, direction, site), whose ghosts are written.
        b: Where `collide` writes the next ones; it gets the ghosts that the next step remembers.
        control: (batch, control).
        target: (batch, control).
        force: (batch, body, 2), to which is added.
        new_control: Where the control after the time step is written.
        bounds: First links of the groups of walls, and one behind the last.
        walls: Populations (4, link): f_i(x), f_-i(x), f_-i(x + c_i), ghost.
        wall_numbers: (8 + 2 controls, link): the weights, the gain, c_i, `still`, `moved`.
        copies: Populations (2, copy): source, ghost; third the site of the source.
        copy_numbers: (4, copy): rate, anchor times w_i, pull, level.
        groups: Of walls and copies.
        wall_groups: Of walls.
        wall_links: Number of walls.
        copy_links: Number of copies.
        size: Sites with all ghosts.
        bodies: Number of bodies.
        controls: Number of controls.
        keep: Part of the difference from the target that a step leaves.
    """
    group = tl.program_id(0) % groups
    environment = (tl.program_id(0) // groups).to(tl.int64)
    a += environment * (9 * size)
    b += environment * (9 * size)
    control += environment * controls
    target += environment * controls
    new_control += environment * controls
    if group < wall_groups:
        _fill_walls(
            a, control, target, force + environment * (2 * bodies), bounds, walls, wall_numbers,
            group, bodies, controls, wall_links, keep,
        )  # fmt: skip
    else:
        _fill_copies(a, b, copies, copy_numbers, group - wall_groups, copy_links, size)
    if group == 0:
        part = tl.full((), keep, a.dtype.element_ty)
        for k in tl.static_range(controls):
            wanted = tl.load(target + k)
            tl.store(new_control + k, wanted + part * (tl.load(control + k) - wanted))


@triton.jit(do_not_specialize=["own"], do_not_specialize_on_alignment=POINTERS)
def collide(
    a: tl.tensor, b: tl.tensor, rate: tl.tensor, own: tl.tensor,
    tiles: tl.constexpr, width: tl.constexpr, size: tl.constexpr,
) -> None:  # fmt: skip
    """Pulls the populations of some sites of one environment and collides them.

    Args:
        a: Populations (batch, direction, site) with their ghosts.
        b: Where the new ones are written, except to the ghosts.
        rate: Part of the departure from equilibrium that a collision takes away.
        own: 1 if every environment has its own rate, else 0.
        tiles: Program instances of an environment.
        width: Sites of a row, with ghosts.
        size: Sites with all ghosts.
    """
    dtype: tl.constexpr = a.dtype.element_ty
    tile = tl.program_id(0) % tiles
    environment = (tl.program_id(0) // tiles).to(tl.int64)
    site = width + tile * BLOCK + tl.arange(0, BLOCK)
    column = site % width
    live = (site < size - width) & (column > 0) & (column < width - 1)
    a += environment * (9 * size)
    b += environment * (9 * size)
    keep = 1.0 - tl.load(rate + environment * own)
    f0 = tl.load(a + site, mask=live)
    f1 = tl.load(a + (size + site - 1), mask=live)
    f2 = tl.load(a + (2 * size + site - width), mask=live)
    f3 = tl.load(a + (3 * size + site + 1), mask=live)
    f4 = tl.load(a + (4 * size + site + width), mask=live)
    f5 = tl.load(a + (5 * size + site - width - 1), mask=live)
    f6 = tl.load(a + (6 * size + site - width + 1), mask=live)
    f7 = tl.load(a + (7 * size + site + width + 1), mask=live)
    f8 = tl.load(a + (8 * size + site + width - 1), mask=live)
    u, v = f1 - f3 + f5 - f6 - f7 + f8, f2 - f4 + f5 + f6 - f7 - f8
    diagonal = f5 + f6 + f7 + f8
    density = f0 + f1 + f2 + f3 + f4 + diagonal
    third = density * tl.full((), 1 / 3, dtype)  # typed, as above
    nxx = keep * (f1 + f3 + diagonal - third - u * u)
    nyy = keep * (f2 + f4 + diagonal - third - v * v)
    nxy = keep * (f5 - f6 + f7 - f8 - u * v)
    xx, yy, xy = u * u + nxx, v * v + nyy, u * v + nxy
    xxy = u * u * v + 2.0 * u * nxy + v * nxx
    xyy = v * v * u + 2.0 * v * nxy + u * nyy
    fourth = 2.25 * (u * u * yy + v * v * nxx + 4.0 * u * v * nxy)
    ninth = tl.full((), 1 / 9, dtype)
    rest = density - 1.5 * (xx + yy)
    tl.store(b + site, 4.0 * ninth * (rest + fourth), mask=live)
    even, odd = rest + 4.5 * xx - 2.0 * fourth, 3.0 * u - 4.5 * xyy
    tl.store(b + (size + site), ninth * (even + odd), mask=live)
    tl.store(b + (3 * size + site), ninth * (even - odd), mask=live)
    even, odd = rest + 4.5 * yy - 2.0 * fourth, 3.0 * v - 4.5 * xxy
    tl.store(b + (2 * size + site), ninth * (even + odd), mask=live)
    tl.store(b + (4 * size + site), ninth * (even - odd), mask=live)
    sides = rest + 4.5 * (xx + yy) + 4.0 * fourth
    even, odd = sides + 9.0 * xy, 3.0 * (u + v) + 9.0 * (xyy + xxy)
    tl.store(b + (5 * size + site), 0.25 * ninth * (even + odd), mask=live)
    tl.store(b + (7 * size + site), 0.25 * ninth * (even - odd), mask=live)
    even, odd = sides - 9.0 * xy, 3.0 * (v - u) + 9.0 * (xxy - xyy)
    tl.store(b + (6 * size + site), 0.25 * ninth * (even + odd), mask=live)
    tl.store(b + (8 * size + site), 0.25 * ninth * (even - odd), mask=live)

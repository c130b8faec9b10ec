"""What bounds a lattice update in lattice.py: the memory, and sweeps without ghosts or forces."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from harness import measure, use_threads
from numba import njit, prange

from separatrix.envs.steppers.lattice import equilibrium
from separatrix.envs.steppers.lattice_kernel import CX, CY, collide

SITE_BYTES = {"float32": 72, "float64": 144}
"""Nine populations read and nine written."""


@njit(parallel=True, fastmath=True)
def read(threads, a, b, c):  # type: ignore[no-untyped-def]
    """Adds the numbers of c up."""
    sums, size = np.zeros(threads, np.float32), len(a)
    for t in prange(threads):
        total = np.float32(0)
        for i in range(t * size // threads, (t + 1) * size // threads):
            total += c[i]
        sums[t] = total
    return sums.sum()


@njit(parallel=True)
def copy(threads, a, b, c):  # type: ignore[no-untyped-def]
    """Writes c to a; a compiler may make it the library's copy, which passes the cache by."""
    size = len(a)
    for t in prange(threads):
        for i in range(t * size // threads, (t + 1) * size // threads):
            a[i] = c[i]


@njit(parallel=True, fastmath=True)
def triad(threads, a, b, c):  # type: ignore[no-untyped-def]
    """Writes b + 3 c to a."""
    size = len(a)
    for t in prange(threads):
        for i in range(t * size // threads, (t + 1) * size // threads):
            a[i] = b[i] + np.float32(3) * c[i]


@njit(inline="always")
def move(a, b, factor):  # type: ignore[no-untyped-def]
    """Pulls the populations of a box, scales them and writes them: the traffic of an update."""
    rows, columns = a.shape[1] - 2, a.shape[2] - 2
    for i in range(9):  # one after the other: a loop over all at once is not vectorized
        for y in range(1, rows + 1):
            source, target, first = a[i, y - CY[i]], b[i, y], 1 - CX[i]
            for x in range(columns):
                target[x + 1] = factor * source[first + x]


@njit(parallel=True, fastmath={"contract"}, error_model="numpy")
def swept(threads, spaces, batch, steps, rate, collides):  # type: ignore[no-untyped-def]
    """Sweeps over every environment of a batch, each thread in a space for one of them.

    Args:
        threads: Number of threads.
        spaces: Populations (thread, 2, direction, row, column).
        batch: Number of environments.
        steps: Time steps.
        rate: Of the collisions; of 1 if there are none.
        collides: Whether populations collide, or are only moved.
    """
    rows, columns = spaces.shape[3] - 2, spaces.shape[4] - 2
    for t in prange(threads):
        for _ in range(t * batch // threads, (t + 1) * batch // threads):
            a, b = spaces[t, 0], spaces[t, 1]
            for _ in range(steps):
                if collides:
                    collide(a, b, 1, rows + 1, columns, rate)
                else:
                    move(a, b, rate)
                a, b = b, a


def sweeps(
    threads: int, batch: int, rows: int, columns: int, steps: int, rate: float
) -> dict[str, Any]:
    """Returns what moves the populations of a batch in float32, and what collides them, too."""
    used = min(threads, batch)
    still = equilibrium(0.05).astype(np.float32)
    shape = (used, 2, 9, rows + 2, columns + 2)
    spaces = np.ascontiguousarray(np.broadcast_to(still[:, None, None], shape))
    return {
        "move": partial(swept, used, spaces, batch, steps, np.float32(1), False),
        "collide": partial(swept, used, spaces.copy(), batch, steps, np.float32(rate), True),
    }


def bandwidth(threads: int, size: int, rounds: int, duration: float) -> list[dict[str, Any]]:
    """Measures the memory's bandwidth with one thread and with all, and prints what it allows.

    Args:
        threads: All of them.
        size: Of each of three arrays of float32.
        rounds: Of the measurement.
        duration: Seconds a way and round.
    """
    arrays = [np.full(size, value, np.float32) for value in (0, 1, 2)]
    print(f"\nGB/s of memory, three arrays of {4 * size / 2**20:.0f} MiB; writes counted once")
    print("threads      read      copy     triad   triad with write-allocate")
    rows = []
    for used in sorted({1, threads}):
        use_threads(used)
        ways = {"read": (read, 4), "copy": (copy, 8), "triad": (triad, 12)}
        times = measure(
            {name: partial(run, used, *arrays) for name, (run, _) in ways.items()}, rounds, duration
        )
        found = {n: size * ways[n][1] / times[n]["median"] / 1e9 for n in ways}
        allocated = found["triad"] * 4 / 3
        # A cache that reads a line before it writes to it moves a third more than a triad counts.
        allocates = abs(allocated - found["read"]) < abs(found["triad"] - found["read"])
        traffic, factor = (allocated, 1.5) if allocates else (found["triad"], 1.0)
        bounds = {name: 1e3 * traffic / (factor * each) for name, each in SITE_BYTES.items()}
        rows.append({"threads": used, **found, "write_allocate": allocates, "bound_mlups": bounds})
        print(
            f"{used:7d}{found['read']:10.1f}{found['copy']:10.1f}{found['triad']:10.1f}"
            f"{allocated:28.1f}"
        )
        nearer = "with" if allocates else "without"
        print(
            f"        nearer to a read alone {nearer} write-allocate, so that an update in float32 "
            f"moves {factor * 72:.0f} bytes:\n        at most {bounds['float32']:.0f} million "
            f"updates a second, {bounds['float64']:.0f} in float64"
        )
    use_threads(threads)
    return rows

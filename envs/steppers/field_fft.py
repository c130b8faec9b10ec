"""Transforms of real fields of one or two dimensions, for numba kernels; see `vector_fft`.

A column of n real numbers is at once the column of n / 2 complex ones that pairs them. So a real
transform is a complex one of half the size and a pass over its modes (W. H. Press et al., Numerical
Recipes, 3rd ed., section 12.3). Modes that are not kept are neither read nor computed.

In one dimension a vector holds as many environments. In two, the columns of one environment side by
side: first the modes of one axis, then, transposed, the points of the other.
"""

from __future__ import annotations

import numpy as np

from separatrix.envs.steppers.simd import apart, conjugate, load, pair, splat, transpose, turn
from separatrix.envs.steppers.vector_fft import (
    HALF,
    Array,
    called,
    constants,
    plan,
    read,
    root,
    roots,
    transform,
    write,
)

FIRST = len(constants()) // 2
"""Which root of a table is the first of those of the whole size."""


def plans(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plans the transforms of fields.

    Args:
        points: Along each axis, even.

    Returns:
        The table of roots, float64, and the plans of the transforms of half the size, for real
        columns, and of the whole size, for complex ones.
    """
    table = [*constants(), *roots(points, range(points // 2 + 1))]
    half, found = plan(points // 2, len(table) // 2)
    table += found
    whole, found = plan(points, len(table) // 2)
    return np.array([*table, *found]), half, whole


@called
def synthesize_real(
    w: Array,
    t: Array,
    passes: Array,
    kept: int,
    source: int,
    step: int,
    target: int,
    stride: int,
    scratch: int,
    lanes: int,
) -> None:
    """Makes a real column of its modes, sum_k X_k exp(2 pi i k n / size) over all k.

    Args:
        w: Where everything lies.
        t: Table of roots.
        passes: Plan of the transform of half the size.
        kept: The highest mode; what lies beyond is not read.
        source: Index of the real part of mode 0.
        step: Distance of real and imaginary parts of modes.
        target: Index of the first real number.
        stride: Distance of real numbers.
        scratch: Index of room for two columns.
        lanes: Numbers in a vector.
    """
    apart()
    half = passes[0, 0] * passes[0, 1]
    real = scratch + 2 * half * lanes
    imaginary, distance = real + lanes, 2 * lanes
    mean = load(w, source)
    write(w, real, imaginary, pair(mean, mean))
    # Numbers 2 n and 2 n + 1 of the column are the parts of complex number n, whose modes are
    # Z_k = X_k + X*_(half - k) + i exp(2 pi i k / size) (X_k - X*_(half - k)).
    for k in range(1, min(kept, half - kept - 1) + 1):
        a = read(w, source + 2 * k * step, source + step + 2 * k * step)
        b = conjugate(turn(root(t, FIRST + k))) * a
        write(w, real + k * distance, imaginary + k * distance, a + b)
        write(w, real + (half - k) * distance, imaginary + (half - k) * distance, conjugate(a - b))
    for k in range(kept + 1, half - kept):
        zero = mean - mean
        write(w, real + k * distance, imaginary + k * distance, pair(zero, zero))
    for k in range(max(half - kept, 1), half // 2 + 1):
        a = read(w, source + 2 * k * step, source + step + 2 * k * step)
        b = conjugate(
            read(w, source + 2 * (half - k) * step, source + step + 2 * (half - k) * step)
        )
        a, b = a + b, conjugate(turn(root(t, FIRST + k))) * (a - b)
        write(w, real + k * distance, imaginary + k * distance, a + b)
        write(w, real + (half - k) * distance, imaginary + (half - k) * distance, conjugate(a - b))
    backward = (imaginary, real, distance)
    transform(w, t, passes, backward, (target + stride, target, 2 * stride), scratch, lanes)


@called
def transform_real(
    w: Array,
    t: Array,
    passes: Array,
    kept: int,
    source: int,
    stride: int,
    target: int,
    step: int,
    scratch: int,
    lanes: int,
) -> None:
    """Finds the modes of a real column, sum_n x_n exp(-2 pi i k n / size).

    Args:
        w: Where everything lies.
        t: Table of roots.
        passes: Plan of the transform of half the size.
        kept: The highest mode to be found.
        source: Index of the first real number.
        stride: Distance of real numbers.
        target: Index of the real part of mode 0.
        step: Distance of real and imaginary parts of modes.
        scratch: Index of room for three columns.
        lanes: Numbers in a vector.
    """
    apart()
    half = passes[0, 0] * passes[0, 1]
    real = scratch + 4 * half * lanes
    imaginary, distance = real + lanes, 2 * lanes
    column = (source, source + stride, 2 * stride)
    transform(w, t, passes, column, (real, imaginary, distance), scratch, lanes)
    even, odd = load(w, real), load(w, imaginary)
    write(w, target, target + step, pair(even + odd, even - even))
    half_vector = splat(t, HALF)
    for k in range(1, kept + 1):
        a = read(w, real + k * distance, imaginary + k * distance)
        b = conjugate(read(w, real + (half - k) * distance, imaginary + (half - k) * distance))
        found = half_vector * (a + b + root(t, FIRST + k) * turn(a - b))
        write(w, target + 2 * k * step, target + step + 2 * k * step, found)


@called
def synthesize_plane(
    w: Array,
    t: Array,
    half: Array,
    whole: Array,
    kept: int,
    source: int,
    step: int,
    plane: int,
    target: int,
    stride: int,
    scratch: int,
    lanes: int,
) -> None:
    """Makes a real field of two dimensions of its modes.

    Args:
        w: Where everything lies.
        t: Table of roots.
        half: Plan of the transform of half the size.
        whole: Plan of the transform of the whole size.
        kept: The highest mode. Those along the first axis that lie beyond are zeros.
        source: Index of the real part of mode 0. Modes of the last axis lie side by side.
        step: Distance of real and imaginary parts of modes of the first axis.
        plane: Index of room for real and imaginary parts of the modes of the last axis, as many
            rows, multiples of a vector, as are kept, at each point of the first.
        target: Index of the first real number. Points of the first axis lie side by side.
        stride: Distance of points of the last axis, here and in the plane.
        scratch: Index of room for six columns and two vectors more for each of a vector.
        lanes: Numbers in a vector.
    """
    apart()
    points = whole[0, 0] * whole[0, 1]
    tile = scratch + 4 * points * lanes
    for k in range(0, kept + 1, lanes):
        backward = (source + k + step, source + k, 2 * step)
        transform(w, t, whole, backward, (tile + lanes, tile, 2 * lanes), scratch, lanes)
        for part in range(2):
            for n in range(0, points, lanes):
                to = plane + (2 * k + part) * stride + n
                transpose(w, tile + (2 * n + part) * lanes, 2 * lanes, to, 2 * stride)
    for n in range(0, points, lanes):
        place = target + n
        synthesize_real(w, t, half, kept, plane + n, stride, place, stride, scratch, lanes)


@called
def transform_plane(
    w: Array,
    t: Array,
    half: Array,
    whole: Array,
    kept: int,
    source: int,
    stride: int,
    plane: int,
    target: int,
    step: int,
    scratch: int,
    lanes: int,
) -> None:
    """Finds the modes of a real field of two dimensions; arguments as of `synthesize_plane`."""
    apart()
    points = whole[0, 0] * whole[0, 1]
    tile = scratch + 4 * points * lanes
    for n in range(0, points, lanes):
        place = source + n
        transform_real(w, t, half, kept, place, stride, plane + n, stride, scratch, lanes)
    for k in range(0, kept + 1, lanes):
        for part in range(2):
            for n in range(0, points, lanes):
                place = plane + (2 * k + part) * stride + n
                transpose(w, place, 2 * stride, tile + (2 * n + part) * lanes, 2 * lanes)
        to = (target + k, target + k + step, 2 * step)
        transform(w, t, whole, (tile, tile + lanes, 2 * lanes), to, scratch, lanes)

"""Fourier transforms of as many columns at once as a vector has numbers, for numba kernels.

A kernel keeps everything in one flat array and tells places in it by index. A column of complex
numbers lies there as rows of vectors, real and imaginary parts in turns.

The transform is that of T. G. Stockham (Proc. AFIPS 28 (1966) 229), of radix 2, 3, 4, 5 and 8,
whose passes go from one array to another and leave the result in order. A backward transform is a
forward one with real and imaginary parts exchanged.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from separatrix.envs.steppers.simd import (
    apart,
    load,
    pair,
    parts,
    splat,
    store,
    turn,
)

Array = np.ndarray
Column = tuple[int, int, int]

# Any, as its type leaves options out.
_compile: Any = njit

OPTIONS: dict[str, Any] = dict(fastmath={"contract"}, error_model="numpy", nogil=True)


def radices(size: int) -> list[int]:
    """Returns the radices of a transform's passes.

    Raises:
        ValueError: The size has a prime factor that is not 2, 3 or 5.
    """
    found, rest = [], size
    for radix in (5, 3):
        while rest % radix == 0:
            rest //= radix
            found.append(radix)
    twos = rest.bit_length() - 1
    if rest != 2**twos:
        raise ValueError(f"size: got {size}; allowed: a product of 2, 3 and 5")
    if twos % 2:
        found.append(8 if twos > 1 else 2)
        twos -= 3 if twos > 1 else 1
    return [*found, *[4] * (twos // 2)]


def roots(size: int, numbers: Sequence[int]) -> list[float]:
    """Returns real and imaginary parts of exp(-2 pi i k / size) for some k."""
    found = []
    for number in numbers:
        quarter, rest = divmod(4 * (number % size), size)
        # By symmetry from the first quarter of the circle, where the rounding is least.
        value = cmath.exp(-2j * math.pi * rest / (4 * size)) * (1, -1j, -1, 1j)[quarter]
        found += [value.real, value.imag]
    return found


def constants() -> list[float]:
    """Returns what a table of roots begins with, of an even length."""
    angles = [math.pi / 3, math.pi / 4, 2 * math.pi / 5, 4 * math.pi / 5]
    found = [0.5, *map(math.sin, angles), *map(math.cos, angles[2:])]
    return [*found, 0.0]


HALF, _SINE_60, _SINE_45, _SINE_72, _SINE_144, _COSINE_72, _COSINE_144 = range(7)


def plan(size: int, offset: int) -> tuple[np.ndarray, list[float]]:
    """Plans a complex transform.

    Args:
        size: Of the transform.
        offset: Which root of the table will be the first that it needs.

    Returns:
        For each pass its radix r, the number of its butterflies that differ in their roots, the
        number of those that do not, and which root is its first, int64 (pass, 4); and the roots.
    """
    passes, table = [], list[float]()
    same, rest = 1, size
    for radix in radices(size):
        different = rest // radix
        passes.append((radix, different, same, offset + len(table) // 2))
        table += roots(rest, [j * p for p in range(different) for j in range(1, radix)])
        same, rest = same * radix, different
    return np.array(passes, np.int64).reshape(-1, 4), table


called = _compile(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)
"""Compiles a function that only kernels call."""

_inline = _compile(forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)


@_inline
def read(w: Array, real: int, imaginary: int) -> Any:
    """Reads a complex vector from where its real and imaginary parts lie."""
    return pair(load(w, real), load(w, imaginary))


@_inline
def write(w: Array, real: int, imaginary: int, value: Any) -> None:
    """Writes a complex vector to where its real and imaginary parts are to lie."""
    a, b = parts(value)
    store(w, real, a)
    store(w, imaginary, b)


@_inline
def root(t: Array, i: int) -> Any:
    """Reads root i of a table from its start."""
    return pair(splat(t, 2 * i), splat(t, 2 * i + 1))


@_inline
def _four(a: Any, b: Any, c: Any, d: Any) -> Any:
    e, f = a + c, b + d
    g, h = a - c, turn(b - d)
    return e + f, g + h, e - f, g - h


@_inline
def _pass2(w: Array, t: Array, m: int, s: int, first: int, source: Column, target: Column) -> None:
    real, imaginary, step = source
    to_real, to_imaginary, to_step = target
    for p in range(m):
        r1 = root(t, first + p)
        for q in range(s):
            i, k = step * (q + s * p), to_step * (q + 2 * s * p)
            a = read(w, real + i, imaginary + i)
            b = read(w, real + i + step * s * m, imaginary + i + step * s * m)
            write(w, to_real + k, to_imaginary + k, a + b)
            write(w, to_real + k + to_step * s, to_imaginary + k + to_step * s, r1 * (a - b))


@_inline
def _pass3(w: Array, t: Array, m: int, s: int, first: int, source: Column, target: Column) -> None:
    real, imaginary, step = source
    to_real, to_imaginary, to_step = target
    half, sine = splat(t, HALF), splat(t, _SINE_60)
    j, n = step * s * m, to_step * s
    for p in range(m):
        r1, r2 = root(t, first + 2 * p), root(t, first + 2 * p + 1)
        for q in range(s):
            i, k = step * (q + s * p), to_step * (q + 3 * s * p)
            a = read(w, real + i, imaginary + i)
            b = read(w, real + i + j, imaginary + i + j)
            c = read(w, real + i + 2 * j, imaginary + i + 2 * j)
            d, e = b + c, sine * turn(b - c)
            f = a - half * d
            write(w, to_real + k, to_imaginary + k, a + d)
            write(w, to_real + k + n, to_imaginary + k + n, r1 * (f + e))
            write(w, to_real + k + 2 * n, to_imaginary + k + 2 * n, r2 * (f - e))


@_inline
def _pass4(w: Array, t: Array, m: int, s: int, first: int, source: Column, target: Column) -> None:
    real, imaginary, step = source
    to_real, to_imaginary, to_step = target
    j, n = step * s * m, to_step * s
    for p in range(m):
        r1, r2 = root(t, first + 3 * p), root(t, first + 3 * p + 1)
        r3 = root(t, first + 3 * p + 2)
        for q in range(s):
            i, k = step * (q + s * p), to_step * (q + 4 * s * p)
            a = read(w, real + i, imaginary + i)
            b = read(w, real + i + j, imaginary + i + j)
            c = read(w, real + i + 2 * j, imaginary + i + 2 * j)
            d = read(w, real + i + 3 * j, imaginary + i + 3 * j)
            a, b, c, d = _four(a, b, c, d)
            write(w, to_real + k, to_imaginary + k, a)
            write(w, to_real + k + n, to_imaginary + k + n, r1 * b)
            write(w, to_real + k + 2 * n, to_imaginary + k + 2 * n, r2 * c)
            write(w, to_real + k + 3 * n, to_imaginary + k + 3 * n, r3 * d)


@_inline
def _pass5(w: Array, t: Array, m: int, s: int, first: int, source: Column, target: Column) -> None:
    real, imaginary, step = source
    to_real, to_imaginary, to_step = target
    cosine1, cosine2 = splat(t, _COSINE_72), splat(t, _COSINE_144)
    sine1, sine2 = splat(t, _SINE_72), splat(t, _SINE_144)
    j, n = step * s * m, to_step * s
    for p in range(m):
        r1, r2 = root(t, first + 4 * p), root(t, first + 4 * p + 1)
        r3, r4 = root(t, first + 4 * p + 2), root(t, first + 4 * p + 3)
        for q in range(s):
            i, k = step * (q + s * p), to_step * (q + 5 * s * p)
            a = read(w, real + i, imaginary + i)
            b = read(w, real + i + j, imaginary + i + j)
            c = read(w, real + i + 2 * j, imaginary + i + 2 * j)
            d = read(w, real + i + 3 * j, imaginary + i + 3 * j)
            e = read(w, real + i + 4 * j, imaginary + i + 4 * j)
            b, c, d, e = b + e, c + d, turn(c - d), turn(b - e)
            f, g = a + cosine1 * b + cosine2 * c, sine1 * e + sine2 * d
            x, y = a + cosine2 * b + cosine1 * c, sine2 * e - sine1 * d
            write(w, to_real + k, to_imaginary + k, a + b + c)
            write(w, to_real + k + n, to_imaginary + k + n, r1 * (f + g))
            write(w, to_real + k + 2 * n, to_imaginary + k + 2 * n, r2 * (x + y))
            write(w, to_real + k + 3 * n, to_imaginary + k + 3 * n, r3 * (x - y))
            write(w, to_real + k + 4 * n, to_imaginary + k + 4 * n, r4 * (f - g))


@_inline
def _pass8(w: Array, t: Array, m: int, s: int, first: int, source: Column, target: Column) -> None:
    real, imaginary, step = source
    to_real, to_imaginary, to_step = target
    eighth = splat(t, _SINE_45)
    j, n = step * s * m, to_step * s
    for p in range(m):
        o = first + 7 * p
        for q in range(s):
            i, k = step * (q + s * p), to_step * (q + 8 * s * p)
            a0, a1 = (
                read(w, real + i, imaginary + i),
                read(w, real + i + 4 * j, imaginary + i + 4 * j),
            )
            b0, b1 = (
                read(w, real + i + j, imaginary + i + j),
                read(w, real + i + 5 * j, imaginary + i + 5 * j),
            )
            c0, c1 = (
                read(w, real + i + 2 * j, imaginary + i + 2 * j),
                read(w, real + i + 6 * j, imaginary + i + 6 * j),
            )
            d0, d1 = (
                read(w, real + i + 3 * j, imaginary + i + 3 * j),
                read(w, real + i + 7 * j, imaginary + i + 7 * j),
            )
            a0, a1, b0, b1, c0, c1, d0, d1 = (
                a0 + a1,
                a0 - a1,
                b0 + b1,
                b0 - b1,
                c0 + c1,
                c0 - c1,
                d0 + d1,
                d0 - d1,
            )
            a0, b0, c0, d0 = _four(a0, b0, c0, d0)
            b1, c1, d1 = eighth * (b1 + turn(b1)), turn(c1), eighth * (turn(d1) - d1)
            a1, b1, c1, d1 = _four(a1, b1, c1, d1)
            write(w, to_real + k, to_imaginary + k, a0)
            write(w, to_real + k + n, to_imaginary + k + n, root(t, o) * a1)
            write(w, to_real + k + 2 * n, to_imaginary + k + 2 * n, root(t, o + 1) * b0)
            write(w, to_real + k + 3 * n, to_imaginary + k + 3 * n, root(t, o + 2) * b1)
            write(w, to_real + k + 4 * n, to_imaginary + k + 4 * n, root(t, o + 3) * c0)
            write(w, to_real + k + 5 * n, to_imaginary + k + 5 * n, root(t, o + 4) * c1)
            write(w, to_real + k + 6 * n, to_imaginary + k + 6 * n, root(t, o + 5) * d0)
            write(w, to_real + k + 7 * n, to_imaginary + k + 7 * n, root(t, o + 6) * d1)


@called
def transform(
    w: Array,
    t: Array,
    passes: Array,
    source: Column,
    target: Column,
    scratch: int,
    lanes: int,
) -> None:
    """Transforms a column of complex numbers forward: sum_n z_n exp(-2 pi i k n / size).

    Source and target are (index of the first real part, index of the first imaginary part, distance
    of the complex numbers). Exchange the first two of both, and the transform goes backward.

    Args:
        w: Where everything lies.
        t: Table of roots.
        passes: See `plan`.
        source: Where the column lies. It may be the second half of the scratch.
        target: Where to put the transform, apart from source and scratch.
        scratch: Index of room for two columns.
        lanes: Numbers in a vector.
    """
    apart()
    size = passes[0, 0] * passes[0, 1]
    last = len(passes) - 1
    for i in range(len(passes)):
        start = scratch + (i % 2) * 2 * size * lanes
        to = target if i == last else (start, start + lanes, 2 * lanes)
        radix, m, s, first = passes[i, 0], passes[i, 1], passes[i, 2], passes[i, 3]
        if radix == 4:
            _pass4(w, t, m, s, first, source, to)
        elif radix == 8:
            _pass8(w, t, m, s, first, source, to)
        elif radix == 2:
            _pass2(w, t, m, s, first, source, to)
        elif radix == 3:
            _pass3(w, t, m, s, first, source, to)
        else:
            _pass5(w, t, m, s, first, source, to)
        source = to

"""Vectors as values in numba, and the Fourier transforms made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from separatrix.envs.steppers import field_fft, simd, vector_fft
from separatrix.envs.steppers.simd import LANES

OPTIONS = vector_fft.OPTIONS
SIZES = [4, 6, 8, 10, 12, 30, 36, 64, 96, 100, 256, 250, 360, 1024, 4096]
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@njit(**OPTIONS)
def arithmetic(w: Any, lanes: int) -> None:
    a, b = simd.load(w, 1), simd.splat(w, 3)
    simd.store(w, lanes + 1, -(a * b) + a - b)
    z = simd.turn(simd.conjugate(simd.pair(a, b))) * simd.pair(b, a)
    x, y = simd.parts(a * z - z + (-z))
    simd.store(w, 2 * lanes + 1, x)
    simd.store(w, 3 * lanes + 1, y)


@njit(**OPTIONS)
def transpose(w: Any, source: int, stride: int, target: int, to: int) -> None:
    simd.transpose(w, source, stride, target, to)


@njit(**OPTIONS)
def there(w: Any, t: Any, half: Any, numbers: Any) -> None:
    kept, source, stride, target, step, scratch, lanes = numbers
    field_fft.transform_real(w, t, half, kept, source, stride, target, step, scratch, lanes)


@njit(**OPTIONS)
def back(w: Any, t: Any, half: Any, numbers: Any) -> None:
    kept, source, stride, target, step, scratch, lanes = numbers
    field_fft.synthesize_real(w, t, half, kept, target, step, source, stride, scratch, lanes)


@dtypes
def test_arithmetic(dtype: str) -> None:
    lanes = LANES[dtype]
    w = np.random.default_rng(1).standard_normal(5 * lanes).astype(dtype)
    a, b = w[1 : lanes + 1].astype(np.float64), float(w[3])
    z = -1j * (a - 1j * b) * (b + 1j * a)
    z = a * z - 2 * z
    before = w.copy()
    arithmetic(w, lanes)
    expected = [-a * b + a - b, z.real, z.imag]
    for i, values in enumerate(expected, 1):
        ours = w[i * lanes + 1 : (i + 1) * lanes + 1]
        assert np.abs(ours - values).max() < 50 * np.finfo(dtype).eps
    assert np.array_equal(w[: lanes + 1], before[: lanes + 1])
    assert np.array_equal(w[4 * lanes + 1 :], before[4 * lanes + 1 :])


@dtypes
def test_transpose(dtype: str) -> None:
    n = LANES[dtype]
    before = np.arange(3.0 * n * (n + 3)).astype(dtype)
    expected, w, start = before.copy(), before.copy(), n * (n + 2)
    for i in range(n):
        expected[start + i * (n + 2) :][:n] = before[5 + i :: n + 1][:n]
    transpose(w, 5, n + 1, start, n + 2)
    assert np.array_equal(w, expected)


@pytest.mark.parametrize("size", SIZES)
@dtypes
def test_transforms_agree_with_numpy(dtype: str, size: int) -> None:
    lanes, kept = LANES[dtype], (size - 1) // 3
    roots, half, _ = field_fft.plans(size)
    field = np.random.default_rng(2).standard_normal((size, lanes)).astype(dtype)
    source, target, stride, step = 3, 3 + 2 * size * lanes, 2 * lanes, lanes + 1
    scratch = target + 2 * size * (lanes + 1)
    w = np.full(scratch + 3 * size * lanes, np.nan, dtype)
    w[source : source + size * stride].reshape(size, stride)[:, :lanes] = field
    numbers = (kept, source, stride, target, step, scratch, lanes)
    there(w, roots.astype(dtype), half, numbers)
    rows = w[target : target + (2 * kept + 2) * step].reshape(kept + 1, 2, step)[..., :lanes]
    expected = np.fft.rfft(field.astype(np.float64), axis=0)[: kept + 1]
    error = np.abs(rows[:, 0] + 1j * rows[:, 1] - expected).max()
    assert error < 8 * np.finfo(dtype).eps * np.abs(expected).max()

    back(w, roots.astype(dtype), half, numbers)
    found = w[source : source + size * stride].reshape(size, stride)[:, :lanes]
    sums = np.fft.irfft(expected, size, axis=0) * size
    assert np.abs(found - sums).max() < 8 * np.finfo(dtype).eps * np.abs(sums).max()


@pytest.mark.parametrize("size", [7, 14, 22])
def test_other_factors_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"got {size}; allowed"):
        vector_fft.radices(size)

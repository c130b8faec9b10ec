"""The Kuramoto-Sivashinsky equation in plain numpy: a baseline for speed, a reference for errors.

ETDRK4 with coefficients computed once, as means over circles in the complex plane (A.-K. Kassam and
L. N. Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214), transforms of whole batches and the rule of
two thirds. Spectra are those of `numpy.fft.rfft` with norm "forward".
"""

from __future__ import annotations

from typing import Any

import numpy as np

CIRCLE = np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)


class NumpySolver:
    """A batch of fields, stepped in Fourier space.

    Args:
        length: Period.
        points: Of the grid.
        step: Of time.
        dtype: Name of the type of the fields; the coefficients are computed in float64.
    """

    def __init__(self, length: float, points: int, step: float, dtype: str = "float64") -> None:
        self.points, self.step = points, step
        number = np.arange(points // 2 + 1)
        kept = 3 * number < points
        k = 2 * np.pi / length * number
        linear = k**2 - k**4
        z = step * linear[:, None] + CIRCLE
        e = np.exp(z)

        def mean(values: Any) -> np.ndarray:
            return (step * values.mean(1).real).astype(dtype)

        self._whole = np.exp(step * linear).astype(dtype)
        self._half = np.exp(step / 2 * linear).astype(dtype)
        self._q = mean((np.exp(z / 2) - 1) / z)
        self._first = mean((-4 - z + e * (4 - 3 * z + z**2)) / z**3)
        self._middle = 2 * mean((2 + z + e * (z - 2)) / z**3)
        self._last = mean((-4 - 3 * z - z**2 + e * (4 - z)) / z**3)
        self._product = (-0.5j * k * kept).astype(np.result_type(dtype, np.complex64))
        self._kept = kept.astype(dtype)

    def _slope(self, spectrum: np.ndarray, force: np.ndarray) -> np.ndarray:
        field = np.fft.irfft(spectrum, self.points, norm="forward")
        return self._product * np.fft.rfft(field * field, norm="forward") + force

    def __call__(self, field: np.ndarray, force: np.ndarray, steps: int) -> np.ndarray:
        """Advances fields (batch, point) under held forces (batch, point)."""
        v = np.fft.rfft(field, norm="forward") * self._kept
        f = np.fft.rfft(force, norm="forward") * self._kept
        for _ in range(steps):
            decayed = self._half * v
            n1 = self._slope(v, f)
            a = decayed + self._q * n1
            n2 = self._slope(a, f)
            n3 = self._slope(decayed + self._q * n2, f)
            n4 = self._slope(self._half * a + self._q * (2 * n3 - n1), f)
            v = self._whole * v + self._first * n1 + self._middle * (n2 + n3) + self._last * n4
        return np.fft.irfft(v, self.points, norm="forward")


def resample(field: np.ndarray, points: int) -> np.ndarray:
    """Returns the values on another grid of the trigonometric polynomial through the given ones."""
    spectrum = np.fft.rfft(field, norm="forward")
    if points > field.shape[-1]:
        spectrum[..., -1] /= 2  # the highest wave of the old grid is now one of two
    elif points < field.shape[-1]:
        spectrum = spectrum[..., : points // 2 + 1].copy()
        spectrum[..., -1] = 0
    return np.fft.irfft(spectrum, points, norm="forward")


def attractor(length: float, points: int, count: int, duration: float = 150.0) -> np.ndarray:
    """Returns fields of the attractor: random waves, left to themselves on twice the points."""
    generator = np.random.default_rng(0)
    x = 2 * np.pi * np.arange(2 * points) / (2 * points)
    waves = np.arange(1, 9)[:, None]
    phases = generator.uniform(0, 2 * np.pi, (count, 8, 1))
    field = np.cos(waves * x + phases).sum(1) / 2
    solver = NumpySolver(length, 2 * points, 0.1)
    return resample(solver(field, 0 * field, round(duration / 0.1)), points)

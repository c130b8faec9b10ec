"""Grids of periodic boxes and the Fourier modes of fields on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Equally spaced points on a periodic box, and the Fourier modes of real fields on them.

    Spectra are those of `torch.fft.rfftn` with norm "forward": coefficients of exp(i k x).

    Attributes:
        points: Along each axis.
        dimensions: Number of axes.
    """

    points: int
    dimensions: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a field."""
        return (self.points,) * self.dimensions

    @property
    def modes(self) -> tuple[int, ...]:
        """Shape of a spectrum."""
        return (*self.shape[:-1], self.points // 2 + 1)

    @cached_property
    def numbers(self) -> list[Float[Tensor, ...]]:
        """Number of waves in the box along each axis, which broadcast to `modes`."""
        found = []
        for axis in range(self.dimensions):
            last = axis == self.dimensions - 1
            frequencies = torch.fft.rfftfreq if last else torch.fft.fftfreq
            numbers = frequencies(self.points, 1 / self.points, dtype=torch.float64)
            found.append(numbers.view([-1 if i == axis else 1 for i in range(self.dimensions)]))
        return found

    def positions(self, length: Float[Tensor, "rows ..."]) -> list[Float[Tensor, "rows ..."]]:
        """Returns the coordinates of the points along each axis, which broadcast to `shape`."""
        steps = torch.arange(self.points, dtype=torch.float64) / self.points
        axes = range(self.dimensions)
        return [length * steps.view([-1 if i == axis else 1 for i in axes]) for axis in axes]

    def highest(self, degree: int) -> int:
        """Returns the highest number of waves that products of a degree leave free of aliasing.

        Waves up to m in each of n factors make waves up to n m, which appear on a grid of N points
        as N - n m and more: above m, if (n + 1) m < N. For n = 2 this is the rule of two thirds
        (S. A. Orszag, J. Atmos. Sci. 28 (1971) 1074).
        """
        return (self.points - 1) // (degree + 1)

    def kept(self, degree: int) -> Tensor:
        """Returns which modes are kept, booleans of shape `modes`."""
        highest = self.highest(degree)
        kept = torch.ones(self.modes, dtype=torch.bool)
        for numbers in self.numbers:
            kept = kept & (numbers.abs() <= highest)
        return kept

    def transform(self, field: Float[Tensor, "*batch"]) -> Complex[Tensor, "*batch_modes"]:
        """Returns the spectrum of fields, whose last axes are space."""
        return torch.fft.rfftn(field, dim=self.axes, norm="forward")

    def synthesize(self, spectrum: Complex[Tensor, "*batch_modes"]) -> Float[Tensor, "*batch"]:
        """Returns the fields of spectra."""
        return torch.fft.irfftn(spectrum, s=self.shape, dim=self.axes, norm="forward")

    def transform_constant(self, field: Float[Tensor, "*batch"]) -> Complex[Tensor, "*batch_modes"]:
        """As `transform`, of what every trajectory depends on, float64 on the CPU.

        In numpy, as the rounding of torch's transforms depends on the number of threads.
        """
        return torch.from_numpy(np.fft.rfftn(field.numpy(), axes=self.axes, norm="forward"))

    def synthesize_constant(
        self, spectrum: Complex[Tensor, "*batch_modes"]
    ) -> Float[Tensor, "*batch"]:
        """As `synthesize`, in numpy for the same reason."""
        found = np.fft.irfftn(spectrum.numpy(), s=self.shape, axes=self.axes, norm="forward")
        return torch.from_numpy(found)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of space, counted from the last."""
        return tuple(range(-self.dimensions, 0))

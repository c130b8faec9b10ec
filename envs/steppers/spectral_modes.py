"""Source of the loops over modes of a kernel of a periodic PDE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from separatrix.envs.steppers.spectral_layout import Layout, indent


class Modes:
    """A loop over all kept modes, whose body is added line by line.

    In the body, `c` is the place of a mode in a spectrum, `e` in one with the gap, and `s` in the
    table of multipliers.

    Args:
        layout: Where things are.
        adjoint: Whether to multiply by the conjugates of multipliers.
    """

    def __init__(self, layout: Layout, *, adjoint: bool = False) -> None:
        self.layout, self.adjoint = layout, adjoint
        self._loads: dict[int, str] = {}
        self._body: list[str] = []

    def read(self, name: str, place: int, index: str = "c") -> str:
        """Adds reading a spectrum; returns the name that its mode has."""
        imaginary = place + self.layout.step
        self._body.append(f"{name} = read(w, {index} + {place}, {index} + {imaginary})")
        return name

    def write(self, place: int, value: str, index: str = "c") -> None:
        """Adds writing to a spectrum."""
        imaginary = place + self.layout.step
        self._body.append(f"write(w, {index} + {place}, {index} + {imaginary}, {value})")

    def set(self, name: str, terms: Sequence[str]) -> str:
        """Adds a sum; returns its name."""
        self._body.append(f"{name} = {' + '.join(terms) or 'pair(zero, zero)'}")
        return name

    def add(self, *lines: str) -> None:
        """Adds lines."""
        self._body += lines

    def times(self, multiplier: Tensor | float, value: str) -> list[str]:
        """Returns the source of a product with a multiplier; none if that is 0.

        Args:
            multiplier: (rows, *modes), or 1.
            value: Source of the other factor.
        """
        if not isinstance(multiplier, Tensor):
            return [value]
        real, imaginary = _parts(multiplier)
        if self.adjoint:
            imaginary = -imaginary
        if not (imaginary != 0).any():
            return [f"{self._load(real)} * {value}"] if (real != 0).any() else []
        if not (real != 0).any():
            return [f"{self._load(-imaginary)} * turn({value})"]
        return [f"pair({self._load(real)}, {self._load(imaginary)}) * {value}"]

    def stage(self, multiplier: Tensor, values: Sequence[str], i: int) -> list[str]:
        """Returns the terms of field i of what a stage's multiplier makes of the fields' modes."""
        if multiplier.ndim == self.layout.program.grid.dimensions + 2:
            return self.times(multiplier[:, i], values[i])
        terms = []
        for j, value in enumerate(values):
            entry = multiplier[:, j, i] if self.adjoint else multiplier[:, i, j]
            terms += self.times(entry, value)
        return terms

    def constant(self, spectrum: Tensor) -> list[str]:
        """Returns the source of a spectrum (rows, *modes) of the table; none if it is 0."""
        if not (spectrum != 0).any():
            return []
        real, imaginary = _parts(spectrum)
        return [f"pair({self._load(real)}, {self._load(imaginary)})"]

    def _load(self, values: Tensor) -> str:
        layout = self.layout
        place = layout.multiplier(values)
        function = "splat" if layout.unit == 1 else "load"
        start = place * layout.rows * layout.unit
        self._loads[place] = f"m{place} = {function}(m, s + {start})"
        return f"m{place}"

    def source(self) -> list[str]:
        """Returns the loop."""
        layout = self.layout
        body = [*self._loads.values(), *self._body]
        if not layout.plane:
            places = [f"c = e = {2 * layout.step} * r", f"s = b + {layout.unit} * r"]
            return [f"for r in range({layout.rows}):", *indent([*places, *body], 1)]
        row = f"(r if r <= {layout.kept} else r + {layout.gap})"
        places = [
            f"c, e = {2 * layout.step} * r + k, {2 * layout.step} * {row} + k",
            f"s = b + {layout.unit} * r + k",
        ]
        return [
            f"for r in range({layout.rows}):",
            f"    for k in range(0, {layout.width}, {layout.lanes}):",
            *indent([*places, *body], 2),
        ]


def _parts(values: Tensor) -> tuple[Tensor, Tensor]:
    if values.is_complex():
        return values.real, values.imag
    return values, torch.zeros_like(values)

"""Where a kernel of a periodic PDE finds things: places in its one array, tables of multipliers.

Spectra lie in rows of vectors, real and imaginary parts in turns. In one dimension a row is a mode
of as many environments as a vector holds. In two, a row is a mode of the first axis of one
environment, and along it lie the modes of the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from separatrix.envs.steppers.simd import LANES
from separatrix.envs.steppers.spectral_program import SpectralProgram


class Layout:
    """Places in the array of a kernel, and the table of the multipliers that it uses.

    Args:
        program: What the kernel computes.
        dtype: "float32" or "float64".

    Attributes:
        lanes: Numbers in a vector.
        points: Along each axis.
        kept: The highest mode.
        rows: Of a spectrum, and `gap` as many that are not kept lie between rows `kept` and
            `kept + 1` of one that is transformed.
        plane: Whether space has two dimensions.
        width: Numbers in a row of modes, along which `step` is the distance of real and imaginary
            parts, and of rows of points `stride`.
        together: Environments in a block.
        shared: Whether all environments have the same multipliers.
        unit: Numbers of a multiplier in a row.
        size: Of the array, so far.

    Raises:
        ValueError: Space has three dimensions or more.
    """

    def __init__(self, program: SpectralProgram, dtype: str) -> None:
        grid = program.grid
        if grid.dimensions > 2:
            raise ValueError(f"the fused kernel has 1 or 2 dimensions, got {grid.dimensions}")
        self.program, self.dtype = program, dtype
        self.lanes, self.points = LANES[dtype], grid.points
        self.plane = grid.dimensions == 2
        self.kept = int(program.kept.reshape(-1, grid.modes[-1])[0].sum()) - 1
        self.shared = len(program.forcing) == 1
        if self.plane:
            self.rows = 2 * self.kept + 1
            self.gap = self.points - self.rows
            self.width = round_up(self.kept + 1, self.lanes)
            # An odd number of vectors: of a power of two, few rows would fit into a cache.
            self.step, self.stride = (
                number + (number // self.lanes + 1) % 2 * self.lanes
                for number in (self.width, round_up(self.points, self.lanes))
            )
            self.together, self.unit = 1, self.width
        else:
            self.rows, self.gap = self.kept + 1, 0
            self.width = self.step = self.stride = self.together = self.lanes
            self.unit = 1 if self.shared else self.lanes
        self.size = 0
        self._multipliers: list[Tensor] = []

    def place(self, size: int) -> int:
        """Sets room aside and returns where it begins."""
        start = self.size
        self.size += round_up(size, self.lanes)
        return start

    def spectra(self, count: int, *, whole: bool = False) -> list[int]:
        """Sets room for spectra aside, with the rows of the gap if they are to be whole."""
        return [self.place((self.rows + whole * self.gap) * 2 * self.step) for _ in range(count)]

    @property
    def field_size(self) -> int:
        """Numbers of one field at its points."""
        return self.points * self.stride

    def fields(self, count: int) -> list[int]:
        """Sets room for fields aside."""
        return [self.place(self.field_size) for _ in range(count)]

    def multiplier(self, values: Tensor) -> int:
        """Returns the place in the table of a real multiplier (rows, *modes)."""
        for i, known in enumerate(self._multipliers):
            if torch.equal(known, values):
                return i
        self._multipliers.append(values)
        return len(self._multipliers) - 1

    @property
    def block_size(self) -> int:
        """Numbers in the table for a block of environments, or for all if they share it."""
        return len(self._multipliers) * self.rows * self.unit

    def table(self) -> np.ndarray:
        """Returns the table of multipliers, (block or 1, number)."""
        if not self._multipliers:
            return np.zeros((1, 0), self.dtype)
        rows = max(len(values) for values in self._multipliers)
        stacked = [self._rows(values).expand(rows, -1, -1) for values in self._multipliers]
        table = torch.stack(stacked, 1)
        if not self.plane and not self.shared:
            # The last block is filled up with copies of the last environment.
            copies = [table[-1:]] * (-rows % self.lanes)
            table = torch.cat([table, *copies]).unflatten(0, (-1, self.lanes)).movedim(1, -1)
        return table.flatten(1).contiguous().numpy().astype(self.dtype)

    def spectrum_table(self, spectra: Tensor) -> np.ndarray:
        """Returns (count, *modes), in real and imaginary parts, as (count, part, row, mode)."""
        parts = torch.stack([spectra.real, spectra.imag], 1)
        found = self._rows(parts.flatten(0, 1)).unflatten(0, (-1, 2))
        return found.contiguous().numpy().astype(self.dtype)

    def _rows(self, values: Tensor) -> Tensor:
        """Returns the kept modes of (count, *modes) as (count, row, width or 1)."""
        values = values[..., : self.kept + 1]
        if not self.plane:
            return values.unsqueeze(-1)
        first, last = values[:, : self.kept + 1], values[:, self.kept + 1 + self.gap :]
        return torch.nn.functional.pad(torch.cat([first, last], 1), (0, self.width - self.kept - 1))


def round_up(number: int, multiple: int) -> int:
    """Returns the first multiple that is not below a number."""
    return -(-number // multiple) * multiple


def indent(lines: Sequence[str], depth: int) -> list[str]:
    """Indents lines of source."""
    return [" " * 4 * depth + line for line in lines]

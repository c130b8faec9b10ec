"""Sensors: what is seen of a field. Light: torch loads when a system is made."""

from __future__ import annotations

import itertools
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import suggest
from separatrix.envs.fluid.actuators import places, waves

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.spectral_grid import Grid

SHAPES = ("point", "mode")


@dataclass(frozen=True)
class Sensors:
    """Values at points, means around them, or coefficients of waves. For noise there is a wrapper.

    Attributes:
        sensors: How many, equally spaced along each axis; or their places, in units of the box,
            each at the nearest point of the grid. Of modes, how many.
        sensor_shape: "point"; or "mode": then the readings are the coefficients of the longest
            waves, cosine and sine by turns, and have no places. In a flow that does not change
            under translations they are the proper orthogonal modes.
        sensor_width: Side of the window whose mean is seen, in units of the box; 0 for the value at
            the point.
    """

    sensors: Any = 8
    sensor_shape: str = "point"
    sensor_width: float = 0.0

    def check(self) -> None:
        """Raises ValueError if an option is not allowed."""
        if not isinstance(self.sensor_shape, str) or self.sensor_shape not in SHAPES:
            got = reprlib.repr(self.sensor_shape)
            raise ValueError(f"sensor_shape: got {got}; {suggest(self.sensor_shape, SHAPES)}")
        width = self.sensor_width
        if isinstance(width, bool) or not isinstance(width, int | float) or not 0 <= width <= 1:
            got = reprlib.repr(width)
            raise ValueError(f"sensor_width: got {got}; allowed: a number from 0 to 1")

    def waves(self, grid: Grid) -> Tensor:
        """Returns the waves (sensor, *grid) of amplitude 1, whose coefficients are the readings."""
        return waves("sensors", self.sensors, grid)

    def windows(self, grid: Grid) -> Tensor:
        """Returns which points each sensor averages, as (sensor, window) indices of a flat grid."""
        import torch

        n = grid.points
        if isinstance(self.sensors, int) and self.sensors == n:  # all points, in their order
            centres = list(itertools.product(range(n), repeat=grid.dimensions))
        else:
            found = places("sensors", self.sensors, grid)
            centres = [tuple(round(x * n) for x in place) for place in found]
        reach = int(self.sensor_width * n / 2)
        window = range(-reach, reach + 1)
        offsets = list(itertools.product(window, repeat=grid.dimensions))
        rows = []
        for centre in centres:
            row = []
            for offset in offsets:
                index = 0
                for middle, step in zip(centre, offset, strict=True):
                    index = index * n + (middle + step) % n
                row.append(index)
            rows.append(row)
        return torch.tensor(rows, dtype=torch.int64)

"""Actuators: where forces act on a field. Light: torch loads when a system is made."""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import is_positive, suggest

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.spectral_grid import Grid

SHAPES = ("gaussian", "top_hat", "mode")
MOST = 4096
"""Actuators or sensors, at most."""


@dataclass(frozen=True)
class Actuators:
    """Forces of unit height, or waves of unit amplitude.

    Attributes:
        actuators: How many, equally spaced along each axis; or their places, in units of the box.
        actuator_shape: "gaussian", "top_hat", or "mode": then the actuators are the longest waves,
            cosine and sine by turns, and have no places.
        actuator_width: Standard deviation of a Gaussian, or width of a top hat, in units of the
            box.
    """

    actuators: Any = 4
    actuator_shape: str = "gaussian"
    actuator_width: float = 0.02

    def count(self, dimensions: int) -> int:
        """Returns the number of actuators in so many dimensions."""
        if not isinstance(self.actuators, int):
            return len(self.actuators)
        return self.actuators ** (1 if self.actuator_shape == "mode" else dimensions)

    def shapes(self, grid: Grid) -> Tensor:
        """Returns the forces, float64 (actuator, *grid).

        Raises:
            ValueError: An option is not allowed.
        """
        if not isinstance(self.actuator_shape, str) or self.actuator_shape not in SHAPES:
            got = reprlib.repr(self.actuator_shape)
            raise ValueError(f"actuator_shape: got {got}; {suggest(self.actuator_shape, SHAPES)}")
        width = self.actuator_width
        if not (is_positive(width) and width <= 1):
            raise ValueError(
                f"actuator_width: got {reprlib.repr(width)}; allowed: a number > 0 and <= 1"
            )
        if self.actuator_shape == "mode":
            return waves("actuators", self.actuators, grid)
        return _bumps(places("actuators", self.actuators, grid), grid, self.actuator_shape, width)


def places(name: str, value: Any, grid: Grid) -> list[tuple[float, ...]]:
    """Returns places in units of the box, each in [0, 1) along every axis.

    Args:
        name: Name of the option.
        value: A number of places along each axis, equally spaced from 0 on; or a sequence of
            places: numbers in one dimension, else tuples of them.
        grid: Gives the dimensions.

    Raises:
        ValueError: The value is something else.
    """
    axes = grid.dimensions
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST ** (1 / axes):
        return list(itertools.product([i / value for i in range(value)], repeat=axes))
    if isinstance(value, Sequence) and not isinstance(value, str) and 1 <= len(value) <= MOST:
        found = [tuple(place) if isinstance(place, Sequence) else (place,) for place in value]
        numbers = [x for place in found for x in place]
        real = all(isinstance(x, int | float) and 0 <= x < 1 for x in numbers)
        if real and all(len(place) == axes for place in found):
            return found
    each = "a number" if axes == 1 else f"{axes} numbers"
    raise ValueError(
        f"{name}: got {reprlib.repr(value)}; allowed: how many along each axis, an integer >= 1, "
        f"or a sequence of places, each {each} >= 0 and < 1 in units of the box"
    )


def on_first_field(shapes: Tensor, fields: int) -> Tensor:
    """Returns forces (control, field, *grid) that act on the first field alone."""
    import torch

    rest = torch.zeros((len(shapes), fields - 1, *shapes.shape[1:]), dtype=torch.float64)
    return torch.cat((shapes[:, None], rest), 1)


def without_mean(shapes: Tensor, fields: int) -> Tensor:
    """Returns forces on the first field less their means, so that its mean never changes."""
    means = shapes.flatten(1).mean(1).view(-1, *[1] * (shapes.ndim - 1))
    return on_first_field(shapes - means, fields)


def _bumps(centres: Sequence[tuple[float, ...]], grid: Grid, shape: str, width: float) -> Tensor:
    import torch

    points = torch.arange(grid.points, dtype=torch.float64) / grid.points
    bumps = []
    for centre in centres:
        bump = torch.ones(grid.shape, dtype=torch.float64)
        for axis, middle in enumerate(centre):
            # The images in neighbouring boxes make the Gaussian periodic.
            offsets = points[:, None] - middle + torch.arange(-2, 3)
            if shape == "gaussian":
                profile = torch.exp(-(offsets**2) / (2 * width**2)).sum(1)
            else:
                start = offsets + width / 2 + 1e-9  # the edge is a point of the grid, rounded
                inside = (start >= 0) & (start < width)
                profile = inside.any(1).double()
            bump = bump * profile.view([-1 if i == axis else 1 for i in range(grid.dimensions)])
        bumps.append(bump)
    return torch.stack(bumps)


def waves(name: str, count: Any, grid: Grid) -> Tensor:
    """Returns the longest waves of amplitude 1, cosine and sine by turns, float64 (wave, *grid).

    Args:
        name: Name of the option.
        count: How many.
        grid: Their points.

    Raises:
        ValueError: The count is no positive integer, or too large for the grid.
    """
    import torch

    axes = grid.dimensions
    numbers = range(-(grid.points // 3), grid.points // 3 + 1)
    half = [v for v in itertools.product(numbers, repeat=axes) if v > (0,) * axes]
    half.sort(key=lambda v: (sum(n * n for n in v), v))
    most = 2 * len(half)
    if not (isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= most):
        raise ValueError(
            f"{name}: got {reprlib.repr(count)}; allowed for modes of {grid.points} points: an "
            f"integer from 1 to {most}"
        )
    points = torch.arange(grid.points, dtype=torch.float64) * (2 * torch.pi / grid.points)
    found = []
    for vector in half[: -(-count // 2)]:
        phase = torch.zeros(grid.shape, dtype=torch.float64)
        for axis, number in enumerate(vector):
            phase = phase + number * points.view([-1 if i == axis else 1 for i in range(axes)])
        found += [phase.cos(), phase.sin()]
    return torch.stack(found[:count])

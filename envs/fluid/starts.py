"""Fields at the start of an episode: random smooth ones, and what the free flow makes of them.

Everything is a sum of products in a fixed order, never a Fourier transform, whose rounding depends
on the batch: so an environment starts alike alone and in any batch. Light: torch loads when a
system is made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem


def random_waves(
    stream: Stream, system: SpectralSystem, *, waves: int, rms: float
) -> tuple[Tensor, Stream]:
    """Draws one smooth field of mean zero: a sum of waves with normal coefficients.

    Args:
        stream: Positions of the random streams.
        system: Gives grid and box.
        waves: Largest number of waves in the box along an axis.
        rms: Root mean square of the field in the mean over draws.

    Returns:
        Fields (batch, 1, *grid) in float64, and the streams.
    """
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    grid = system.grid
    ranges = [range(-waves, waves + 1)] * grid.dimensions
    half = len(list(itertools.product(*ranges))) // 2  # a wave and its opposite are one
    vectors = list(itertools.product(*ranges))[half + 1 :]
    normal, stream = stream.normal(2 * len(vectors), torch.float64, INITIAL_STATE)
    normal = normal * (rms / len(vectors) ** 0.5)
    one = torch.ones(1, dtype=torch.float64)
    angles = [2 * torch.pi * x for x in grid.positions(one.view(-1, *[1] * grid.dimensions))]
    field = normal.new_zeros((len(normal), *grid.shape))
    for i, vector in enumerate(vectors):
        phase = sum(n * angle for n, angle in zip(vector, angles, strict=True))
        for wave, column in ((torch.cos, 2 * i), (torch.sin, 2 * i + 1)):
            coefficient = normal[:, column].view(-1, *[1] * grid.dimensions)
            field = field + coefficient * wave(torch.as_tensor(phase)).to(field)
    return field[:, None], stream


def bump(
    stream: Stream,
    system: SpectralSystem,
    *,
    amplitude: tuple[float, float],
    width: tuple[float, float],
) -> tuple[Tensor, Stream]:
    """Draws a bump in the middle of a one-dimensional box, of controlgym's shape.

    It is a / cosh((x - 1/2) / w), x in units of the box, with a and w uniform in intervals.

    Args:
        stream: Positions of the random streams.
        system: Gives the grid.
        amplitude: Smallest and largest a.
        width: Smallest and largest w.

    Returns:
        Fields (batch, 1, point) in float64, and the streams.
    """
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    uniform, stream = stream.uniform(2, torch.float64, INITIAL_STATE)
    a, w = (
        low + (high - low) * uniform[:, i, None] for i, (low, high) in enumerate((amplitude, width))
    )
    x = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
    return (a / torch.cosh((x.to(uniform) - 0.5) / w))[:, None], stream


def free_flow(
    field: Tensor, system: SpectralSystem, duration: float, largest_step: float
) -> Tensor:
    """Returns what the free flow makes of fields.

    Args:
        field: Fields (batch, field, *grid).
        system: The PDE.
        duration: Time that passes.
        largest_step: Of time; it may be larger than in an episode.
    """
    return system.free_flow(field, duration, math.ceil(duration / largest_step))


def somewhere(
    stream: Stream,
    system: SpectralSystem,
    profile: Callable[[Tensor, Tensor], Tensor],
    *,
    rms: float,
) -> tuple[Tensor, Stream]:
    """Draws a profile at a random place of a one-dimensional box, with small waves on it.

    Args:
        stream: Positions of the random streams.
        system: Gives grid and box.
        profile: Maps offsets from the place, (batch, point) from -1/2 to 1/2 in units of the box,
            and two numbers uniform in [0, 1), (batch, 2), to values (batch, point).
        rms: Root mean square of the waves, of up to four periods.

    Returns:
        Fields (batch, 1, point) in float64, and the streams.
    """
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    field, stream = random_waves(stream, system, waves=4, rms=rms)
    uniform, stream = stream.uniform(3, torch.float64, INITIAL_STATE)
    x = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
    offset = x.to(uniform) - uniform[:, :1]
    return field + profile(offset - offset.round(), uniform[:, 1:])[:, None], stream

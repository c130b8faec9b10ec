"""Pairs of observations of the true flow, a short interval apart, and noise on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.requirements import require, require_at_least_0, require_positive
from separatrix.agents.medida.config import MedidaConfig
from separatrix.agents.medida.terms import KURAMOTO_SIVASHINSKY, advanced
from separatrix.envs.steppers.spectral_grid import Grid

SETTLING_STEP = 0.05
"""Time step on the way to the attractor, where nothing but the attractor matters."""

WAVES, AMPLITUDE = 20, 0.2
"""Of the random fields that flows start from."""


@dataclass(frozen=True)
class Pairs:
    """Fields at the beginnings and ends of intervals, and what is known of their noise.

    Attributes:
        first: Fields at the beginnings.
        second: Fields at the ends.
        length: Period of the box.
        interval: Time between both.
        deviation: Standard deviation of the white noise at every point; 0 for none.

    Raises:
        ValueError: The fields are not finite, length or interval are not positive, or the deviation
            is negative.
    """

    first: Float[Tensor, "pair point"]
    second: Float[Tensor, "pair point"]
    length: float
    interval: float
    deviation: float = 0.0

    def __post_init__(self) -> None:
        """Raise a ValueError if the observations make no sense."""
        require_positive(self, "length", "interval")
        require_at_least_0(self, "deviation")
        sound = self.first.isfinite().all(1) & self.second.isfinite().all(1)
        allowed = "finite numbers; leave such pairs out"
        require(bool(sound.all()), "pairs", f"{int((~sound).sum())} with NaN or infinity", allowed)

    def noisy(self, noise: float, generator: torch.Generator) -> Pairs:
        """Returns the pairs with independent white noise on all observations.

        Args:
            noise: Standard deviation over that of the fields.
            generator: Draws it.
        """
        deviation = noise * float(self.first.std())
        fields = torch.stack([self.first, self.second])
        drawn = torch.randn(fields.shape, generator=generator, dtype=torch.float64)
        first, second = fields + deviation * drawn
        return Pairs(first, second, self.length, self.interval, deviation)


def observe(config: MedidaConfig, seed: int) -> Pairs:
    """Returns pairs of observations without noise, of points of the attractor.

    Args:
        config: Grid, number of pairs and interval.
        seed: Of the fields that the flows start from.
    """
    grid = Grid(config.points, 1)
    generator = torch.Generator().manual_seed(seed)
    size = (config.pairs, WAVES, 2)
    waves = torch.randn(size, generator=generator, dtype=torch.float64)
    spectrum = torch.zeros((config.pairs, *grid.modes), dtype=torch.complex128)
    spectrum[:, 1 : WAVES + 1] = AMPLITUDE / 2 * torch.view_as_complex(waves)
    field = grid.synthesize(spectrum)
    model, length = KURAMOTO_SIVASHINSKY, config.length
    steps = max(1, round(config.settling / SETTLING_STEP))
    first = advanced(model, field, length, config.settling, steps)
    second = advanced(model, first, length, config.interval, config.truth_steps)
    return Pairs(first, second, length, config.interval)

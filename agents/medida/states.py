"""States out of noisy observations: by an ensemble filter, or by leaving short waves out.

The first observation of a pair is analysed on its own: the background is the climate, Gaussian with
the observed spectrum, so that the analysis keeps the waves that stand out of the noise. The second
one is analysed with a forecast of the imperfect model from there, perturbed widely: what the filter
believes of long waves is the observation, not the model, whose error is what is sought; and it
believes neither in short waves, of which the perturbations hold none.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from separatrix.agents.medida.config import MedidaConfig
from separatrix.agents.medida.observations import Pairs
from separatrix.agents.medida.terms import Model, advanced
from separatrix.envs.steppers.spectral_grid import Grid
from separatrix.envs.twin.assimilate.ensemble_kalman import ensemble_transform

TOGETHER = 10
"""Pairs analysed together, which bounds the memory."""


class States:
    """What is known of the flow at both ends of every interval, for any model.

    Args:
        pairs: The observations.
        config: The filter.
        generator: Draws the ensembles.

    Attributes:
        pairs: The observations.
        grid: Of all fields.
        first: States at the beginnings.
        waves: Number of waves in the box up to which the regression may go.

    Raises:
        ValueError: No wave stands out of the noise.
    """

    def __init__(self, pairs: Pairs, config: MedidaConfig, generator: torch.Generator) -> None:
        self.grid = Grid(pairs.first.shape[-1], 1)
        self.pairs, self._config = pairs, config
        self._way = config.assimilation if pairs.deviation > 0 else "none"
        self.first, self.waves = pairs.first, self.grid.modes[0] - 2
        if self._way != "none":
            self._power, self._noise = self._spectrum()
            self._few_points = Grid(2 * (self._highest(1.0) + 1), 1)
            self.waves = self._highest(config.resolved)
            if self.waves == 0:
                raise ValueError(
                    f"resolved: got {config.resolved:g}, and no wave of the observations has so "
                    f"many times the amplitude of their noise, {pairs.deviation:g} at each point; "
                    "allowed: less"
                )
        if self._way == "truncation":
            self.first = self._truncated(pairs.first)
        if self._way == "filter":
            self._climate = self._drawn(generator)
            self.first = self._analysis(self._climate, pairs.first)

    def forecast(
        self, model: Model
    ) -> tuple[Float[Tensor, "pair point"], Float[Tensor, "pair point"]]:
        """Returns the ends of the intervals, as the model foretells them and as they were."""
        pairs = self.pairs
        forecast = advanced(model, self.first, pairs.length, pairs.interval, 1)
        if self._way == "none":
            return forecast, pairs.second
        if self._way == "truncation":
            return forecast, self._truncated(pairs.second)
        members = self.first[:, None] + self._config.spread * self._climate
        members = advanced(model, members, pairs.length, pairs.interval, 1)
        members = members - members.mean(1, keepdim=True) + forecast[:, None]
        return forecast, self._analysis(members, pairs.second)

    def _spectrum(self) -> tuple[Tensor, float]:
        """Mean power of the waves of the observations less that of the noise, and the latter."""
        fields = torch.cat([self.pairs.first, self.pairs.second])
        noise = self.pairs.deviation**2 / fields.shape[-1]
        power = self.grid.transform(fields).abs().square().mean(0)
        return (power - noise).clamp(min=0), noise

    def _highest(self, ratio: float) -> int:
        """The number of waves before the first that falls short of a ratio to the noise."""
        short = self._power[1:] < ratio**2 * self._noise
        return int(short.int().argmax()) if short.any() else len(short) - 1

    def _drawn(self, generator: torch.Generator) -> Float[Tensor, "pair member point"]:
        """Ensembles of the climate, with the waves that have more power than the noise."""
        amplitude = self._power.sqrt()
        amplitude[self._highest(1.0) + 1 :] = 0
        amplitude[0] = 0  # the mean is conserved, and 0
        shape = (len(self.pairs.first), self._config.members, len(amplitude), 2)
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        found = self.grid.synthesize(torch.view_as_complex(drawn) * amplitude / 2**0.5)
        return found - found.mean(1, keepdim=True)

    def _analysis(
        self, members: Float[Tensor, "pair member point"], observed: Float[Tensor, "pair point"]
    ) -> Float[Tensor, "pair point"]:
        """The mean that the filter makes of members and observations, in the climate's waves."""
        few = self._few_points
        variance = torch.full((few.points,), self._noise * few.points, dtype=torch.float64)
        members, observed = self._few(members), self._few(observed)
        found = [
            ensemble_transform(some, some, seen, variance).mean(1)
            for some, seen in zip(members.split(TOGETHER), observed.split(TOGETHER), strict=True)
        ]
        spectrum = few.transform(torch.cat(found))
        return self.grid.synthesize(cut(spectrum, few.modes[0] - 2, self.grid))

    def _few(self, field: Float[Tensor, "*batch point"]) -> Float[Tensor, "*batch few"]:
        """The climate's waves of fields, at as few points as hold them; white noise stays white."""
        few = self._few_points
        return few.synthesize(cut(self.grid.transform(field), few.modes[0] - 2, few))

    def _truncated(self, field: Float[Tensor, "pair point"]) -> Float[Tensor, "pair point"]:
        return self.grid.synthesize(cut(self.grid.transform(field), self.waves, self.grid))


def cut(
    spectrum: Complex[Tensor, "*batch mode"], waves: int, grid: Grid
) -> Complex[Tensor, "*batch other"]:
    """Returns the spectrum on a grid, without the modes of more waves in the box than given."""
    kept = spectrum[..., : waves + 1]
    return torch.nn.functional.pad(kept, (0, grid.modes[0] - kept.shape[-1]))

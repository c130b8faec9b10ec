"""Normal noise over time, white or coloured."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class ColouredNoise:
    """Standard normal sequences whose power spectrum falls as frequency^(-exponent).

    J. Timmer, M. Koenig, Astron. Astrophys. 300 (1995) 707; for planning: C. Pinneri et al.,
    "Sample-efficient cross-entropy method for real-time planning", CoRL 2020, section 3.1. The mean
    of a sequence has the power of the lowest frequency, 1 / horizon. Every number has variance 1;
    every sequence of every action component is independent of all others.

    White noise is coloured by multiplying its Fourier transform by frequency^(-exponent / 2), as
    one matrix product with the response to unit impulses.

    Args:
        horizon: Length of the sequences.
        exponent: 0 is white, 1 pink, 2 red; more is smoother.
        generator: The random stream; the noise lives on its device.
        dtype: Type of the noise.
    """

    def __init__(
        self, horizon: int, exponent: float, generator: torch.Generator, dtype: torch.dtype
    ) -> None:
        self._horizon, self._generator, self._dtype = horizon, generator, dtype
        self._response: Float[Tensor, "time impulse"] | None = None
        if exponent != 0:
            frequency = torch.fft.rfftfreq(horizon, dtype=torch.float64).clamp(min=1 / horizon)
            impulses = torch.eye(horizon, dtype=torch.float64)
            amplitude = frequency ** (-exponent / 2)
            response = torch.fft.irfft(amplitude * torch.fft.rfft(impulses), n=horizon)
            response = response / response.norm(dim=0, keepdim=True)  # each to unit variance
            self._response = response.to(generator.device, dtype)

    def __call__(
        self, batch: int, population: int, actions: int
    ) -> Float[Tensor, "batch population horizon action"]:
        """Draws independent sequences for every environment, candidate and action component."""
        white = torch.randn(
            (batch, population, actions, self._horizon),
            generator=self._generator,
            device=self._generator.device,
            dtype=self._dtype,
        )
        noise = white if self._response is None else white @ self._response
        return noise.transpose(2, 3)

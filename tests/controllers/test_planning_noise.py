"""The noise of the planners: variance, spectrum and independence."""

import pytest
import torch
from torch import Tensor

from separatrix.controllers.planning.noise import ColouredNoise


def draw(exponent: float, horizon: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return ColouredNoise(horizon, exponent, generator, torch.float64)(*shape)


@pytest.mark.parametrize("horizon", [1, 2, 5, 30])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0, 4.0])
def test_every_number_has_mean_zero_and_variance_one(exponent: float, horizon: int) -> None:
    noise = draw(exponent, horizon, 4, 10_000, 2)
    assert noise.shape == (4, 10_000, horizon, 2)
    # Five standard errors of 40,000 sequences, which are independent.
    assert noise.mean((0, 1)).abs().max() < 5 / 200
    assert (noise.square().mean((0, 1)) - 1).abs().max() < 5 * 2**0.5 / 200


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 3.5])
def test_the_spectrum_falls_with_the_exponent(exponent: float) -> None:
    horizon = 128
    noise = draw(exponent, horizon, 1, 5000, 1)[0, :, :, 0]
    power = torch.fft.rfft(noise).abs().square().mean(0)[1:]
    frequency = torch.fft.rfftfreq(horizon, dtype=torch.float64)[1:]
    x, y = frequency.log(), power.log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert slope.item() == pytest.approx(-exponent, abs=0.02)


def test_sequences_are_independent_over_environments_candidates_and_components() -> None:
    # 12 sequences of eight steps, 10,000 times: numbers correlate within a sequence alone.
    noise = draw(2.0, 8, 20_000, 3, 2).permute(0, 1, 3, 2).reshape(10_000, 96)
    correlation = noise.T @ noise / len(noise)
    within = torch.block_diag(*[torch.ones(8, 8)] * 12).bool()
    assert correlation[~within].abs().max() < 5 / 100
    assert correlation.diagonal(1).view(-1)[0] > 0.5


def test_white_noise_is_that_of_the_generator() -> None:
    generator = torch.Generator().manual_seed(0)
    expected = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    assert draw(0.0, 5, 2, 3, 4).equal(expected.transpose(2, 3))

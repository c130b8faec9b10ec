"""The taper, distances and weights."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separatrix.envs.twin.assimilate.localization import distances, gaspari_cohn, line_weights


def test_taper_is_the_convolution_of_triangles() -> None:
    """Gaspari and Cohn's eq. 4.10 is B * B in three dimensions, B(r) = max(0, 1 - r / c).

    The integral over the place of one ball, in cylinder coordinates around the axis through both.
    """
    n, c = 600, 2.0
    along = (torch.arange(2 * n).double() + 0.5) / n * c - c
    radius = (torch.arange(n).double() + 0.5) / n * c

    def product(distance: float) -> float:
        first = (1 - torch.hypot(along[:, None], radius) / c).clamp(min=0)
        second = (1 - torch.hypot(along[:, None] - distance, radius) / c).clamp(min=0)
        return float((first * second * radius).sum())

    apart = [0.0, 0.3, 1.1, 2.0, 2.6, 3.7]
    expected = torch.tensor([product(d) / product(0.0) for d in apart]).double()
    found = gaspari_cohn(torch.tensor(apart).double(), c)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_taper_ends_at_twice_the_half_width() -> None:
    r = torch.linspace(0, 3, 3001, dtype=torch.float64)
    taper = gaspari_cohn(r * 5.0, 5.0)
    assert taper[0] == 1
    assert (taper[r >= 2] == 0).all()
    assert (taper[r < 1.99] > 0).all()
    assert (taper.diff() <= 0).all()
    # Twice differentiable at 1 and at 2, where the polynomials meet.
    bend = taper.diff(n=2) * 1e6
    assert bend.diff().abs().max() < 0.02


def test_taper_is_nearly_gaussian() -> None:
    width = 1 / math.sqrt(10 / 3)
    r = torch.linspace(0, 2, 101, dtype=torch.float64)
    gaussian = torch.exp(-0.5 * (r / width) ** 2)
    assert (gaspari_cohn(r, 1.0) - gaussian).abs().max() < 0.06


def test_matrix_of_tapers_is_positive() -> None:
    """It is a correlation on a line; its matrix has no negative eigenvalue."""
    places = torch.linspace(0, 10, 40, dtype=torch.float64)
    values = torch.linalg.eigvalsh(line_weights(places, places, 1.7))
    assert values.min() > -1e-10


@settings(deadline=None)
@given(
    a=st.floats(-100, 100),
    b=st.floats(-100, 100),
    period=st.floats(0.5, 50),
    turns=st.integers(-3, 3),
)
def test_periodic_distances(a: float, b: float, period: float, turns: int) -> None:
    first, second = torch.tensor([[a], [b]], dtype=torch.float64)
    found = float(distances(first, second, period))
    images = [abs(a - b + k * period) for k in range(-500, 501)]
    assert found == pytest.approx(min(images), abs=1e-9)
    assert 0 <= found <= period / 2 + 1e-12
    moved = float(distances(first + turns * period, second, period))
    assert moved == pytest.approx(found, abs=1e-9)


def test_weights_wrap_around() -> None:
    sites = torch.arange(40.0).double()
    seen = torch.tensor([0.0, 20.0]).double()
    weights = line_weights(sites, seen, 3.0, 40.0)
    assert weights.shape == (40, 2)
    assert weights[0, 0] == 1 and weights[20, 1] == 1
    torch.testing.assert_close(weights[1:, 0], weights[1:, 0].flip(0))
    assert weights[39, 0] > 0.7 and weights[6, 0] == 0
    assert line_weights(sites, seen, 3.0)[39, 0] == 0


def test_wrong_lengths() -> None:
    sites = torch.arange(3.0)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"half_width: got .*; allowed: numbers > 0"):
            gaspari_cohn(sites, wrong)
        with pytest.raises(ValueError, match=r"period: got .*; allowed: numbers > 0"):
            distances(sites, sites, wrong)

"""Starts spread over an energy shell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.energy_shell import EnergyShell


def bowl(q1: Tensor, q2: Tensor) -> Tensor:
    return (q1 * q1 + q2 * q2) / 2


def skewed(q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A mass matrix of determinant 1 + q1^2, at most 2 within the bowl."""
    return 2 + 0 * q1, 1 + 0 * q1, (2 + q1 * q1) / 2


SHELL = EnergyShell(0.5, (-1.0, -1.0), (1.0, 1.0), bowl, skewed, 2.0)


def sample(shell: EnergyShell, seeds: Tensor) -> Tensor:
    return shell.sample(Stream.start(seeds))[0]


def test_all_draws_have_the_energy() -> None:
    q1, q2, v1, v2 = sample(SHELL, torch.arange(4096)).T
    m11, m12, m22 = skewed(q1, q2)
    kinetic = (m11 * v1 * v1 + 2 * m12 * v1 * v2 + m22 * v2 * v2) / 2
    torch.testing.assert_close(kinetic + bowl(q1, q2), torch.full_like(q1, 0.5))


def test_density_of_positions_is_the_root_of_the_determinant() -> None:
    """<q1^2> and <q2^2> under sqrt(1 + q1^2) over the disc of radius 1, by quadrature."""
    found = sample(SHELL, torch.arange(40_000))[:, :2]
    grid = torch.linspace(-1, 1, 801, dtype=torch.float64)
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    weight = (1 + x * x).sqrt() * (x * x + y * y < 1)
    for i, axis in enumerate((x, y)):
        expected = float((weight * axis**2).sum() / weight.sum())
        squares = found[:, i] ** 2
        error = float(squares.std()) / math.sqrt(len(squares))
        assert float(squares.mean()) == pytest.approx(expected, abs=4.5 * error)
        flat = 0.25  # what a uniform density gives, which the test tells apart
        assert i == 1 or abs(expected - flat) > 9 * error


def test_direction_is_uniform_in_the_metric_of_the_mass() -> None:
    q1, q2, v1, v2 = sample(SHELL, torch.arange(40_000)).T
    m11, m12, m22 = skewed(q1, q2)
    first = m11.sqrt() * v1 + m12 / m11.sqrt() * v2  # L' v
    second = ((m11 * m22 - m12 * m12) / m11).sqrt() * v2
    counts, _ = np.histogram(torch.atan2(second, first).numpy(), bins=16, range=(-math.pi, math.pi))
    chi_square = ((counts - 2500) ** 2 / 2500).sum()
    assert chi_square < 45  # of 15 degrees of freedom: exceeded with probability 8e-5


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64, 999])
def test_a_draw_does_not_depend_on_its_neighbours(batch: int) -> None:
    everybody = sample(SHELL, torch.arange(4096))
    assert torch.equal(sample(SHELL, torch.arange(batch)), everybody[:batch])
    assert torch.equal(sample(SHELL, torch.arange(500, 500 + batch)), everybody[500 : 500 + batch])


def test_successive_draws_differ() -> None:
    first, stream = SHELL.sample(Stream.start(torch.arange(8)))
    second, _ = SHELL.sample(stream)
    assert (first != second).all()

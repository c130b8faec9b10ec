"""Scores against closed forms, direct sums, and what they must be for members that are truths."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from separatrix.envs.twin.assimilate.scores import (
    coverage,
    crps,
    fair_crps,
    quantiles,
    rank_histogram,
    spread_skill,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def normal_crps(truth: float, deviation: float = 1.0) -> float:
    """Of a normal distribution of mean 0 (Gneiting et al., Mon. Weather Rev. 133 (2005) 1098)."""
    z = truth / deviation
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return deviation * (z * math.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


@pytest.mark.parametrize("truth", [-2.5, 0.0, 0.7])
def test_crps_of_a_normal(truth: float) -> None:
    probability = (torch.arange(20_000).double() + 0.5) / 20_000
    members = 1.5 * math.sqrt(2) * torch.special.erfinv(2 * probability - 1)
    found = float(crps(members[:, None], torch.tensor([truth]).double()))
    assert found == pytest.approx(normal_crps(truth, 1.5), rel=1e-4)


def test_crps_is_the_sum_over_pairs() -> None:
    ensemble, truth = normal(3, 2, 7, 4), normal(3, 2, 4, seed=1)
    error = (ensemble - truth[..., None, :]).abs().mean(-2)
    pairs = (ensemble[..., :, None, :] - ensemble[..., None, :, :]).abs().sum((-3, -2))
    torch.testing.assert_close(crps(ensemble, truth), error - pairs / (2 * 49))
    torch.testing.assert_close(fair_crps(ensemble, truth), error - pairs / (2 * 42))


def test_crps_is_the_integral_of_the_squared_difference_of_distributions() -> None:
    ensemble, truth = normal(6, 1), torch.tensor([0.4]).double()
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    share = (ensemble <= x).double().mean(0)
    integral = float(((share - (truth <= x).double()).square()).sum() * (x[1] - x[0]))
    assert float(crps(ensemble, truth)) == pytest.approx(integral, abs=1e-4)


def test_fair_crps_has_no_bias() -> None:
    """Three members or thirty, the score of the normal they come from; the plain one favours 30."""
    for members in (3, 30):
        ensemble = normal(100_000, members, 1, seed=members)
        truth = torch.full((100_000, 1), 0.5).double()
        fair, plain = fair_crps(ensemble, truth), crps(ensemble, truth)
        error = 5 * float(fair.std()) / math.sqrt(100_000)
        assert float(fair.mean()) == pytest.approx(normal_crps(0.5), abs=error)
        # E|X - X'| = 2 / sqrt(pi)
        bias = 1 / (math.sqrt(math.pi) * members)
        assert float(plain.mean()) == pytest.approx(normal_crps(0.5) + bias, abs=error)


def test_one_member_has_an_absolute_error_and_no_fair_score() -> None:
    ensemble, truth = normal(1, 3), normal(3, seed=1)
    torch.testing.assert_close(crps(ensemble, truth), (ensemble[0] - truth).abs())
    with pytest.raises(ValueError, match="ensemble: got 1 members; allowed: 2 or more"):
        fair_crps(ensemble, truth)


def test_spread_is_the_error_of_reliable_ensembles() -> None:
    draws = normal(60_000, 6, 2) * torch.tensor([1.0, 3.0]).double() + normal(60_000, 1, 2, seed=1)
    found = spread_skill(draws[:, 1:], draws[:, 0])
    torch.testing.assert_close(found.ratio, torch.ones(2).double(), rtol=0, atol=0.02)
    expected = torch.tensor([1.0, 3.0]).double() * math.sqrt(6 / 5)
    torch.testing.assert_close(found.error, expected, rtol=0.02, atol=0)
    narrow = spread_skill(
        draws[:, 1:] * 0.5 + draws[:, 1:].mean(1, keepdim=True) * 0.5, draws[:, 0]
    )
    torch.testing.assert_close(narrow.ratio, found.ratio / 2)


def test_ranks() -> None:
    draws = normal(200, 100, 5, 2)
    counts = rank_histogram(draws[..., 1:, :], draws[..., 0, :], generator())
    assert counts.shape == (2, 5) and counts.sum(1).tolist() == [20_000, 20_000]
    assert (counts - 4000).abs().max() < 5 * math.sqrt(20_000 * 0.2 * 0.8)
    # Truths of wider draws are outermost; members above all of them are never below one.
    wide = rank_histogram(draws[..., 1:, :], 10 * draws[..., 0, :], generator())
    assert (wide[:, 0] > 2 * wide[:, 2]).all() and (wide[:, -1] > 2 * wide[:, 2]).all()
    high = rank_histogram(draws[..., 1:, :] + 100, draws[..., 0, :], generator())
    assert high[:, 0].tolist() == [20_000, 20_000]


def test_ties_get_a_random_rank() -> None:
    ensemble = torch.zeros(50_000, 4, 1).double()
    counts = rank_histogram(ensemble, torch.zeros(50_000, 1).double(), generator())
    assert (counts - 10_000).abs().max() < 5 * math.sqrt(50_000 * 0.2 * 0.8)


def test_quantiles_leave_their_share_below() -> None:
    """Over draws of ensemble and truth; exactly k / (N + 1) at the k-th member."""
    ensemble = normal(9, 2).sort(0).values
    for k in range(1, 10):
        torch.testing.assert_close(quantiles(ensemble, k / 10), ensemble[k - 1])
    torch.testing.assert_close(quantiles(ensemble, 0.25), ensemble[1:3].mean(0))
    assert torch.equal(quantiles(ensemble, 0.0), ensemble[0])
    assert torch.equal(quantiles(ensemble, 1.0), ensemble[-1])
    with pytest.raises(ValueError, match=r"probability: got 1.5; allowed: numbers from 0 to 1"):
        quantiles(ensemble, 1.5)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_coverage_is_the_level(level: float) -> None:
    draws = normal(100_000, 20, 1).exp()  # skewed: intervals are not symmetric
    found = float(coverage(draws[:, 1:], draws[:, 0], level))
    assert found == pytest.approx(level, abs=5 * math.sqrt(0.25 / 100_000))


def test_levels_that_no_member_reaches() -> None:
    ensemble, truth = normal(10, 9, 1), normal(10, 1, seed=1)
    coverage(ensemble, truth, 0.8)
    for level in (0.81, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"level: got .*; allowed with 9 members: 0 to 0.8000"):
            coverage(ensemble, truth, level)


def test_a_case_that_is_not_finite_stays_alone() -> None:
    ensemble, truth = normal(3, 5, 2), normal(3, 2, seed=1)
    ensemble[1, 2, 0] = torch.nan
    for score in (crps, fair_crps):
        found = score(ensemble, truth)
        assert found.isnan().nonzero().tolist() == [[1, 0]]

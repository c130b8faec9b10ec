"""The filters against the exact Kalman filter, and what they must keep whatever the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separatrix.envs.twin.assimilate.ensemble_kalman import (
    ensemble_transform,
    inflate,
    local_ensemble_transform,
    perturbed_observations,
    rotate,
)

Filter = Callable[..., Tensor]

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
SIZES = pytest.mark.parametrize("members", [5, 40], ids=["few members", "many members"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def perturbed(ensemble: Tensor, observed: Tensor, observation: Tensor, variance: Tensor) -> Tensor:
    return perturbed_observations(ensemble, observed, observation, variance, generator(7))


def local(ensemble: Tensor, observed: Tensor, observation: Tensor, variance: Tensor) -> Tensor:
    weights = torch.ones((ensemble.shape[-1], observed.shape[-1]), dtype=torch.float64)
    return local_ensemble_transform(ensemble, observed, observation, variance, weights)


EVERY = pytest.mark.parametrize("method", [perturbed, ensemble_transform, local])


def problem(members: int, *batch: int, state: int = 6, seen: int = 8) -> tuple[Tensor, ...]:
    """An ensemble, what it predicts by a matrix, an observation, variances, and the matrix."""
    ensemble = normal(*batch, members, state, seed=1) * 2 + 3
    matrix = normal(seen, state, seed=2)
    observation = normal(*batch, seen, seed=3)
    return ensemble, ensemble @ matrix.mT, observation, normal(seen, seed=4).square() + 0.2, matrix


def moments(ensemble: Tensor) -> tuple[Tensor, Tensor]:
    return ensemble.mean(-2), ensemble.mT.cov()


def kalman(
    mean: Tensor, covariance: Tensor, matrix: Tensor, observation: Tensor, error: Tensor
) -> tuple[Tensor, Tensor]:
    """The exact analysis; errors of observation may be infinite."""
    information = matrix.mT @ torch.linalg.inv(error) @ matrix
    after = torch.linalg.inv(torch.linalg.inv(covariance) + information)
    gain = after @ matrix.mT @ torch.linalg.inv(error)
    return mean + gain @ (observation - matrix @ mean), after


@pytest.mark.parametrize("method", [ensemble_transform, local])
def test_square_root_filters_are_exact_for_the_moments_of_the_ensemble(method: Filter) -> None:
    *given, matrix = problem(40)
    ensemble, _, observation, variance = given
    mean, covariance = kalman(*moments(ensemble), matrix, observation, variance.diag())
    found = moments(method(*given))
    torch.testing.assert_close(found[0], mean, **CLOSE)
    torch.testing.assert_close(found[1], covariance, **CLOSE)


def test_few_members_are_exact_in_their_subspace() -> None:
    """With the covariance of five members, which has no inverse, in Joseph's form of the gain."""
    *given, matrix = problem(5)
    ensemble, _, observation, variance = given
    mean, covariance = moments(ensemble)
    gain = covariance @ matrix.mT @ torch.linalg.inv(matrix @ covariance @ matrix.mT
                                                     + variance.diag())  # fmt: skip
    found = moments(ensemble_transform(*given))
    torch.testing.assert_close(found[0], mean + gain @ (observation - matrix @ mean), **CLOSE)
    torch.testing.assert_close(found[1], covariance - gain @ matrix @ covariance, **CLOSE)


def test_a_large_perturbed_ensemble_is_that_of_the_exact_filter() -> None:
    """Within five standard errors of the sampling of prior and noise."""
    members, factor = 200_000, normal(3, 3, seed=5)
    prior_mean, prior = torch.tensor([1.0, -2.0, 0.5]).double(), factor @ factor.mT
    ensemble = prior_mean + normal(members, 3, seed=6) @ factor.mT
    matrix, observation = normal(2, 3, seed=7), torch.tensor([0.3, 0.7]).double()
    error = torch.tensor([[0.5, 0.2], [0.2, 0.4]]).double()
    found = moments(
        perturbed_observations(ensemble, ensemble @ matrix.mT, observation, error, generator())
    )
    mean, covariance = kalman(prior_mean, prior, matrix, observation, error)
    scale = prior.diagonal().sqrt().max()
    assert (found[0] - mean).abs().max() < 5 * scale / math.sqrt(members)
    assert (found[1] - covariance).abs().max() < 5 * 2 * scale**2 / math.sqrt(members)


@SIZES
def test_perturbed_mean_is_that_of_the_transform(members: int) -> None:
    """The noise of all members has mean zero."""
    *given, _ = problem(members)
    torch.testing.assert_close(
        perturbed(*given).mean(0), ensemble_transform(*given).mean(0), **CLOSE
    )


def test_the_noise_has_the_covariance_of_the_error() -> None:
    """Of each member, so that the analysis is wider by N / (N - 1) of the gain's share."""
    error = torch.tensor([[2.0, 0.6], [0.6, 1.0]]).double()
    ensemble = normal(4, 2, seed=1).expand(10_000, 4, 2)
    analysis = perturbed_observations(
        ensemble, ensemble, torch.zeros(10_000, 2).double(), error, generator()
    )
    prior = ensemble[0].mT.cov()
    gain = prior @ torch.linalg.inv(prior + error)
    expected = prior - gain @ prior + gain @ error @ gain.mT / 3
    found = torch.stack([row.mT.cov() for row in analysis]).mean(0)
    assert (found - expected).abs().max() < 5 * expected.diagonal().max() / math.sqrt(10_000)


@SIZES
@EVERY
def test_missing_observations_are_left_out(method: Filter, members: int) -> None:
    ensemble, observed, observation, variance, _ = problem(members)
    kept = torch.tensor([0, 2, 3, 6])
    holes = torch.full_like(observation, torch.nan)
    holes[kept] = observation[kept]
    part = (ensemble, observed[:, kept], observation[kept], variance[kept])
    found, expected = method(ensemble, observed, holes, variance), method(*part)
    if method is perturbed:  # other noise, the same mean
        found, expected = found.mean(0), expected.mean(0)
    torch.testing.assert_close(found, expected, **CLOSE)


@SIZES
@EVERY
def test_nothing_observed_changes_nothing(method: Filter, members: int) -> None:
    ensemble, observed, observation, variance, _ = problem(members)
    analysis = method(ensemble, observed, observation * torch.nan, variance)
    torch.testing.assert_close(analysis, ensemble, **CLOSE)


@pytest.mark.parametrize("method", [perturbed, ensemble_transform])
def test_a_diagonal_covariance_is_its_variances(method: Filter) -> None:
    ensemble, observed, observation, variance, _ = problem(5)
    observation[3] = torch.nan
    torch.testing.assert_close(
        method(ensemble, observed, observation, variance.diag()),
        method(ensemble, observed, observation, variance),
        **CLOSE,
    )


def test_correlated_errors_with_holes() -> None:
    ensemble, observed, observation, _, _ = problem(5)
    factor = normal(8, 8, seed=9)
    error = factor @ factor.mT + torch.eye(8).double()
    kept = torch.tensor([1, 4, 5])
    holes = torch.full_like(observation, torch.nan)
    holes[kept] = observation[kept]
    torch.testing.assert_close(
        ensemble_transform(ensemble, observed, holes, error),
        ensemble_transform(ensemble, observed[:, kept], observation[kept], error[kept][:, kept]),
        **CLOSE,
    )


@SIZES
@pytest.mark.parametrize("method", [ensemble_transform, local])
def test_ensembles_of_a_batch_do_not_disturb_each_other(method: Filter, members: int) -> None:
    ensemble, observed, observation, variance, _ = problem(members, 2, 3)
    observation[0, 1, 4] = torch.nan
    ensemble[1, 2, 0, 0] = torch.inf
    observed[1, 0, 2, 2] = torch.nan
    observation[0, 2, 1] = torch.inf
    together = method(ensemble, observed, observation, variance)
    broken = {(1, 2), (1, 0), (0, 2)}
    for place in [(i, j) for i in range(2) for j in range(3)]:
        if place in broken:
            assert together[place].isnan().all()
            continue
        alone = method(ensemble[place], observed[place], observation[place], variance)
        torch.testing.assert_close(together[place], alone, **CLOSE)


def test_broken_ensembles_of_a_batch_leave_the_noise_of_others() -> None:
    ensemble, observed, observation, variance, _ = problem(5, 3)
    whole = perturbed(ensemble, observed, observation, variance)
    ensemble[1, 2, 2] = torch.nan
    broken = perturbed(ensemble, observed, observation, variance)
    assert broken[1].isnan().all()
    assert torch.equal(broken[[0, 2]], whole[[0, 2]])


@EVERY
def test_single_precision_is_computed_in_double(method: Filter) -> None:
    *given, _ = problem(5)
    single = [value.float() for value in given]
    found = method(*single)
    assert found.dtype == torch.float32
    assert torch.equal(found, method(*(value.double() for value in single)).float())


@settings(deadline=None, max_examples=60)
@given(
    members=st.integers(2, 12),
    state=st.integers(1, 6),
    seen=st.integers(1, 9),
    scale=st.floats(1e-6, 1e6),
    seed=st.integers(0, 1000),
)
def test_rotated_transform_keeps_the_moments(
    members: int, state: int, seen: int, scale: float, seed: int
) -> None:
    ensemble = normal(members, state, seed=seed) * scale
    observed, observation = ensemble @ normal(state, seen, seed=1), normal(seen, seed=2) * scale
    given = (ensemble, observed, observation, torch.full((seen,), scale**2).double())
    plain = ensemble_transform(*given)
    rotated = ensemble_transform(*given, rotation=generator(seed))
    for found, expected in zip(moments(rotated), moments(plain), strict=True):
        limit = 1e-9 * expected.abs().max().clamp(min=scale)
        assert (found - expected).abs().max() <= limit * max(1.0, scale)
    if members > 2:
        assert (rotated - plain).abs().max() > 1e-3 * plain.std(0).max()
    # An analysis is never less certain than the forecast.
    assert (plain.var(0) <= ensemble.var(0) * (1 + 1e-9)).all()


def test_rotations_are_uniform() -> None:
    """Each member's share in another is as any other's: mean square 1 / N apart from the mean's."""
    members = 4
    ensemble = torch.eye(members).double().expand(20_000, members, members)
    matrix = rotate(ensemble, generator())  # the rotations themselves
    identity = torch.eye(members).double()
    torch.testing.assert_close(matrix @ matrix.mT, identity.expand_as(matrix), **CLOSE)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(20_000, members).double(), **CLOSE)
    # E[P Q P] = P E[Q] P = 0: what is left is the mean.
    assert (matrix.mean(0) - 1 / members).abs().max() < 5 / math.sqrt(3 * 20_000)
    assert (torch.linalg.det(matrix) < 0).double().mean() == pytest.approx(0.5, abs=0.02)


def test_inflation() -> None:
    ensemble = normal(2, 5, 3)
    found = inflate(ensemble, 1.5)
    torch.testing.assert_close(found.mean(-2), ensemble.mean(-2), **CLOSE)
    torch.testing.assert_close(found.std(-2), 1.5 * ensemble.std(-2), **CLOSE)


def test_local_analyses_are_transforms_of_each_component_alone() -> None:
    ensemble, observed, observation, variance, _ = problem(5)
    weights = torch.rand((6, 8), generator=generator(3), dtype=torch.float64)
    weights[2] = 0
    weights[4, :7] = 0
    found = local_ensemble_transform(ensemble, observed, observation, variance, weights)
    torch.testing.assert_close(found[:, 2], ensemble[:, 2], **CLOSE)
    for i in (0, 1, 3, 4, 5):
        near = weights[i] > 0
        part = (ensemble, observed[:, near], observation[near], (variance / weights[i])[near])
        torch.testing.assert_close(found[:, i], ensemble_transform(*part)[:, i], **CLOSE)


def test_what_is_drawn_is_set_by_the_generator_alone() -> None:
    *given, _ = problem(5)
    assert torch.equal(perturbed(*given), perturbed(*given))
    assert not torch.equal(rotate(given[0], generator(3)), rotate(given[0], generator(4)))
    assert torch.equal(rotate(given[0], generator(3)), rotate(given[0], generator(3)))


def wrong(change: str) -> tuple[Tensor, ...]:
    ensemble, observed, observation, variance, _ = problem(5)
    match change:
        case "members":
            observed = observed[:4]
        case "observation":
            observation = observation[:7]
        case "variance size":
            variance = variance[:7]
        case "variance sign":
            variance[3] = 0
        case "variance nan":
            variance[3] = torch.nan
        case "covariance":
            variance = -torch.eye(8).double()
        case "asymmetric":
            variance = torch.eye(8).double() + torch.ones(8, 8).triu(1) * 0.1
        case "one member":
            ensemble, observed = ensemble[:1], observed[:1]
    return ensemble, observed, observation, variance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("members", r"observed: got shape \(4, 8\); allowed: \(5, 8\)"),
        ("observation", r"observation: got shape \(7,\); allowed: \(8,\)"),
        ("variance size", r"variance: got shape \(7,\); allowed: \(8,\)"),
        ("variance sign", "variance: got a number that is not; allowed: finite numbers > 0"),
        ("variance nan", "variance: got a number that is not; allowed: finite numbers > 0"),
        ("covariance", "variance: got another matrix; allowed: symmetric, positive definite"),
        ("asymmetric", "variance: got another matrix; allowed: symmetric, positive definite"),
        ("one member", "ensemble: got 1 members; allowed: 2 or more"),
    ],
)
@pytest.mark.parametrize("method", [perturbed, ensemble_transform])
def test_wrong_arguments(
    method: Filter, change: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users run it
    with pytest.raises(ValueError, match=message):
        method(*wrong(change))


def test_wrong_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    ensemble, observed, observation, variance, _ = problem(5)
    ones = torch.ones((6, 8), dtype=torch.float64)
    for weights in (ones[:5], ones * 2, ones * torch.nan, -ones):
        with pytest.raises(ValueError, match=r"weights: got .*; allowed: shape \(6, 8\)"):
            local_ensemble_transform(ensemble, observed, observation, variance, weights)
    with pytest.raises(ValueError, match=r"variance: got shape \(8, 8\)"):
        local_ensemble_transform(ensemble, observed, observation, variance.diag(), ones)

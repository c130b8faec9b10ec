"""Sparse Bayesian regression: known truths, another implementation, honest error bars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import ARDRegression
from torch import Tensor

from separatrix.agents.common.sparse.bayes import SparseBayes
from separatrix.agents.common.sparse.ensemble import fit_ensemble
from separatrix.agents.common.sparse.libraries import PolynomialLibrary

LIBRARY = PolynomialLibrary(3, ("x", "y", "z"))
NOISE = 0.1


def data(seed: int, rows: int = 500, targets: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Features of random inputs, sums of five of them with noise, and the true coefficients."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn((rows, 3), generator=generator, dtype=torch.float64)
    theta = LIBRARY(inputs)
    truth = torch.zeros((targets, theta.shape[1]), dtype=torch.float64)
    for row in truth:
        place = torch.randperm(len(row), generator=generator)[:5]
        sign = 2.0 * torch.randint(0, 2, (5,), generator=generator) - 1
        row[place] = sign * (0.5 + torch.rand(5, generator=generator).double())
    errors = torch.randn((rows, targets), generator=generator, dtype=torch.float64)
    return theta, theta @ truth.T + NOISE * errors, truth


def test_true_terms_are_always_found_and_false_ones_as_rarely_as_promised() -> None:
    """A useless feature passes a relevance of 9 with probability 0.27 %, alone; 900 are tried."""
    missing = false = 0
    for seed in range(20):
        theta, targets, truth = data(seed)
        found = SparseBayes().fit(theta, targets)
        assert found.converged.all()
        missing += int(((found.coefficients == 0) & (truth != 0)).sum())
        false += int(((found.coefficients != 0) & (truth == 0)).sum())
    assert missing == 0
    # 2.4 are expected; more than 8 have probability 1e-3.
    assert false <= 8


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed: int) -> None:
    """Its ARD regression maximizes the same evidence but prunes by another rule.

    Given the features that we keep, its means, covariances and noise are ours. Left to choose, it
    keeps every true feature, too; where the supports differ, the coefficient is next to nothing.
    """
    theta, targets, truth = data(seed)
    ours = SparseBayes(tolerance=1e-9).fit(theta, targets)
    options = {"fit_intercept": False, "tol": 1e-10, "max_iter": 5000}
    for target in range(3):
        answers, mine = targets[:, target].numpy(), ours.coefficients[target] != 0
        vague = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
        same = ARDRegression(**options, **vague, threshold_lambda=1e300)
        same.fit(theta[:, mine].numpy(), answers)
        coefficients, covariance = ours.coefficients[target], ours.covariance[target]
        np.testing.assert_allclose(coefficients[mine].numpy(), same.coef_, rtol=1e-6)
        inner = covariance[mine][:, mine].numpy()
        np.testing.assert_allclose(inner, same.sigma_, rtol=1e-5, atol=1e-12)
        assert float(ours.noise_variance[target]) == pytest.approx(1 / same.alpha_, rel=1e-5)
        free = ARDRegression(**options).fit(theta.numpy(), answers)
        theirs = torch.from_numpy(free.coef_)
        true = truth[target] != 0
        assert (mine & (theirs != 0))[true].all()
        assert ((mine == (theirs != 0)) | (coefficients.abs() + theirs.abs() < 0.05)).all()


def test_with_one_feature_the_evidence_is_maximal_where_theory_says() -> None:
    """One column and known noise: a = s^2 / (q^2 - s), mean = q / (a + s), variance 1 / (a + s)."""
    generator = torch.Generator().manual_seed(0)
    column = torch.randn((200, 1), generator=generator, dtype=torch.float64)
    target = 0.3 * column + torch.randn((200, 1), generator=generator, dtype=torch.float64)
    found = SparseBayes(tolerance=1e-12).fit(column, target)
    b = 1 / found.noise_variance[0]
    s = b * column.square().sum()
    q = b * (column * target).sum()
    a = s**2 / (q**2 - s)
    torch.testing.assert_close(found.coefficients[0, 0], q / (a + s), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.covariance[0, 0, 0], 1 / (a + s), rtol=1e-9, atol=0)
    # The noise precision, in turn, is the fixed point: (N - gamma) / residual.
    residual = (target - column * found.coefficients[0, 0]).square().sum()
    torch.testing.assert_close(b, (200 - (1 - a / (a + s))) / residual, rtol=1e-9, atol=0)


def test_error_bars_cover_the_truth_as_often_as_they_claim() -> None:
    scores = []
    for seed in range(40):
        theta, targets, truth = data(seed)
        found = SparseBayes().fit(theta, targets)
        deviation = found.covariance.diagonal(dim1=1, dim2=2).sqrt()
        kept = truth != 0
        scores.append((found.coefficients - truth)[kept] / deviation[kept])
        assert float(found.noise_variance.mean()) == pytest.approx(NOISE**2, rel=0.2)
    share = float((torch.cat(scores).abs() < 1.96).double().mean())
    # 600 scores, about independent: 0.95 with a standard deviation of 0.009.
    assert abs(share - 0.95) < 0.03


def test_result_does_not_depend_on_units() -> None:
    theta, targets, _ = data(0)
    scale = torch.logspace(-4, 4, theta.shape[1], dtype=torch.float64)
    plain, scaled = SparseBayes().fit(theta, targets), SparseBayes().fit(theta * scale, targets)
    torch.testing.assert_close(
        scaled.coefficients * scale, plain.coefficients, rtol=1e-6, atol=1e-9
    )


def test_dependent_columns_and_exact_data() -> None:
    """cos^2 + sin^2 = 1: one of the three must go; without noise the fit is exact."""
    angle = torch.linspace(0, 6, 300, dtype=torch.float64)
    theta = torch.stack([angle.cos() ** 2, angle.sin() ** 2, torch.ones_like(angle), angle], 1)
    targets = theta @ torch.tensor([[2.0, 0.0, 0.0, 0.5]], dtype=torch.float64).T
    found = SparseBayes().fit(theta, targets)
    assert found.converged.all()
    assert (found.coefficients != 0).sum() <= 3
    torch.testing.assert_close(theta @ found.coefficients.T, targets, rtol=0, atol=1e-6)


def test_nothing_relevant_leaves_nothing() -> None:
    theta = torch.randn((100, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.zeros((100, 2), dtype=torch.float64)
    targets[:, 1] = torch.randn(100, generator=torch.Generator().manual_seed(1)).double()
    found = SparseBayes(relevance=30.0).fit(theta, targets)
    assert not found.coefficients.any() and not found.covariance.any() and found.converged.all()
    assert float(found.noise_variance[1]) == pytest.approx(float(targets[:, 1].square().mean()))


def test_members_are_fits_of_their_own() -> None:
    theta, targets, _ = data(3)
    ensemble = fit_ensemble(SparseBayes(), theta, targets, members=3, drop=1, seed=4)
    again = fit_ensemble(SparseBayes(), theta, targets, members=3, drop=1, seed=4)
    assert torch.equal(ensemble.coefficients, again.coefficients)
    weights = torch.rand((3, 500), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    together: Any = SparseBayes().fit(theta, targets, weights)
    assert together.covariance.shape == (3, 3, 20, 20)
    for member in range(3):
        alone: Any = SparseBayes().fit(theta, targets, weights[member : member + 1])
        for name in ("coefficients", "covariance", "noise_variance"):
            torch.testing.assert_close(
                getattr(together, name)[member], getattr(alone, name)[0], rtol=1e-6, atol=1e-9
            )


@pytest.mark.parametrize("options", [{"relevance": 0.5}, {"tolerance": 0.0}, {"max_iter": 0}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: got"):
        SparseBayes(**options)


def test_too_few_iterations_are_told() -> None:
    theta, targets, _ = data(0)
    found = SparseBayes(max_iter=2).fit(theta, targets)
    assert not found.converged.any()
    assert np.isfinite(found.coefficients.numpy()).all()

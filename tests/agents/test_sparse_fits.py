"""STLSQ and its ensembles: PySINDy's results on the same data, exact ones, errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pysindy
import pytest
import torch
from torch import Tensor

from separatrix.agents.common.sparse.bayes import SparseBayes
from separatrix.agents.common.sparse.ensemble import fit_ensemble
from separatrix.agents.common.sparse.least_squares import LeastSquares
from separatrix.agents.common.sparse.libraries import (
    FourierLibrary,
    PolynomialLibrary,
    control_affine_library,
)
from separatrix.agents.common.sparse.library import Library
from separatrix.agents.common.sparse.optimizer import Optimizer, check_data
from separatrix.agents.common.sparse.pysindy_optimizer import PySINDyOptimizer
from separatrix.agents.common.sparse.stlsq import STLSQ

XYZ = ("x", "y", "z")
STATES = ("x", "c", "s", "v", "w")
LIBRARIES: dict[str, Library] = {
    "cubic": PolynomialLibrary(3, XYZ),
    "powers": PolynomialLibrary(2, XYZ, bias=False, interactions=False),
    "sines": PolynomialLibrary(2, XYZ) + FourierLibrary(XYZ, 2),
    "swing-up": control_affine_library(
        PolynomialLibrary(2, STATES, bias=False), PolynomialLibrary(2, STATES), ("u",)
    ),
}


def data(
    name: str, rows: int = 400, targets: int = 3, noise: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Features of random inputs on an attractor's scale, and sparse sums of them with noise."""
    library = LIBRARIES[name]
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    inputs = 2 * torch.randn((rows, len(library.names)), generator=generator, dtype=torch.float64)
    if name == "swing-up":  # where u, u cos^2 and u sin^2 depend on one another
        inputs[:, 1], inputs[:, 2] = inputs[:, 0].cos(), inputs[:, 0].sin()
        inputs[:, 0] = torch.randn(rows, generator=generator, dtype=torch.float64)
    theta = library(inputs)
    truth = torch.randn((targets, library.num_features), generator=generator, dtype=torch.float64)
    truth = truth * (torch.rand(truth.shape, generator=generator) < 0.3)
    errors = torch.randn((rows, targets), generator=generator, dtype=torch.float64)
    return theta, theta @ truth.T + noise * errors


def by_pysindy(optimizer: Any, theta: Tensor, targets: Tensor) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparsity parameter is too big")
        warnings.filterwarnings("ignore", "STLSQ did not converge")
        return optimizer.fit(theta.numpy(), targets.numpy()).coef_


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("unbias", [True, False])
@pytest.mark.parametrize("alpha", [1e-5, 0.05, 5.0])
@pytest.mark.parametrize("threshold", [0.0, 0.007, 0.1, 0.5])
def test_stlsq_is_pysindys(name: str, threshold: float, alpha: float, unbias: bool) -> None:
    theta, targets = data(name)
    expected = by_pysindy(
        pysindy.STLSQ(threshold=threshold, alpha=alpha, unbias=unbias), theta, targets
    )
    found = STLSQ(threshold, alpha, unbias=unbias).fit(theta, targets)
    assert found.converged.all()
    if threshold > 0:
        assert ((found.coefficients.numpy() != 0) == (expected != 0)).all()
    # Theirs solves for the ridge by a Cholesky factorization too, of columns as they are; with
    # alpha = 1e-5 and dependent columns it holds seven digits.
    np.testing.assert_allclose(found.coefficients.numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("unbias", [True, False])
@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_too_few_iterations_end_where_pysindys_do(max_iter: int, unbias: bool) -> None:
    theta, targets = data("swing-up", rows=60, noise=4.0)
    options: dict[str, Any] = {"threshold": 0.3, "alpha": 1.0, "max_iter": max_iter}
    expected = by_pysindy(pysindy.STLSQ(unbias=unbias, **options), theta, targets)
    found = STLSQ(unbias=unbias, **options).fit(theta, targets)
    np.testing.assert_allclose(found.coefficients.numpy(), expected, rtol=1e-9, atol=1e-12)
    enough = STLSQ(0.3, 1.0, unbias=False).fit(theta, targets).coefficients
    unsettled = ((enough != 0) != (found.coefficients != 0)).any(1)
    assert unsettled.any()
    assert not (found.converged & unsettled).any()


def test_an_empty_support_is_a_result() -> None:
    theta, targets = data("cubic")
    found = STLSQ(threshold=1e6).fit(theta, targets)
    assert not found.coefficients.any() and found.converged.all()
    assert not by_pysindy(pysindy.STLSQ(threshold=1e6), theta, targets).any()


def test_targets_and_columns_of_zeros_get_zeros() -> None:
    theta, targets = data("cubic")
    theta[:, 4], targets[:, 1] = 0.0, 0.0
    for alpha in (0.0, 0.05):
        found = STLSQ(0.01, alpha).fit(theta, targets).coefficients
        assert found.isfinite().all() and not found[1].any() and not found[:, 4].any()
        assert found[0].any()


def test_columns_of_any_scale_are_solved_to_rounding() -> None:
    """Scaling the columns keeps a Gram matrix whose entries span 24 decades harmless."""
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn((500, 8), generator=generator, dtype=torch.float64)
    scale = torch.logspace(-6, 6, 8, dtype=torch.float64)
    truth = torch.randn((2, 8), generator=generator, dtype=torch.float64) / scale
    found = STLSQ(0.0, 0.0).fit(theta * scale, (theta * scale) @ truth.T).coefficients
    torch.testing.assert_close(found * scale, truth * scale, rtol=0, atol=1e-13)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-5, 1e-6, 1e-7])
def test_nearly_dependent_columns(gap: float) -> None:
    """The normal equations lose twice the digits; below a pivot of 1e-9 they are not used."""
    generator = torch.Generator().manual_seed(1)
    theta = torch.randn((500, 6), generator=generator, dtype=torch.float64)
    theta[:, 5] = theta[:, 0] + theta[:, 1] + gap * theta[:, 5]
    truth = torch.randn((2, 6), generator=generator, dtype=torch.float64)
    found = STLSQ(0.0, 0.0).fit(theta, theta @ truth.T).coefficients
    assert (found - truth).abs().max() < 1e-6


def test_coefficients_that_data_leave_open_are_the_smallest() -> None:
    theta, targets = data("swing-up")
    expected = torch.linalg.lstsq(theta, targets, driver="gelsd").solution.T
    found = STLSQ(0.0, 0.0).fit(theta, targets).coefficients
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_fewer_rows_than_features() -> None:
    """The smallest of all coefficients that fit exactly; with a ridge, PySINDy's."""
    theta, targets = data("cubic", rows=12)
    expected = torch.linalg.lstsq(theta, targets, driver="gelsd").solution.T
    found = STLSQ(0.0, 0.0).fit(theta, targets).coefficients
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    theirs = by_pysindy(pysindy.STLSQ(threshold=0.1, alpha=0.1, unbias=False), theta, targets)
    ours = STLSQ(0.1, 0.1, unbias=False).fit(theta, targets).coefficients
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-8, atol=1e-10)


def test_weights_are_repeated_rows() -> None:
    theta, targets = data("sines", rows=60)
    counts = torch.randint(0, 4, (5, 60), generator=torch.Generator().manual_seed(3))
    found = STLSQ(0.05, 0.1).fit(theta, targets, weights=counts.double())
    assert found.coefficients.shape == (5, 3, theta.shape[1])
    for member, count in enumerate(counts):
        rows = torch.arange(60).repeat_interleave(count)
        expected = STLSQ(0.05, 0.1).fit(theta[rows], targets[rows])
        assert torch.equal(found.coefficients[member] != 0, expected.coefficients != 0)
        torch.testing.assert_close(
            found.coefficients[member], expected.coefficients, rtol=1e-8, atol=1e-10
        )


def test_a_member_and_a_target_do_not_depend_on_the_others() -> None:
    theta, targets = data("cubic")
    weights = torch.rand((4, 400), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    columns = torch.rand((4, 20), generator=torch.Generator().manual_seed(5)) < 0.8
    optimizer = STLSQ(0.1, 0.05)
    together = optimizer.fit(theta, targets, weights, columns).coefficients
    for member in range(4):
        one = slice(member, member + 1)
        alone = optimizer.fit(theta, targets, weights[one], columns[one]).coefficients[0]
        torch.testing.assert_close(together[member], alone, rtol=1e-10, atol=1e-12)
    assert not together[~columns[:, None].expand_as(together)].any()
    single = optimizer.fit(theta, targets[:, 1:2]).coefficients[0]
    every = optimizer.fit(theta, targets).coefficients[1]
    torch.testing.assert_close(single, every, rtol=1e-10, atol=1e-12)


def test_a_sum_in_blocks_is_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    theta, targets = data("cubic")
    weights = torch.rand((3, 400), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    whole = LeastSquares(theta, targets, weights)
    monkeypatch.setattr("separatrix.agents.common.sparse.least_squares.BLOCK", 1000)
    parts = LeastSquares(theta, targets, weights)
    direct = torch.einsum("en,np,nq->epq", weights, theta, theta)
    scale = direct.diagonal(dim1=1, dim2=2).sqrt()
    expected = direct / scale[:, :, None] / scale[:, None, :]
    for found in (whole, parts):
        torch.testing.assert_close(found.gram, expected, rtol=1e-12, atol=1e-13)
    energy = torch.einsum("en,nt->et", weights, targets**2)
    torch.testing.assert_close(parts.energy, energy.flatten(), rtol=1e-12, atol=0)


# --- ensembles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("unbias", [True, False])
@pytest.mark.parametrize("name", ["cubic", "swing-up"])
def test_members_are_those_of_pysindys_ensemble(name: str, unbias: bool) -> None:
    """Given the rows and columns that PySINDy draws, our members are its members."""
    theta, targets = data(name)
    rows, features = theta.shape
    inner = pysindy.STLSQ(threshold=0.05, alpha=0.05, unbias=unbias)
    ensemble = pysindy.EnsembleOptimizer(inner, bagging=True, library_ensemble=True, n_models=6)
    np.random.seed(7)
    aggregated = by_pysindy(ensemble, theta, targets)
    np.random.seed(7)
    weights, columns = torch.zeros((6, rows), dtype=torch.float64), torch.zeros((6, features))
    for member in range(6):
        drawn = np.random.choice(range(rows), rows, replace=True)
        weights[member] = torch.from_numpy(np.bincount(drawn, minlength=rows)).double()
        columns[member, np.random.choice(range(features), features - 1, replace=False)] = 1
    found = STLSQ(0.05, 0.05, unbias=unbias).fit(theta, targets, weights, columns.bool())
    expected = np.array(ensemble.coef_list)
    assert ((found.coefficients.numpy() != 0) == (expected != 0)).all()
    np.testing.assert_allclose(found.coefficients.numpy(), expected, rtol=1e-7, atol=1e-9)
    median = np.median(found.coefficients.numpy(), axis=0)
    np.testing.assert_allclose(median, aggregated, rtol=1e-7, atol=1e-9)


class Recorder(Optimizer):
    """An optimizer that keeps what it is given."""

    def fit(self, theta: Any, targets: Any, weights: Any = None, columns: Any = None) -> Any:
        self.weights, self.columns = weights, columns
        return STLSQ().fit(theta, targets, weights, columns)


def test_draws_of_an_ensemble() -> None:
    theta, targets = data("cubic")
    recorder = Recorder()
    fit_ensemble(recorder, theta, targets, members=200, drop=2)
    assert (recorder.weights.sum(1) == 400).all()
    assert ((~recorder.columns).sum(1) == 2).all()
    # A row stays undrawn with probability (1 - 1/n)^n; every feature is dropped as often.
    assert abs((recorder.weights == 0).double().mean() - (1 - 1 / 400) ** 400) < 0.01
    dropped = (~recorder.columns).double().mean(0)
    assert (dropped - 0.1).abs().max() < 5 * (0.1 * 0.9 / 200) ** 0.5
    fit_ensemble(recorder, theta, targets, members=3, drop=0)
    assert recorder.columns.all()


def test_the_seed_alone_decides() -> None:
    theta, targets = data("cubic")
    optimizer = STLSQ(0.05)
    state = torch.get_rng_state()
    first = fit_ensemble(optimizer, theta, targets, members=5, seed=1).coefficients
    torch.rand(3)
    again = fit_ensemble(optimizer, theta, targets, members=5, seed=1).coefficients
    other = fit_ensemble(optimizer, theta, targets, members=5, seed=2).coefficients
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.set_rng_state(state)
    fit_ensemble(optimizer, theta, targets, members=5, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


# --- PySINDy as backend -------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [pysindy.STLSQ(threshold=0.05), pysindy.SR3()])
def test_pysindys_optimizers_behind_our_interface(optimizer: Any) -> None:
    theta, targets = data("cubic")
    ours = PySINDyOptimizer(optimizer)
    expected = by_pysindy(type(optimizer)(**optimizer.get_params()), theta, targets)
    for _ in range(2):
        np.testing.assert_array_equal(ours.fit(theta, targets).coefficients.numpy(), expected)
    assert not hasattr(optimizer, "coef_")


def test_an_ensemble_by_pysindy_is_ours() -> None:
    theta, targets = data("cubic")
    theirs = PySINDyOptimizer(pysindy.STLSQ(threshold=0.05, alpha=0.1))
    found = fit_ensemble(theirs, theta, targets, members=4, seed=5).coefficients
    expected = fit_ensemble(STLSQ(0.05, 0.1), theta, targets, members=4, seed=5).coefficients
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_what_pysindy_cannot_do_here_is_refused() -> None:
    ensemble = pysindy.EnsembleOptimizer(pysindy.STLSQ(), bagging=True)
    for wrong in (ensemble, STLSQ(), "STLSQ"):
        with pytest.raises(ValueError, match="optimizer: got"):
            PySINDyOptimizer(wrong)


# --- bad data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["theta"].__setitem__((17, 3), torch.nan), r"theta: 1 of 400 rows.*first: 17"),
        (lambda d: d["targets"].__setitem__((5, 1), torch.inf), r"targets: 1 of 400 rows.*5\)"),
        (lambda d: d.update(targets=d["targets"][:-1]), r"got theta \(400, 20\) and targets \(399"),
        (lambda d: d.update(theta=d["theta"][:0], targets=d["targets"][:0]), "not empty"),
        (lambda d: d.update(weights=-torch.ones(2, 400)), "weights: got a negative"),
        (lambda d: d.update(weights=torch.full((2, 400), torch.nan)), "weights: got a negative"),
        (lambda d: d.update(weights=torch.zeros(2, 400)), "weights: got a negative"),
        (lambda d: d.update(weights=torch.ones(2, 399)), r"weights: got shape \(2, 399\)"),
        (lambda d: d.update(columns=torch.ones(2, 19, dtype=torch.bool)), "columns: got"),
        (
            lambda d: d.update(
                columns=torch.ones(2, 20, dtype=torch.bool), weights=torch.ones(3, 400)
            ),
            "columns: got",
        ),
    ],
)
def test_bad_data_are_refused(change: Any, message: str) -> None:
    theta, targets = data("cubic")
    arguments: dict[str, Any] = {"theta": theta, "targets": targets}
    change(arguments)
    with pytest.raises(ValueError, match=message):
        check_data(**{"weights": None, "columns": None, **arguments})


@pytest.mark.parametrize("optimizer", [STLSQ(), SparseBayes(), PySINDyOptimizer(pysindy.STLSQ())])
def test_every_optimizer_checks_its_data(optimizer: Optimizer) -> None:
    theta, targets = data("cubic")
    theta[17, 3] = torch.nan
    with pytest.raises(ValueError, match="theta: 1 of 400 rows hold NaN"):
        optimizer.fit(theta, targets)


def test_numbers_whose_squares_overflow_are_refused() -> None:
    theta, targets = data("cubic")
    with pytest.raises(ValueError, match="squares overflow"):
        STLSQ().fit(theta * 1e200, targets)


@pytest.mark.parametrize("options", [{"threshold": -0.1}, {"alpha": np.nan}, {"max_iter": 0}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: got"):
        STLSQ(**options)


@pytest.mark.parametrize("options", [{"members": 0}, {"drop": 20}, {"drop": -1}, {"drop": True}])
def test_bad_ensembles_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}: got"):
        fit_ensemble(STLSQ(), *data("cubic"), **options)

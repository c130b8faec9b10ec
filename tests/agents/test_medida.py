"""Discovery of model error: exact terms, one-step errors, and what the filter is good for."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from separatrix.agents.medida.__main__ import main
from separatrix.agents.medida.cases import CASES
from separatrix.agents.medida.config import PAPER, MedidaConfig, Regression
from separatrix.agents.medida.discovery import discover, residual
from separatrix.agents.medida.observations import Pairs, observe
from separatrix.agents.medida.states import States
from separatrix.agents.medida.study import score, study
from separatrix.agents.medida.terms import (
    KURAMOTO_SIVASHINSKY,
    LIBRARY,
    added,
    advanced,
    equation,
    library,
    term_name,
)

SMALL = MedidaConfig(length=22.0, points=96, pairs=40, settling=60.0, members=60)
"""A box with three unstable waves: some twelve waves stand out of 1 % noise."""


@cache
def flows() -> Pairs:
    return observe(SMALL, 0)


def noisy(seed: int) -> Pairs:
    return flows().noisy(0.01, torch.Generator().manual_seed(seed))


def test_the_terms_of_a_sine_are_exact() -> None:
    length = 3.0
    k = 2 * math.pi / length
    x = torch.arange(64, dtype=torch.float64) * length / 64
    u = torch.sin(2 * k * x) + 0.5
    derivatives = [
        torch.ones_like(x),
        2 * k * torch.cos(2 * k * x),
        -((2 * k) ** 2) * torch.sin(2 * k * x),
        -((2 * k) ** 3) * torch.cos(2 * k * x),
        (2 * k) ** 4 * torch.sin(2 * k * x),
    ]
    found = library(u, length)
    assert found.shape == (24, 64)
    for (power, order), values in zip(LIBRARY, found, strict=True):
        expected = u**power * derivatives[order]
        torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9 * (2 * k) ** order)


def test_a_linear_model_decays_as_its_multiplier_says() -> None:
    x = torch.arange(32, dtype=torch.float64) * 2 * math.pi / 32
    u = torch.sin(3 * x)[None]
    found = advanced({(0, 2): 0.5, (0, 3): 0.1, (0, 4): -0.01}, u, 2 * math.pi, 0.2, 1)
    decay = math.exp(0.2 * (-0.5 * 9 - 0.01 * 81))
    torch.testing.assert_close(found, decay * torch.sin(3 * x - 0.2 * 0.1 * 27)[None])


@pytest.mark.parametrize(("number", "order"), [(1, 2), (6, 2), (3, 1), (14, 1), (20, 1)])
def test_the_one_step_error_is_the_missing_terms(number: int, order: int) -> None:
    """Up to the square of the interval if the model is linear, else to the interval."""
    case = CASES[number]
    truth = torch.tensor([case.error.get(term, 0.0) for term in LIBRARY], dtype=torch.float64)
    left = []
    for interval in (0.01, 0.005):
        first = flows().first
        second = advanced(KURAMOTO_SIVASHINSKY, first, SMALL.length, interval, 20)
        states = States(
            Pairs(first, second, SMALL.length, interval), SMALL, torch.Generator().manual_seed(0)
        )
        theta, target = residual(states, case.model)
        left.append(float((target - theta @ truth).norm() / target.norm()))
    assert left[1] < (1e-4 if order == 2 else 0.02)
    assert math.log2(left[0] / left[1]) > order - 0.2


def test_there_is_no_one_step_error_of_the_true_model() -> None:
    states = States(flows(), SMALL, torch.Generator())
    _, target = residual(states, KURAMOTO_SIVASHINSKY)
    assert target.abs().max() < 1e-6


@pytest.mark.parametrize("regression", ["bayes", "ensemble"])
@pytest.mark.parametrize("number", [3, 11, 22])
def test_errors_are_found_without_noise(number: int, regression: Regression) -> None:
    case = CASES[number]
    found = discover(flows(), case.model, replace(SMALL, regression=regression))
    result = score(found.error, case.error)
    assert result.exact, found
    assert result.largest_error < 1e-3
    for term, coefficient in found.corrected.items():
        assert coefficient == pytest.approx(KURAMOTO_SIVASHINSKY.get(term, 0.0), abs=1e-3)


def test_another_round_corrects_what_one_step_of_a_wrong_model_leaves() -> None:
    errors = []
    for rounds in (1, 2):
        found = discover(flows(), CASES[4].model, replace(SMALL, rounds=rounds))
        errors.append(score(found.error, CASES[4].error).largest_error)
    assert errors[1] < 0.1 * errors[0]


def test_the_filter_lowers_the_noise_and_finds_what_raw_observations_hide() -> None:
    pairs = noisy(1)
    states = States(pairs, SMALL, torch.Generator().manual_seed(1))
    _, second = states.forecast(KURAMOTO_SIVASHINSKY)
    for field, true in ((states.first, flows().first), (second, flows().second)):
        assert (field - true).square().mean().sqrt() < 0.6 * pairs.deviation
    case = CASES[2]
    found = discover(pairs, case.model, SMALL, seed=1)
    assert score(found.error, case.error).exact, found
    assert found.error[0, 2] == pytest.approx(-1, abs=4 * found.standard_errors[0, 2])
    raw = discover(pairs, case.model, replace(SMALL, assimilation="none"))
    assert not score(raw.error, case.error).exact


def test_a_seed_decides_everything() -> None:
    first, second = (discover(noisy(2), CASES[2].model, SMALL, seed=3) for _ in range(2))
    assert first == second


def test_waves_below_the_noise_take_no_part() -> None:
    states = States(noisy(1), replace(SMALL, assimilation="truncation"), torch.Generator())
    assert 3 < states.waves < 20
    spectrum = states.grid.transform(states.first)
    assert spectrum[:, states.waves + 1 :].abs().max() < 1e-15
    with pytest.raises(ValueError, match="no wave of the observations"):
        States(noisy(1), replace(SMALL, resolved=1e6), torch.Generator())


def test_a_term_of_the_wrong_sign_is_not_found() -> None:
    found = score({(1, 1): -1.1, (0, 2): 0.5, (0, 1): 0.1}, {(1, 1): -1.0, (0, 2): -0.5})
    assert found.missed == ("u_xx",)
    assert found.spurious == ("u_xx", "u_x")
    assert found.largest_error == pytest.approx(0.1)
    assert not found.exact
    assert math.isnan(score({}, {(1, 1): -1.0}).largest_error)
    assert score({(1, 1): -2.0}, {(1, 1): -1.0}).exact


def test_cases_are_the_papers() -> None:
    assert list(CASES) == list(range(1, 25))
    assert CASES[1].error == {(1, 1): -1.0}
    assert CASES[6].error == {(1, 1): -1.0, (0, 2): -1.0}
    assert CASES[10].error == {(1, 1): 1.0, (0, 2): 1.0, (0, 4): 1.0}
    assert CASES[13].error == {(0, 3): 0.1}
    assert CASES[24].error == {(0, 4): -1.0, (2, 1): 0.15}
    for case in CASES.values():
        assert {t: c for t, c in added(case.model, case.error).items() if c} == dict(
            KURAMOTO_SIVASHINSKY
        )


def test_equations_as_text() -> None:
    assert [term_name(term) for term in ((0, 1), (1, 0), (3, 0), (1, 1), (2, 4))] == [
        "u_x", "u", "u^3", "u u_x", "u^2 u_xxxx",
    ]  # fmt: skip
    assert equation(KURAMOTO_SIVASHINSKY) == "u_t = -1 u u_x - 1 u_xx - 1 u_xxxx"
    assert equation({(0, 3): 0.5, (0, 1): 0.0}) == "u_t = 0.5 u_xxx"
    assert equation({}) == "u_t = 0"


@pytest.mark.parametrize(
    ("name", "value"), [("members", 1), ("noise", -0.1), ("interval", 0.0), ("inclusion", 2.0)]
)
def test_configurations_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"got {name}"):
        replace(SMALL, **{name: value})  # type: ignore[arg-type]


def test_pairs_that_make_no_sense() -> None:
    pairs = flows()
    broken = pairs.second.clone()
    broken[3, 5] = math.nan
    with pytest.raises(ValueError, match="1 with NaN or infinity"):
        replace(pairs, second=broken)
    with pytest.raises(ValueError, match="got interval"):
        replace(pairs, interval=0.0)


def test_the_command_writes_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main((2, 14), (0,), SMALL, tmp_path / "found.json")
    assert "case 14, seed 0: exact" in capsys.readouterr().out
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["case"] for row in rows] == [2, 14]
    assert rows[0]["error"] == "-1 u_xx"
    with pytest.raises(ValueError, match="case: got 25"):
        list(study(SMALL, [25], [0]))


@pytest.mark.slow
@pytest.mark.parametrize("config", [MedidaConfig(), MedidaConfig(regression="ensemble"), PAPER])
def test_all_errors_are_found_with_the_default_settings_and_the_papers(
    config: MedidaConfig,
) -> None:
    for result in study(config, list(CASES), [0]):
        assert result.score.exact, result
        assert result.score.largest_error < 1e-4

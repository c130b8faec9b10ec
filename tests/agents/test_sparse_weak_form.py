"""The weak form: exact on exact trajectories, to high order in the interval."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.agents.common.sparse.stlsq import STLSQ
from separatrix.agents.common.sparse.weak_form import weak_form


def orbit(samples: int, interval: float) -> Tensor:
    """Two damped oscillations x' = y, y' = -x - 0.2 y, exactly: (2, samples, 2)."""
    time = interval * torch.arange(samples, dtype=torch.float64)
    matrix = torch.tensor([[0.0, 1.0], [-1.0, -0.2]], dtype=torch.float64)
    flow = torch.linalg.matrix_exp(time[:, None, None] * matrix)
    start = torch.tensor([[1.0, 0.0], [0.3, -2.0]], dtype=torch.float64)
    return torch.einsum("tij,bj->bti", flow, start)


def test_a_linear_system_is_found() -> None:
    states = orbit(200, 0.05)
    theta, targets = weak_form(states, states, interval=0.05, half_width=20)
    assert theta.shape == targets.shape == (2 * 160, 2)
    found = STLSQ(0.1, 0.0).fit(theta, targets).coefficients
    expected = torch.tensor([[0.0, 1.0], [-1.0, -0.2]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_error_falls_with_the_sixth_power_of_the_interval() -> None:
    """Of phi' the fifth derivative is the first odd one that is not zero at the ends."""
    errors = []
    for half_width in (8, 16):
        states, interval = orbit(400, 1.6 / half_width), 1.6 / half_width
        theta, targets = weak_form(states, states, interval=interval, half_width=half_width)
        errors.append(float((targets[:, 0] - theta[:, 1]).abs().max()))
    assert 5.8 < math.log2(errors[0] / errors[1]) < 6.2


def test_rows_are_means_over_windows() -> None:
    """A constant stays itself; of a line with slope 3 the target is 3."""
    time = 0.1 * torch.arange(30, dtype=torch.float64)
    theta = torch.stack([torch.ones(30, dtype=torch.float64), time], 1)
    rows, targets = weak_form(theta, 3 * time[:, None], interval=0.1, half_width=5)
    torch.testing.assert_close(rows[:, 0], torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(rows[:, 1], time[5:25])
    # The trapezoidal rule with 11 samples holds four digits.
    torch.testing.assert_close(targets[:, 0], torch.full((20,), 3.0).double(), rtol=1e-3, atol=0)


def test_a_broken_trajectory_stays_alone() -> None:
    states = orbit(50, 0.1)
    whole = weak_form(states, states, interval=0.1, half_width=5)[1]
    states[0, 25] = torch.nan
    broken = weak_form(states, states, interval=0.1, half_width=5)[1]
    assert torch.equal(broken[40:], whole[40:])
    assert broken[:40].isnan().any()


@pytest.mark.parametrize(
    "options",
    [
        {"half_width": 25},
        {"half_width": 0},
        {"interval": 0.0},
        {"interval": float("nan")},
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any]) -> None:
    states = orbit(50, 0.1)
    with pytest.raises(ValueError, match=f"{next(iter(options))}: got"):
        weak_form(states, states, **{"interval": 0.1, "half_width": 5, **options})

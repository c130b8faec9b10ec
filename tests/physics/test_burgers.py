"""Burgers' equation against the solution of Cole and Hopf."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.core.registration import make_environment

Gate = Callable[..., None]
NAME = "Burgers-v0"
COLE_HOPF = (
    "J. D. Cole, Quart. Appl. Math. 9 (1951) 225; E. Hopf, Comm. Pure Appl. Math. 3 (1950) 201"
)
BASDEVANT = "C. Basdevant et al., Comput. Fluids 14 (1986) 23"


def system(viscosity: float, points: int) -> Any:
    """Burgers' equation with the period 2 of the literature."""
    options: dict[str, Any] = {"length": 2.0, "viscosity": viscosity, "points": points}
    return make_environment(NAME, 1, dtype="float64", backend="torch", **options).system


def places(points: int) -> Tensor:
    return 2 * torch.arange(points, dtype=torch.float64) / points


def flow(viscosity: float, points: int, time: float, substeps: int) -> Tensor:
    """What -sin(pi x) becomes."""
    start = -torch.sin(torch.pi * places(points))[None, None]
    found: Tensor = system(viscosity, points).free_flow(start, time, substeps)[0, 0]
    return found


def cole_hopf(x: Tensor, viscosity: float, time: float) -> np.ndarray:
    """The exact solution from -sin(pi x), by Gauss and Hermite's quadrature of 200 nodes."""
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    y = x.numpy()[:, None] - math.sqrt(4 * viscosity * time) * nodes
    density = weights * np.exp(-np.cos(math.pi * y) / (2 * math.pi * viscosity))
    found: np.ndarray = -(density * np.sin(math.pi * y)).sum(1) / density.sum(1)
    return found


def largest_slope(u: Tensor) -> float:
    waves = torch.arange(len(u) // 2 + 1)
    spectrum = torch.fft.rfft(u, norm="forward") * (1j * torch.pi * waves)
    return float(torch.fft.irfft(spectrum, len(u), norm="forward").abs().max())


@pytest.mark.parametrize("time", [0.25, 0.5, 1.0])
def test_smooth_flow_is_that_of_cole_and_hopf(gate: Gate, time: float) -> None:
    u = flow(0.1, 128, time, round(1000 * time))
    error = np.abs(u.numpy() - cole_hopf(places(128), 0.1, time)).max()
    gate(
        NAME,
        f"largest error at time {time} from -sin(pi x), viscosity 0.1",
        error,
        0.0,
        tolerance=1e-11,
        source=COLE_HOPF,
    )


def test_steepest_shock(gate: Gate) -> None:
    viscosity, time = 0.01 / math.pi, 1.6037 / math.pi
    u = flow(viscosity, 2048, time, 1000)
    gate(
        NAME,
        "largest slope from -sin(pi x), viscosity 0.01 / pi, 2048 points",
        largest_slope(u),
        152.00516,
        tolerance=1e-5,  # one unit of the last place published
        source=BASDEVANT,
    )
    gate(
        NAME,
        "largest error then",
        np.abs(u.numpy() - cole_hopf(places(2048), viscosity, time)).max(),
        0.0,
        tolerance=1e-7,
        source=COLE_HOPF,
    )


@pytest.mark.slow
def test_steepest_shock_on_a_finer_grid(gate: Gate) -> None:
    gate(
        NAME,
        "largest slope from -sin(pi x), viscosity 0.01 / pi, 3072 points",
        largest_slope(flow(0.01 / math.pi, 3072, 1.6037 / math.pi, 4000)),
        152.00516,
        tolerance=1e-5,
        source=BASDEVANT,
    )


def test_error_falls_exponentially_with_the_points() -> None:
    errors = []
    for points in (32, 64, 128, 256):
        u = flow(0.02, points, 0.5, 500)
        errors.append(np.abs(u.numpy() - cole_hopf(places(points), 0.02, 0.5)).max())
    digits = -np.log10(errors)
    # Twice the points give twice the digits; of an algebraic order, as many more each time.
    assert (np.diff(digits[:3]) > [0.9, 1.8]).all(), errors
    assert errors[3] < 1e-7


def test_order_in_time(gate: Gate) -> None:
    exact = cole_hopf(places(128), 0.1, 1.0)
    errors = [np.abs(flow(0.1, 128, 1.0, n).numpy() - exact).max() for n in (20, 40)]
    gate(
        NAME,
        "order in time of etdrk4",
        math.log2(errors[0] / errors[1]),
        4.0,
        tolerance=0.2,
        source="S. M. Cox, P. C. Matthews, J. Comput. Phys. 176 (2002) 430",
    )


def test_bumps_decay_at_constant_mean() -> None:
    environment = make_environment(NAME, 4, dtype="float64", backend="torch")
    state, _ = environment.reset(0)
    mean, energies = state.field.mean(2), []
    for _ in range(10):
        state = environment.step(state, torch.zeros(4, 8, dtype=torch.float64)).state
        assert torch.allclose(state.field.mean(2), mean, rtol=0, atol=1e-13)
        energies.append(state.field.square().mean(2))
    assert (torch.stack(energies).diff(dim=0) < 0).all()

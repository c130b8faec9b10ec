"""Equilibria of the Kuramoto-Sivashinsky equation, their growth rates, and how they are held."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.lqr import LQR
from separatrix.envs.analysis.controllability import controllability
from separatrix.envs.analysis.linearization import linearize, target_state
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take

Gate = Callable[..., None]

KS = "KuramotoSivashinsky-v0"
SOURCE = "Cvitanovic, Davidchack, Siminos (2010), section 4, recalled"
RATES: dict[str, dict[int, complex]] = {
    "E1": {0: 0.1308 + 0.3341j, 2: 0.0824 + 0.3402j},
    "E2": {0: 0.1390 + 0.2384j},
    "E3": {0: 0.0933, 1: 0.0933, 4: -0.4128},
}
"""Growth rates by their place, the fastest first; two of the neutral ones come between."""
ENERGIES = {"E1": 0.2609, "E2": 0.4382, "E3": 1.5876}


def made(**options: Any) -> Any:
    """Makes the environment in double precision."""
    return make_environment(KS, backend="torch", dtype="float64", **options)


def growth_rates(environment: Any) -> torch.Tensor:
    """Returns the growth rates of the modes that a step leaves a trace of."""
    model = linearize(environment)
    multipliers = model.eigenvalues()[0]
    return multipliers[multipliers.abs() > 1e-6].log() / environment.control_interval


@pytest.mark.parametrize("name", RATES)
def test_equilibria_and_their_growth_rates(name: str, gate: Gate) -> None:
    environment = made(target_name=name)
    target = linearize(environment).state
    ours = float(target.square().mean() / 2)
    gate(KS, f"energy of {name}", ours, ENERGIES[name], tolerance=1e-4, source=SOURCE)
    rates = growth_rates(environment)
    for place, expected in RATES[name].items():
        found, what = complex(rates[place]), f"of mode {place} of {name}"
        gate(KS, f"growth rate {what}", found.real, expected.real, tolerance=1e-4, source=SOURCE)
        if expected.imag:
            size = abs(found.imag)
            gate(KS, f"frequency {what}", size, expected.imag, tolerance=1e-4, source=SOURCE)


def test_waves_on_the_flat_front_grow_as_k2_less_k4(gate: Gate) -> None:
    rates = growth_rates(made(target_name="zero", actuators=8)).real.sort(descending=True).values
    waves = [2 * math.pi * n / 22 for n in range(6)]
    expected = sorted([k**2 - k**4 for k in waves for _ in range(2)][1:], reverse=True)
    error = (rates[:11] - torch.tensor(expected, dtype=torch.float64)).abs().max()
    source = "k^2 - k^4, exact"
    gate(KS, "largest error of growth rates at zero", error, 0.0, tolerance=1e-10, source=source)


def test_four_equal_spacings_leave_a_growing_wave_alone() -> None:
    """The sine of two waves vanishes at all i L / 4; other numbers of actuators reach it."""
    held = {}
    for actuators in (3, 4, 5, 8):
        found = controllability(linearize(made(target_name="zero", actuators=actuators)))
        grown = [mode for mode in found.modes if abs(mode.eigenvalue) > 1.001]
        held[actuators] = [mode.controllable for mode in grown]
    assert all(len(found) == 6 for found in held.values())
    # Its eigenvalue is double; the test is of the eigenvalue, so the cosine counts, too.
    assert held[4].count(False) == 2 and all(held[5]) and all(held[8])


@pytest.mark.parametrize("name", RATES)
def test_lqr_brings_back_what_is_near(name: str, gate: Gate) -> None:
    environment = made(target_name=name)
    controller = LQR(environment)
    point = target_state(environment, environment.task, torch.float64)
    phases = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    waves = [(n * phases + shift).cos() for n in (1, 2, 3) for shift in (0.0, 1.5)]
    deviation = torch.stack(waves).sum(0) * (0.01 / math.sqrt(3))  # of root mean square 0.01
    state = take(point, torch.zeros(2, dtype=torch.int64))  # with control and without
    state = replace(state, field=point.field + deviation)
    for _ in range(100):
        action = controller.act(environment.observe(state), state)
        state = environment.step(state, action * torch.tensor([[1.0], [0.0]])).state
    held, free = (state.field - point.field).square().mean((1, 2)).sqrt()
    gate(
        KS,
        f"distance from {name} a time of 25 later, under LQR",
        held,
        0.0,
        tolerance=0.01,
        source="its distance at the start",
    )
    assert free > 0.05

"""The fluidic pinball: forces of its steady flow, and its route from there to chaos.

Tolerances of forces are those of `test_cylinder`: 4 % with 20 sites to a diameter, 16 % with 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from separatrix.envs.fluid.pinball import DOMAIN
from separatrix.envs.steppers.lattice import Disc, Domain
from tests.physics.stream_cases import stream, undisturbed, watch

Gate = Callable[..., None]
NAME = "Pinball-v0"
HYDROGYM = "HydroGym, test_pinball.py: steady solution in the box of its mesh by finite elements"
DENG = "N. Deng et al., J. Fluid Mech. 884 (2020) A37"
INTERVAL = 0.25


@pytest.mark.parametrize("resolution", [10, pytest.param(20, marks=pytest.mark.slow)])
def test_steady_forces(resolution: int, gate: Gate) -> None:
    """The flow is unstable; but from a symmetric start what is not symmetric grows from rounding.

    The reference was computed in a box 12 D high, with rear cylinders 1.4 D behind the front.
    """
    rear = 6 + 0.75 * 1.866
    bodies = (Disc(6.0, 6.0), Disc(rear, 6.75), Disc(rear, 5.25))
    box = Domain(26.0, 12.0, "uniform", "slip", bodies)
    system = stream(box, 30.0, resolution=resolution, interval=1.0, dtype=torch.float64)
    _, force = watch(system, undisturbed(system), 100.0)
    drag, lift = force[-10:, 0].mean(0).T
    assert abs(lift.sum()) < 1e-6
    allowed = 0.04 * (20 / resolution) ** 2
    for name, ours, expected in (
        ("drag of the front cylinder", drag[0], 1.451),
        ("drag of a rear cylinder", drag[1], 1.566),
        ("lift of the upper cylinder", lift[1], 0.521),
    ):
        quantity = f"{name}, steady flow at Re 30, {resolution} sites to D"
        gate(NAME, quantity, ours, expected, tolerance=allowed * expected, source=HYDROGYM)


@cache
def lifts(numbers: tuple[float, ...], settling: float, watched: float) -> np.ndarray:
    """Lift of all cylinders (time, Reynolds number) in the box of Deng et al., after a push."""
    x, y = -DOMAIN.bodies[0].x + 6, -DOMAIN.bodies[0].y + 6
    bodies = tuple(Disc(x + body.x, y + body.y) for body in DOMAIN.bodies)
    box = Domain(26.0, 12.0, "uniform", "open", bodies)
    system = stream(box, numbers, speed=0.08, interval=INTERVAL)
    state, _ = watch(system, undisturbed(system), 20.0, 0.5)
    state, _ = watch(system, state, settling)
    _, force = watch(system, state, watched)
    total: np.ndarray = force[..., 1].sum(2)
    return total


def recurrence(lift: np.ndarray) -> float:
    """How far a signal (time,) is from repeating itself after some time, 0 to 1 and above."""
    changes = []
    for lag in np.arange(5.0, 40.0, INTERVAL / 4) / INTERVAL:
        time = np.arange(len(lift) - round(40 / INTERVAL) - 1)
        change = np.interp(time + lag, np.arange(len(lift)), lift) - lift[: len(time)]
        changes.append(change.std() / (lift.std() * math.sqrt(2)))
    return min(changes)


def test_flow_is_steady_and_then_periodic(gate: Gate) -> None:
    steady, periodic = lifts((10.0, 30.0), 80.0, 100.0).T
    last = np.ptp(steady[len(steady) // 2 :])
    gate(NAME, "range of the lift at Re 10", last, 0.0, tolerance=1e-3, source=DENG)
    assert abs(periodic.mean()) < 0.02 * np.ptp(periodic)
    assert np.ptp(periodic) > 0.1
    assert recurrence(periodic) < 0.05


@pytest.mark.slow
def test_flow_leans_to_a_side_and_then_is_chaotic() -> None:
    leaning, chaotic = lifts((80.0, 130.0), 200.0, 200.0).T
    halves = np.split(leaning, 2)
    assert min(abs(half.mean()) for half in halves) > leaning.std()
    assert halves[0].mean() == pytest.approx(halves[1].mean(), rel=0.1)
    assert recurrence(leaning) < 0.1
    assert recurrence(chaotic) > 0.2

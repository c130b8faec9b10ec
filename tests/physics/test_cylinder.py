"""A cylinder in a channel and in a free stream against published computations and measurements.

With 20 sites to a diameter forces may be wrong by 4 %, the Strouhal number by 5 %: that is what
lattices of this resolution are known for. The scheme is of second order, which allows forces 16 %
with 10 sites. With 40 sites all must lie within 1.5 % of the interval of the reference. What misses
this is marked as an expected failure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from separatrix.envs.fluid.cylinder import DOMAINS
from separatrix.envs.steppers.lattice import Disc, Domain
from separatrix.envs.steppers.lattice_system import LatticeState, LatticeSystem
from tests.physics.stream_cases import (
    crossings,
    fields_of,
    frequency,
    places,
    stream,
    undisturbed,
    watch,
)

Gate = Callable[..., None]
NAME = "RotaryCylinder-v0"
CHANNEL, FREE = DOMAINS["channel"], DOMAINS["free_stream"]
TUREK = "M. Schafer, S. Turek, Notes Numer. Fluid Mech. 52 (1996) 547"
WILLIAMSON = "C. H. K. Williamson, Phys. Fluids 31 (1988) 2742"
UNCONFINED = "J. Park et al. (1998), C. Liu et al. (1998), M. Braza et al. (1986)"
KANG = "S. Kang, H. Choi, S. Lee, Phys. Fluids 11 (1999) 3312; D. Stojkovic et al. (2002)"
HYDROGYM = "HydroGym, test_cyl.py: steady solution in the same box by finite elements"
INTERVAL = 0.05


def tolerance(resolution: int, low: float, high: float) -> float:
    """Of a force whose reference lies between two numbers, about their middle."""
    middle = (low + high) / 2
    if resolution < 40:
        return 0.04 * (20 / resolution) ** 2 * abs(middle)
    return (high - low) / 2 + 0.015 * abs(middle)


def gate_force(
    gate: Gate, quantity: str, resolution: int, ours: float, low: float, high: float, source: str
) -> None:
    allowed = tolerance(resolution, low, high)
    quantity = f"{quantity}, {resolution} sites to D"
    gate(NAME, quantity, ours, (low + high) / 2, tolerance=allowed, source=source)


def centre_line(system: LatticeSystem, state: LatticeState, name: str) -> tuple[np.ndarray, ...]:
    """x, and a field along the line through the centre: the mean of the two rows beside it."""
    row = round(CHANNEL.bodies[0].y * system.program.resolution)
    field = dict(zip("uvp", fields_of(system, state), strict=True))[name][0]
    return places(system)[0][row], field[row - 1 : row + 1].mean(0)


def pressure_difference(system: LatticeSystem, state: LatticeState) -> float:
    """From the foremost to the rearmost point, by parabolas through three sites."""
    x, p = centre_line(system, state, "p")
    ends = []
    for place, sites in ((1.5, np.flatnonzero(x < 1.5)[-3:]), (2.5, np.flatnonzero(x > 2.5)[:3])):
        ends.append(np.polyfit(x[sites] - place, p[sites], 2)[-1])
    return float(ends[0] - ends[1])


def recirculation(system: LatticeSystem, state: LatticeState) -> float:
    """Length of the bubble behind the cylinder, along the line through its centre."""
    x, u = centre_line(system, state, "u")
    site = np.flatnonzero((x[:-1] > 2.6) & (u[:-1] < 0) & (u[1:] >= 0))[0]
    return float(np.interp(0, u[site : site + 2], x[site : site + 2]) - 2.5)


# --- in a channel: benchmark 2D-1 ----------------------------------------------------------------


@cache
def steady_channel(resolution: int) -> dict[str, float]:
    system = stream(CHANNEL, 20.0, resolution=resolution, interval=1.0)
    state, force = watch(system, undisturbed(system), 60.0)
    drag, lift = force[-5:, 0, 0].mean(0)
    difference, length = pressure_difference(system, state), recirculation(system, state)
    return {"drag": drag, "lift": lift, "pressure difference": difference, "length": length}


STEADY = {
    "drag": ("drag at Re 20", 5.57, 5.59),
    "lift": ("lift at Re 20", 0.0104, 0.0110),
    # In the benchmark's units, density times 0.2^2 and 0.1: 0.1172 to 0.1176, 0.0842 to 0.0852.
    "pressure difference": ("pressure difference at Re 20", 2.93, 2.94),
    "length": ("length of recirculation at Re 20", 0.842, 0.852),
}
COARSE_LIFT = "with 10 sites to D the lift, 0.2 % of the drag, is 18 % too large"


@pytest.mark.parametrize("quantity", STEADY)
@pytest.mark.parametrize("resolution", [10, 20, pytest.param(40, marks=pytest.mark.slow)])
def test_steady_flow_in_a_channel(
    resolution: int, quantity: str, gate: Gate, request: pytest.FixtureRequest
) -> None:
    if (resolution, quantity) == (10, "lift"):
        request.applymarker(pytest.mark.xfail(reason=COARSE_LIFT, strict=True))
    name, low, high = STEADY[quantity]
    gate_force(gate, name, resolution, steady_channel(resolution)[quantity], low, high, TUREK)


# --- in a channel: benchmark 2D-2 ----------------------------------------------------------------


@cache
def shedding_channel(resolution: int) -> dict[str, float]:
    options: dict[str, Any] = {"resolution": resolution}
    system = stream(CHANNEL, 100.0, interval=1.0, **options)
    state, _ = watch(system, undisturbed(system), 2.0, 1.0)
    state, _ = watch(system, state, 40.0)
    system = stream(CHANNEL, 100.0, interval=INTERVAL, **options)
    forces, pressures = [], []
    for _ in range(round(15 / INTERVAL)):
        state, force = watch(system, state, INTERVAL)
        forces.append(force[0, 0, 0])
        pressures.append(pressure_difference(system, state))
    drag, lift = np.array(forces).T
    number = frequency(lift, INTERVAL)
    period = round(1 / number / INTERVAL)
    # Forces are means over intervals, and pressures those at their ends.
    later = np.argmax(lift[:period]) - 0.5 + 0.5 / number / INTERVAL
    return {
        "drag": drag.max(),
        "lift": lift.max(),
        "pressure difference": float(np.interp(later, np.arange(len(drag)), pressures)),
        "Strouhal number": number,
    }


SHEDDING = {
    "drag": ("largest drag at Re 100", 3.22, 3.24),
    "lift": ("largest lift at Re 100", 0.99, 1.01),
    "pressure difference": ("pressure difference at Re 100", 2.46, 2.50),
}
WEAK = "collisions damp the wake: the lift is 26 % too small with 10 sites to D, 5 % with 20"


@pytest.mark.parametrize("quantity", SHEDDING)
@pytest.mark.parametrize("resolution", [10, 20, pytest.param(40, marks=pytest.mark.slow)])
def test_shedding_in_a_channel(
    resolution: int, quantity: str, gate: Gate, request: pytest.FixtureRequest
) -> None:
    if quantity == "lift" and resolution < 40:
        request.applymarker(pytest.mark.xfail(reason=WEAK, strict=True))
    name, low, high = SHEDDING[quantity]
    gate_force(gate, name, resolution, shedding_channel(resolution)[quantity], low, high, TUREK)


@pytest.mark.parametrize("resolution", [10, 20, pytest.param(40, marks=pytest.mark.slow)])
def test_frequency_of_shedding_in_a_channel(resolution: int, gate: Gate) -> None:
    found = shedding_channel(resolution)["Strouhal number"]
    allowed = 0.015 if resolution < 40 else 0.005 + 0.0045
    quantity = f"Strouhal number at Re 100 in a channel, {resolution} sites to D"
    gate(NAME, quantity, found, 0.3, tolerance=allowed, source=TUREK)


# --- in a free stream ----------------------------------------------------------------------------


@cache
def shedding_free(
    domain: Domain, numbers: tuple[float, ...], rotations: tuple[float, ...], resolution: int
) -> list[dict[str, float]]:
    """Flows past cylinders of some Reynolds numbers that rotate at some velocities."""
    options: dict[str, Any] = {"resolution": resolution, "speed": 0.07}
    control = torch.tensor(rotations)[:, None]
    system = stream(domain, numbers, interval=1.0, **options)
    state, _ = watch(system, undisturbed(system), 2.0, torch.where(control == 0, 1.0, control))
    state, _ = watch(system, state, 60.0, control)
    system = stream(domain, numbers, interval=0.1, **options)
    _, force = watch(system, state, 40.0, control)
    rows = []
    for drag, lift in force[:, :, 0].transpose(1, 2, 0):
        rises = crossings(lift)
        first, last = round(rises[0]), round(rises[-1])
        row = {"drag": drag[first:last].mean(), "lift": lift[first:last].mean()}
        row["amplitude"] = (lift.max() - lift.min()) / 2
        rows.append(row | {"Strouhal number": frequency(lift, 0.1)})
    return rows


WIDE = Domain(50.0, 40.0, "uniform", "open", (Disc(15.0, 20.0),))


@pytest.mark.parametrize(
    ("domain", "resolution"),
    [(FREE, 10), pytest.param(WIDE, 20, marks=pytest.mark.slow)],
    ids=["default", "wide"],
)
def test_cylinders_in_a_free_stream(domain: Domain, resolution: int, gate: Gate) -> None:
    """The default box is 20 D high: its sides alone raise forces by about as much as 1 / 20."""
    still, turning = shedding_free(domain, (100.0, 100.0), (0.0, 1.0), resolution)
    place = f"Re 100, box of {domain.length:g} D by {domain.height:g} D"
    for quantity, ours, low, high, source in (
        (f"mean drag, {place}", still["drag"], 1.33, 1.364, UNCONFINED),
        (f"amplitude of the lift, {place}", still["amplitude"], 0.32, 0.34, UNCONFINED),
        (f"mean drag, rotation 1, {place}", turning["drag"], 1.10, 1.11, KANG),
        (f"mean lift, rotation 1, {place}", turning["lift"], -2.50, -2.48, KANG),
    ):
        gate_force(gate, quantity, resolution, ours, low, high, source)
    for row, reference, source in ((still, 0.1643, WILLIAMSON), (turning, 0.1655, KANG)):
        kind = "" if row is still else ", rotation 1"
        quantity = f"Strouhal number{kind}, {place}, {resolution} sites to D"
        ours = row["Strouhal number"]
        gate(NAME, quantity, ours, reference, tolerance=0.05 * reference, source=source)


@pytest.mark.slow
def test_strouhal_numbers(gate: Gate) -> None:
    numbers = (60.0, 80.0, 120.0, 150.0, 180.0)
    rows = shedding_free(FREE, numbers, (0.0,) * len(numbers), 10)
    for reynolds, row in zip(numbers, rows, strict=True):
        expected = -3.3265 / reynolds + 0.1816 + 1.6e-4 * reynolds
        quantity = f"Strouhal number, Re {reynolds:g}, box of 30 D by 20 D, 10 sites to D"
        found, allowed = row["Strouhal number"], 0.05 * expected
        gate(NAME, quantity, found, expected, tolerance=allowed, source=WILLIAMSON)


@pytest.mark.slow
def test_shedding_sets_in(gate: Gate) -> None:
    """A small push grows or decays exponentially; between Reynolds numbers its rate is linear."""
    numbers, interval = (42.0, 46.0, 50.0), 0.5
    domain = Domain(40.0, 40.0, "uniform", "open", (Disc(12.0, 20.0),))
    system = stream(domain, numbers, speed=0.08, interval=interval)
    state, _ = watch(system, undisturbed(system), 100.0)
    state, _ = watch(system, state, 1.0, 0.01)
    state, _ = watch(system, state, 40.0)
    _, force = watch(system, state, 100.0)
    rates = []
    for lift in np.abs(force[:, :, 0, 1]).T:
        inner = lift[1:-1]
        tops = 1 + np.flatnonzero((inner > lift[:-2]) & (inner >= lift[2:]))
        rates.append(np.polyfit(tops * interval, np.log(lift[tops]), 1)[0])
    assert rates[0] < rates[1] < rates[2]
    quantity = "Reynolds number at which shedding sets in, box of 40 D by 40 D, 10 sites to D"
    source = "C. P. Jackson, J. Fluid Mech. 182 (1987) 23, and others: 46 to 47"
    onset = float(np.interp(0, rates, numbers))
    gate(NAME, quantity, onset, 46.7, tolerance=0.05 * 46.7, source=source)


@pytest.mark.parametrize("resolution", [10, pytest.param(20, marks=pytest.mark.slow)])
def test_steady_flow_at_a_reynolds_number_of_100(resolution: int, gate: Gate) -> None:
    """It is unstable; but from a symmetric start what is not symmetric grows from rounding."""
    box = Domain(20.0, 10.0, "uniform", "slip", (Disc(5.0, 5.0),))
    system = stream(box, 100.0, resolution=resolution, interval=1.0, dtype=torch.float64)
    _, force = watch(system, undisturbed(system), 100.0)
    drag, lift = force[-10:, 0, 0].mean(0)
    assert abs(lift) < 1e-6
    quantity = "drag of the steady flow, Re 100, box of 20 D by 10 D"
    gate_force(gate, quantity, resolution, drag, 1.284, 1.284, HYDROGYM)

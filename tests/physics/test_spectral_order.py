"""The schemes for stiff PDEs converge as their names say, and grids faster than any power."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache

import pytest
from torch import Tensor

from separatrix.envs.steppers.exponential import SCHEMES
from tests.steppers.spectral_cases import (
    BURGERS,
    KLEIN_GORDON,
    PLANE,
    SOLITON,
    smooth_field,
    system_of,
)

Gate = Callable[..., None]
ORDERS = {"etdrk4": 4, "ifrk4": 4, "imexrk3": 3}
STEPS = {"etdrk4": (32, 128), "ifrk4": (32, 128), "imexrk3": (128, 512)}
CASES = {each.name: each for each in (BURGERS, SOLITON, KLEIN_GORDON, PLANE)}


@cache
def flow(name: str, scheme: str, steps: int) -> Tensor:
    """What becomes of a smooth field in a unit of time."""
    definition = CASES[name]
    system = system_of(definition, 32 if definition.dimensions == 1 else 16, integrator=scheme)
    return system.free_flow(smooth_field(system), 1.0, steps)


def test_all_schemes_are_here() -> None:
    assert ORDERS.keys() == SCHEMES.keys()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scheme", ORDERS)
def test_orders_in_time(name: str, scheme: str, gate: Gate) -> None:
    """The few waves kept are not stiff at these steps, which would hide the order."""
    best = flow(name, "etdrk4", 512)
    coarse, fine = (float((flow(name, scheme, n) - best).abs().max()) for n in STEPS[scheme])
    gate(
        scheme,
        f"order in time, {name}",
        math.log(coarse / fine) / math.log(4),
        ORDERS[scheme],
        tolerance=0.15,
        source="the scheme's order; tolerance: terms of the next order at these steps",
    )


def test_grids_converge_faster_than_any_power() -> None:
    """The error of viscous Burgers falls by more than ten for every 16 points more."""
    best = system_of(BURGERS, 192, viscosity=0.2)
    expected = best.free_flow(smooth_field(best), 1.0, 64)
    errors = []
    for points in (32, 48, 64, 80, 96):
        system = system_of(BURGERS, points, viscosity=0.2)
        found = system.free_flow(smooth_field(system), 1.0, 64)
        errors.append(float((found[..., :: points // 16] - expected[..., ::12]).abs().max()))
    assert all(finer < coarser / 10 for coarser, finer in itertools.pairwise(errors))

"""Periodic orbits that are known in closed form, and searches that must not find any."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.analysis.periodic_orbit import close_returns, find_periodic_orbits
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.ode_system import OdeSystem

STEPS = 80


class Anywhere:
    """Nothing here starts an episode."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        raise NotImplementedError


@ode(states="x y", controls="u", start=Anywhere(), box=(-1e9, 1e9))
def hopf(
    x: Expression, y: Expression, u: Expression, *, growth: Expression = -0.2
) -> tuple[Expression, ...]:
    """A circle of radius 1 and period pi, unstable with multiplier exp(-2 growth pi)."""
    away = growth * (1 - x**2 - y**2)
    return away * x - 2 * y + u, away * y + 2 * x


def system(num_envs: int = 1, **parameters: Any) -> OdeSystem:
    return OdeSystem(
        hopf,
        parameters,
        num_envs=num_envs,
        control_interval=0.1,
        substeps=1,
        device=torch.device("cpu"),
        dtype=torch.float64,
        backend="torch",
    )


def henon(num_envs: int = 1, **options: Any) -> Any:
    return make_environment("Henon-v0", num_envs, dtype="float64", backend="torch", **options)


def test_circle_from_many_starts() -> None:
    angle = torch.linspace(0, 6, 12).double()
    radius = torch.linspace(0.85, 1.05, 12).double()
    near = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    found = find_periodic_orbits(system(), near, torch.linspace(2.9, 3.4, 12).double(), steps=STEPS)
    assert found.converged.all()
    torch.testing.assert_close(found.period, torch.full((12,), math.pi, dtype=torch.float64))
    torch.testing.assert_close(found.point.norm(dim=1), torch.ones(12).double())
    expected = torch.tensor([math.exp(0.4 * math.pi), 1.0], dtype=torch.float64).expand(12, 2)
    torch.testing.assert_close(found.multipliers().real, expected, rtol=1e-8, atol=0)
    # The same orbit twelve times; and its samples are at equal times.
    assert len(found.distinct().period) == 1
    turn = torch.tensor(2 * math.pi * 20 / STEPS, dtype=torch.float64)
    x, y = found.path[0, 0]
    expected = torch.stack([x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos()])
    torch.testing.assert_close(found.path[0, 20], expected, rtol=0, atol=1e-9)


def test_parameters_of_their_own() -> None:
    growth = torch.tensor([-0.1, -0.2, -0.3], dtype=torch.float64)
    near = torch.tensor([[1.03, 0.0]]).double().expand(3, 2)
    found = find_periodic_orbits(system(3, growth=growth), near, 3.0, steps=STEPS)
    expected = torch.exp(-2 * growth * math.pi)
    torch.testing.assert_close(found.multipliers()[:, 0].real, expected, rtol=1e-8, atol=0)


def test_an_equilibrium_is_no_orbit_and_two_turns_are_none_of_their_own() -> None:
    near = torch.tensor([[0.0, 0.0], [1.02, 0.0], [math.nan, 0.0], [1.05, 0.0]]).double()
    period = torch.tensor([3.1, 6.2, 3.1, 3.1]).double()
    found = find_periodic_orbits(system(), near, period, steps=STEPS)
    assert found.converged.tolist() == [False, True, False, True]
    assert found.period[1].item() == pytest.approx(2 * math.pi)
    assert found.distinct().period.tolist() == pytest.approx([math.pi])


def test_close_returns() -> None:
    start = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    time, distance = close_returns(system(), start, step=0.01, shortest=1.0, longest=5.0)
    assert time.tolist() == pytest.approx([math.pi] * 2, abs=0.005)
    assert (distance < 0.011).all()


def test_cycle_of_the_henon_map_in_closed_form() -> None:
    """The 2-cycle: x1 + x2 = (1 - b) / a and x1 x2 = ((1 - b)^2 - a) / a^2."""
    a, b = np.array([1.0, 1.2, 1.4]), 0.3
    near = torch.tensor([[1.0, -0.1]]).double().expand(3, 2)
    found = find_periodic_orbits(henon(3, a=a).system, near, 2)
    assert found.converged.all() and found.period.tolist() == [2.0, 2.0, 2.0]
    x = found.path[..., 0].numpy()
    np.testing.assert_allclose(x.sum(1), (1 - b) / a, rtol=1e-10)
    np.testing.assert_allclose(x.prod(1), ((1 - b) ** 2 - a) / a**2, rtol=1e-10)
    trace = 4 * a**2 * x.prod(1) + 2 * b
    root = np.sqrt(trace**2 / 4 - b**2 + 0j)
    expected = np.stack([trace / 2 - root, trace / 2 + root], 1)
    order = np.argsort(-np.abs(expected), axis=1)
    expected = np.take_along_axis(expected, order, 1)
    found_multipliers = found.multipliers().numpy()
    np.testing.assert_allclose(np.abs(found_multipliers), np.abs(expected), rtol=1e-8)


def test_bad_periods() -> None:
    near = torch.tensor([[1.0, 0.0]]).double()
    with pytest.raises(ValueError, match="period: got 0; allowed: numbers > 0"):
        find_periodic_orbits(system(), near, 0)
    with pytest.raises(ValueError, match=r"period: got 1\.5; allowed for a map: a whole number"):
        find_periodic_orbits(henon().system, near, 1.5)
    with pytest.raises(ValueError, match="got the map henon; allowed: an ODE system"):
        close_returns(henon().system, near, step=0.1, shortest=1.0, longest=2.0)

"""Gates of chaos control: published orbits, and laws that hold them with hardly any force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.chaos_control.delayed_feedback import DelayedFeedback
from separatrix.controllers.chaos_control.ogy import OGY
from separatrix.controllers.controller import Controller
from separatrix.controllers.rollout import rollout
from separatrix.envs.analysis.periodic_orbit import (
    PeriodicOrbits,
    close_returns,
    find_periodic_orbits,
)
from separatrix.envs.analysis.section import Section
from separatrix.envs.core.registration import make_environment

VISWANATH = "D. Viswanath, Nonlinearity 16 (2003) 1035"
PAPER = "E. Ott, C. Grebogi, J. A. Yorke, Phys. Rev. Lett. 64 (1990) 1196"
RECALLED = "as recalled; the source was not at hand"
LORENZ_SECTION = Section(normal=(0.0, 0.0, 1.0), offset=27.0, direction=1)  # z = rho - 1

Gate = Callable[..., None]


def free(name: str) -> Any:
    """The system on torch in float64."""
    environment: Any = make_environment(name, dtype="float64", backend="torch")
    return environment.system


def shortest_orbits(name: str, step: float, shortest: float, longest: float) -> PeriodicOrbits:
    """Orbits from the twelve closest returns of 512 points of the attractor."""
    system = free(name)
    starts = torch.from_numpy(system.definition.start.points()[:512].astype(np.float64))
    limits = {"shortest": shortest, "longest": longest}
    time, distance = close_returns(system, starts, step=step, **limits)
    best = distance.argsort()[:12]
    return find_periodic_orbits(system, starts[best], time[best], steps=120).distinct()


def refined(name: str, found: PeriodicOrbits, steps: int) -> PeriodicOrbits:
    return find_periodic_orbits(free(name), found.point, found.period, steps=steps)


def run(
    environment: Any, controller: Controller, episodes: int, steps: int
) -> tuple[Float[Tensor, "time episodes"], Float[Tensor, "time episodes state"]]:
    """Actions and states of the last steps of episodes, none of which may end early."""
    actions, states = [], []
    for step in rollout(environment, controller, torch.arange(episodes)):
        assert step.alive.all()
        actions.append(step.action[:, 0])
        states.append(step.state.values)
    assert len(actions) == environment.horizon
    return torch.stack(actions[-steps:]).double(), torch.stack(states[-steps:]).double()


def periods(values: Float[Tensor, "time episodes"], interval: float) -> Float[Tensor, " episodes"]:
    """Mean time between upward zero crossings, interpolated linearly."""
    found = []
    for signal in values.T.numpy():
        before = np.flatnonzero((signal[:-1] < 0) & (signal[1:] >= 0))
        time = before + signal[before] / (signal[before] - signal[before + 1])
        found.append(interval * (time[-1] - time[0]) / (len(time) - 1))
    return torch.tensor(found, dtype=torch.float64)


# --- orbits -------------------------------------------------------------------------------------


def test_shortest_orbits_of_lorenz(gate: Gate) -> None:
    """Two wings once each (LR), and one of them twice (LLR, LRR)."""
    found = shortest_orbits("Lorenz-v0", 0.02, 1.2, 2.5)
    assert len(found.period) == 3
    found = refined("Lorenz-v0", found, 640)
    assert found.converged.all()
    around = found.path[..., 0].mean(1)  # mean of x: none, left and right
    assert around[0].abs() < 1e-6 and around[1] * around[2] < -1
    name, law = "Lorenz-v0", "divergence of the flow, -(sigma + beta + 1)"
    for row, word, period in ((0, "LR", 1.5586522107), (1, "LLR", 2.3059072639)):
        quantity = f"period of the orbit {word}"
        gate(name, quantity, found.period[row], period, tolerance=2e-9, source=VISWANATH)
    multipliers = found.multipliers()[0].real
    quantity = "unstable multiplier of the orbit LR"
    gate(name, quantity, multipliers[0], 4.71, tolerance=0.01, source=RECALLED)
    gate(name, "multiplier along the orbit LR", multipliers[1], 1.0, tolerance=1e-6, source="flow")
    contraction = multipliers.abs().log().sum() / found.period[0]
    quantity = "contraction along the orbit LR"
    gate(name, quantity, contraction, -(10 + 8 / 3 + 1), tolerance=1e-3, source=law)


def test_shortest_orbit_of_rossler(gate: Gate) -> None:
    found = shortest_orbits("Rossler-v0", 0.05, 4.0, 7.0)
    assert len(found.period) == 1
    multipliers = found.multipliers()[0].real
    source = f"T = 5.881, {RECALLED}"
    gate(
        "Rossler-v0",
        "period of the shortest orbit",
        found.period[0],
        5.881,
        tolerance=1e-3,
        source=source,
    )
    assert -3 < multipliers[0] < -2 and multipliers[1].item() == pytest.approx(1.0, abs=1e-6)


# --- Ott, Grebogi, Yorke ------------------------------------------------------------------------


def capture(authority: float, horizon: int, episodes: int) -> tuple[Tensor, Tensor]:
    """When the Henon map comes to the fixed point for good, and the mean square action after.

    Counted are steps until the distance is below 0.02 for the rest of the episode.
    """
    environment = make_environment("Henon-v0", episodes, authority=authority, horizon=horizon)
    last = torch.zeros(episodes, dtype=torch.float64)
    energy, count = torch.zeros_like(last), torch.zeros_like(last)
    for step, made in enumerate(rollout(environment, OGY(environment), torch.arange(episodes))):
        assert made.alive.all() and made.action.abs().max() <= 1
        away = made.transition.info["distance"] > 0.02
        last = torch.where(away, step + 1.0, last)
        energy = torch.where(away, 0.0, energy + made.action[:, 0].double() ** 2)
        count = torch.where(away, 0.0, count + 1)
    return last, energy / count


def test_ogy_holds_the_fixed_point_of_henon(gate: Gate) -> None:
    """Of 200 starts all are captured; the parameter changes by less than 0.02 of 1.4."""
    wait, energy = capture(0.02, 6000, 200)
    captured = (wait < 6000 - 100).double().mean()
    gate(
        "Henon-v0",
        "fraction that OGY captures within 5900 iterations",
        captured,
        1.0,
        tolerance=0.0,
        source=PAPER,
    )
    assert 300 < wait.mean() < 1500
    # From the capture on: a single strong action, then next to nothing.
    assert energy.max() < 0.02


def test_ogy_holds_a_cycle_of_henon() -> None:
    near = torch.tensor([[0.98, -0.14]], dtype=torch.float64)
    orbit = find_periodic_orbits(free("Henon-v0"), near, 2)
    environment = make_environment("Henon-v0", 100, authority=0.05, horizon=8000)
    actions, states = run(environment, OGY(environment, orbit), 100, 100)
    assert actions.square().mean() < 1e-4
    points = orbit.path[0]
    away = (states[:, :, None] - points).norm(dim=3).amin(2)
    assert (away < 1e-3).all()
    assert ((states[1:] - states[:-1]).norm(dim=2) > 1).all()  # it visits both in turn


@pytest.mark.slow
def test_ogy_holds_the_shortest_orbit_of_lorenz(gate: Gate) -> None:
    """On the section z = rho - 1, with a tenth of the flow as the largest force."""
    orbit = find_periodic_orbits(
        free("Lorenz-v0"),
        torch.tensor([[-13.76, -19.58, 27.0]], dtype=torch.float64),
        1.5587,
    )
    options: dict[str, Any] = {"control_interval": 0.02, "substeps": 4, "authority": 0.1}
    environment = make_environment("Lorenz-v0", 100, horizon=2000, **options)
    controller = OGY(environment, orbit, section=LORENZ_SECTION)
    assert controller.points.shape == (1, 2, 3)  # it is crossed once a wing
    assert float(controller.multiplier) == pytest.approx(
        float(orbit.multipliers()[0, 0].real), rel=1e-4
    )
    actions, states = run(environment, controller, 100, 500)
    energy = actions.square().mean(0)
    held = energy < 1e-4
    gate(
        "Lorenz-v0",
        "fraction of 100 that OGY holds on the orbit LR after 30 time units",
        held.double().mean(),
        1.0,
        tolerance=0.0,
        source=PAPER,
    )
    period = periods(states[..., 0], 0.02)[held]
    gate(
        "Lorenz-v0",
        "period under OGY, the worst of 100",
        period[(period - orbit.period[0]).abs().argmax()],
        1.5586522107,
        tolerance=1e-3,
        source=VISWANATH,
    )


# --- delayed feedback ---------------------------------------------------------------------------

ROSSLER_PERIOD = 5.8810884


def rossler(gain: float, memory: float, steps: int) -> tuple[Tensor, Tensor]:
    """Mean square action, and states, over the last hundred time units of 64 episodes."""
    options: dict[str, Any] = {"control_interval": 0.1, "substeps": 10, "authority": 0.5}
    environment = make_environment("Rossler-v0", 64, horizon=steps, dtype="float64", **options)
    options = {"period": ROSSLER_PERIOD, "gain": gain, "memory": memory}
    actions, states = run(environment, DelayedFeedback(environment, **options), 64, 1000)
    return actions.square().mean(0), states


def test_delayed_feedback_holds_the_shortest_orbit_of_rossler(gate: Gate) -> None:
    """K = 0.2 holds it from everywhere, and no force is left; half as much does not."""
    energy, states = rossler(0.2, 0.0, 6000)
    assert energy.max() < 1e-8
    period = periods(states[..., 1], 0.1)
    gate(
        "Rossler-v0",
        "period under delayed feedback, the worst of 64",
        period[(period - ROSSLER_PERIOD).abs().argmax()],
        ROSSLER_PERIOD,
        tolerance=1e-3,
        source="shortest orbit, this computation; K. Pyragas, Phys. Lett. A 170 (1992) 421",
    )
    weak, _ = rossler(0.1, 0.0, 4000)
    assert (weak > 1e-3).all()


@pytest.mark.slow
def test_memory_holds_where_plain_feedback_fails() -> None:
    """At K = 1, too much for the plain law."""
    plain, _ = rossler(1.0, 0.0, 4000)
    assert (plain > 1e-3).all()
    extended, states = rossler(1.0, 0.6, 8000)
    assert extended.max() < 1e-6
    away = periods(states[..., 1], 0.1) - ROSSLER_PERIOD
    assert away.abs().max() < 1e-3


@pytest.mark.slow
def test_delayed_feedback_does_not_hold_lorenz() -> None:
    """The orbit LR has a single multiplier above 1, which is the odd-number limitation.

    Where the force dies away, the state has come to rest at a fixed point instead, which has any
    period.
    """
    options: dict[str, Any] = {"control_interval": 0.02, "substeps": 4, "authority": 0.3}
    environment = make_environment("Lorenz-v0", 64, horizon=3000, **options)
    rest = 0
    for gain in (0.5, 1.0, 2.0, 4.0, 8.0):
        controller = DelayedFeedback(environment, period=1.5586522107, gain=gain)
        actions, states = run(environment, controller, 64, 500)
        quiet = actions.square().mean(0) < 1e-6
        moving = states[..., 2].std(0) > 0.5
        assert not (quiet & moving).any()
        rest += int(quiet.sum())
    assert rest > 0

"""The laws of chaos control: their algebra, their memories, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.controllers.chaos_control.delayed_feedback import DelayedFeedback, stencil
from separatrix.controllers.chaos_control.ogy import OGY, design, interpolate_crossing
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.analysis.periodic_orbit import PeriodicOrbits, find_periodic_orbits
from separatrix.envs.analysis.section import Section
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ObservationNoise

LORENZ_SECTION = Section(normal=(0.0, 0.0, 1.0), offset=27.0, direction=1)


def make(name: str, num_envs: int = 1, **options: Any) -> Any:
    return make_environment(name, num_envs, dtype="float64", **options)


def lorenz_orbit() -> PeriodicOrbits:
    """The shortest orbit, which goes around each wing once."""
    near = torch.tensor([[-13.76, -19.58, 27.0]], dtype=torch.float64)
    found = find_periodic_orbits(make("Lorenz-v0").system, near, 1.5587, steps=120)
    assert found.converged.all()
    return found


# --- Ott, Grebogi, Yorke ------------------------------------------------------------------------


def test_gain_is_that_of_the_paper() -> None:
    """The change is m / (m - 1) (f . d) / (f . g), with g the motion of the fixed point by it."""
    environment = make("Henon-v0", authority=0.02)
    controller = OGY(environment)
    points = [make("Henon-v0", a=1.4 + shift).task for shift in (-1e-5, 1e-5)]
    low, high = (
        task.equilibrium(make("Henon-v0", a=1.4 + shift).system)[0]
        for task, shift in zip(points, (-1e-5, 1e-5), strict=True)
    )
    motion = (high - low) / 2e-5
    point = environment.task.equilibrium(environment.system)
    jacobian = environment.system.jacobian(point, torch.zeros(1, 1).double())[0][0]
    values, vectors = np.linalg.eig(jacobian.T.numpy())
    unstable = int(np.argmax(np.abs(values)))
    left, multiplier = torch.from_numpy(vectors[:, unstable]), float(values[unstable])
    law = multiplier / (multiplier - 1) * left / (left @ motion)  # a change of the parameter
    torch.testing.assert_close(-controller.gain[0, 0], law / 0.02, rtol=1e-6, atol=0)
    assert float(controller.multiplier) == pytest.approx(multiplier, rel=1e-12)


def test_one_iteration_leads_to_the_stable_manifold() -> None:
    """To second order in the deviation, at every point of a cycle."""
    environment = make("Henon-v0")
    near = torch.tensor([[0.98, -0.14]], dtype=torch.float64)
    controller = OGY(environment, find_periodic_orbits(environment.system, near, 2))
    for k in (0, 1):
        after, before = controller.points[0, 1 - k], controller.points[0, k]
        cycle = [
            environment.system.jacobian(p[None], torch.zeros(1, 1).double())[0][0]
            for p in (after, before)
        ]
        values, vectors = torch.linalg.eig((cycle[1] @ cycle[0]).T)
        left = vectors[:, values.abs().argmax()].real
        along = []
        for size in (1e-4, 1e-5):
            state, observation = environment.reset(0)
            deviation = size * torch.tensor([[0.6, 0.8]], dtype=torch.float64)
            state = replace(state, values=before + deviation)
            action = controller.act(observation, state)
            assert 0 < action.abs().item() <= 1
            found = environment.step(state, action).state.values[0] - after
            along.append(abs(float(left @ found)) / size)
        assert along[1] < 0.11 * along[0] < 0.11 * 1e-2


def test_window() -> None:
    environment = make("Henon-v0", 2048)
    state, observation = environment.reset(0)
    actions = {w: OGY(environment, window=w).act(observation, state) for w in (0.3, 1.0)}
    for window, action in actions.items():
        assert action.shape == (2048, 1)
        assert action.abs().max() <= window
        assert 0 < float((action != 0).double().mean()) < 0.2
    inside = actions[1.0].abs() <= 0.3
    assert torch.equal(actions[0.3], torch.where(inside, actions[1.0], 0.0))


def test_parameters_of_their_own() -> None:
    a = torch.linspace(1.2, 1.4, 6, dtype=torch.float64)
    batch = OGY(make("Henon-v0", 6, a=a))
    assert batch.gain.shape == (6, 1, 2)
    for i in range(6):
        alone = OGY(make("Henon-v0", a=float(a[i])))
        torch.testing.assert_close(batch.gain[i], alone.gain[0], rtol=1e-10, atol=0)
        torch.testing.assert_close(batch.points[i], alone.points[0], rtol=1e-10, atol=0)


def test_crossing_of_a_cubic_is_exact() -> None:
    """A trajectory that is a cubic of time, along x; y tells the time."""
    start = torch.tensor([-0.2, -0.5, -1.0], dtype=torch.float64)

    def path(s: Tensor) -> Tensor:
        return torch.stack([start + 0.5 * s + s**2 + 0.3 * s**3, s], 1)

    def slope(s: Tensor) -> Tensor:
        return torch.stack([0.5 + 2 * s + 0.9 * s**2, torch.ones_like(s)], 1)

    zero, one = torch.zeros(3).double(), torch.ones(3).double()
    section = Section((1.0, 0.0), 0.0)
    found = interpolate_crossing(section, path(zero), path(one), slope(zero), slope(one))
    assert found[:, 0].abs().max() < 1e-12
    torch.testing.assert_close(path(found[:, 1])[:, 0], zero, rtol=0, atol=1e-12)


def test_the_action_changes_at_crossings_only_and_reset_forgets() -> None:
    options: dict[str, Any] = {"control_interval": 0.02, "substeps": 4, "authority": 0.3}
    environment = make("Lorenz-v0", 40, **options)
    controller = OGY(environment, lorenz_orbit(), section=LORENZ_SECTION)
    state, observation = environment.reset(0)
    held = controller.act(observation, state)
    assert (held == 0).all()
    crossings = changes = 0
    for _ in range(400):
        before = state.values
        state, observation, *_ = environment.step(state, held)
        action = controller.act(observation, state)
        crossed = (before[:, 2] < 27) & (state.values[:, 2] >= 27)
        changed = (action != held)[:, 0]
        assert not (changed & ~crossed).any()
        crossings, changes = crossings + int(crossed.sum()), changes + int(changed.sum())
        held = action
    assert crossings > 200 and changes > 20
    assert (held != 0).sum() > 5
    mask = torch.arange(40) < 20
    controller.reset(mask)
    after = controller.act(observation, state)
    assert (after[mask] == 0).all()
    assert torch.equal(after[~mask], held[~mask])


def test_refusals_of_ogy() -> None:
    henon, lorenz = make("Henon-v0"), make("Lorenz-v0")
    with pytest.raises(ValueError, match="bare map or ODE system, got NoisyObservation"):
        OGY(make("Henon-v0", wrap=[ObservationNoise(0.1)]))
    with pytest.raises(ValueError, match="OGY has one action, got an action space of shape"):
        OGY(make("Lorenz96-v0"))
    for window in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"window: got .*; allowed: a number > 0 and <= 1"):
            OGY(henon, window=window)
    with pytest.raises(ValueError, match="a flow needs both an orbit and a section"):
        OGY(lorenz, section=LORENZ_SECTION)
    with pytest.raises(ValueError, match=r"section: got .*; allowed for a map: None"):
        OGY(henon, section=LORENZ_SECTION)
    orbit = lorenz_orbit()
    with pytest.raises(ValueError, match=r"crosses it \[0\] times; allowed: once or more"):
        OGY(lorenz, orbit, section=Section((0.0, 0.0, 1.0), 90.0))
    lost = replace(orbit, converged=torch.tensor([False]))
    with pytest.raises(ValueError, match="orbit: got 1 rows, 0 of them found; allowed: 1"):
        OGY(lorenz, lost, section=LORENZ_SECTION)
    own = make("Lorenz-v0", 3, rho=[27.0, 28.0, 29.0])
    with pytest.raises(ValueError, match="orbit: got 1 rows, 1 of them found; allowed: 3, all"):
        OGY(own, orbit, section=LORENZ_SECTION)
    stable = make("Henon-v0", a=0.2)
    with pytest.raises(ValueError, match="OGY needs exactly one above 1"):
        OGY(stable)
    maps = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))[None, None]
    with pytest.raises(ValueError, match="does not move the state along its unstable direction"):
        design(maps, torch.tensor([[[0.0, 1.0]]], dtype=torch.float64))


# --- delayed feedback ---------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [1.0, 7.0, 1.25, 2.5, 7.999])
def test_interpolation_is_exact_for_polynomials(delay: float) -> None:
    weights = stencil(delay)
    assert all(age >= 1 for age, _ in weights)
    degree = 3 if delay > 2 else 2
    if delay == int(delay):
        assert weights == [(int(delay), 1.0)]
    for power in range(degree + 1 if len(weights) > 1 else 1):
        assert sum(w * age**power for age, w in weights) == pytest.approx(delay**power)


def fed(controller: DelayedFeedback, signal: Tensor) -> Tensor:
    """Actions on a signal, (time, batch, observation), that nothing feeds back."""
    return torch.stack([controller.act(observation, None) for observation in signal])


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_feedback_is_the_sum_of_the_paper(memory: float) -> None:
    generator = torch.Generator().manual_seed(2)
    signal = torch.randn((60, 3, 2), generator=generator, dtype=torch.float64)
    weights, period = [0.05, -0.02], 4
    environment = make("Henon-v0")
    options: dict[str, Any] = {"period": period, "gain": 1.5, "memory": memory}
    controller = DelayedFeedback(environment, output=weights, **options)
    found = fed(controller, signal)
    s = signal @ torch.tensor(weights, dtype=torch.float64)
    assert (found[:period] == 0).all()
    for t in range(period, 60):
        back = range(1, t // period + 1)
        terms = sum(memory ** (k - 1) * s[t - k * period] for k in back)
        # Before the first sample of its phase, the signal counts as it was then.
        older = memory ** (t // period) / (1 - memory) * s[t % period]
        expected = 1.5 * ((1 - memory) * (terms + older) - s[t])
        torch.testing.assert_close(found[t, :, 0], expected, rtol=1e-12, atol=1e-14)


def test_delay_between_samples() -> None:
    """A sine is delayed to the error of the cubic; the law vanishes on its own period."""
    environment = make("Rossler-v0", control_interval=0.1)
    time = 0.1 * torch.arange(400, dtype=torch.float64)
    signal = torch.sin(time)[:, None, None].expand(-1, 1, 3)
    options: dict[str, Any] = {"gain": 1.0, "output": [0.0, 0.1, 0.0]}
    found = fed(DelayedFeedback(environment, period=1.234, **options), signal)[:, 0, 0]
    expected = 0.1 * (torch.sin(time - 1.234) - torch.sin(time))
    assert (found - expected)[15:].abs().max() < 3e-7  # 0.1 * 0.1**4 * 3 / 128
    for memory in (0.0, 0.8):
        controller = DelayedFeedback(environment, period=2 * math.pi, memory=memory, **options)
        assert fed(controller, signal).abs().max() < 2e-6


def test_reset_and_saturation() -> None:
    environment = make("Henon-v0")
    generator = torch.Generator().manual_seed(3)
    signal = torch.randn((12, 2, 2), generator=generator, dtype=torch.float64)
    options: dict[str, Any] = {"period": 3, "gain": 50.0, "memory": 0.5, "output": [1.0, 0.0]}
    controller = DelayedFeedback(environment, **options)
    first = fed(controller, signal)
    assert first.abs().max() == 1.0
    controller.reset(torch.tensor([True, False]))
    again = fed(controller, signal)
    assert torch.equal(again[:, 0], first[:, 0])  # as if new
    assert (again[0, 1] != 0).all() and not torch.equal(again[:, 1], first[:, 1])
    shorter = fed(controller, signal[:, :1])  # another batch starts anew
    assert torch.equal(shorter, first[:, :1])


def test_default_output_reads_the_driven_state() -> None:
    """Rossler's force acts on y' and is as large as authority times the rms of y' allows."""
    environment = make("Rossler-v0", 5, c=[5.0, 5.5, 5.7, 6.0, 6.5])
    controller = DelayedFeedback(environment, period=0.2, gain=0.3)
    state, observation = environment.reset(0)
    assert (controller.act(observation, state) == 0).all()
    later, observation, *_ = environment.step(state, torch.zeros(5, 1).double())
    action = controller.act(observation, later)
    force = environment.task.force(environment.system)
    expected = 0.3 * (state.values - later.values)[:, 1:2] / force
    assert expected.abs().max() < 1
    torch.testing.assert_close(action, expected, rtol=1e-9, atol=1e-12)


def test_delayed_feedback_runs_on_measurements() -> None:
    environment = make("Rossler-v0", 4, wrap=[ObservationNoise(0.01)], horizon=50)
    weights: list[Any] = [0.0, 0.1, 0.0]
    controller = DelayedFeedback(environment, period=5.9, gain=0.2, output=weights)
    found = evaluate(environment, controller, torch.arange(4))
    assert found.lengths.tolist() == [50] * 4
    assert found.metrics["energy"].min() > 0


def test_refusals_of_delayed_feedback() -> None:
    environment = make("Rossler-v0")
    good: dict[str, Any] = {"period": 5.9, "gain": 0.2}
    for changes, message in (
        ({"memory": 1.0}, "memory: got 1.0; allowed: a number >= 0 and < 1"),
        ({"gain": math.inf}, "gain: got inf; allowed: a finite number"),
        ({"period": 0.1}, "period: got 0.1; allowed: at least the control interval, 0.2"),
        ({"period": math.nan}, "period: got nan; allowed"),
        ({"output": [1.0]}, r"output: got shape \(1, 1\); allowed: .* of shape \(1, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            DelayedFeedback(environment, **good | changes)
    with pytest.raises(ValueError, match="output: got None; allowed for NoisyObservation"):
        DelayedFeedback(make("Rossler-v0", wrap=[ObservationNoise(0.1)]), **good)
    with pytest.raises(ValueError, match="no equilibrium"):
        DelayedFeedback(make("Duffing-v0"), **good)

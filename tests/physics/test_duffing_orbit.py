"""The periodic orbit of Duffing's oscillator: found by Fourier series, checked by integration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.chaotic.duffing import duffing
from separatrix.envs.chaotic.follow_orbit import fourier, periodic_orbit
from separatrix.envs.core.registration import make_environment

Gate = Callable[..., None]
NAME = "Duffing-v0"


def environment(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **{"dtype": "float64", "backend": "torch", **options})


def points(found: Any, phase: np.ndarray) -> np.ndarray:
    """The orbit of the first environment at some phases, (phases, 2)."""
    orbit = periodic_orbit(found.system, found.task.near)[0].numpy()
    points: np.ndarray = fourier(phase)[0] @ orbit.T
    return points


def monodromy(start: np.ndarray, steps: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrates one period and its equation of variations, with the defaults written out anew.

    Returns:
        The states at all steps, the state at the end, and the monodromy matrix.
    """
    h = 2 * math.pi / steps

    def slope(t: float, z: np.ndarray) -> np.ndarray:
        x, v = z[0]
        flow = np.array([v, x - x**3 - 0.25 * v + 0.4 * math.cos(t)])
        return np.vstack((flow, z[1:] @ np.array([[0, 1], [1 - 3 * x**2, -0.25]]).T))

    z, states = np.vstack((start, np.eye(2))), []
    for i in range(steps):
        states.append(z[0])
        t = i * h
        k1 = slope(t, z)
        k2 = slope(t + h / 2, z + h / 2 * k1)
        k3 = slope(t + h / 2, z + h / 2 * k2)
        k4 = slope(t + h, z + h * k3)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.array(states), z[0], z[1:].T


def test_the_orbit_is_periodic_and_unstable(gate: Gate) -> None:
    found = environment()
    start = points(found, np.zeros(1))[0]
    states, end, matrix = monodromy(start)
    on_orbit = points(found, 2 * math.pi * np.arange(2000) / 2000)
    integration = "integration over one period, RK4 with 2000 steps"
    # Twelve harmonics leave 2e-7; the unstable direction multiplies it by 14 within the period.
    for quantity, error, tolerance in (
        ("distance of the orbit's end from its start", np.abs(end - start).max(), 1e-6),
        ("error of the orbit's Fourier series", np.abs(states - on_orbit).max(), 1e-6),
    ):
        gate(NAME, quantity, error, 0.0, tolerance=tolerance, source=integration)
    multipliers = np.sort(np.linalg.eigvals(matrix).real)
    product, liouville = np.prod(multipliers), math.exp(-0.25 * 2 * math.pi)
    source = "Liouville: exp(-delta 2 pi / omega)"
    gate(
        NAME,
        "product of the Floquet multipliers",
        product,
        liouville,
        tolerance=1e-9,
        source=source,
    )
    assert multipliers == pytest.approx([-13.76, -0.0151], rel=2e-3)  # as the documentation says
    assert np.ptp(on_orbit[:, 0]) > 1.2 and on_orbit[:, 0].min() > 0  # swings within the right well


def test_the_orbit_lies_in_the_attractor() -> None:
    """Chaos comes closer to it than to most places: of 2048 points some within a hundredth."""
    found = environment()
    cloud = duffing.start.points().astype(np.float64)  # type: ignore[attr-defined]
    away = np.linalg.norm(cloud[:, :2] - points(found, cloud[:, 2]), axis=1)
    assert away.min() < 0.02
    # The same distance from the orbit of the other phase, where the attractor is as dense.
    assert np.median(away) > 0.5


def test_orbits_of_own_parameters_continue_the_default_one() -> None:
    generator = np.random.default_rng(5)
    defaults = duffing.parameters
    own = {key: value * generator.uniform(0.9, 1.1, 40) for key, value in defaults.items()}
    found = environment(40, **own)
    orbit = periodic_orbit(found.system, found.task.near)
    assert ((orbit[:, 0, 0] > 0.4) & (orbit[:, 0, 0] < 0.7)).all()  # all in the right well
    for i in (0, 7):  # the same bits alone
        alone = environment(1, **{key: own[key][i] for key in own})
        assert torch.equal(periodic_orbit(alone.system, alone.task.near)[0], orbit[i])
    phase = np.linspace(-3, 3, 7)
    values, slopes = (torch.from_numpy(part) for part in fourier(phase))
    states = orbit @ values.T
    x, v = states[:, 0], states[:, 1]
    p = {key: torch.from_numpy(value)[:, None] for key, value in own.items()}
    drive = p["gamma"] * torch.from_numpy(np.cos(phase))
    force = -p["delta"] * v - p["alpha"] * x - p["beta"] * x**3 + drive
    expected = torch.stack((v, force), 1) / p["omega"][:, None]
    assert (orbit @ slopes.T - expected).abs().max() < 5e-4  # between the collocation points


def test_by_symmetry_there_is_an_orbit_in_the_left_well() -> None:
    found = environment()
    left = environment(near=(-0.55, -0.57, 0.29, 0.0, 0.29, 0.57))
    phase = np.linspace(0, 2 * math.pi, 9)
    # Shifted by half a turn the 25 collocation phases are others: the truncation differs.
    np.testing.assert_allclose(points(left, phase), -points(found, phase + math.pi), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 5.0, "delta": -4.0}, "duffing: no periodic orbit found from"),
        ({"near": (0.5, 0.1)}, "near: got"),
        ({"near": (math.nan,) * 6}, "near: got"),
        ({"authority": 0.0}, "authority: got 0.0; allowed: a number > 0"),
    ],
)
def test_wrong_orbits_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        environment(**options)


def test_on_the_orbit_reward_is_one_and_no_force_is_needed() -> None:
    found = environment(16)
    state, _ = found.reset(0)
    phase = state.values[:, 2].numpy()
    state.values[:, :2] = torch.from_numpy(points(found, phase))
    observation = found.observe(state)
    assert observation[:, :2].abs().max() < 1e-6
    for _ in range(5):
        transition = found.step(state, torch.zeros((16, 1), dtype=torch.float64))
        state = transition.state
        assert transition.reward.min() > 1 - 1e-9
        assert transition.info["distance"].max() < 1e-5 and transition.info["on_target"].all()
    state.values[:, 0] += 0.3
    away = found.step(state, torch.zeros((16, 1), dtype=torch.float64)).info["distance"]
    assert away.min() > 0.2


def test_there_is_no_equilibrium_to_linearize_at() -> None:
    found = environment()
    for use in (linearize, LQR):
        with pytest.raises(ValueError, match="task FollowOrbit of duffing has no equilibrium"):
            use(found)
    assert found.render(found.reset(0)[0]).shape == (320, 320, 3)


class Proportional(Controller):
    """Force against the deviations from the orbit in position and velocity, of three each."""

    def act(self, observation: torch.Tensor, state: Any) -> torch.Tensor:
        scale, force = observation.new_tensor((0.88, 0.55)), 0.2 * 0.614
        return (-3 * (observation[:, :2] * scale).sum(1, keepdim=True) / force).clamp(-1, 1)


def test_linear_feedback_follows_the_orbit() -> None:
    """Measured over these 64 episodes: return 307 and 0.70 on target, against 55 and 0.013."""
    found = make_environment(NAME, 64)
    episodes = torch.arange(64)
    idle = evaluate(found, ZeroController(found), episodes).means()
    noise = evaluate(found, RandomController(found), episodes).means()
    held = evaluate(found, Proportional(), episodes)
    assert idle["on_target"] < 0.03 and noise["on_target"] < 0.04
    assert held.means()["return"] > 270 and held.means()["on_target"] > 0.6
    # Captured, the orbit is held to the end: hardly any force.
    assert (held.metrics["on_target"] > 0.3).double().mean() > 0.85

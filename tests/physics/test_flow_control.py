"""Linear control of the flows, and the data that they ship."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.envs.chaotic import characterize
from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.core.registration import make_environment

EPISODES = torch.arange(64)


def scores(found: Any, controller: Controller) -> dict[str, float]:
    return evaluate(found, controller, EPISODES).means()


# Share of the episode on target, zero and LQR, over these 64 episodes; measured.
LQR_SCORES = {
    "Chua-v0": (0.002, 0.34),
    "Chen-v0": (0.010, 0.74),
    "HindmarshRose-v0": (0.0, 0.62),
    "VanDerPol-v0": (0.0, 0.90),
    "HenonHeiles-v0": (0.0, 0.435),
}


@pytest.mark.parametrize("name", LQR_SCORES)
def test_lqr_holds_where_idleness_and_noise_do_not(name: str) -> None:
    found = make_environment(name, 64)
    zero, held = LQR_SCORES[name]
    assert scores(found, ZeroController(found))["on_target"] == pytest.approx(zero, abs=0.005)
    assert scores(found, RandomController(found))["on_target"] < 0.05
    result = scores(found, LQR(found))
    assert result["on_target"] == pytest.approx(held, abs=0.05)
    assert result["diverged"] == 0


class Law(Controller):
    """A feedback law on observation and state values, saturated."""

    def __init__(self, law: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._law = law

    def act(self, observation: Tensor, state: Any) -> Tensor:
        return self._law(observation, state.values).clamp(-1, 1)


def test_braking_holds_the_energy_of_a_star() -> None:
    """Thrust against the momentum in proportion to the excess of energy: measured 0.76."""
    found = make_environment("HenonHeiles-v0", 64, task="energy")
    result = scores(found, Law(lambda seen, x: -10 * seen[:, 4:5] * x[:, 2:]))
    assert result["on_target"] > 0.6
    assert result["total_energy"] == pytest.approx(0.05, abs=0.02)
    assert result["diverged"] == 0
    idle = scores(found, ZeroController(found))
    assert idle["on_target"] == 0 and idle["total_energy"] == pytest.approx(0.15, abs=1e-6)


# --- shipped data -------------------------------------------------------------------------------

RECIPES = {recipe.definition.name: recipe for recipe in characterize.RECIPES}
FLOWS = {
    "chua": "Chua-v0",
    "chen": "Chen-v0",
    "duffing": "Duffing-v0",
    "hindmarsh_rose": "HindmarshRose-v0",
    "van_der_pol": "VanDerPol-v0",
    "henon_heiles": "HenonHeiles-v0",
}


@pytest.mark.parametrize("name", FLOWS)
def test_shipped_points_agree_with_the_shipped_statistics(name: str) -> None:
    attractor = Attractor(name)
    points = attractor.points().astype(np.float64)
    low, high = attractor.statistic("low"), attractor.statistic("high")
    assert points.shape == (2048, len(low))
    room = 0.01 * (high - low)
    assert (points > low - room).all() and (points < high + room).all()
    error = attractor.statistic("standard_deviation") / math.sqrt(2048)
    assert (np.abs(points.mean(0) - attractor.statistic("mean")) < 5 * error).all()
    system: Any = make_environment(FLOWS[name], dtype="float64", backend="torch").system
    control = torch.zeros((2048, len(system.definition.control_names)), dtype=torch.float64)
    flow = system.vector_field(torch.from_numpy(points), control).square()
    rms = flow.mean(0).sqrt().numpy()
    spread = (flow.std(0) / math.sqrt(2048)).numpy() / (2 * rms)
    assert (np.abs(rms - attractor.statistic("flow_rms")) < 5 * spread + 1e-9).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chua", "chen", "duffing", "henon"])
def test_attractor_data_are_reproducible(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen small computations scatter around the shipped statistics as they should."""
    recipe, attractor = RECIPES[name], Attractor(name)
    monkeypatch.setattr(characterize, "NUM_POINTS", 64)
    monkeypatch.setattr(characterize, "SPIN_UP", 100.0)
    monkeypatch.setattr(characterize, "SAMPLES", 200)
    origin = np.array(recipe.origin)
    runs = [
        characterize.compute(recipe.definition, origin, recipe.spread, seed, recipe.pace)[1]
        for seed in range(1, 17)
    ]
    for key in ("mean", "standard_deviation", "flow_rms"):
        found = np.array([run[key] for run in runs])
        error = found.std(0, ddof=1) / 4
        assert (np.abs(found.mean(0) - attractor.statistic(key)) < 5 * error + 1e-9).all(), key

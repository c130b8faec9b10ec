"""How well each planner searches, on small models whose best plans are known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from separatrix.controllers.lqr import design
from separatrix.controllers.planning.gradient_mpc import GradientMPC
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.planning.mppi import MPPI
from separatrix.controllers.planning.planner import Planner
from separatrix.controllers.planning.random_shooting import RandomShooting
from tests.controllers.planning_models import (
    DoubleIntegrator,
    Point,
    Spy,
    TaskNetworks,
    make,
    points,
    tasks,
)


# How far above the least possible cost a planner of this budget may stay. Kept elites, which make
# iCEM quick where the budget is small, also make it converge before it is all the way there.
@pytest.mark.parametrize(
    ("name", "options", "excess"),
    [
        ("gradient", {"starts": 3, "iterations": 200}, 1e-4),
        (
            "cem mean",
            {"population": 100, "elites": 10, "iterations": 20, "min_standard_deviation": 0.01},
            1e-3,
        ),
        (
            "mppi mean",
            {"population": 500, "iterations": 20, "standard_deviation": 0.1, "temperature": 0.005},
            1e-3,
        ),
        (
            "icem best",
            {"population": 200, "iterations": 20, "noise_exponent": 0.5, "decay": 1.0},
            2e-2,
        ),
    ],
)
def test_plans_converge_to_the_optimum_of_the_linear_quadratic_problem(
    name: str, options: dict[str, Any], excess: float
) -> None:
    horizon, start = 12, np.array([0.3, 0.0])
    a, b = DoubleIntegrator.matrices()
    q, r = np.diag(DoubleIntegrator.STATE_WEIGHT), DoubleIntegrator.ACTION_WEIGHT
    cost_to_go = np.zeros((2, 2))
    for _ in range(horizon):  # the Riccati recursion backwards from the end of the plan
        gain = np.linalg.solve(r + b.T @ cost_to_go @ b, b.T @ cost_to_go @ a)
        cost_to_go = q + r * gain.T @ gain + (a - b @ gain).T @ cost_to_go @ (a - b @ gain)
    least = start @ cost_to_go @ start
    planner = make(name, DoubleIntegrator(), horizon=horizon, **options)
    state = points(list(start))
    sequence, _ = planner.search(state, planner.initial_memory(1))
    cost = -planner.returns(state, sequence[:, None]).item()
    assert least - 1e-12 <= cost <= (1 + excess) * least
    assert sequence[0, 0].item() == pytest.approx((-gain @ start).item(), abs=0.1)


def test_random_shooting_comes_near_the_best_plan_of_two_steps() -> None:
    planner = RandomShooting(DoubleIntegrator(), horizon=2, population=4000)
    state = points([0.3, 0.0])
    grid = torch.linspace(-1, 1, 201, dtype=torch.float64)
    everything = torch.cartesian_prod(grid, grid)[None, :, :, None]
    optimum = planner.returns(state, everything).max().item()
    sequence, _ = planner.search(state, planner.initial_memory(1))
    assert planner.returns(state, sequence[:, None]).item() == pytest.approx(optimum, rel=1e-3)


def test_closed_loop_comes_near_the_infinite_horizon_regulator() -> None:
    model = DoubleIntegrator()
    a, b = model.matrices()
    gain, _ = design(a, b, np.diag(model.STATE_WEIGHT), model.ACTION_WEIGHT)
    planner = GradientMPC(model, horizon=15, starts=2, iterations=20, learning_rate=0.1)
    laws = (
        lambda x: -(x @ torch.from_numpy(gain).T).clamp(-1, 1),
        lambda x: planner.plan(Point(x)),
    )
    costs = []
    for law in laws:
        state, cost = points([0.4, 0.0], [-0.3, 0.1]), torch.zeros(2).double()
        for _ in range(20):
            state, _, reward, *_ = model.step(state, law(state.values))
            cost -= reward
        costs.append(cost)
    assert (costs[1] < 1.05 * costs[0]).all()


def test_the_population_shrinks_to_twice_the_elites(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = ICEM(DoubleIntegrator(), population=40, decay=1.25, elites=10, iterations=5)
    returns = Spy(planner.returns)
    monkeypatch.setattr(planner, "returns", returns)
    planner.plan(points([1.0, 0.0]))
    counts = [candidates.shape[1] for candidates in returns.given]
    assert counts == [40, 32, 26, 20, 20]
    assert ICEM(DoubleIntegrator(), population=40, decay=1.0, iterations=3).populations == [40] * 3


def test_elites_and_the_mean_are_among_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = ICEM(DoubleIntegrator(), population=20, decay=1.0, elites=10, iterations=3)
    returns = Spy(planner.returns)
    monkeypatch.setattr(planner, "returns", returns)
    state = points([1.0, 0.0])
    _, memory = planner.search(state, planner.initial_memory(1))
    populations = returns.given
    for earlier, later in itertools.pairwise(populations):
        best = earlier[0, returns.method(state, earlier)[0].topk(3).indices]
        assert all((later[0] == sequence).all(-1).all(-1).any() for sequence in best)
    planner.search(state, memory)
    assert populations[3][0, :3].equal(memory[0, 1:])  # from plan to plan
    assert [len(p[0]) for p in populations] == [20] * 6


@pytest.mark.parametrize("name", ["mppi mean", "mppi best", "cem mean", "icem best"])
def test_the_deviation_of_the_noise_is_that_of_the_samples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for deviation in (0.05, 0.2):
        options = {"standard_deviation": deviation, "population": 4000, "iterations": 1}
        if "cem" in name:
            options["min_standard_deviation"] = 0.0
        planner = make(name, DoubleIntegrator(), **options)
        returns = Spy(planner.returns)
        monkeypatch.setattr(planner, "returns", returns)
        planner.plan(points([0.0, 0.0]))
        assert returns.given[0].std().item() == pytest.approx(deviation, rel=0.05)


def test_the_temperature_decides_between_the_mean_of_all_and_the_best() -> None:
    state = points([5.0, 0.0])
    options = {"population": 500, "horizon": 3, "standard_deviation": 0.2, "seed": 3}
    hot = MPPI(DoubleIntegrator(), temperature=1e6, **options)  # type: ignore[arg-type]
    cold = MPPI(DoubleIntegrator(), temperature=1e-6, **options)  # type: ignore[arg-type]
    best = MPPI(DoubleIntegrator(), execute="best", **options)  # type: ignore[arg-type]
    assert abs(hot.plan(state).item()) < 0.05
    assert cold.plan(state).item() == pytest.approx(best.plan(state).item(), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("cem mean", {"population": 200, "elites": 20, "iterations": 8, "smoothing": 0.0}, 0.05),
        ("icem best", {"population": 100, "iterations": 8}, 0.05),
        ("mppi mean", {"population": 500, "iterations": 8, "temperature": 0.003}, 0.05),
        ("gradient", {"starts": 4, "iterations": 100}, 1e-3),
        ("random", {"population": 4000}, 0.1),
    ],
)
def test_every_task_is_planned_with_its_own_weights(
    name: str, options: dict[str, Any], tolerance: float
) -> None:
    model = tasks()
    state = Point(0.3 * torch.tensor([[1.0, 0.5], [-0.5, 0.2]] * 3).double())
    planner = make(name, model, horizon=1, **options)
    optimum = torch.linalg.solve(model.weights[model.task], -state.values)
    assert (optimum.abs() < 1).all()
    torch.testing.assert_close(planner.plan(state), optimum, rtol=0, atol=tolerance)
    with pytest.raises(ValueError, match=r"got 4 states; allowed: 6, as the model has"):
        planner.plan(Point(state.values[:4]))


@pytest.mark.parametrize("name", ["cem mean", "icem best", "mppi mean"])
def test_a_row_is_planned_as_it_would_be_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tasks()
    state = Point(torch.tensor([[1.0, 0.5], [-0.5, 0.2]] * 3).double())
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(20, 6, 64, 5, 2, generator=generator, dtype=torch.float64)

    def planner_of(model: TaskNetworks, rows: slice) -> Planner:
        planner = make(name, model, horizon=5)
        calls = iter(bank)
        monkeypatch.setattr(planner, "noise", lambda b, n, a: next(calls)[rows, :n])
        return planner

    together = planner_of(model, slice(None))
    alone = [planner_of(model.select(torch.tensor([i])), slice(i, i + 1)) for i in range(6)]
    for _ in range(3):
        expected = [planner.plan(Point(state.values[i : i + 1])) for i, planner in enumerate(alone)]
        torch.testing.assert_close(together.plan(state), torch.cat(expected), rtol=0, atol=1e-9)

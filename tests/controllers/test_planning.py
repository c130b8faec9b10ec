"""What all planners have in common, on small models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.planning import sequences
from separatrix.controllers.planning.cem import CEM
from separatrix.controllers.planning.gradient_mpc import GradientMPC
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.planning.mppi import MPPI
from separatrix.controllers.planning.planner import Planner
from separatrix.controllers.planning.random_shooting import RandomShooting
from separatrix.controllers.planning.sequences import Best, sequence_returns
from tests.controllers.planning_models import (
    PLANNERS,
    DoubleIntegrator,
    Fuel,
    Point,
    Spy,
    Trap,
    every_planner,
    make,
    points,
    tasks,
)


@every_planner
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_actions_have_the_shape_the_type_and_the_bounds_of_the_model(
    name: str, dtype: torch.dtype
) -> None:
    planner = make(name, DoubleIntegrator(dtype))
    state = points([30.0, 0.0], [-30.0, 0.0], [0.1, 0.0], dtype=dtype)
    for _ in range(3):
        action = planner.act(state.values, state)
        assert action.shape == (3, 1)
        assert action.dtype == dtype
        assert (action.abs() <= 1).all()
    assert action[0] < 0 < action[1]


@every_planner
def test_the_seed_decides_the_actions(name: str) -> None:
    state = points([1.0, 0.5], [-1.0, 0.3])

    def actions(seed: int) -> Tensor:
        planner = make(name, DoubleIntegrator(), seed=seed, horizon=10)
        return torch.stack([planner.plan(state) for _ in range(3)])

    torch.manual_seed(0)
    first, before = actions(1), torch.get_rng_state()
    torch.manual_seed(1)
    assert first.equal(actions(1))
    assert not first.equal(actions(2))
    torch.manual_seed(0)
    assert before.equal(torch.get_rng_state())  # the global generator is left alone


@every_planner
def test_a_new_episode_begins_with_nothing_of_the_last_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = make(name, Trap(math.nan))
    state = points([0.0], [0.0], dtype=torch.float32)
    for _ in range(5):
        planner.plan(state)
    search, initial_memory = Spy(planner.search), Spy(planner.initial_memory)
    monkeypatch.setattr(planner, "search", search)
    monkeypatch.setattr(planner, "initial_memory", initial_memory)
    planner.reset(torch.tensor([True, False]))
    planner.plan(state)
    (memory,), (fresh,) = search.given, initial_memory.returned
    assert memory[0].equal(fresh[0])
    assert memory[0, 0].eq(0).all()
    assert (memory[1, 0] > 0.1).any()  # the other one goes on with what it had learned


@every_planner
def test_the_last_plan_is_shifted_by_one_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planner = make(name, DoubleIntegrator())
    kept = torch.arange(6.0).double().view(1, 1, 6, 1) / 10
    begun = []

    def search(state: Any, memory: Tensor) -> tuple[Tensor, Tensor]:
        begun.append(memory)
        return kept[:, 0], kept

    monkeypatch.setattr(planner, "search", search)
    for _ in range(2):
        assert planner.plan(points([0.0, 0.0])).item() == 0.0
    assert begun[1].flatten().tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]


@every_planner
def test_without_warm_start_every_plan_begins_anew(name: str) -> None:
    planner = make(name, Trap(math.nan), warm_start=False, horizon=2)
    fresh = make(name, Trap(math.nan), warm_start=False, horizon=2)
    state = points([0.0], dtype=torch.float32)
    planner.plan(state)
    planner.generator.manual_seed(5)
    fresh.generator.manual_seed(5)
    assert planner.plan(state).equal(fresh.plan(state))


@every_planner
def test_any_number_of_environments_one_after_the_other(name: str) -> None:
    model = DoubleIntegrator()
    planner = make(name, model)
    for episodes in (3, 5):
        assert evaluate(model, planner, torch.arange(episodes)).returns.isfinite().all()
    planner.reset(torch.ones(2, dtype=torch.bool))
    assert planner.plan(points([0.0, 0.0])).shape == (1, 1)


def test_returns_are_sums_until_the_end_of_the_episode() -> None:
    actions = torch.tensor([[0.0] * 4, [0.6] * 4, [1.0] * 4, [0.0, 1.1, 0.0, 0.0]]).double()
    # Terminated never, in step 2, in step 2, in step 2; the rewards are 1, 2, 3, 4.
    state = points([0.0, 0.0], [1.5, 0.0])  # the second has used its fuel up: it ends in step 1
    candidates = actions[None, :, :, None].expand(2, -1, -1, -1)
    returns = sequence_returns(Fuel(), state, candidates)
    assert returns.tolist()[0] == [10.0, 3.0, 3.0, 3.0]
    assert returns[1].eq(-math.inf).all()  # NaN from its first step on: that counts
    discounted = sequence_returns(Fuel(), state, candidates, 0.5)
    assert discounted.tolist()[0] == [1 + 1 + 3 / 4 + 4 / 8, 2.0, 2.0, 2.0]


@every_planner
def test_the_discount_reaches_the_returns(name: str) -> None:
    planner = make(name, DoubleIntegrator(), discount=0.3)
    state, candidates = points([1.0, 0.0]), torch.zeros(1, 1, 6, 1).double()
    assert planner.returns(state, candidates).item() == pytest.approx(
        -sum(0.3**step for step in range(6))
    )


def test_many_rows_are_stepped_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    state = points(*([float(i), 1.0] for i in range(7)))
    candidates = torch.rand(7, 5, 4, 1, dtype=torch.float64)
    whole = sequence_returns(DoubleIntegrator(), state, candidates)
    monkeypatch.setattr(sequences, "ROWS_AT_ONCE", 16)
    assert sequence_returns(DoubleIntegrator(), state, candidates).equal(whole)


@every_planner
@pytest.mark.parametrize("bad", [math.nan, math.inf, "state"])
def test_candidates_of_returns_that_are_not_finite_are_never_picked(
    name: str, bad: float | str
) -> None:
    planner = make(name, Trap(bad), horizon=3)
    state = points([0.0], [0.0], dtype=torch.float32)
    memory = planner.initial_memory(2)
    for _ in range(3):
        sequence, memory = planner.search(state, memory)
        assert planner.returns(state, sequence[:, None]).isfinite().all()
        assert (sequence <= 0.5).all()


def test_one_nan_ranks_below_any_number() -> None:
    candidates = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    state = points([0.0], dtype=torch.float32)
    returns = sequence_returns(
        Trap(math.nan), state, candidates + torch.tensor([0, 0, 0.5])[:, None, None]
    )
    assert returns[0].tolist() == pytest.approx([0.1, 0.2, -math.inf])
    best = Best.before(torch.zeros(1, 1, 1)).update(candidates, returns - 100)
    assert best.sequence.item() == pytest.approx(0.2)


@every_planner
def test_where_nothing_is_finite_the_action_is_finite(name: str) -> None:
    planner = make(name, Trap(math.nan))
    state = points([math.nan], [0.0], dtype=torch.float32)
    for _ in range(3):
        action = planner.plan(state)
        assert action.isfinite().all()
        assert (action.abs() <= 1).all()


@pytest.mark.parametrize("name", [name for name in PLANNERS if name not in ("random", "gradient")])
def test_a_population_without_a_finite_return_leaves_the_plan(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = make(name, DoubleIntegrator(), iterations=2)
    state, returns = points([1.0, 0.0]), planner.returns
    found = [returns, lambda state, candidates: torch.full(candidates.shape[:2], -math.inf)] * 2
    calls = iter(found)
    monkeypatch.setattr(planner, "returns", lambda *arguments: next(calls)(*arguments).double())
    sequence, memory = planner.search(state, planner.initial_memory(1))
    assert sequence.isfinite().all()
    assert memory.isfinite().all()
    assert sequence[0, 0] < 0  # as the first population found


@every_planner
def test_a_row_of_nan_does_not_disturb_the_others(name: str) -> None:
    sound = points([1.0, 0.0], [2.0, 0.0], [-1.0, 0.0])
    spoiled = points([1.0, 0.0], [math.nan, 0.0], [-1.0, 0.0])
    planners = [make(name, DoubleIntegrator()) for _ in range(2)]
    for _ in range(3):
        expected, got = (p.plan(s) for p, s in zip(planners, (sound, spoiled), strict=True))
        assert got[[0, 2]].equal(expected[[0, 2]])
        assert got.isfinite().all()


class NoSync(TorchDispatchMode):
    """Refuses operations that wait for a device."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function)
        assert "_local_scalar_dense" not in name, name
        assert "nonzero" not in name, name
        return function(*args, **(kwargs or {}))


# Adam of torch reads its count of steps, a number on the CPU: GradientMPC is left out.
@pytest.mark.parametrize("name", [name for name in PLANNERS if name != "gradient"])
def test_planning_never_waits_for_the_device(name: str) -> None:
    planner = make(name, DoubleIntegrator())
    with NoSync():
        planner.plan(points([1.0, 0.0], [2.0, 0.0]))


def test_gradients_reach_the_actions_and_nothing_else() -> None:
    model = tasks()
    model.weights.requires_grad_()
    state = Point(torch.ones(6, 2, dtype=torch.float64, requires_grad=True))
    action = GradientMPC(model, horizon=2, starts=2, iterations=2).plan(state)
    assert not action.requires_grad
    assert model.weights.grad is None
    assert state.values.grad is None


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CEM, {"horizon": 0}, "horizon: got 0; allowed: an integer >= 1"),
        (CEM, {"discount": 1.5}, r"discount: got 1.5; allowed: a number in \(0, 1\]"),
        (CEM, {"population": 10, "elites": 11}, "elites: got 11; allowed: at most"),
        (CEM, {"execute": "worst"}, "execute: got 'worst'; allowed: 'best' or 'mean'"),
        (CEM, {"smoothing": 1.0}, "smoothing: got 1.0"),
        (CEM, {"min_standard_deviation": 2.0}, "min_standard_deviation: got 2.0"),
        (ICEM, {"population": 10, "elites": 6}, "elites: got 6; allowed: at most half of 10"),
        (ICEM, {"decay": 0.9}, "decay: got 0.9; allowed: a number >= 1"),
        (ICEM, {"kept_fraction": -0.1}, "kept_fraction: got -0.1"),
        (ICEM, {"noise_exponent": -1.0}, "noise_exponent: got -1.0"),
        (ICEM, {"iterations": True}, "iterations: got True; allowed: an integer >= 1"),
        (MPPI, {"temperature": 0.0}, "temperature: got 0.0; allowed: a number > 0"),
        (MPPI, {"standard_deviation": -1.0}, "standard_deviation: got -1.0"),
        (RandomShooting, {"population": 0}, "population: got 0"),
        (GradientMPC, {"starts": 1}, "starts: got 1; allowed: an integer >= 2"),
        (GradientMPC, {"learning_rate": 0.0}, "learning_rate: got 0.0"),
        (GradientMPC, {"max_gradient_norm": 0.0}, "max_gradient_norm: got 0.0"),
    ],
)
def test_bad_arguments_are_refused(
    kind: type[Planner], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(DoubleIntegrator(), **options)

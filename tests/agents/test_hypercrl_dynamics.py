"""Predictions for rows of different tasks, and planning in them: every row as if it were alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import separatrix  # noqa: F401  (registers the streams)
from separatrix.agents.common.dynamics.network import stacked_network
from separatrix.agents.hypercrl.config import HyperCRLConfig, HypernetworkConfig, PlannerConfig
from separatrix.agents.hypercrl.dynamics import Normalizers, TaskDynamics, _groups, in_units
from separatrix.agents.hypercrl.learner import Learner
from separatrix.agents.hypercrl.model import TaskModel, check_known_outcome
from separatrix.agents.hypercrl.planning import learned_planner, make_planner, tasks_of
from separatrix.agents.hypercrl.target import TargetShape
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take

CART_POLE = "CartPoleStream-v0"
ROWS = [0, 2, 1, 1, 0, 2, 2]
KINDS = pytest.mark.parametrize("kind", ["known", "learned"])
MEMBERS = pytest.mark.parametrize("members", [1, 3])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@cache
def environment(*tasks: int) -> Any:
    return make_environment(CART_POLE, len(tasks), task=list(tasks))


@cache
def learner(kind: str, members: int) -> Learner:
    """Three tasks with random networks that move a cart-pole by some hundredths of its box."""
    high = torch.from_numpy(environment(0, 1).observation_space.high)
    method = HypernetworkConfig(embedding_size=3, layers=(8,), initialization="hyperfan")
    config = HyperCRLConfig(method=method, layers=(12,), members=members, reward=kind)  # type: ignore[arg-type]
    made = Learner(config, 5, 1, torch.zeros((3, 1)).double(), 0, torch.device("cpu"))
    for task in range(3):
        made.begin_task()
        normalizers = made.normalizers[task]
        normalizers.targets.deviation[:5] = 0.04 * (task + 1) * high
        normalizers.inputs.mean.copy_(0.1 * normal(task, 6))
        normalizers.inputs.deviation[:5] = 0.3 * high
        if kind == "learned":
            normalizers.targets.deviation[-1] = 0.2
            normalizers.targets.mean[-1] = 0.3
    return made


def model(kind: str = "known", members: int = 1, tasks: list[int] | None = None) -> TaskModel:
    tasks = ROWS if tasks is None else tasks
    like = environment(*tasks)
    dynamics = learner(kind, members).dynamics(torch.tensor(tasks))
    return TaskModel(dynamics, like, known_reward=kind == "known")


def start(made: TaskModel, rows: int) -> Any:
    state, observation = made._like.reset(torch.arange(rows))
    high = torch.from_numpy(made.observation_space.high)
    observation = 0.5 * high * torch.rand((rows, 5), generator=torch.Generator().manual_seed(3))
    return made.state_from(observation, state)


def actions(rows: int, horizon: int = 8) -> Tensor:
    return 1.2 * normal(9, horizon, rows, 1)  # some are clipped


# The networks -------------------------------------------------------------------------------------


@MEMBERS
@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
def test_units_are_those_of_the_data(members: int, hidden: tuple[int, ...]) -> None:
    shape = TargetShape((3, *hidden, 4))  # two targets and, say, two variances
    rows = normal(0, 2 * members, shape.parameters)
    normalizers = [Normalizers(3, 2), Normalizers(3, 2)]
    for task, each in enumerate(normalizers):
        for i, part in enumerate((each.inputs, each.targets)):
            part.mean.copy_(normal(10 * task + i, len(part.mean)))
            part.deviation.copy_(normal(20 + 10 * task + i, len(part.mean)).exp())
    inputs = normal(1, 2 * members, 5, 3)
    found = stacked_network(in_units(shape.layers(rows), normalizers, members), inputs)
    assert found.shape == (2 * members, 5, 2)
    for i in range(2 * members):
        own = normalizers[i // members]
        outputs = stacked_network(shape.layers(rows[i : i + 1]), own.inputs(inputs[i])[None])[0]
        torch.testing.assert_close(found[i], own.targets.inverse(outputs[:, :2]))


@given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=24), ordered=st.booleans())
@settings(max_examples=100)
def test_every_row_is_found_in_the_group_of_its_task(rows: list[int], ordered: bool) -> None:
    tasks = torch.tensor(sorted(rows) if ordered else rows)
    present, slots, places = _groups(tasks)
    assert present.tolist() == sorted(set(rows))
    counts = [rows.count(task) for task in present.tolist()]
    if slots is None or places is None:
        assert slots is places is None and len(set(counts)) == 1
        assert tasks.tolist() == sorted(rows)
        return
    assert slots.shape == (len(present), max(counts))
    assert (tasks[slots] == present[:, None]).all()
    assert torch.equal(slots.flatten()[places], torch.arange(len(rows)))


@given(rows=st.lists(st.integers(0, 3), min_size=2, max_size=12), ordered=st.booleans())
@settings(max_examples=40)
def test_predictions_row_by_row(rows: list[int], ordered: bool) -> None:
    rows = sorted(rows) if ordered else rows
    shape, members = TargetShape((3, 6, 3)), 2
    weights = normal(0, 4 * members, shape.parameters)
    layers = shape.layers(weights)
    dynamics = TaskDynamics(layers, members, torch.tensor(rows), 2, True)
    assert (dynamics.observation_size, dynamics.action_size) == (2, 1)
    observation = normal(1, members, len(rows), 2)
    action = normal(2, members, len(rows), 1)
    found = dynamics.predict(observation, action)
    for row, task in enumerate(rows):
        for member in range(members):
            own = shape.layers(weights[members * task + member][None])
            inputs = torch.cat((observation[member, row], action[member, row]))
            target = stacked_network(own, inputs[None, None])[0, 0]
            expected = observation[member, row] + target[:2]
            torch.testing.assert_close(found.next_observation[member, row], expected)
            torch.testing.assert_close(found.reward[member, row], target[2])
    chosen = torch.tensor([len(rows) - 1, 0, 0])
    some = dynamics.select(chosen).predict(observation[:, chosen], action[:, chosen])
    torch.testing.assert_close(some.next_observation, found.next_observation[:, chosen])
    other = dynamics.with_rows(torch.full((len(rows),), 2)).predict(observation, action)
    alone = TaskDynamics(layers, members, torch.tensor([2]), 2, True)
    assert alone.select(chosen) is alone  # a single row stands for any number of them
    torch.testing.assert_close(
        other.next_observation, alone.predict(observation, action).next_observation
    )


# The model ----------------------------------------------------------------------------------------


@KINDS
@MEMBERS
def test_a_sequence_is_a_loop_of_steps(kind: str, members: int) -> None:
    made = model(kind, members)
    first = state = start(made, len(ROWS))
    assert state.particles.shape == (len(ROWS), members, 5)
    taken = actions(len(ROWS))
    rewards, ends = made.sequence(first, taken)
    for action, reward, ended in zip(taken, rewards, ends, strict=True):
        transition = made.step(state, action)
        assert not transition.info["diverged"].any()
        torch.testing.assert_close(transition.reward, reward)
        assert torch.equal(transition.terminated, ended)
        mean = transition.state.particles.mean(1)
        torch.testing.assert_close(transition.observation, mean)
        state = transition.state
    assert (state.interval == 8).all()
    assert rewards.std() > 1e-3


@KINDS
@MEMBERS
def test_rewards_row_by_row(kind: str, members: int) -> None:
    """Against single environments of the task, the learner's own networks and normalisers."""
    made, trained = model(kind, members), learner(kind, members)
    state, taken = start(made, len(ROWS)), actions(len(ROWS), 3)
    rewards, ends = made.sequence(state, taken)
    for row, task in enumerate(ROWS):
        weights, normalizers = trained.networks([task])[0].detach(), trained.normalizers[task]
        single = make_environment(CART_POLE, 1, task=task)
        particles = state.particles[row].clone()
        for step, action in enumerate(taken[:, row].clamp(-1, 1)):
            inputs = torch.cat((particles, action.expand(members, 1)), 1)
            layers = trained.networks.shape.layers(weights)
            outputs = stacked_network(layers, normalizers.inputs(inputs)[:, None])[:, 0]
            target = normalizers.targets.inverse(outputs)
            after = particles + target[:, :5]
            many = action.expand(members, 1)
            reward, ended = single.known_outcome(particles, many, after)
            if kind == "learned":
                reward = target[:, 5].clamp(*single.reward_range)
                ended = ended & False
            torch.testing.assert_close(rewards[step, row], reward.mean())
            assert ends[step, row] == (ended.float().mean() > 0.5)
            particles = after


class Tagged:
    """Stands in for environments whose reward is the number of the row."""

    rows: Tensor

    def select(self, rows: Tensor) -> Tagged:
        self.rows = rows
        return self

    def known_outcome(self, *observations: Tensor) -> tuple[Tensor, Tensor]:
        assert all(len(self.rows) == len(each) for each in observations)
        return self.rows.float(), self.rows == 3


@MEMBERS
def test_every_row_is_rewarded_by_its_own_environment(members: int) -> None:
    made = model("known", members)
    state = start(made, len(ROWS))
    made._like = Tagged()  # type: ignore[assignment]
    rewards, ends = made.sequence(state, actions(len(ROWS)))
    rows = torch.arange(len(ROWS))
    assert (rewards == rows).all() and (ends == (rows == 3)).all()


def diverging(kind: str, members: int, task: int = 2) -> TaskModel:
    """The networks of one task jump out of the box at once."""
    made = model(kind, members)
    *hidden, (weight, bias) = made.system.ensemble.layers
    bias = bias.clone()
    bias[task * members, :, 0] = 1e4  # one member is enough
    ensemble = made.system.ensemble
    changed = TaskDynamics(
        [*hidden, (weight, bias)], members, ensemble.rows, 5, ensemble.config.reward_head
    )
    return TaskModel(changed, made._like, known_reward=kind == "known")


@KINDS
@MEMBERS
def test_what_diverges_ends_with_the_lowest_reward(kind: str, members: int) -> None:
    sound, made = model(kind, members), diverging(kind, members)
    state, taken = start(made, len(ROWS)), actions(len(ROWS))
    rewards, ends = made.sequence(state, taken)
    expected, expected_ends = sound.sequence(state, taken)
    lost = torch.tensor(ROWS) == 2
    assert (rewards[:, lost] == made.reward_range[0]).all() and ends[:, lost].all()
    assert torch.equal(rewards[:, ~lost], expected[:, ~lost])
    assert torch.equal(ends[:, ~lost], expected_ends[:, ~lost])
    transition = made.step(state, taken[0])
    assert torch.equal(transition.info["diverged"], lost)
    assert torch.equal(transition.terminated, ends[0])
    assert torch.equal(transition.reward, rewards[0])
    assert torch.equal(transition.state.particles[lost], state.particles[lost])


@KINDS
@MEMBERS
def test_a_row_of_nan_stays_alone(kind: str, members: int) -> None:
    made, taken = model(kind, members), actions(len(ROWS))
    state = start(made, len(ROWS))
    expected, _ = made.sequence(state, taken)
    particles = state.particles.clone()
    particles[3] = torch.nan
    broken = replace(state, particles=particles)
    rewards, ends = made.sequence(broken, taken)
    others = torch.arange(len(ROWS)) != 3
    assert torch.equal(rewards[:, others], expected[:, others])
    assert (rewards[:, 3] == made.reward_range[0]).all() and ends[:, 3].all()
    transition = made.step(broken, taken[0])
    assert transition.info["diverged"].tolist() == (~others).tolist()
    assert transition.observation[others].isfinite().all()


def test_learned_rewards_stay_in_their_range() -> None:
    made = model("learned")
    *hidden, (weight, bias) = made.system.ensemble.layers
    bias = bias.clone()
    bias[0, :, 5], bias[1, :, 5] = 1e3, -1e3
    dynamics = TaskDynamics([*hidden, (weight, bias)], 1, torch.tensor(ROWS), 5, True)
    rewards, ends = TaskModel(dynamics, made._like, known_reward=False).sequence(
        start(made, len(ROWS)), actions(len(ROWS))
    )
    low, high = made.reward_range
    tasks = torch.tensor(ROWS)
    assert (rewards[:, tasks == 0] == high).all() and (rewards[:, tasks == 1] == low).all()
    assert not ends.any()


@KINDS
def test_selected_rows_are_the_rows(kind: str) -> None:
    made = model(kind, 3)
    state, taken = start(made, len(ROWS)), actions(len(ROWS))
    rewards, _ = made.sequence(state, taken)
    for chosen in (torch.tensor([5]), torch.tensor([6, 0, 0, 3]), torch.tensor([1, 5, 6])):
        some = made.select(chosen)
        assert some.num_envs == len(chosen)
        found, _ = some.sequence(take(state, chosen), taken[:, chosen])
        torch.testing.assert_close(found, rewards[:, chosen])
    one = TaskModel(
        learner(kind, 3).dynamics(torch.tensor([1])),
        make_environment(CART_POLE, 4, task=1),
        known_reward=kind == "known",
    )
    assert one.select(torch.tensor([2, 0])) is one


def test_other_networks_for_the_same_environments() -> None:
    made = model()
    state, taken = start(made, len(ROWS)), actions(len(ROWS))
    before, _ = made.sequence(state, taken)
    same, _ = made.with_tasks(torch.tensor(ROWS)).sequence(state, taken)
    assert torch.equal(same, before)
    other, _ = made.with_tasks(torch.full((len(ROWS),), 1)).sequence(state, taken)
    own = torch.tensor(ROWS) == 1
    torch.testing.assert_close(other[:, own], before[:, own])
    assert (other - before)[:, ~own].abs().amax(0).min() > 1e-5
    again, _ = made.sequence(state, taken)
    assert torch.equal(again, before)


# Planning -----------------------------------------------------------------------------------------


class OwnNoise:
    """Every environment gets its own noise, whoever is beside it."""

    def __init__(self, horizon: int, rows: list[int]) -> None:
        self.horizon, self.rows, self.calls = horizon, rows, 0

    def __call__(self, batch: int, population: int, actions: int) -> Tensor:
        assert batch == len(self.rows)
        self.calls += 1
        size = (population, self.horizon, actions)
        return torch.stack([normal(100 * self.calls + row, *size) for row in self.rows])


PLANNERS = {
    "cem": PlannerConfig("cem", 6, 30, 5, 2),
    "icem": PlannerConfig("icem", 6, 20, 5, 3, noise_exponent=2.0, warm_start=True),
}


@KINDS
@pytest.mark.parametrize("config", PLANNERS.values(), ids=PLANNERS)
def test_a_plan_does_not_depend_on_its_neighbours(kind: str, config: PlannerConfig) -> None:
    def plans(made: TaskModel, state: Any, rows: list[int]) -> list[Tensor]:
        planner = make_planner(config, made, 0)
        planner.noise = OwnNoise(config.horizon, rows)  # type: ignore[attr-defined]
        planner.reset(torch.ones(made.num_envs, dtype=torch.bool))
        return [planner.plan(state), planner.plan(state)]

    made = model(kind, 3)
    state = start(made, len(ROWS))
    together = plans(made, state, list(range(len(ROWS))))
    for row in range(len(ROWS)):
        one = torch.tensor([row])
        alone = plans(made.select(one), take(state, one), [row])
        for all_rows, own in zip(together, alone, strict=True):
            torch.testing.assert_close(all_rows[row], own[0])
    assert len(together[0].unique()) == len(ROWS)


@pytest.mark.parametrize("config", PLANNERS.values(), ids=PLANNERS)
def test_a_planner_survives_a_row_of_nan(config: PlannerConfig) -> None:
    made = model("known", 3)
    state = start(made, len(ROWS))
    particles = state.particles.clone()
    particles[3] = torch.nan
    planned = [
        make_planner(config, made, 0).plan(each)
        for each in (state, replace(state, particles=particles))
    ]
    others = torch.arange(len(ROWS)) != 3
    assert torch.equal(planned[0][others], planned[1][others])
    assert planned[1].isfinite().all()


def test_planners_are_those_of_the_configuration() -> None:
    made = model()
    cem = make_planner(PlannerConfig(), made, 0)
    names = ("horizon", "population", "elites", "iterations", "standard_deviation")
    assert [getattr(cem, name) for name in names] == [20, 500, 40, 5, 1.0]
    # As the paper's: nothing is smoothed, and every plan begins with nothing.
    assert not cem.warm_start and cem.smoothing == 0.0  # type: ignore[attr-defined]
    assert cem.execute == "mean" and cem.min_standard_deviation == 0.0  # type: ignore[attr-defined]
    icem = make_planner(PLANNERS["icem"], made, 0)
    assert (icem.horizon, icem.populations[0], icem.warm_start) == (6, 20, True)  # type: ignore[attr-defined]


def test_tasks_of_environments() -> None:
    assert tasks_of(environment(*ROWS)).tolist() == ROWS
    assert tasks_of(make_environment(CART_POLE, 4, task=3)).tolist() == [3]
    with pytest.raises(ValueError, match="belongs to no stream of tasks; allowed: ids such as"):
        tasks_of(make_environment("CartPoleSwingUp-v0", 2))


def test_a_learned_planner_plans_for_the_tasks_of_its_environment() -> None:
    found = learner("known", 1)
    config = replace(found.config, planner=PLANNERS["icem"])
    planner = learned_planner(config, found, environment(*ROWS), 0)
    assert isinstance(planner.model, TaskModel)
    assert planner.model.system.ensemble.rows.tolist() == ROWS
    state, observation = environment(*ROWS).reset(0)
    action = planner.act(observation, state)
    assert action.shape == (len(ROWS), 1) and action.abs().max() <= 1


def test_what_does_not_fit_is_refused() -> None:
    found = learner("known", 1)
    with pytest.raises(ValueError, match="dynamics: got 3 tasks; allowed: 1 or 7"):
        TaskModel(found.dynamics(torch.tensor([0, 1, 2])), environment(*ROWS), known_reward=True)
    glucose = make_environment("GlucoseStream-v0", 2, task=[0, 1])
    with pytest.raises(ValueError, match="observation of GlucoseTask does not determine"):
        check_known_outcome(glucose)
    shape = TargetShape((19, 4, 17))
    dynamics = TaskDynamics(
        shape.layers(torch.zeros(2, shape.parameters)), 1, torch.tensor([0, 1]), 17, False
    )
    with pytest.raises(ValueError, match="does not determine"):
        TaskModel(dynamics, glucose, known_reward=True)
    TaskModel(dynamics, glucose, known_reward=False)
    with pytest.raises(NotImplementedError, match="no drawing"):
        model().render(None)

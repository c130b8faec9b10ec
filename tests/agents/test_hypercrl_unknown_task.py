"""Tasks that are not told: inferred while acting, and changes of the task that are detected."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.agents.common.checkpoint import Checkpoint, CheckpointError
from separatrix.agents.experiment import EnvironmentConfig, EvaluationConfig, ExperimentConfig
from separatrix.agents.hypercrl.config import (
    CoresetConfig,
    HyperCRLConfig,
    PlannerConfig,
    SingleConfig,
)
from separatrix.agents.hypercrl.detecting_loop import DetectingLoop, make_loop
from separatrix.agents.hypercrl.evaluation import StreamEvaluations
from separatrix.agents.hypercrl.inference import Calibration
from separatrix.agents.hypercrl.loop import Loop
from separatrix.agents.hypercrl.model import TaskModel
from separatrix.agents.hypercrl.planning import learned_tasks
from separatrix.agents.hypercrl.policy import load_policy
from separatrix.agents.hypercrl.unknown_task import (
    InferringPlanner,
    TaskErrors,
    TaskLog,
    inferring_planner,
)
from separatrix.agents.hypercrl.watching import ChangePoint, Watcher, usual_errors
from separatrix.controllers.controller import Controller
from separatrix.controllers.planning.planner import Planner
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.registration import make_environment

ENVIRONMENTS = 4
RANDOM, SESSION, TASK = 100, 50, 400
"""Steps of each environment: random ones, of a session, of a task."""


def experiment(boundaries: Any = "detected", tasks: int = 2, **changes: Any) -> ExperimentConfig:
    """Tasks of the pendulum whose gravities are 9.5, 4.5 and 12.6."""
    agent = HyperCRLConfig(
        method=SingleConfig(learning_rate=3e-3),
        tasks=tasks,
        random_steps=RANDOM * ENVIRONMENTS,
        random_hold=5,
        session_steps=SESSION * ENVIRONMENTS,
        gradient_steps=200,
        layers=(24,),
        boundaries=boundaries,
        planner=PlannerConfig("icem", 12, 16, 4, 2, noise_exponent=2.0, warm_start=True),
    )
    return ExperimentConfig(
        EnvironmentConfig("separatrix/PendulumStream-v0", ENVIRONMENTS),
        replace(agent, **changes),
        total_steps=tasks * TASK * ENVIRONMENTS,
        evaluation=EvaluationConfig(episodes=2),
    )


def finished(loop: Loop) -> Loop:
    while not loop.done:
        loop.session()
    return loop


@pytest.fixture(scope="module")
def told() -> Loop:
    """Has learned three tasks that it was told, nearly all from random steps."""
    planner = PlannerConfig("icem", 3, 8, 2, 1)
    changes = {"random_steps": 200 * ENVIRONMENTS, "session_steps": 4 * ENVIRONMENTS}
    config = experiment("told", 3, evaluation_tasks="inferred", planner=planner, **changes)
    return finished(Loop(replace(config, total_steps=3 * 204 * ENVIRONMENTS)))


def planner_in(loop: Loop, tasks: list[int]) -> tuple[InferringPlanner, Any]:
    environment = loop.evaluations.environment(tasks, 1)
    return inferring_planner(loop.agent, loop.learner, environment, 0), environment


def test_inference_is_right(told: Loop) -> None:
    everything = told.evaluations.run(told.learner, [0, 1, 2])
    assert everything.inferred_correctly > 0.8  # by chance 1 / 3
    different = told.evaluations.run(told.learner, [1, 2])
    assert different.inferred_correctly > 0.95
    config = replace(told.config, agent=replace(told.agent, evaluation_tasks="told"))
    without = StreamEvaluations(config).run(told.learner, [1])
    assert math.isnan(without.inferred_correctly)
    assert 0 < told.evaluate([1])["eval/inferred_correctly"] <= 1


def test_the_tasks_of_environments_are_not_read(told: Loop) -> None:
    """An environment of no stream, whose gravity is that of task 2; of any number of rows."""
    environment = make_environment("DampedPendulum-v0", 1, gravity=12.57)
    planner = inferring_planner(told.agent, told.learner, environment, 0)
    for step, _ in zip(rollout(environment, planner, torch.arange(3)), range(30), strict=False):
        assert len(step.action) == 3
    assert planner.tasks.tolist() == [2, 2, 2]


def test_errors_are_those_of_each_task_alone(told: Loop) -> None:
    test = told.evaluations.test()
    observation, action, after = (
        values[5] for values in (test.observation, test.action, test.next_observation)
    )
    found = TaskErrors(told.learner).of(observation, action, after)
    for task in range(3):
        dynamics = told.learner.dynamics(torch.full((len(action),), task))
        predicted = dynamics.predict(observation[None], action[None]).next_observation[0]
        expected = ((predicted - after) / told.learner.errors[task]).square().mean(1).sqrt()
        torch.testing.assert_close(found[:, task], expected, rtol=1e-3, atol=1e-3)


def test_errors_exist_only_where_a_step_was_followed(told: Loop) -> None:
    test, errors = told.evaluations.test(), TaskErrors(told.learner)
    observation, action = test.observation[3, :4].clone(), test.action[3, :4]
    assert errors.since(observation).isnan().all()
    observation[1] = math.nan
    errors.follow(observation, action)
    errors.reset(torch.tensor([False, False, True, False]))
    found = errors.since(test.next_observation[3, :4])
    assert found.isfinite().all(1).tolist() == [True, False, False, True]
    whole = TaskErrors(told.learner)
    whole.follow(test.observation[3, :4], action)
    assert torch.equal(found[[0, 3]], whole.since(test.next_observation[3, :4])[[0, 3]])


def test_an_episode_begins_with_the_task_of_the_last_one(told: Loop) -> None:
    planner, environment = planner_in(told, [1, 2])
    steps = rollout(environment, planner, torch.arange(2))
    first = next(steps)
    assert planner.tasks.tolist() == [0, 0]  # nothing is known
    for step, _ in zip(steps, range(20), strict=False):
        last = step
    assert planner.tasks.tolist() == [1, 2]
    planner.reset(torch.tensor([True, False]))
    # In row 0 an observation of another place would tell anything, were it compared to the last.
    planner.act(first.observation, last.state)
    assert planner.tasks[0] == 1


def test_log_counts_the_steps_of_episodes() -> None:
    class Known(InferringPlanner):
        def __init__(self) -> None:
            self.tasks = torch.tensor([0, 1])

        def act(self, observation: Tensor, state: Any) -> Tensor:
            self.tasks = self.tasks + 1
            return observation

    log = TaskLog(Known())
    for _ in range(4):  # 1 2 3 4 and 2 3 4 5
        log.act(torch.zeros((2, 1)), None)
    assert log.correct(torch.tensor([1, 3]), torch.tensor([4, 2])) == pytest.approx(2 / 6)


def test_tasks_of_the_stream_become_those_of_the_learner() -> None:
    tasks = torch.tensor([0, 2, 1, 5])
    assert learned_tasks(tasks, None) is tasks
    assert learned_tasks(tasks, [0, 0, 3]).tolist() == [0, 3, 0, 3]


class Sessions(DetectingLoop):
    """Keeps with how many steps of data each task ended, and goes through given tasks."""

    def __init__(self, config: ExperimentConfig, order: list[int]) -> None:
        self.order, self.ends = order, list[tuple[int, int]]()
        super().__init__(config)

    def _make_environment(self, task: int) -> Any:
        return super()._make_environment(self.order[task])

    def _end(self, end: int) -> dict[str, float]:
        self.ends.append((self._first, end))
        return super()._end(end)


def restored(loop: Sessions) -> Sessions:
    """A loop that goes on from what another one wrote down."""
    tensors, state = loop.state_dict()
    fresh = Sessions(loop.config, loop.order)
    fresh.load_state_dict(tensors, json.loads(json.dumps(state)))
    return fresh


@pytest.mark.slow
def test_a_change_is_detected_and_a_resumed_loop_goes_on_alike() -> None:
    loop = Sessions(experiment(), [0, 1])
    while not loop.record.detections:
        loop.session()
    (steps, change, task) = loop.record.detections[0]
    boundary = TASK * ENVIRONMENTS
    assert boundary < steps <= boundary + 60 * ENVIRONMENTS
    assert abs(change - boundary) <= 10 * ENVIRONMENTS
    assert task == -1 and loop.record.networks == [0, 0] and loop.record.ended == 1
    assert loop.ends == [(0, change // ENVIRONMENTS)]
    # What came after the alarm is kept: the steps of a confirmation, and not many more.
    assert 20 <= steps // ENVIRONMENTS - loop._first <= 60

    resumed = restored(loop)
    finished(loop), finished(resumed)
    (expected, state), (found, other) = loop.state_dict(), resumed.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name].nan_to_num(7), tensor.nan_to_num(7)), name
    for timed in (state["record"], other["record"]):
        del timed["seconds"], timed["training_seconds"]
    assert other == state
    assert loop.record.networks == [0, 1] and loop.learner.task == 1
    assert len(loop.record.detections) == 1 and loop.steps == 2 * boundary
    scalars = loop.evaluate([0, 1])
    assert loop.record.returns[1].isfinite().all()
    assert loop.record.errors[1].isfinite().all()
    assert math.isfinite(scalars["task_1/model_error"])


@pytest.mark.slow
def test_nothing_is_detected_where_nothing_changes() -> None:
    loop = Sessions(experiment(tasks=3), [0, 0, 0])
    finished(loop)
    assert loop.record.detections == [] and loop.record.networks == [0, 0, 0]
    assert loop.learner.task == 0
    # The memory holds the steps of two tasks; what was held out stays so.
    kept = loop._data(0, loop._now)
    assert len(kept.reward) == 2 * TASK and (loop._now - len(kept.reward)) % 4 == 0


@pytest.mark.slow
def test_a_task_that_returns_is_known() -> None:
    loop = Sessions(experiment(tasks=3), [0, 1, 0])
    while len(loop.record.detections) < 2:
        loop.session()
    assert [task for *_, task in loop.record.detections] == [-1, 0]
    before = [rows.detach().clone() for rows in loop.learner.networks.parameters()]
    finished(loop)
    assert loop.record.networks == [0, 1, 0] and loop.learner.task == 1
    for old, new in zip(before, loop.learner.networks.parameters(), strict=True):
        assert torch.equal(old, new)  # a known task is not trained
    assert len(loop.ends) == 2


def small() -> Sessions:
    """Has begun its first task, with hardly any training."""
    loop = Sessions(experiment(gradient_steps=2), [0, 1])
    loop.session()
    return loop


def test_too_many_detections_end_detection() -> None:
    loop = small()
    loop.session()
    assert loop._usual() is not None
    for _ in range(3):
        loop._change(ChangePoint(0, 40, 45))
    assert loop._usual() is not None
    with pytest.warns(RuntimeWarning, match="4 changes were detected in 2 tasks"):
        loop._change(ChangePoint(0, 40, 45))
    assert loop._usual() is None


def test_what_lies_between_change_and_alarm_is_of_no_task() -> None:
    loop = small()
    loop._change(ChangePoint(-1, 12, 17))
    assert loop.ends == [(0, RANDOM + 12)]
    assert loop._first == RANDOM + 17
    loop.session()
    data = loop._data(loop._first, loop._now)
    assert len(data.reward) == SESSION - 17 + RANDOM + SESSION
    assert loop.record.networks == [1]


class Fixed(Controller):
    """Takes the zero action."""

    def act(self, observation: Tensor, state: Any) -> Tensor:
        return torch.zeros((len(observation), 1))


class Given(TaskErrors):
    """Errors of two tasks that are made up."""

    def __init__(self, errors: Tensor) -> None:
        self.deviations, self._values = torch.ones((2, 1)), list(errors)

    def since(self, observation: Tensor) -> Tensor:
        return self._values.pop(0)


def watched(errors: Tensor, steps: int) -> tuple[Watcher, int]:
    """Watches errors, (steps, rows, tasks), of which those of task 0 should be about one."""
    usual = [Calibration(0.0, 1.0, 1.0, 5.0)] * 2
    watcher = Watcher(Fixed(), Given(errors), 0, usual, errors.shape[1], steps)
    observation = torch.zeros((errors.shape[1], 3))
    for taken in range(len(errors)):
        if watcher.over():
            return watcher, taken
        watcher.act(observation, None)
    return watcher, len(errors)


def test_a_change_counts_where_most_environments_detect_it() -> None:
    errors = torch.ones((80, 4, 2))
    errors[31:, :2] = torch.tensor([math.e**2.9, 1.0])  # of step 30 on in two of four
    watcher, taken = watched(errors, 70)
    assert watcher.change is None and taken == 70
    errors[33:, 2] = torch.tensor([math.e**2.9, math.e**2.9])  # in a third one none is right
    watcher, taken = watched(errors, 70)
    # The sum grows by 2.4 at each step and passes 5 at the third; 20 steps confirm that.
    assert watcher.change == ChangePoint(1, 30, 33) and taken == 33 + 2 + 20 + 1
    errors[31:, :2] = torch.tensor([math.e**2.9, math.e**2.9])
    watcher, _ = watched(errors, 70)
    assert watcher.change is not None and watcher.change.task == -1


def test_a_session_waits_for_a_confirmation() -> None:
    errors = torch.ones((80, 4, 2))
    errors[31:] = torch.tensor([math.e**2.9, 1.0])
    assert watched(errors, 30)[1] == 30
    watcher, taken = watched(errors, 40)
    assert watcher.change is not None and taken == 33 + 20 + 1


def test_usual_errors_are_held_out(told: Loop) -> None:
    data = told._buffer.ordered()
    errors = TaskErrors(told.learner)
    found = usual_errors(errors, 2, data, 1000.0)
    held_out = data[torch.arange(len(data.reward)) % 4 == 3]
    own = errors.of(
        held_out.observation.flatten(0, 1),
        held_out.action.flatten(0, 1),
        held_out.next_observation.flatten(0, 1),
    )[:, 2].log()
    assert (found.mean, found.deviation) == pytest.approx(
        (own.mean().item(), own.std(correction=0).item()), rel=1e-4
    )
    assert found.correlation > 3  # each counts for four steps


def test_policies_of_checkpoints() -> None:
    loop = small()
    loop.record.networks = [0, 0]
    tensors, state = loop.state_dict()
    checkpoint = Checkpoint(loop.steps, tensors, {"loop": state})
    environment = loop.evaluations.environment([1], 2)
    planner = load_policy(loop.config, checkpoint, environment)
    assert isinstance(planner, Planner) and isinstance(planner.model, TaskModel)
    assert planner.model.system.ensemble.rows.tolist() == [0, 0]
    with pytest.raises(CheckpointError, match=r"task: got 2; .* knows tasks 0 to 1"):
        load_policy(loop.config, checkpoint, loop.evaluations.environment([2], 2))
    inferring = replace(loop.config, agent=replace(loop.agent, evaluation_tasks="inferred"))
    unknown = loop.evaluations.environment([2], 2)
    assert isinstance(load_policy(inferring, checkpoint, unknown), InferringPlanner)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"boundaries: got 'detected' for a network that is told"):
        experiment(method=CoresetConfig(heads=False, context=True))
    with pytest.raises(ValueError, match=r"session_steps: got 76 for 4 environments; .* 80 or"):
        make_loop(experiment(session_steps=76))
    assert type(make_loop(experiment("told"))) is Loop

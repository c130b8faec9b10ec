"""The loop over a stream: its counts, its data, its measurements, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from separatrix.agents.catalog import train
from separatrix.agents.common.checkpoint import with_prefix
from separatrix.agents.common.collector import Collector
from separatrix.agents.common.configuration import ConfigurationError, load_experiment
from separatrix.agents.common.replay import ReplayBuffer
from separatrix.agents.common.run import Run
from separatrix.agents.common.seeding import evaluation_seed, training_seed
from separatrix.agents.experiment import (
    EnvironmentConfig,
    EvaluationConfig,
    ExperimentConfig,
    OptionValue,
)
from separatrix.agents.hypercrl import evaluation
from separatrix.agents.hypercrl.config import (
    CoresetConfig,
    ElasticWeightsConfig,
    FinetuneConfig,
    HyperCRLConfig,
    HypernetworkConfig,
    MethodConfig,
    PlannerConfig,
    SingleConfig,
    SynapticIntelligenceConfig,
)
from separatrix.agents.hypercrl.loop import Loop
from separatrix.agents.hypercrl.storage import count_storage
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ObservationNoise

PLANNER = PlannerConfig("icem", 3, 8, 2, 1)
METHODS: dict[str, MethodConfig] = {
    "hypernetwork": HypernetworkConfig(layers=(8,)),
    "single": SingleConfig(),
    "finetune": FinetuneConfig(),
    "ewc": ElasticWeightsConfig(),
    "si": SynapticIntelligenceConfig(),
    "coreset": CoresetConfig(transitions=5),
    "context": CoresetConfig(transitions=0, heads=False, context=True),
}
CATEGORIES = {
    "hypernetwork": {"hypernetwork", "embeddings", "regulariser targets"},
    "single": {"networks"},
    "finetune": {"networks"},
    "ewc": {"networks", "importance"},
    "si": {"networks", "importance"},
    "coreset": {"networks", "data"},
    "context": {"networks", "data"},
}


def experiment(
    method: str = "hypernetwork",
    stream: str = "PendulumStream-v0",
    total_steps: int = 240,
    every: int = 0,
    whole: bool = False,
    **changes: Any,
) -> ExperimentConfig:
    """Three tasks of 80 steps in 4 environments: 40 random ones and two sessions of 20."""
    agent = HyperCRLConfig(
        method=METHODS[method],
        tasks=3,
        random_steps=40,
        session_steps=20,
        gradient_steps=2,
        layers=(8,),
        planner=PLANNER,
    )
    # Episodes are cut short, as evaluations take longest.
    options: dict[str, OptionValue] = {} if whole else {"horizon": 20}
    return ExperimentConfig(
        EnvironmentConfig(f"separatrix/{stream}", num_envs=4, options=options),
        replace(agent, **changes),
        total_steps,
        evaluation=EvaluationConfig(episodes=2, every=every),
    )


def train_in(folder: Path, config: ExperimentConfig) -> Run:
    with Run.create(folder, config.environment.id, "hypercrl", config.seed, config) as run:
        train(config, run)
    return run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_three_tasks(method: str) -> None:
    loop = Loop(experiment(method))
    steps, tasks = [], []
    while not loop.done:
        scalars = loop.session()
        assert all(math.isfinite(value) for value in scalars.values())
        steps.append(loop.steps)
        tasks.append(loop.task)
    assert steps == [60, 80, 140, 160, 220, 240] and tasks == [0, 0, 1, 1, 2, 2]
    assert loop.record.ended == 3 and [loop.task_end(task) for task in range(-1, 3)] == steps_of()
    assert all(seconds > 0 for seconds in loop.record.seconds)
    stored = loop.learner.stored()
    assert stored.keys() == CATEGORIES[method] | {"normalisers", "optimiser"}
    counted = count_storage(stored)
    shape = loop.learner.networks.shape
    assert counted.floats["normalisers"] == 3 * 2 * (4 + 3)
    if method == "hypernetwork":
        assert counted.floats["regulariser targets"] == 2 * shape.parameters
        assert counted.floats["embeddings"] == 3 * 10
    if "data" in counted.floats:
        kept = 5 if method == "coreset" else 60
        assert counted.floats["data"] == 3 * kept * (4 + 3)
    assert counted.total_bytes == 4 * counted.total_floats


def steps_of() -> list[int]:
    return [0, 80, 160, 240]


def test_steps_are_counted_where_they_cannot_be_shared_out_evenly() -> None:
    # 83 steps of a task are 21 times of 4 environments: 10 random ones, then 5, 5 and 1.
    loop = Loop(experiment(total_steps=250))
    steps = []
    while not loop.done:
        loop.session()
        steps.append(loop.steps)
    assert steps[:4] == [60, 80, 84, 144] and steps[-1] == 3 * 84 == loop.task_end(2)


def test_returns_of_episodes_that_end_make_a_curve() -> None:
    # 40 times of 4 environments: 10 random ones are cut off, an episode of 20 ends at 30.
    loop = Loop(experiment(total_steps=480))
    found = [loop.session() for _ in range(6)]
    assert ["collect/return" in scalars for scalars in found] == [False] * 3 + [True] + [False] * 2
    buffer = loop._buffer.ordered()
    expected = buffer.reward[10:30].sum(0).mean().item()
    assert found[3]["collect/return"] == found[3]["task_0/collect_return"]
    assert found[3]["collect/return"] == pytest.approx(expected, rel=1e-5)
    assert loop.record.curves == [[(120, found[3]["collect/return"])], [], []]
    assert buffer.last.nonzero()[:, 0].unique().tolist() == [9, 29]


def test_tasks_of_random_steps_alone_are_learned_too() -> None:
    loop = Loop(experiment(total_steps=120))
    while not loop.done:
        scalars = loop.session()
        assert all(math.isfinite(value) for value in scalars.values())
    assert loop.steps == 120


def test_only_data_of_the_current_task_are_saved() -> None:
    loop = Loop(experiment())
    for _ in range(3):
        loop.session()
    tensors, _ = loop.state_dict()
    buffer = with_prefix("buffer", tensors)
    rows = {name: tensor.shape for name, tensor in buffer.items() if name != "times"}
    assert all(shape[:2] == (20, 4) for shape in rows.values())
    assert buffer["times"] == 15
    assert not buffer["observation"][15:].any()
    held = sum(tensor.numel() for name, tensor in tensors.items() if "memory" in name)
    assert held == 0 and not any(name.startswith("learner.memory") for name in tensors)
    # What was seen first is what random actions meet in the second task.
    environment = make_environment("PendulumStream-v0", 4, task=1, horizon=20)
    expected = ReplayBuffer(3, 1, capacity=40, num_envs=4)
    seed = training_seed(0) + 4
    Collector(environment, expected, seed).collect(RandomController(environment, 1), 10)
    found, known = loop._buffer.ordered(), expected.ordered()
    assert torch.equal(found.next_observation[:10], known.next_observation)
    assert torch.equal(found.action[:10], known.action) and found.last[9].all()


@pytest.mark.parametrize(("every", "rows"), [(0, [1, 1, 3]), (160, [1, 2, 3])])
def test_what_is_evaluated_when(every: int, rows: list[int], tmp_path: Path) -> None:
    config = replace(experiment(every=every), checkpoint_every=240)
    run = train_in(tmp_path, config)
    saved = run.latest_checkpoint()
    assert saved is not None
    returns = saved.tensors["record.returns"]
    assert returns.shape == (3, 3) and returns.dtype == torch.float64
    known = returns.isfinite()
    assert known.sum(1).tolist() == rows
    assert known.diagonal().all() and not known.triu(1).any()
    # Errors of the dynamics are measured of all tasks that have begun, every time.
    errors = saved.tensors["record.errors"].isfinite()
    assert torch.equal(errors, torch.ones(3, 3).tril().bool())
    # Two episodes of 20 steps for each task that was evaluated.
    assert saved.state["loop"]["record"]["evaluation_steps"] == 40 * sum(rows)


def test_an_evaluation_of_many_tasks_is_that_of_each() -> None:
    loop = Loop(experiment(planner=replace(PLANNER, kind="cem"), whole=True))
    while not loop.done:
        loop.session()
    assert loop.evaluations.test() is loop.evaluations.test()
    scalars = loop.evaluate([0, 1, 2])
    assert {
        f"task_{task}/{n}" for task in range(3) for n in ("return", "model_error", "score")
    } <= (scalars.keys())
    mean = sum(scalars[f"task_{task}/return"] for task in range(3)) / 3
    assert scalars["eval/return"] == pytest.approx(mean)
    scores = loop.scores()
    assert scores is not None
    expected = loop.stream.scores(loop.record.returns[2], [0, 1, 2])
    torch.testing.assert_close(scores[2], expected)
    again = loop.evaluations.run(loop.learner, [0, 1, 2])
    assert torch.equal(again.returns, loop.record.returns[2].to(again.returns))


def test_every_task_is_evaluated_on_the_same_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, seen = Loop(experiment()), []

    def spy(environment: Any, controller: Any, seeds: torch.Tensor) -> Any:
        seen.append((environment.tasks.tolist(), seeds.tolist()))
        return evaluate(environment, controller, seeds)

    monkeypatch.setattr(evaluation, "evaluate", spy)
    loop.session()
    loop.evaluations.run(loop.learner, [2, 0])
    first = evaluation_seed(0)
    assert seen == [([2, 2, 0, 0], [first, first + 1, first, first + 1])]


def test_an_evaluation_changes_nothing_of_the_training() -> None:
    ends = []
    for evaluated in (False, True):
        loop = Loop(experiment())
        while not loop.done:
            loop.session()
            if evaluated:
                loop.evaluate(list(range(loop.task + 1)))
        ends.append(loop.state_dict()[0])
    names = [name for name in ends[0] if not name.startswith("record.")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in names)


@pytest.mark.parametrize("stream", ["KuramotoSivashinskyStream-v0", "GlucoseStream-v0"])
def test_rewards_are_learned_where_they_are_not_known(stream: str) -> None:
    config = experiment(stream=stream, reward="learned", tasks=2, members=2, total_steps=96)
    loop = Loop(config)
    while not loop.done:
        scalars = loop.session()
        assert all(math.isfinite(value) for value in scalars.values())
    assert loop.steps == 2 * 48
    observations = loop._environment.observation_space.shape[0]
    assert loop.learner.networks.shape.sizes[-1] == observations + 1
    errors = loop.evaluations.model_errors(loop.learner)
    assert errors.isfinite().all()


def test_a_stream_of_mujoco() -> None:
    loop = Loop(experiment(stream="PusherStream-v0", reward="known", tasks=2, total_steps=160))
    while not loop.done:
        loop.session()
    assert loop.steps == 160
    assert math.isfinite(loop.evaluate([0, 1])["eval/return"])


WRONG: dict[str, tuple[ExperimentConfig, str]] = {
    "no stream": (experiment(stream="Lorenz-v0"), "unknown stream .*LorenzStream-v0"),
    "a task": (
        replace(
            experiment(), environment=EnvironmentConfig("PendulumStream-v0", 4, "cpu", {"task": 1})
        ),
        "got options or wrappers beside a stream; allowed: its id alone",
    ),
    "wrappers": (
        replace(
            experiment(),
            environment=EnvironmentConfig(
                "PendulumStream-v0", 4, wrappers=(ObservationNoise(0.1),)
            ),
        ),
        "got options or wrappers beside a stream; allowed: its id alone",
    ),
    "another option": (
        replace(
            experiment(), environment=EnvironmentConfig("PendulumStream-v0", 4, "cpu", {"rho": 1.0})
        ),
        "unknown option 'rho' .*; .*task",
    ),
    "short episodes": (
        replace(
            experiment(),
            environment=EnvironmentConfig("PendulumStream-v0", 4, "cpu", {"horizon": 9}),
        ),
        "episodes of 9 steps; allowed: torch.float32 and 10 or more",
    ),
    "double precision": (
        replace(
            experiment(),
            environment=EnvironmentConfig("PendulumStream-v0", 4, "cpu", {"dtype": "float64"}),
        ),
        "environment: got torch.float64 and .* allowed: torch.float32",
    ),
    "too many tasks": (experiment(tasks=51, total_steps=100_000), "tasks: got 51; .* has 50"),
    "too few steps": (experiment(total_steps=119), "got 119 for 3 tasks; allowed: at least 120"),
    "unknown rewards": (experiment(stream="GlucoseStream-v0"), "does not determine"),
    "too few random steps": (
        experiment(random_steps=12),
        "random_steps: got 12 in 4 environments; allowed: at least 13, as one of 4 steps",
    ),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(
    config: ExperimentConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train_in(tmp_path, config)


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": 0},
        {"random_steps": 0},
        {"layers": (0,)},
        {"max_gradient_norm": 0.0},
    ],
)
def test_senseless_values_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"got .* allowed is above 0"):
        HyperCRLConfig(**changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HypernetworkConfig(beta=-1.0),
        lambda: HypernetworkConfig(layers=()),
        lambda: CoresetConfig(transitions=-1),
        lambda: ElasticWeightsConfig(strength=0.0),
        lambda: PlannerConfig(horizon=0),
        lambda: PlannerConfig(population=8, elites=9),
        lambda: PlannerConfig("icem", population=8, elites=5),
    ],
)
def test_senseless_methods_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"got .* allowed is"):
        make()


def test_scores_are_of_whole_episodes() -> None:
    assert Loop(experiment()).scores() is None
    assert Loop(experiment(whole=True)).scores() is not None


@pytest.mark.parametrize("name", ["debug/hypercrl_pendulum", "hypercrl_cart_pole"])
def test_experiments_that_come_along_fit_their_streams(name: str) -> None:
    assert Loop(load_experiment(name)).task == -1

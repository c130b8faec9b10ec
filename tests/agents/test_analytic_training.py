"""The agent that trains by analytic gradients, from its experiment to the policy of its run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsFloat

import pytest
import torch

from separatrix.agents.catalog import load_policy, train
from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.analytic_policy.learner import AnalyticPolicyLearner
from separatrix.agents.common.checkpoint import CheckpointError
from separatrix.agents.common.configuration import ConfigurationError, load_experiment
from separatrix.agents.common.evaluations import Evaluations
from separatrix.agents.common.run import Run
from separatrix.agents.common.stable_baselines3.config import PPOConfig
from separatrix.agents.common.training import TrainingResult
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.cli.main import run as run_command
from separatrix.envs.core.registration import make_environment
from tests.agents.training_runs import KilledError, assert_same, last_checkpoint, rows, train_in

DEBUG = "debug/lorenz_analytic_policy"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of threads come in an order that depends on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class KilledRun(Run):
    """A run whose process dies some steps after its first checkpoint."""

    def log(self, scalars: Mapping[str, SupportsFloat], step: int) -> None:
        checkpoint = self.latest_checkpoint()
        if checkpoint is not None and step > checkpoint.step + 100:
            raise KilledError
        super().log(scalars, step)


def experiment(**changes: Any) -> ExperimentConfig:
    """The debug experiment, with learning rates that fall."""
    config = load_experiment(DEBUG)
    assert isinstance(config.agent, AnalyticPolicyConfig)
    agent = replace(config.agent, learning_rate_schedule="linear")
    return replace(config, agent=agent, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Run]:
    return train_in(tmp_path_factory.mktemp("trained"), experiment())


def test_training_improves_the_policy(trained: tuple[TrainingResult, Run]) -> None:
    """A thousand steps hold Lorenz' system near its target; at most 400 can be had."""
    result, run = trained
    config = run.config
    assert isinstance(config.agent, AnalyticPolicyConfig)
    untrained = AnalyticPolicyLearner(3, 1, config.agent, config.seed, "cpu", 1)
    evaluations = Evaluations(config)
    evaluations.run(untrained.controller())
    assert evaluations.last["eval/return"] < 50
    assert result.evaluation["eval/return"] > 300


def test_what_a_run_leaves_behind(trained: tuple[TrainingResult, Run]) -> None:
    result, run = trained
    logged = rows(run)
    assert len(logged) == len({(step, tag) for step, tag, _ in logged})
    windows = [step for step, tag, _ in logged if tag == "train/reward"]
    assert windows == list(range(64, 1025, 64))
    evaluated = [step for step, tag, _ in logged if tag == "eval/return"]
    assert evaluated == [512, 1024]
    assert result.steps == last_checkpoint(run).step == 1024
    assert result.evaluation_steps == result.evaluation["eval/steps"] == 2 * 4 * 400


def test_a_killed_run_resumes_bit_for_bit(
    trained: tuple[TrainingResult, Run], tmp_path: Path
) -> None:
    config = experiment()
    with KilledRun.create(tmp_path, config.environment.id, "analytic", 0, config) as cut:
        with pytest.raises(KilledError):
            train(config, cut)
    assert last_checkpoint(cut).step == 512
    with Run.resume(cut.folder) as resumed:
        assert train(config, resumed) == trained[0]
    assert_same(trained[1], resumed)
    with Run.resume(cut.folder) as again:  # a finished run is left alone
        assert train(config, again) == trained[0]


def test_a_seed_determines_a_run(tmp_path: Path) -> None:
    first, same, other = (
        train_in(tmp_path / str(number), experiment(total_steps=128, seed=seed))[1]
        for number, seed in enumerate((0, 0, 1))
    )
    assert_same(first, same)
    assert rows(first) != rows(other)


def test_whole_episodes_can_be_differentiated(tmp_path: Path) -> None:
    config = experiment(total_steps=3200)
    assert isinstance(config.agent, AnalyticPolicyConfig)
    config = replace(config, agent=replace(config.agent, window=400))
    result, run = train_in(tmp_path, config)
    assert result.steps == 3200
    assert {"train/return", "train/dropped_rows"} <= {tag for _, tag, _ in rows(run)}


def test_a_loaded_policy_acts_as_the_learner(trained: tuple[TrainingResult, Run]) -> None:
    _, run = trained
    config, checkpoint = run.config, last_checkpoint(run)
    environment = make_environment(config.environment.id, 4)
    assert isinstance(config.agent, AnalyticPolicyConfig)
    learner = AnalyticPolicyLearner(3, 1, config.agent, 5, "cpu", 1024)
    learner.load_state_dict(checkpoint.tensors, checkpoint.state["learner"])
    state, observation = environment.reset(0)
    action = load_policy(config, checkpoint, environment).act(observation, state)
    assert torch.equal(action, learner.controller().act(observation, state))
    assert action.abs().max() <= 1

    agent = replace(config.agent, policy_layers=(3,))
    with pytest.raises(CheckpointError, match="does not fit analytic on separatrix/Lorenz-v0"):
        load_policy(replace(config, agent=agent), checkpoint, environment)


def test_a_checkpoint_of_other_episodes_is_refused(
    trained: tuple[TrainingResult, Run], tmp_path: Path
) -> None:
    config = experiment(environment=EnvironmentConfig("separatrix/Lorenz-v0", num_envs=5))
    checkpoint = last_checkpoint(trained[1])
    with Run.create(tmp_path, config.environment.id, "analytic", 0, config) as run:
        run.save_checkpoint(512, checkpoint.tensors, checkpoint.state)
        with pytest.raises(CheckpointError, match="does not fit"):
            train(config, run)


def test_an_environment_without_derivatives_is_refused(tmp_path: Path) -> None:
    config = experiment(environment=EnvironmentConfig("separatrix/Swimmer-v0", num_envs=2))
    with pytest.raises(ConfigurationError, match="MuJoCo has no derivatives"):
        train_in(tmp_path, config)


def test_the_command_trains_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "separatrix", "train", DEBUG, "--root", str(tmp_path)]
    command += ["--total-steps", "128", "--agent.window", "8"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "steps: 128 (and 1600 of evaluations)" in result.stdout
    (folder,) = (tmp_path / "Lorenz-v0" / "analytic").iterdir()
    before = Run.open(folder).latest_checkpoint()
    assert run_command(["train", "--resume", str(folder)]) == 0
    assert before is not None
    assert last_checkpoint(Run.open(folder)).state == before.state


def test_the_counterpart_has_networks_as_large() -> None:
    analytic = load_experiment("analytic_policy_kuramoto_sivashinsky")
    ppo = load_experiment("ppo_kuramoto_sivashinsky")
    assert isinstance(analytic.agent, AnalyticPolicyConfig)
    assert isinstance(ppo.agent, PPOConfig)
    assert analytic.environment == ppo.environment
    assert analytic.evaluation.seed == ppo.evaluation.seed
    assert analytic.agent.policy_layers == ppo.agent.policy_layers
    assert analytic.agent.critic_layers == ppo.agent.value_layers
    assert (analytic.agent.gamma, analytic.agent.activation) == (
        ppo.agent.gamma,
        ppo.agent.activation,
    )

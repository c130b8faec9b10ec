"""Training from recorded data, from its experiment to the policy of its run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsFloat

import pytest
import torch
from PIL import Image

from separatrix.agents.catalog import load_policy, train
from separatrix.agents.common.checkpoint import CheckpointError
from separatrix.agents.common.configuration import ConfigurationError, load_experiment
from separatrix.agents.common.metrics import read_metrics
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import TrainingResult
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.agents.offline.config import MopoConfig, OfflineConfig, RavlConfig
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.dataset import Dataset, Metadata, References
from separatrix.agents.offline.data.files import load_dataset, save_dataset
from separatrix.agents.offline.model_config import ModelConfig, RolloutsConfig
from separatrix.cli import evaluate
from separatrix.cli.main import run as run_command
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ActionDelay
from tests.agents.offline_learners import METHODS
from tests.agents.training_runs import KilledError, assert_same, last_checkpoint, rows, train_in

PENDULUM = "separatrix/DampedPendulum-v0"
REFERENCES = References(10.0, 210.0, 32, "somebody")
MODEL = ModelConfig(members=3, elites=2, layers=(16,), max_epochs=2)
ROLLOUTS = RolloutsConfig(every=100, starts=20, length=2, recorded_share=0.5)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of threads come in an order that depends on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small data set is, of whole episodes of random actions."""
    environment = make_environment(PENDULUM, 4)
    metadata = Metadata(PENDULUM, recipe="random", references=REFERENCES)
    data = record(environment, RandomController(environment, 0), 1600, 0, metadata)
    folder = tmp_path_factory.mktemp("datasets") / "pendulum" / "medium"
    save_dataset(data, folder)
    return folder


def experiment(folder: Path, kind: str = "td3_bc", **changes: Any) -> ExperimentConfig:
    """The debug experiment on the data of a folder."""
    config = load_experiment("debug/offline_td3_bc")
    assert isinstance(config.agent, OfflineConfig)
    agent = replace(config.agent, dataset=str(folder), method=METHODS[kind])
    return replace(config, agent=agent, **changes)


def changed(config: ExperimentConfig, **changes: Any) -> ExperimentConfig:
    """An experiment whose agent has other hyper-parameters."""
    return replace(config, agent=replace(config.agent, **changes))


class KilledRun(Run):
    """A run whose process dies at the row of the log after its first checkpoint."""

    def log(self, scalars: Mapping[str, SupportsFloat], step: int) -> None:
        checkpoint = self.latest_checkpoint()
        if checkpoint is not None and step > max(checkpoint.step, 1):
            raise KilledError
        super().log(scalars, step)


def killed_and_resumed(root: Path, config: ExperimentConfig) -> tuple[TrainingResult, Run, int]:
    """Returns the result, the run, and the step of the checkpoint that it went on from."""
    with KilledRun.create(root, config.environment.id, "offline", 0, config) as cut:
        with pytest.raises(KilledError):
            train(config, cut)
    step = last_checkpoint(cut).step
    torch.manual_seed(7)
    with Run.resume(cut.folder) as resumed:
        return train(config, resumed), resumed, step


@pytest.fixture(scope="module", params=["td3_bc", "edac"])
def trained(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[TrainingResult, Run]:
    config = experiment(folder, request.param)
    return train_in(tmp_path_factory.mktemp("trained"), config)


def test_what_a_run_leaves_behind(trained: tuple[TrainingResult, Run], folder: Path) -> None:
    result, run = trained
    logged = rows(run)
    assert len(logged) == len({(step, tag) for step, tag, _ in logged})
    for tag, steps in {
        "train/policy_loss": [100, 200, 300, 400],
        "train/critic_loss": [100, 200, 300, 400],
        "eval/return": [200, 400],
        "eval/score": [200, 400],
    }.items():
        assert [step for step, name, _ in logged if name == tag] == steps
    assert len(read_metrics(run.folder / "metrics.csv")["time/updates_per_second"]) == 4
    assert result.steps == last_checkpoint(run).step == 400
    assert result.evaluation_steps == result.evaluation["eval/steps"] == 2 * 4 * 400
    score = (result.evaluation["eval/return"] - 10) / 2
    assert result.evaluation["eval/score"] == pytest.approx(score, rel=1e-5)
    with Image.open(run.folder / "figures" / "eval_returns_400.png") as image:
        assert image.format == "PNG" and min(image.size) > 200
    normalizer = last_checkpoint(run).tensors["learner.normalizer.mean"]
    torch.testing.assert_close(normalizer, load_dataset(folder).observation.mean(0))


def test_a_killed_run_resumes_bit_for_bit(
    trained: tuple[TrainingResult, Run], tmp_path: Path
) -> None:
    result, resumed, step = killed_and_resumed(tmp_path, trained[1].config)
    assert step == 200 and result == trained[0]
    assert_same(trained[1], resumed)
    with Run.resume(resumed.folder) as again:  # a finished run is left alone
        assert train(resumed.config, again) == trained[0]


@pytest.mark.parametrize("kind", ["behaviour_cloning", "iql", "cql"])
def test_other_methods_resume_bit_for_bit_off_the_rows_of_the_log(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    config = experiment(folder, kind, total_steps=90, checkpoint_every=35)
    config = changed(config, log_every=30, normalise_observations=False)
    result, run = train_in(tmp_path / "whole", config)
    again, resumed, step = killed_and_resumed(tmp_path / "killed", config)
    assert step == 35 and again == result
    assert_same(run, resumed)
    logged = [step for step, tag, _ in rows(run) if tag == "train/policy_loss"]
    assert logged == [30, 35, 60, 70, 90]
    assert not last_checkpoint(run).tensors["learner.normalizer.mean"].any()


def test_what_a_model_learned_is_saved_before_the_first_update(
    folder: Path, tmp_path: Path
) -> None:
    method = MopoConfig(model=MODEL, rollouts=ROLLOUTS)
    config = changed(experiment(folder, checkpoint_every=1000, total_steps=150), method=method)
    result, run = train_in(tmp_path / "whole", config)
    again, resumed, step = killed_and_resumed(tmp_path / "killed", config)
    assert step == 0 and again == result
    assert_same(run, resumed)
    assert {"model/notes"} <= {
        path.stem.rpartition("_")[0].replace("_", "/") for path in (run.folder / "texts").iterdir()
    }


def test_rows_are_means_since_the_last_row(folder: Path, tmp_path: Path) -> None:
    coarse = changed(experiment(folder, total_steps=20, checkpoint_every=100), log_every=20)
    fine = changed(coarse, log_every=1)
    wide, narrow = (
        read_metrics(train_in(tmp_path / name, config)[1].folder / "metrics.csv")
        for name, config in (("coarse", coarse), ("fine", fine))
    )
    for tag, count in {"train/critic_loss": 20, "train/policy_loss": 10}.items():
        values = [value for _, value in narrow[tag]]
        assert len(values) == count  # TD3+BC improves the policy every other time
        ((step, mean),) = wide[tag]
        assert step == 20 and mean == pytest.approx(sum(values) / count, rel=1e-5)


def test_a_seed_determines_a_run(folder: Path, tmp_path: Path) -> None:
    first, same, other = (
        train_in(tmp_path / str(number), experiment(folder, total_steps=50, seed=seed))[1]
        for number, seed in enumerate((0, 0, 1))
    )
    assert_same(first, same)
    assert rows(first) != rows(other)


@pytest.mark.parametrize(
    ("shift", "given", "lowest"), [(0.0, None, 0.0), (-2.0, None, None), (0.0, -7.0, -7.0)]
)
def test_the_lowest_value_is_that_of_the_worst_reward_for_ever_or_of_an_end(
    shift: float, given: float | None, lowest: float | None, folder: Path, tmp_path: Path
) -> None:
    from separatrix.agents.offline.train import _Training

    data = load_dataset(folder)
    assert data.reward.min() > 0
    shifted = replace(data, reward=data.reward + shift)
    save_dataset(shifted, tmp_path / "shifted")
    config = changed(experiment(tmp_path / "shifted"), lowest_value=given, gamma=0.9)
    with Run.create(tmp_path, PENDULUM, "offline", 0, config) as run:
        learner = _Training(config, run).learner
    worst = 10 * shifted.reward.min().item()
    assert learner.lowest_value == pytest.approx(worst if lowest is None else lowest)


def test_a_loaded_policy_acts_as_the_learner(trained: tuple[TrainingResult, Run]) -> None:
    _, run = trained
    config, checkpoint = run.config, last_checkpoint(run)
    environment = make_environment(PENDULUM, config.evaluation.episodes)
    controller = load_policy(config, checkpoint, environment)
    state, observation = environment.reset(0)
    action = controller.act(observation, state)
    assert action.shape == (4, 1) and action.abs().max() <= 1
    smaller = changed(config, layers=(3,))
    with pytest.raises(CheckpointError, match="does not fit offline on"):
        load_policy(smaller, checkpoint, environment)


def test_a_run_is_evaluated_after_its_data_are_gone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "log_pictures", lambda *arguments: None)
    for kind in METHODS.keys() - {"sac"}:
        data = Path(shutil.copytree(folder, tmp_path / kind / "data"))
        config = experiment(data, kind, total_steps=20)
        _, run = train_in(tmp_path / kind / "runs", config)
        shutil.rmtree(data)
        assert run_command(["evaluate", str(run.folder), "--episodes", "4"]) == 0
        values = [value for _, value in read_metrics(run.folder / "metrics.csv")["eval/return"]]
        assert values[0] == values[1]  # of the same episodes


def test_data_of_another_kind_are_refused(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder)
    lorenz = replace(config, environment=EnvironmentConfig("separatrix/Lorenz-v0"))
    with pytest.raises(ConfigurationError, match=r"environment\.id: got .*Lorenz.*; allowed: .*Pe"):
        train_in(tmp_path / "id", lorenz)
    cheetah = replace(config, environment=EnvironmentConfig("separatrix/CartPoleSwingUp-v0"))
    with pytest.raises(ConfigurationError, match=r"agent\.dataset: observation: the data have 3"):
        train_in(tmp_path / "size", cheetah)
    heavier = replace(config, environment=EnvironmentConfig(PENDULUM, options={"mass": 2.0}))
    with pytest.warns(RuntimeWarning, match="evaluated elsewhere than .*mass: None, now 2"):
        train_in(tmp_path / "options", replace(heavier, total_steps=2))
    with pytest.raises(ConfigurationError, match=r"agent\.dataset: there is nothing at nowhere$"):
        train_in(tmp_path / "nowhere", changed(config, dataset="nowhere"))
    hint = "there is nothing at x/pendulum/medium; `separatrix collect pendulum` makes it"
    with pytest.raises(ConfigurationError, match=hint):
        train_in(tmp_path / "hint", changed(config, dataset="x/pendulum/medium"))
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / "transitions.npz").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"agent\.dataset: .*SHA-256"):
        train_in(tmp_path / "runs", changed(config, dataset=str(damaged)))


def test_a_run_does_not_go_on_with_other_data(folder: Path, tmp_path: Path) -> None:
    place, data = tmp_path / "data", load_dataset(folder)
    save_dataset(data, place)
    config = experiment(place, total_steps=20)
    _, run = train_in(tmp_path / "runs", config)
    shutil.rmtree(place)
    save_dataset(replace(data, reward=data.reward + 1e-6), place)
    with Run.resume(run.folder) as again:
        with pytest.raises(CheckpointError, match="data is not what it was"):
            train(replace(config, total_steps=30), again)


def test_data_in_double_precision_are_learned_from(folder: Path, tmp_path: Path) -> None:
    data = load_dataset(folder)
    tensors = {n: t.double() if t.is_floating_point() else t for n, t in data.tensors().items()}
    save_dataset(Dataset(**tensors, metadata=Metadata()), tmp_path / "data")
    result, run = train_in(tmp_path / "runs", experiment(tmp_path / "data", total_steps=20))
    _, expected = train_in(tmp_path / "single", experiment(folder, total_steps=20))
    assert "eval/score" not in result.evaluation  # these data have no references
    with_scores = [row for row in rows(expected) if row[1] != "eval/score"]
    assert rows(run) == with_scores


def test_a_model_that_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    config = experiment(folder)
    delayed = replace(config.environment, wrappers=(ActionDelay(2),))
    true = RavlConfig(model=replace(MODEL, source="true"), rollouts=ROLLOUTS)
    with pytest.raises(ConfigurationError, match=r"^the experiment: model\.source: true dynamics"):
        with pytest.warns(RuntimeWarning, match="wrap: None, now"):
            train_in(tmp_path / "true", replace(changed(config, method=true), environment=delayed))
    few = tmp_path / "few"
    environment = make_environment(PENDULUM, 1)
    save_dataset(record(environment, RandomController(environment, 0), 2, 0), few)
    learned = MopoConfig(model=MODEL, rollouts=ROLLOUTS)
    with pytest.raises(ConfigurationError, match=r"^the experiment: .*among the held-out"):
        train_in(tmp_path / "learned", changed(config, method=learned, dataset=str(few)))


def test_a_run_killed_by_the_system_resumes_from_the_command_line(
    folder: Path, tmp_path: Path
) -> None:
    changes = ["--agent.dataset", str(folder), "--total-steps", "1000"]
    changes += ["--checkpoint-every", "100", "--evaluation.every", "0"]
    arguments = ["train", "debug/offline_edac", *changes, "--root"]
    assert run_command([*arguments, str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-m", "separatrix", *arguments, str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not list(tmp_path.glob("killed/*/*/*/checkpoints/step_*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ((whole,), (killed,)) = (list(tmp_path.glob(f"{name}/*/*/*")) for name in ("whole", "killed"))
    assert 100 <= last_checkpoint(Run.open(killed)).step < 1000, "it ended before it was killed"
    assert run_command(["train", "--resume", str(killed)]) == 0
    assert_same(Run.open(whole), Run.open(killed))

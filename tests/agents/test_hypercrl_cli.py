"""The commands on a run over a stream: what it leaves, how it goes on, how a task is evaluated."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from separatrix.agents.common.checkpoint import Checkpoint, read_latest, write_checkpoint
from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.metrics import read_metrics
from separatrix.agents.common.run import Run
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.cli import evaluate
from separatrix.cli.main import run as run_command
from separatrix.envs.streams.stream import find_stream

PLANNER = {"horizon": "4", "iterations": "1"}
CHANGES = ["--agent.gradient-steps", "20", "--seed", "5"]
CHANGES += [word for name in PLANNER for word in (f"--agent.planner.{name}", PLANNER[name])]
GRAVITY = find_stream("PendulumStream-v0").labels


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted, of 600 steps for each of three tasks."""
    root = tmp_path_factory.mktemp("runs")
    assert run_command(["train", "debug/hypercrl_pendulum", *CHANGES, "--root", str(root)]) == 0
    (folder,) = root.glob("*/*/*")
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, whose evaluations draw no pictures, which take seconds."""
    monkeypatch.setattr(evaluate, "log_pictures", lambda *arguments: None)
    monkeypatch.setenv("COLUMNS", "200")
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def last(folder: Path) -> Checkpoint:
    found = read_latest(folder / "checkpoints")
    assert found is not None
    return found


def scalars(folder: Path) -> list[tuple[str, str, str]]:
    """Everything logged but the wall-clock times."""
    with (folder / "metrics.csv").open() as file:
        rows = [(row["step"], row["tag"], row["value"]) for row in csv.DictReader(file)]
    return [row for row in rows if not row[1].startswith("time/")]


def without_seconds(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint but for what the clock says."""
    found: dict[str, Any] = json.loads(json.dumps(state))
    for name in ("seconds", "training_seconds"):
        assert all(seconds > 0 for seconds in found["loop"]["record"].pop(name))
    return found


def test_a_run_that_is_killed_in_its_third_task_goes_on_bit_for_bit(
    whole: Path, copied: Path
) -> None:
    shutil.rmtree(copied / "checkpoints" / "step_1800")
    assert last(copied).step == 1600 and last(copied).state["loop"]["learner"] == {"task": 2}
    assert last(copied).state["loop"]["record"]["ended"] == 2
    torch.manual_seed(7), np.random.seed(7)
    assert run_command(["train", "--resume", str(copied)]) == 0
    expected, found = last(whole), last(copied)
    assert expected.step == found.step == 1800
    assert expected.tensors.keys() == found.tensors.keys()
    pairs = ((expected.tensors[name], found.tensors[name], name) for name in found.tensors)
    assert [name for a, b, name in pairs if not torch.equal(a.nan_to_num(9), b.nan_to_num(9))] == []
    assert without_seconds(expected.state) == without_seconds(found.state)
    assert scalars(whole) == scalars(copied)
    # A moment of training that was lost with the kill: it was computed anew, and is the same.
    steps = {int(step) for step, _, _ in scalars(copied)}
    assert steps == {400, 600, 1000, 1200, 1600, 1800}


def test_everything_is_written(whole: Path) -> None:
    metrics = read_metrics(whole / "metrics.csv")
    tags = {f"task_{task}/{name}" for task in range(3) for name in ("return", "score")}
    tags |= {f"task_{task}/model_error" for task in range(3)}
    tags |= {"train/loss", "train/held_out_error", "train/penalty", "train/task"}
    tags |= {"eval/return", "eval/score", "tasks/embedding_order"}
    assert tags <= metrics.keys()
    assert [step for step, _ in metrics["task_0/model_error"]] == [600, 1200, 1800]
    assert [value for _, value in metrics["train/task"]] == [0, 0, 1, 1, 2, 2]
    # Nothing protects the first task from a later one before there is one.
    assert min(step for step, _ in metrics["train/penalty"]) > 600
    assert [step for step, _ in metrics["tasks/embedding_order"]] == [1800]
    events = b"".join(file.read_bytes() for file in whole.glob("events.*"))
    for tag in (*tags, "tasks/matrix", "tasks/curves", "tasks/embeddings", "tasks/storage"):
        assert tag.encode() in events, tag
    for name in ("matrix", "curves", "embeddings"):
        for step in (600, 1200, 1800):
            with Image.open(whole / "figures" / f"tasks_{name}_{step}.png") as image:
                assert image.format == "PNG" and min(image.size) > 200
    table = (whole / "texts" / "tasks_storage_1800.txt").read_text()
    categories = [line.split("  ")[0] for line in table.splitlines() if line[:1].isalpha()]
    assert {"hypernetwork", "embeddings", "regulariser targets", "normalisers"} <= set(categories)


def evaluated(folder: Path, tag: str) -> float:
    return read_metrics(folder / "metrics.csv")[tag][-1][1]


def test_a_checkpoint_is_evaluated_in_a_fresh_process_without_data(copied: Path) -> None:
    saved = last(copied)
    kept = {n: t for n, t in saved.tensors.items() if not n.startswith(("buffer.", "collector."))}
    assert len(kept) < len(saved.tensors)
    shutil.rmtree(copied / "checkpoints")
    write_checkpoint(copied / "checkpoints", saved.step, kept, saved.state)
    script = (
        "from separatrix.cli import evaluate, main\n"
        "evaluate.log_pictures = lambda *arguments: None\n"
        f"raise SystemExit(main.run(['evaluate', {str(copied)!r}, '--episodes', '2']))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"PendulumStream-v0, task 0 ({GRAVITY[0]}), 2 episodes" in " ".join(
        result.stdout.split()
    )
    alone = evaluated(copied, "eval/return")
    # The evaluation at the end of the training had the same two episodes for this task.
    assert alone == pytest.approx(evaluated(copied, "task_0/return"), rel=0.05)
    assert run_command(["evaluate", str(copied), "--episodes", "2"]) == 0
    assert evaluated(copied, "eval/return") == alone


def test_a_task_is_evaluated(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["evaluate", str(copied), "--episodes", "2"]
    before = read_metrics(copied / "metrics.csv")
    assert run_command([*line, "--task", "2"]) == 0
    title = " ".join(capsys.readouterr().out.split())
    assert f"separatrix/PendulumStream-v0, task 2 ({GRAVITY[2]}), 2 episodes, step 1800" in title
    after = read_metrics(copied / "metrics.csv")
    # They stand beside those of the training, and those of the run as a whole stay as they were.
    assert len(after["task_2/return"]) == 2 and after["eval/return"] == before["eval/return"]
    assert after["task_2/length"] == [(1800, 150.0)]
    assert run_command([*line, "--task", "0"]) == run_command(line) == 0
    assert evaluated(copied, "task_0/return") == evaluated(copied, "eval/return")
    assert evaluated(copied, "task_0/return") != evaluated(copied, "task_2/return")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("3", "task: got 3; the checkpoint of step 1800 knows tasks 0 to 2"),
        (
            "50",
            "task: got 50 of separatrix/PendulumStream-v0; allowed: a whole number from 0 to 49",
        ),
        (
            "-1",
            "task: got -1 of separatrix/PendulumStream-v0; allowed: a whole number from 0 to 49",
        ),
    ],
)
def test_a_task_that_is_not_known_is_refused(
    task: str, message: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["evaluate", str(copied), "--task", task]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Lorenz-v0", "DampedPendulum-v0"])
def test_other_environments_have_no_tasks(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = load_experiment("debug/lorenz_ppo").agent
    config = ExperimentConfig(EnvironmentConfig(f"separatrix/{name}"), agent, 100)
    with Run.create(tmp_path, config.environment.id, "ppo", 0, config) as run:
        run.save_checkpoint(1, {}, {})
    assert run_command(["evaluate", str(run.folder), "--task", "1"]) == 2
    error = capsys.readouterr().err
    assert f"got --task 1 for separatrix/{name}, which is no stream of tasks" in error
    assert "separatrix/PendulumStream-v0" in error

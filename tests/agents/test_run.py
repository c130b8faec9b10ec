import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import separatrix
from separatrix.agents.common import provenance
from separatrix.agents.common.checkpoint import CheckpointError
from separatrix.agents.common.metrics import read_metrics
from separatrix.agents.common.run import Run
from separatrix.agents.common.stable_baselines3.config import PPOConfig
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig

CONFIG = ExperimentConfig(EnvironmentConfig("separatrix/Lorenz-v0"), PPOConfig(), 100, seed=7)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs", "separatrix/Lorenz-v0", "ppo", 7, CONFIG)


def test_folder_says_what_went_in(run: Run, tmp_path: Path) -> None:
    assert run.folder.parent == tmp_path / "runs" / "Lorenz-v0" / "ppo"
    assert run.folder.name.endswith("_s7")
    assert Run.open(run.folder).config == CONFIG
    assert shlex.split((run.folder / "command.txt").read_text()) == sys.argv
    versions = json.loads((run.folder / "versions.json").read_text())
    assert versions["torch"] == torch.__version__
    assert versions["cpu"]
    assert set(json.loads((run.folder / "git.json").read_text())) == {
        "sha",
        "dirty",
        "diff",
        "untracked",
    }


def test_two_runs_at_once_get_two_folders(run: Run) -> None:
    runs = {run.folder}
    for _ in range(3):
        root = run.folder.parents[2]
        runs.add(Run.create(root, "separatrix/Lorenz-v0", "ppo", 7, CONFIG).folder)
    assert len(runs) == 4


def test_only_folders_of_runs_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        Run.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        Run.resume(tmp_path / "missing")


def test_opening_to_read_leaves_no_trace(run: Run) -> None:
    before = sorted(run.folder.iterdir())
    with Run.open(run.folder) as again:
        assert again.latest_checkpoint() is None
    assert sorted(run.folder.iterdir()) == before


def test_scalars_figures_and_videos_are_files_and_events(run: Run) -> None:
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([1, 2])
    frames = np.random.default_rng(0).integers(0, 255, (3, 8, 10, 3), np.uint8)
    with run:
        run.log({"eval/return": np.float32(0.5), "eval/length": 3}, 10)
        png = run.log_figure("eval/phase_portrait", figure, 10)
        gif = run.log_video("eval/rollout", frames, 10, fps=20)
        run.log_hparams({"gamma": 0.9}, {"eval/return": 0.5})
    assert read_metrics(run.folder / "metrics.csv")["eval/return"] == [(10, 0.5), (10, 0.5)]
    assert png == run.folder / "figures" / "eval_phase_portrait_10.png"
    assert gif == run.folder / "videos" / "eval_rollout_10.gif"
    with Image.open(png) as image:
        assert image.size == (100, 50)
    with Image.open(gif) as image:
        assert image.n_frames == 3
    events = EventAccumulator(str(run.folder))
    events.Reload()
    assert [event.step for event in events.Scalars("eval/length")] == [10]
    assert events.Images("eval/rollout")[0].encoded_image_string == gif.read_bytes()
    assert len(list(run.folder.glob("events.*"))) == 1
    assert not list(run.folder.glob("*/events.*"))


def test_resuming_takes_the_scalars_back_to_the_checkpoint(run: Run) -> None:
    with run:
        for step in (10, 20, 30):
            run.log({"a": step}, step)
            if step < 30:
                run.save_checkpoint(step, {"weight": torch.tensor([step])}, {"step": step})
    with Run.resume(run.folder) as again:
        checkpoint = again.latest_checkpoint()
        assert checkpoint is not None
        assert (checkpoint.step, checkpoint.state) == (20, {"step": 20})
        assert checkpoint.tensors["weight"].tolist() == [20]
        again.log({"a": -30}, 30)
    assert read_metrics(run.folder / "metrics.csv")["a"] == [(10, 10), (20, 20), (30, -30)]
    events = EventAccumulator(str(run.folder))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [
        (10, 10),
        (20, 20),
        (30, -30),
    ]
    assert len((run.folder / "command.txt").read_text().splitlines()) == 2


def test_resuming_without_a_checkpoint_starts_again(run: Run) -> None:
    with run:
        run.log({"a": 1.0}, 0)
    with Run.resume(run.folder) as again:
        assert again.latest_checkpoint() is None
    assert read_metrics(run.folder / "metrics.csv") == {}


def test_resuming_from_damage_alone_is_refused_and_changes_nothing(run: Run) -> None:
    with run:
        run.log({"a": 1.0}, 10)
        run.save_checkpoint(5, {}, {})
    (run.folder / "checkpoints" / "step_5" / "state.json").unlink()
    before = (run.folder / "metrics.csv").read_bytes()
    with pytest.raises(
        CheckpointError, match=r"none of the 1 checkpoints .* is whole: .*state\.json"
    ):
        Run.resume(run.folder)
    assert (run.folder / "metrics.csv").read_bytes() == before


def git(*arguments: str, folder: Path) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_git_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "package" / "__init__.py"
    source.parent.mkdir()
    source.write_text("a = 1\n")
    monkeypatch.setattr(separatrix, "__file__", str(source))
    nothing: dict[str, Any] = {"sha": None, "dirty": None, "diff": "", "untracked": []}
    git("init", folder=tmp_path)
    assert provenance.git_state() == nothing
    git("add", ".", folder=tmp_path)
    git("commit", "-m", "a", folder=tmp_path)
    sha = git("rev-parse", "HEAD", folder=tmp_path).strip()
    assert provenance.git_state() == {"sha": sha, "dirty": False, "diff": "", "untracked": []}
    source.write_text("a = 2\n")
    (tmp_path / "new.py").touch()
    state = provenance.git_state()
    assert state["sha"] == sha
    assert state["dirty"] is True
    assert "+a = 2" in state["diff"]
    assert state["untracked"] == ["new.py"]
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state() == nothing

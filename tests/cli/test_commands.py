"""The commands that compute, on the experiments that take seconds."""

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from separatrix.agents.common.configuration import experiment_names
from separatrix.agents.common.metrics import read_metrics
from separatrix.agents.common.run import Run
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.files import save_dataset
from separatrix.cli import doctor, evaluate
from separatrix.cli.main import run
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import REGISTRY, make_environment

METRICS = ("distance", "on_target", "energy")


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def only_run(root: Path) -> Path:
    (folder,) = root.glob("*/*/*")
    return folder


def scalars(folder: Path) -> list[str]:
    """Rows step,tag,value of a run's metrics, but those that depend on the clock."""
    rows = (folder / "metrics.csv").read_text().splitlines()
    return [row.rpartition(",")[0] for row in rows if ",time/" not in row]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data where offline experiments look for theirs."""
    environment = make_environment("separatrix/DampedPendulum-v0", 2)
    data = record(environment, RandomController(environment, 0), 200, 0)
    save_dataset(data, tmp_path / "datasets" / "pendulum" / "medium")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("name", experiment_names("debug"))
def test_train_runs_every_debug_experiment(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    assert run(["train", f"debug/{name}", "--root", str(root), "--seed", "3"]) == 0
    folder = only_run(root)
    opened = Run.open(folder)
    config, checkpoint = opened.config, opened.latest_checkpoint()
    assert config.seed == 3
    assert folder.name.endswith("_s3")
    assert folder.parent.name == config.agent.algorithm
    assert f"separatrix/{folder.parents[1].name}" == config.environment.id
    assert checkpoint is not None
    assert checkpoint.step == config.total_steps
    metrics = read_metrics(folder / "metrics.csv")
    assert metrics["eval/return"][-1][0] == config.total_steps
    assert f"eval/return: {metrics['eval/return'][-1][1]:.6g}" in capsys.readouterr().out


def test_options_of_the_command_line_join_those_of_the_experiment(tmp_path: Path) -> None:
    experiment = tmp_path / "mine.yaml"
    experiment.write_text(
        "environment: {id: separatrix/Lorenz-v0, options: {authority: 0.2, rho: 27}}\n"
        "agent: {algorithm: ppo, rollout_steps: 16, batch_size: 16, epochs: 1}\n"
        "total_steps: 16\n"
        "evaluation: {episodes: 2}\n"
    )
    root = tmp_path / "runs"
    changes = ["--environment.options", "rho=28.5", "width=4", "--agent.epochs", "2"]
    assert run(["train", str(experiment), *changes, "--root", str(root)]) == 0
    config = Run.open(only_run(root)).config
    assert config.environment.options == {"authority": 0.2, "rho": 28.5, "width": 4}
    assert config.agent.epochs == 2  # type: ignore[union-attr]


def test_a_killed_run_resumes_as_if_nothing_had_happened(tmp_path: Path) -> None:
    changes = ["--total-steps", "6144", "--checkpoint-every", "1024", "--evaluation.every", "2048"]
    arguments = ["train", "debug/lorenz_ppo", *changes, "--root"]
    assert run([*arguments, str(tmp_path / "whole")]) == 0
    whole = scalars(only_run(tmp_path / "whole"))

    command = [sys.executable, "-m", "separatrix", *arguments, str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not list(tmp_path.glob("killed/*/*/*/checkpoints/step_*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folder = only_run(tmp_path / "killed")
    stopped = Run.open(folder).latest_checkpoint()
    assert stopped is not None
    assert stopped.step < 6144, "the run ended before it was killed"

    assert run(["train", "--resume", str(folder)]) == 0
    assert scalars(folder) == whole
    assert len((folder / "command.txt").read_text().splitlines()) == 2


def test_evaluate_logs_scalars_figure_and_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["train", "debug/lorenz_sac", "--root", str(tmp_path)])
    folder = only_run(tmp_path)
    before = (folder / "config.yaml").read_bytes()
    capsys.readouterr()
    assert run(["evaluate", str(folder), "--episodes", "6"]) == 0
    table = capsys.readouterr().out
    assert "6 episodes, step 400" in " ".join(table.split())
    for quantity in ("return", "length", "distance", "on target", "energy", "diverged"):
        assert f" {quantity} " in table
    metrics = read_metrics(folder / "metrics.csv")
    for quantity in ("return", "length", "diverged", *METRICS):
        assert metrics[f"eval/{quantity}"][-1][0] == 400
    assert metrics["eval/length"][-1] == (400, 400.0)
    png = folder / "figures" / "eval_phase_portrait_400.png"
    gif = folder / "videos" / "eval_rollout_400.gif"
    formats = [Image.open(io.BytesIO(path.read_bytes())).format for path in (png, gif)]
    assert formats == ["PNG", "GIF"]
    assert (folder / "config.yaml").read_bytes() == before
    # The same seeds give the same numbers, others do not.
    monkeypatch.setattr(evaluate, "log_pictures", lambda *arguments: None)  # they take seconds
    assert run(["evaluate", str(folder), "--episodes", "6"]) == 0
    assert run(["evaluate", str(folder), "--episodes", "6", "--seed", "1"]) == 0
    returns = [value for _, value in read_metrics(folder / "metrics.csv")["eval/return"]]
    assert returns[-3] == returns[-2] != returns[-1]


def test_evaluate_says_when_there_is_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["train", "debug/lorenz_ppo", "--root", str(tmp_path), "--total-steps", "256"])
    folder = only_run(tmp_path)
    for path in folder.glob("checkpoints/*/*"):
        path.unlink()
    for path in folder.glob("checkpoints/*"):
        path.rmdir()
    capsys.readouterr()
    assert run(["evaluate", str(folder)]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_control_compares_controllers(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--option", "authority=0.2", "rho=27", "--episodes", "8"]
    line = ["control", "zero", "random", "lqr", "--environment", "Lorenz-v0", *options]
    assert run(line) == 0
    table = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("│")] for line in table.splitlines()]
    rows = {cells[1]: cells[2:5] for cells in lines if len(cells) == 6}
    assert "authority=0.2 rho=27, 8 episodes" in table
    assert rows["energy"][0] == "0"
    mean = {name: [float(cell.split()[0]) for cell in cells] for name, cells in rows.items()}
    assert mean["length"] == [400, 400, 400]
    assert mean["diverged"] == [0, 0, 0]
    # Uniform actions have a mean square of 1/3; LQR gathers more reward than none.
    assert mean["energy"][1] == pytest.approx(1 / 3, abs=0.05)
    assert mean["return"][2] > mean["return"][0]
    assert run(line) == 0
    assert capsys.readouterr().out == table


def test_control_plans_with_settings(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["icem.population=20", "icem.iterations=1", "icem.horizon=8"]
    line = ["control", "zero", "icem", "--environment", "Lorenz-v0", "--episodes", "2"]
    assert run([*line, "--option", "authority=0.3", "--setting", *settings]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "return" in line]
    zero, planned = (float(cell.split()[0]) for cell in rows[0][2:4])
    assert planned > 2 * zero


def test_doctor_steps_every_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SECONDS", 0.0)
    monkeypatch.setattr(doctor, "BATCH", 4)
    assert run(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "everything works" in output
    for environment_id in REGISTRY:
        assert environment_id in output


def test_doctor_reports_what_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(environment_id: str, backend: str, device: str) -> float:
        if environment_id.endswith("Rossler-v0") and backend == "torch":
            raise RuntimeError("broken")
        return 1.0

    monkeypatch.setattr(doctor, "measure", measure)
    monkeypatch.setattr(doctor, "cache_directory", lambda: Path("/proc/nowhere"))
    assert run(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "separatrix/Rossler-v0 with torch on cpu: RuntimeError('broken')" in output
    assert "failed: kernel cache /proc/nowhere" in output


def test_demo_compares_four_controllers_at_two_authorities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", "--steps", "1", "--episodes", "4", "--root", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    for authority in ("0.1", "0.3"):
        for name in ("zero", "random", "LQR", "PPO"):
            rows = [row for row in output.splitlines() if f" {name} " in row]
            assert any(f" {authority} " in row for row in rows)
    assert f"tensorboard --logdir {tmp_path}" in output.replace("\n", "")
    folders = list(tmp_path.glob("Lorenz-v0/ppo/*"))
    assert len(folders) == 2
    for folder in folders:
        assert len(list(folder.glob("videos/*.gif"))) == 1

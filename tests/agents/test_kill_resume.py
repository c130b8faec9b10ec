"""Training that is killed with SIGKILL, at random moments and at every file operation."""

import os
import re
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from separatrix.agents.common import provenance
from separatrix.agents.common.checkpoint import read_latest, write_checkpoint
from separatrix.agents.common.metrics import read_metrics
from separatrix.agents.common.run import Run, RunInUseError
from separatrix.agents.common.stable_baselines3.config import PPOConfig
from separatrix.agents.experiment import EnvironmentConfig, ExperimentConfig
from separatrix.cli.main import run as run_command

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_resume.py"
LORENZ = "separatrix/Lorenz-v0"
CONFIG = ExperimentConfig(EnvironmentConfig(LORENZ), PPOConfig(), 100, seed=7)
FILE_OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")


def compare_killed_runs(*arguments: str) -> str:
    command = [sys.executable, str(SCRIPT), *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_kill_at_a_random_moment_changes_nothing() -> None:
    output = compare_killed_runs("--kills", "1", "--steps", "1200")
    assert output.count(": 1 kills met a run alive") == 3
    assert re.search(r"(\d+) of \1 resumed runs are equal to the uninterrupted one", output)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "sac", "td3"])
def test_twenty_kills_and_a_chain_of_them_change_nothing(algorithm: str) -> None:
    output = compare_killed_runs("--kills", "20", "--chain", "8", "--algorithms", algorithm)
    print(output)
    assert re.search(r"(\d+) of \1 resumed runs are equal to the uninterrupted one", output)


def killed_at_every_file_operation(
    prepare: Callable[[], None], act: Callable[[], object], check: Callable[[], None]
) -> int:
    """Kills a forked process that acts, before its first file operation, its second, ...

    Returns:
        How many operations there are.
    """
    for number in range(1000):
        prepare()
        child = os.fork()
        if child == 0:
            left = number

            def count(event: str, arguments: tuple[object, ...]) -> None:
                nonlocal left
                if event in FILE_OPERATIONS:
                    left -= 1
                if left < 0 and event != "os.kill":
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
            try:
                act()
            except BaseException:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        check()
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            return number
    raise AssertionError("it never ends")


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((100,), float(step)), "count": torch.tensor(step)}


def forget(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize("steps", [(1, 2, 3), (1, 4, 3), (1, 2, 2), (1,)])
def test_a_kill_while_a_checkpoint_is_written(tmp_path: Path, steps: tuple[int, ...]) -> None:
    """There is always one to go on from, and none that is half there: no warning, no error."""
    *before, new = steps
    folder = tmp_path / "checkpoints"

    def prepare() -> None:
        forget(folder)
        for step in before:
            write_checkpoint(folder, step, tensors(step), {"step": step})

    def check() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            latest = read_latest(folder)
        if latest is None:
            assert not before
            return
        # Of a step that is replaced, the one before may be the last for a moment.
        assert latest.step in {new, *before}
        assert latest.state == {"step": latest.step}
        assert latest.tensors["count"] == latest.step
        assert (latest.tensors["weight"] == latest.step).all()
        write_checkpoint(folder, 9, tensors(9), {})  # and the next one tidies up
        assert not list(folder.glob(".*"))

    write = lambda: write_checkpoint(folder, new, tensors(new), {"step": new})  # noqa: E731
    assert killed_at_every_file_operation(prepare, write, check) > 5


def test_a_kill_while_a_run_is_resumed(tmp_path: Path) -> None:
    expected = {"a": [(10, 10.0), (20, 20.0)]}
    folders = []

    def prepare() -> None:
        forget(tmp_path / "runs")
        with Run.create(tmp_path / "runs", LORENZ, "ppo", 7, CONFIG) as run:
            for step in (10, 20, 30):
                run.log({"a": step}, step)
                if step == 20:
                    run.save_checkpoint(step, tensors(step), {})
        folders.append(run.folder)

    def check() -> None:
        with Run.resume(folders[-1]) as run:
            run.log({"a": 30.5}, 30)
        assert read_metrics(run.folder / "metrics.csv") == {"a": [*expected["a"], (30, 30.5)]}
        assert {path.name for path in run.folder.glob(".*")} == {".lock"}

    def resume() -> None:
        Run.resume(folders[-1])

    assert killed_at_every_file_operation(prepare, resume, check) > 5


def test_a_kill_while_a_run_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no run yet, which one clear error says, or it is whole."""
    monkeypatch.setattr(provenance, "git_state", dict)
    begun = []

    def check() -> None:
        folders = list(tmp_path.glob("runs/*/*/*"))
        if not folders:
            return
        (folder,) = folders
        begun.append((folder / "config.yaml").exists())
        if begun[-1]:
            with Run.resume(folder) as run:
                assert run.config == CONFIG
            assert {path.name for path in folder.iterdir()} >= {"git.json", "versions.json"}
        else:
            with pytest.raises(FileNotFoundError, match="not the folder of a run"):
                Run.resume(folder)

    def create() -> None:
        Run.create(tmp_path / "runs", LORENZ, "ppo", 7, CONFIG)

    killed_at_every_file_operation(lambda: forget(tmp_path / "runs"), create, check)
    assert begun == sorted(begun)
    assert set(begun) == {False, True}


def test_one_process_at_a_time_trains_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run.create(tmp_path, LORENZ, "ppo", 7, CONFIG) as run:
        run.log({"a": 1.0}, 0)
        with pytest.raises(RunInUseError, match="is being trained by another process"):
            Run.resume(run.folder)
        assert run_command(["train", "--resume", str(run.folder)]) == 2
        error = capsys.readouterr().err
        assert error == f"separatrix train: {run.folder} is being trained by another process\n"
        assert read_metrics(run.folder / "metrics.csv") == {"a": [(0, 1.0)]}
        assert Run.open(run.folder).config == CONFIG  # to look at it is always allowed
    with Run.resume(run.folder) as again:
        with pytest.raises(RunInUseError):
            Run.resume(run.folder)
    assert again.config == CONFIG


def limited_command(limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `separatrix` where no file can grow past a size, as on a full disk."""

    def limit_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = [sys.executable, "-m", "separatrix", *arguments]
    environment = {**os.environ, "PATH": ""}  # no git: its report would be the file that fails
    return subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limit_files, env=environment
    )


def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_afterwards(tmp_path: Path) -> None:
    # The third kind of file to outgrow the limit: config, events and metrics are smaller.
    arguments = ["train", "debug/lorenz_ppo", "--root", str(tmp_path)]
    result = limited_command(7_000, *arguments)
    (folder,) = tmp_path.glob("*/*/*")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "File too large: " in result.stderr
    assert f"separatrix train --resume {folder} goes on" in result.stderr
    assert not list(folder.glob("checkpoints/.*"))
    assert run_command(["train", "--resume", str(folder)]) == 0
    checkpoint = Run.open(folder).latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 1024


def test_a_folder_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert run_command(["train", "debug/lorenz_ppo", "--root", str(file)]) == 2
    assert capsys.readouterr().err.startswith("separatrix train: [Errno 20] Not a directory")

    def fail() -> None:
        raise OSError(28, "No space left on device", "git.json")

    monkeypatch.setattr(provenance, "git_state", fail)
    assert run_command(["train", "debug/lorenz_ppo", "--root", str(tmp_path / "runs")]) == 2
    assert "No space left on device: 'git.json'" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*/*/*"))

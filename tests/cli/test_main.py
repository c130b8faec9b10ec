"""The command line as a user meets it, where nothing is trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import separatrix
from separatrix.cli.main import COMMANDS, run
from separatrix.envs.core.registration import REGISTRY


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs every test in a folder of its own; prints are as wide as they need to be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def exit_code(*arguments: str) -> int:
    """Runs a command in this process; mistakes in flags exit from within tyro."""
    try:
        return run(arguments)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        assert exit_code(*arguments) == 0
        output = capsys.readouterr().out
        for name in COMMANDS:
            assert f"\n  {name} " in output


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-W", "error", "-m", "separatrix"]
    result = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"{separatrix.__version__}\n")
    result = subprocess.run([*command, "trainn"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert exit_code(name, "--help") == 0
    assert f"usage: separatrix {name}" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_list_shows_every_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("list") == 0
    table = capsys.readouterr().out
    for environment_id, entry in REGISTRY.items():
        row = next(line for line in table.splitlines() if environment_id in line)
        assert entry.summary.split()[0] in row
        assert f" {entry.states} " in row
        assert f" {entry.horizon} " in row
    assert exit_code("list", "--json") == 0
    entries = {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries.keys() == REGISTRY.keys()
    for environment_id, entry in REGISTRY.items():
        assert entries[environment_id]["description"] == entry.summary
        assert entries[environment_id]["options"].keys() == entry.options.keys()


def test_list_shows_the_options_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("list", "Lorenz-v0") == 0
    table = capsys.readouterr().out
    for name in REGISTRY["separatrix/Lorenz-v0"].options:
        assert f" {name} " in table
    assert "Rossler" not in table


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["train", "-h"]])
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from separatrix.cli.main import run\n"
        f"assert run({arguments!r}) == 0\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not set(json.loads(result.stderr)) & {"torch", "numba", "sympy", "matplotlib"}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trainn"], ["unknown command 'trainn'", "did you mean 'train'?", "doctor"]),
        (["list", "Lorens-v0"], ["did you mean 'separatrix/Lorenz-v0'?"]),
        (["train"], ["needs an experiment"]),
        (["train", "--seed", "3"], ["needs an experiment"]),
        (["train", "lorenz_pp"], ["did you mean 'lorenz_ppo'?"]),
        (["train", "none.yaml"], ["cannot read none.yaml"]),
        (["train", "debug/lorenz_ppo", "--seed", "-1"], ["the command line: seed", "got -1"]),
        (
            ["train", "debug/lorenz_ppo", "--environment.id", "separatrix/Lorentz-v0"],
            ["environment.id", "did you mean 'separatrix/Lorenz-v0'?"],
        ),
        (
            ["train", "debug/lorenz_ppo", "--environment.options", "authoritys=0.1"],
            ["environment.options.authoritys", "did you mean 'authority'?"],
        ),
        (
            ["train", "debug/lorenz_ppo", "--environment.options", "authority=-1"],
            ["authority", "-1"],
        ),
        (["train", "debug/lorenz_ppo", "--environment.device", "tpu"], ["device 'tpu'", "cpu"]),
        (["train", "--resume", "nowhere"], ["nowhere is not the folder of a run"]),
        (["evaluate", "nowhere"], ["nowhere is not the folder of a run"]),
        (["control", "zero", "--environment", "Lorens-v0"], ["did you mean"]),
        (["control", "zero", "--environment", "Lorenz-v0", "--option", "rho"], ["key=value"]),
        (["control", "zero", "--environment", "Lorenz-v0", "--option", "rh=1"], ["'rho'"]),
        (["control", "zero", "--environment", "Lorenz-v0", "--episodes", "1"], ["2 or more"]),
        (
            ["control", "icem", "--environment", "Lorenz-v0", "--setting", "icem.size=3"],
            ["icem has no setting 'size'", "population"],
        ),
        (
            ["control", "icem", "--environment", "Lorenz-v0", "--setting", "cem.population=3"],
            ["got setting 'cem.population'", "of the controllers icem"],
        ),
        (
            ["control", "icem", "--environment", "Lorenz-v0", "--setting", "icem.population=-3"],
            ["population: got -3"],
        ),
        (["control", "ogy", "--environment", "Lorenz-v0"], ["section"]),
        (["control", "zero", "--environment", "Lorenz-v0", "--seed", "-1"], ["got seed -1"]),
        (["collect", "pendulun"], ["got data set 'pendulun'", "did you mean 'pendulum'?"]),
        (["collect", "none.yaml"], ["cannot read none.yaml"]),
        (["collect", "pendulum", "--seed", "-1"], ["got seed -1"]),
    ],
)
def test_mistakes_are_one_line_on_stderr(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert exit_code(*arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert len(error.splitlines()) == 1
    assert error.startswith("separatrix")
    for part in parts:
        assert part in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "debug/lorenz_ppo", "--sead", "3"],
        ["train", "debug/lorenz_ppo", "--agent.gamma", "2"],
        ["train", "debug/lorenz_ppo", "--environment.options", "authority"],
        ["control", "pid", "--environment", "Lorenz-v0"],
        ["collect"],
        ["collect", "pendulum", "--recipes", "expert"],
        ["collect", "pendulum", "--format", "d4rl"],
        ["evaluate"],
    ],
)
def test_mistakes_in_flags_end_with_code_2(arguments: list[str], tmp_path: Path) -> None:
    assert exit_code(*arguments) == 2
    assert not list(tmp_path.iterdir())


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("separatrix.cli.listing.Console", fail)
    with pytest.raises(ZeroDivisionError):
        run(["list"])

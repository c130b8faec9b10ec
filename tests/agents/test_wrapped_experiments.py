"""Experiments, commands and controllers on environments with wrappers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from separatrix.agents.common.configuration import (
    ConfigurationError,
    dump_experiment,
    load_experiment,
    parse_experiment,
)
from separatrix.agents.common.run import Run
from separatrix.cli.main import run
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import ZeroController
from separatrix.controllers.recording import record_frames, record_trajectories
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import (
    ActionDelay,
    FrameStack,
    ObservationNoise,
    ParameterDrift,
    ParameterMismatch,
    PartialObservation,
    RateLimit,
    Wrapper,
)

LORENZ = "separatrix/Lorenz-v0"
WRAPPERS: tuple[Wrapper, ...] = (
    ObservationNoise(0.1),
    PartialObservation([0, 2]),
    FrameStack(3),
    ActionDelay(2),
    RateLimit(0.5),
)
TEXT = """\
environment:
  id: separatrix/Lorenz-v0
  wrappers:
    - {kind: observation_noise, standard_deviation: 0.1}
    - {kind: partial_observation, indices: [0, 2]}
    - {kind: frame_stack, frames: 3}
    - {kind: action_delay, steps: 2}
    - {kind: rate_limit, largest_change: 0.5}
agent: {algorithm: ppo}
total_steps: 100
"""


def test_wrappers_are_read_in_order_and_survive_a_round_trip() -> None:
    config = parse_experiment(TEXT, "file.yaml")
    assert config.environment.wrappers == WRAPPERS
    assert parse_experiment(dump_experiment(config), "file.yaml") == config
    assert load_experiment("debug/lorenz_ppo").environment.wrappers == ()


def test_wrappers_of_parameters_are_read() -> None:
    text = """\
environment:
  id: separatrix/Lorenz-v0
  wrappers:
    - {kind: parameter_mismatch, spread: {rho: 0.1, sigma: 0.2}}
    - {kind: parameter_drift, parameter: beta, course: ramp, size: -0.5, steps: 100}
agent: {algorithm: ppo}
total_steps: 100
"""
    config = parse_experiment(text, "file.yaml")
    expected = (
        ParameterMismatch({"rho": 0.1, "sigma": 0.2}),
        ParameterDrift("beta", "ramp", -0.5, 100),
    )
    assert config.environment.wrappers == expected
    assert parse_experiment(dump_experiment(config), "file.yaml") == config


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("{kind: delay, steps: 1}", "wrappers.0.kind: got 'delay'; allowed: 'observation_noise', "),
        ("{steps: 1}", "wrappers.0.kind: missing"),
        ("{kind: action_delay}", "wrappers.0.steps: missing"),
        ("{kind: action_delay, step: 1}", "wrappers.0.step: unknown key; did you mean 'steps'"),
        ("{kind: action_delay, steps: 1.5}", "wrappers.0.steps: got 1.5; allowed: a valid integer"),
        ("{kind: action_delay, steps: -1}", "wrappers.0: steps: got -1; allowed: an integer >= 0"),
        ("{kind: partial_observation, indices: [0, 0]}", "wrappers.0: indices: got .*distinct"),
        ("3", "wrappers.0: got 3; allowed: an object"),
    ],
)
def test_mistakes_name_the_key(wrapper: str, message: str) -> None:
    text = f"environment:\n  id: {LORENZ}\n  wrappers: [{wrapper}]\nagent: {{algorithm: ppo}}\n"
    with pytest.raises(ConfigurationError, match=f"file.yaml: environment.{message}"):
        parse_experiment(text + "total_steps: 100\n", "file.yaml")


def test_train_and_evaluate_take_the_wrappers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_experiment("debug/lorenz_ppo")
    wrapped = dataclasses.replace(config.environment, wrappers=WRAPPERS)
    file = tmp_path / "experiment.yaml"
    file.write_text(dump_experiment(dataclasses.replace(config, environment=wrapped)))
    changes = ["--root", str(tmp_path), "--environment.wrappers.2.frames", "4"]
    assert run(["train", str(file), *changes]) == 0
    (folder,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    found = Run.open(folder)
    assert found.config.environment.wrappers[2] == FrameStack(4)
    checkpoint = found.latest_checkpoint()
    assert checkpoint is not None
    sizes = {tensor.shape[-1] for name, tensor in checkpoint.tensors.items() if "net.0.w" in name}
    assert sizes == {2 * 4}  # two components in four frames
    assert run(["evaluate", str(folder), "--episodes", "4"]) == 0
    assert "return" in capsys.readouterr().out


def test_train_refuses_wrappers_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(TEXT.replace("[0, 2]", "[0, 3]"))
    assert run(["train", str(file), "--root", str(tmp_path / "runs")]) == 2
    assert "indices: got (0, 3); allowed: 0 to 2" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_control_takes_wrappers(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["control", "zero", "--environment", "Lorenz-v0", "--episodes", "4"]
    assert run([*arguments, "--wrap", "{kind: action_delay, steps: 2}"]) == 0
    assert run([*arguments, "--wrap", "{kind: action_delay, steps: 2"]) == 2
    assert run([*arguments, "--wrap", "action_delay"]) == 2
    assert "wrap: got 'action_delay'" in capsys.readouterr().err
    lqr = ["control", "lqr", *arguments[2:], "--wrap", "{kind: action_delay, steps: 2}"]
    assert run(lqr) == 2
    assert "LQR is designed on the state of the physics" in capsys.readouterr().err


def test_lqr_takes_the_environment_inside_only() -> None:
    environment = make_environment(LORENZ, 4, wrap=[ActionDelay(1)])
    with pytest.raises(ValueError, match=r"got an environment with wrappers; .*`unwrapped`"):
        LQR(environment)
    evaluation = evaluate(environment.unwrapped, LQR(environment.unwrapped), torch.arange(4))
    assert evaluation.lengths.tolist() == [400] * 4


def test_pictures_show_the_physics() -> None:
    """Not what little of it is observed."""
    plain, wrapped = (make_environment(LORENZ, 2, horizon=5, wrap=wrap) for wrap in ((), WRAPPERS))
    seeds = torch.arange(2)
    expected, found = (
        record_trajectories(each, ZeroController(each), seeds) for each in (plain, wrapped)
    )
    assert found.names == expected.names == ("x", "y", "z")
    assert np.array_equal(found.values, expected.values)
    assert found.target is not None and expected.target is not None
    assert np.array_equal(found.target, expected.target)
    frames = record_frames(wrapped, ZeroController(wrapped), 0)
    assert np.array_equal(frames, record_frames(plain, ZeroController(plain), 0))

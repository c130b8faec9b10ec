"""Tries inputs in a plain interpreter: reads JSON lines, answers whether each was refused clearly.

An input that is refused must leave everything as it was; one that is accepted must give finite
numbers. Errors that are not documented, and anything else that is wrong, go back as a traceback.
"""

import array
import base64
import contextlib
import decimal
import fractions
import io
import json
import math
import os
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from separatrix.agents.common.configuration import (
    ConfigurationError,
    check_experiment,
    differences,
    experiment_data,
    load_experiment,
)
from separatrix.agents.common.metrics import read_metrics
from separatrix.agents.common.run import Run
from separatrix.cli.main import run as run_command
from separatrix.cli.options import parse_options

MEMORY = 12 * 2**30  # bytes of addresses: what asks for more is refused at once
LONGEST = 600  # characters of an error
FOLDER = Path(sys.argv[1])


class Raising:
    """Refuses to become an array."""

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise RuntimeError("no array")


def readonly(values: Any) -> np.ndarray:
    """An array that nobody may write to."""
    found = np.array(values)
    found.setflags(write=False)
    return found


def endless() -> list[Any]:
    """A list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found


NAMES: dict[str, Any] = {
    "array": array,
    "decimal": decimal,
    "fractions": fractions,
    "math": math,
    "gym": gym,
}
NAMES |= {"np": np, "torch": torch, "inf": math.inf, "nan": math.nan}
NAMES |= {"Raising": Raising, "readonly": readonly, "endless": endless}


class NoInput(Exception):
    """The text stands for no value: Python, numpy or torch refused to make it."""


class Refused(Exception):
    """The input was refused as documented."""


def written(text: str) -> Any:
    """The value that a text stands for."""
    try:
        return eval(text, dict(NAMES))
    except Exception as error:
        raise NoInput from error


@contextlib.contextmanager
def refusing(
    *errors: type[Exception], says: tuple[str, ...] = ("allowed", "unknown", "has none")
) -> Any:
    """Turns documented errors that say what is allowed into `Refused`."""
    try:
        yield
    except errors as error:
        text = str(error)
        if not any(word in text for word in says) or len(text) > LONGEST:
            raise
        raise Refused(text) from error


def require(holds: Any, what: str) -> None:
    """Raises AssertionError unless something holds; python -O does not remove it."""
    if not holds:
        raise AssertionError(what)


class Environments:
    """One environment and one batch, with what they do when nobody disturbs them."""

    def __init__(self) -> None:
        self.single = gym.make("separatrix/Lorenz-v0").unwrapped
        self.batch = gym.make_vec("separatrix/Lorenz-v0", 3, max_episode_steps=50)
        self.actions = np.linspace(-1, 1, 9, dtype=np.float32).reshape(3, 3, 1)
        self.expected = {name: self.course(name) for name in ("single", "batch")}

    def course(self, name: str, disturb: Callable[[Any], None] | None = None) -> list[Any]:
        """Observations of a reset and of three steps, with a disturbance after the first."""
        env = getattr(self, name)
        observations = [env.reset(seed=5)[0]]
        for number, action in enumerate(self.actions):
            observations.append(env.step(action if name == "batch" else action[0])[0])
            if number == 0 and disturb is not None:
                disturb(env)
        return observations

    def disturbed(self, name: str, accepted: Callable[[Any], None]) -> None:
        """Tries something between two steps; if it is refused, nothing may have changed."""
        refusal: list[Refused] = []

        def disturb(env: Any) -> None:
            try:
                accepted(env)
            except Refused as error:
                refusal.append(error)

        found = self.course(name, disturb)
        require(all(np.isfinite(f).all() for f in found), "numbers that are not finite")
        if refusal:
            same = map(np.array_equal, found, self.expected[name])
            require(all(same), f"the refusal changed what follows: {refusal[0]}")
            raise refusal[0]

    def action(self, env: str, text: str) -> None:
        """Tries an action."""
        value = written(text)

        def step(made: Any) -> None:
            with refusing(ValueError):
                observation, reward, *_ = made.step(value)
            require(made.observation_space.contains(observation), "outside the space")
            require(np.all((np.asarray(reward) >= 0) & (np.asarray(reward) <= 1)), "reward")

        self.disturbed(env, step)

    def reset(self, env: str, text: str) -> None:
        """Tries keyword arguments of reset."""
        arguments = written(text)

        def reset(made: Any) -> None:
            with refusing(ValueError):
                observation, _ = made.reset(**arguments)
            require(made.observation_space.contains(observation), "outside the space")

        self.disturbed(env, reset)


def make(id: str, text: str, batch: bool) -> None:
    """Tries arguments of gymnasium.make or make_vec."""
    arguments = written(text)
    with refusing(ValueError, says=("allowed", "unknown", "found from")):
        try:
            env: Any = gym.make_vec(id, **arguments) if batch else gym.make(id, **arguments)
        except MemoryError as error:
            raise Refused(str(error)) from error
    space = env.unwrapped.action_space
    env.reset(seed=1)
    for _ in range(2):
        observation, reward, *_ = env.step(np.zeros(space.shape, np.float32))
        observation, reward = torch.as_tensor(observation), torch.as_tensor(reward)
        require(observation.isfinite().all() and reward.isfinite().all(), "not finite")
    env.close()


def config(data: str) -> None:
    """Tries the bytes of a configuration file."""
    path = FOLDER / "config.yaml"
    path.write_bytes(base64.b64decode(data))
    with refusing(ConfigurationError, says=(str(path),)):
        loaded = load_experiment(path)
    with refusing(ConfigurationError, says=("again",)):
        require(check_experiment(loaded, "again") == loaded, "another experiment when read again")


def options(text: str) -> None:
    """Tries a key=value of the command line."""
    with refusing(ValueError, says=("allowed", "option")):
        parse_options([text])


def command(arguments: list[str]) -> None:
    """Tries a command line."""
    folder = FOLDER / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    flags = False
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: Any = run_command(arguments)
        except SystemExit as stop:
            code, flags = stop.code, True  # tyro's, which draws a box around what is wrong
    os.chdir(FOLDER)
    require(code in (0, 1, 2), f"exit status {code}")
    if code:
        lines = err.getvalue().splitlines()
        require(lines and (flags or len(lines) == 1), f"not one line: {err.getvalue()}")
        require("Traceback" not in err.getvalue(), err.getvalue())
        left = [str(path) for path in folder.rglob("*") if path.is_file()]
        require(not left, f"files are left: {left}")
        raise Refused(err.getvalue())


class Runs:
    """A small finished run with two checkpoints, and copies of it that are damaged."""

    def __init__(self) -> None:
        root = FOLDER / "whole"
        arguments = ["--total-steps", "64", "--checkpoint-every", "32", "--evaluation.every", "0"]
        agent = ["--agent.rollout-steps", "8", "--agent.batch-size", "32", "--agent.epochs", "1"]
        with contextlib.redirect_stdout(io.StringIO()):
            line = ["train", "debug/lorenz_ppo", "--root", str(root), *arguments, *agent]
            require(run_command(line) == 0, "training failed")
        (self.folder,) = root.glob("*/*/*")
        self.copy = FOLDER / "copy"
        steps = sorted(self.folder.glob("checkpoints/step_*"))
        self.whole = {path.name: read_checkpoint(path) for path in steps}
        require(len(self.whole) == 2, f"got {list(self.whole)}")
        self.metrics = read_metrics(self.folder / "metrics.csv")
        self.config = Run.open(self.folder).config

    def damage(self, damages: list[dict[str, Any]]) -> None:
        """Damages a copy of the run, then resumes it."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.folder, self.copy)
        (self.copy / ".lock").unlink()
        files = sorted(path for path in self.copy.rglob("*") if path.is_file())
        for each in damages:
            apply(each, files)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            documented = (FileNotFoundError, ConfigurationError, CheckpointError, OSError)
            with refusing(*documented, says=(str(self.copy),)):
                with Run.resume(self.copy) as run:
                    found = run.latest_checkpoint()
                    config = run.config
        self.check(found, [str(warning.message) for warning in caught])
        if config != self.config:
            require(any(each["file"] == "config" for each in damages), "another configuration")
            # What training then warns of.
            saved = found.state["training"]["config"] if found else experiment_data(self.config)
            require(differences(saved, experiment_data(config)), "silently another configuration")

    def check(self, found: Checkpoint | None, told: list[str]) -> None:
        """Whatever is read from a damaged run is what was written, or it was said what is lost."""
        newest = list(self.whole)[-1]
        if found is None:
            left = list(self.copy.glob("checkpoints/step_*"))
            require(not left, f"starts again although there is {left}")
        else:
            name = f"step_{found.step}"
            same(found, self.whole[name])
            lost = name != newest and (self.copy / "checkpoints" / newest).exists()
            require(not lost or any(newest in text for text in told), f"{newest} was left silently")
        for tag, points in read_metrics(self.copy / "metrics.csv").items():
            limit = found.step if found else -1
            require(all(step <= limit for step, _ in points), f"{tag} was not cut to {limit}")


def same(found: Checkpoint, expected: Checkpoint) -> None:
    """Raises AssertionError unless two checkpoints agree in every bit."""
    require(found.state == expected.state, "another state")
    require(found.tensors.keys() == expected.tensors.keys(), "other tensors")
    for name, tensor in expected.tensors.items():
        other = found.tensors[name]
        same_bits = tensor.numpy().tobytes() == other.numpy().tobytes()
        require(tensor.dtype == other.dtype and same_bits, f"{name} differs")


def apply(damage: dict[str, Any], files: list[Path]) -> None:
    """Does one damage to one of the files."""
    chosen = [path for path in files if path.name.startswith(damage["file"]) and path.is_file()]
    if not chosen:
        return
    path = chosen[damage["which"] % len(chosen)]
    other = chosen[(damage["which"] + 1) % len(chosen)]
    data = bytearray(path.read_bytes())
    position = int(damage["at"] * (len(data) - 1)) if data else 0
    junk = base64.b64decode(damage["data"])
    match damage["how"]:
        case "flip" if data:
            data[position] ^= 1 + junk[0] % 255 if junk else 1
        case "cut":
            del data[position:]
        case "overwrite":
            data[position : position + len(junk)] = junk
        case "insert":
            data[position:position] = junk
        case "zero":
            data = bytearray(len(data))
        case "empty":
            data = bytearray()
        case "swap":
            path.write_bytes(other.read_bytes())
            other.write_bytes(data)
            return
        case "remove":
            path.unlink()
            return
        case "folder":
            path.unlink()
            path.mkdir()
            return
        case "rename":
            path.rename(path.with_name(f"{path.name}.old"))
            return
    path.write_bytes(data)


def main() -> None:
    """Answers until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    torch.set_num_threads(1)
    environments, runs = cache(Environments), cache(Runs)  # made when they are first needed
    handlers: dict[str, Callable[..., None]] = {
        "action": lambda **request: environments().action(**request),
        "reset": lambda **request: environments().reset(**request),
        "make": make,
        "configuration": config,
        "option": options,
        "command": command,
        "damaged run": lambda **request: runs().damage(**request),
    }
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"outcome": "accepted"}
        try:
            handlers[request.pop("kind")](**request)
        except Refused as error:
            answer = {"outcome": "refused", "error": str(error)}
        except NoInput:
            answer = {"outcome": "no input"}
        except BaseException:
            answer = {"outcome": "wrong", "request": line, "error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

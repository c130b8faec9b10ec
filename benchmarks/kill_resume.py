"""Kill training at random moments, resume it, and compare it with a run that was never killed.

    python benchmarks/kill_resume.py --kills 20

Each row trains a small experiment with `separatrix train`, sends SIGKILL at a moment drawn
uniformly from the duration of an uninterrupted run, and finishes it with `separatrix train
--resume`. Equal means: the last checkpoints agree in every tensor, bit for bit, and in their state,
all rows of metrics.csv agree, so do tag, step and value of every scalar that TensorBoard shows, and
no temporary file is left. What the clock decides is left out: the column wall_time, the tags
time/fps and time/time_elapsed, and the seconds `t` of the last episodes. A chain is one run that is
killed again and again before it may end.

Exits with status 1 if a run differs. Python, torch and our modules are imported once, by a process
that every training is forked from.
"""

import argparse
import json
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import safetensors.torch
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

CLOCK_TAGS = ("time/fps", "time/time_elapsed")
OFF_POLICY = (
    "buffer_size: 1000, learning_starts: 100, batch_size: 32, train_every: 4, gradient_steps: 2, "
    "actor_layers: [16], critic_layers: [16], log_every: 100, learning_rate_schedule: linear"
)
AGENTS = {
    "ppo": "rollout_steps: 16, batch_size: 32, epochs: 3, policy_layers: [16], value_layers: [16], "
    "learning_rate_schedule: linear",
    "sac": OFF_POLICY,  # the replay buffer is overwritten several times
    "td3": OFF_POLICY,
}
EXPERIMENT = """\
environment: {{id: separatrix/Lorenz-v0, num_envs: 4}}
agent: {{algorithm: {algorithm}, {agent}}}
total_steps: {steps}
checkpoint_every: 200
evaluation: {{episodes: 4, every: 500}}
"""
LEFT_BEHIND = (".lock",)  # what has a dot and belongs there


def train(arguments: Sequence[str], log: Path) -> None:
    """Run `separatrix train` in this process, its output in a file."""
    from separatrix.cli.main import run

    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["COLUMNS"] = "200"
    sys.exit(run(["train", *arguments]))


class Workplace:
    """Trains in processes of their own, all in one folder."""

    def __init__(self, folder: Path) -> None:
        """Import everything once, in the process that the others are forked from."""
        self.folder = folder
        self._context = multiprocessing.get_context("forkserver")
        modules = ["separatrix.cli.train", "separatrix.agents.baselines.train", "torch._dynamo"]
        self._context.set_forkserver_preload(modules)

    def start(self, arguments: Sequence[str], name: str) -> tuple[BaseProcess, Path]:
        """Start a training; its output goes to the file that is returned."""
        log = self.folder / f"{name}.log"
        process = self._context.Process(target=train, args=(arguments, log))
        process.start()
        return process, log

    def finish(self, arguments: Sequence[str], name: str, status: int = 0) -> str:
        """Run a training to its end, which must have this exit status; returns its output."""
        process, log = self.start(arguments, name)
        process.join()
        output = log.read_text()
        if process.exitcode != status:
            raise SystemExit(f"{arguments} ended with {process.exitcode}, not {status}:\n{output}")
        return output

    def kill(self, arguments: Sequence[str], name: str, seconds: float) -> bool:
        """Start a training and kill it after some seconds; tells whether it was still alive."""
        process, _ = self.start(arguments, name)
        process.join(seconds)
        alive = process.is_alive()
        process.kill()
        process.join()
        return alive


def folder_of(root: Path) -> Path | None:
    """The one run below a root that has begun, that is, has a configuration."""
    found = [path.parent for path in root.glob("*/*/*/config.yaml")]
    assert len(found) < 2, found
    return found[0] if found else None


def last_step(folder: Path | None) -> int | None:
    """Step of the newest checkpoint of a run."""
    names = [path.name for path in folder.glob("checkpoints/step_*")] if folder else []
    return max((int(name.removeprefix("step_")) for name in names), default=None)


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that two runs of the same experiment must share."""
    checkpoint = folder / "checkpoints" / f"step_{last_step(folder)}"
    state = json.loads((checkpoint / "state.json").read_text())
    for episode in state["state"]["algorithm"]["episodes"]:
        del episode["t"]
    tensors = safetensors.torch.load((checkpoint / "tensors.safetensors").read_bytes())
    rows = [row.split(",") for row in (folder / "metrics.csv").read_text().splitlines()]
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    return {
        "config.yaml": (folder / "config.yaml").read_text(),
        "state": state,
        "tensors": {
            name: (tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes())
            for name, tensor in tensors.items()
        },
        "metrics.csv": [row[:3] for row in rows if row[1] not in CLOCK_TAGS],
        "TensorBoard": {
            tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
            if tag not in CLOCK_TAGS
        },
        "temporary files": sorted(
            path.name for path in folder.rglob(".*") if path.name not in LEFT_BEHIND
        ),
    }


def compare(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Say in a word or two whether a run is the expected one."""
    different = [name for name, value in expected.items() if found[name] != value]
    return f"DIFFERENT: {', '.join(different)}" if different else "equal"


class Comparison:
    """One algorithm: its uninterrupted run, and those that are killed."""

    def __init__(self, workplace: Workplace, algorithm: str, steps: int) -> None:
        """Train without interruption, after a short run that may have to compile."""
        self.workplace, self.algorithm = workplace, algorithm
        self.file = workplace.folder / f"{algorithm}.yaml"
        agent = AGENTS[algorithm]
        self.file.write_text(EXPERIMENT.format(algorithm=algorithm, agent=agent, steps=steps))
        warm_up = [
            *self.arguments(workplace.folder / f"{algorithm}_warm_up"),
            "--total-steps",
            "256",
        ]
        workplace.finish(warm_up, f"{algorithm}_warm_up")
        root = workplace.folder / f"{algorithm}_uninterrupted"
        start = time.monotonic()
        workplace.finish(self.arguments(root), root.name)
        self.duration = time.monotonic() - start
        folder = folder_of(root)
        assert folder is not None
        self.expected = outcome(folder)
        print(
            f"{algorithm}: {last_step(folder)} steps in {self.duration:.1f} s, "
            f"{len(self.expected['tensors'])} tensors, {len(self.expected['metrics.csv'])} rows, "
            f"{sum(map(len, self.expected['TensorBoard'].values()))} points",
            flush=True,
        )

    def arguments(self, root: Path) -> list[str]:
        """Arguments that start the run, or go on with it if it has begun."""
        folder = folder_of(root)
        return ["--resume", str(folder)] if folder else [str(self.file), "--root", str(root)]

    def killed(self, name: str, moments: Sequence[float]) -> tuple[int, bool]:
        """Kill one run at each of these moments after its start or resumption, then finish it.

        Returns:
            How many kills met it alive, and whether it ended as the uninterrupted one.
        """
        root = self.workplace.folder / name
        resumed_from, met = [], 0
        for number, moment in enumerate(moments):
            alive = self.workplace.kill(self.arguments(root), f"{name}_{number}", moment)
            met += alive
            step = last_step(folder_of(root))
            began = "start" if step is None else str(step)
            resumed_from.append(began if alive else f"{began} (had ended)")
        self.workplace.finish(self.arguments(root), f"{name}_last")
        folder = folder_of(root)
        assert folder is not None
        result = compare(outcome(folder), self.expected)
        times = " ".join(f"{moment:.2f}" for moment in moments)
        print(f"{self.algorithm:10}{times:>10} s    {' '.join(resumed_from):>18}    {result}")
        sys.stdout.flush()
        return met, result == "equal"


def main() -> None:
    """Run the command line of this process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=20, help="runs of each algorithm killed once")
    parser.add_argument("--chain", type=int, default=0, help="kills in a row of one more run")
    parser.add_argument("--algorithms", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--steps", type=int, default=8000, help="environment steps of a run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    chosen = parser.parse_args()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every resumption
    moments = random.Random(chosen.seed)
    equal = []
    with tempfile.TemporaryDirectory() as folder:
        workplace = Workplace(Path(folder))
        for algorithm in chosen.algorithms:
            comparison = Comparison(workplace, algorithm, chosen.steps)
            print(f"{'algorithm':10}{'killed at':>12}    {'resumed from step':>18}    outcome")
            runs = kills = 0
            while kills < chosen.kills:  # a machine less busy than before ends some runs too early
                moment = moments.uniform(0, comparison.duration)
                met, same = comparison.killed(f"{algorithm}_{runs}", [moment])
                runs, kills = runs + 1, kills + met
                equal.append(same)
            if chosen.chain:
                chain = [moments.uniform(0, comparison.duration / 2) for _ in range(chosen.chain)]
                met, same = comparison.killed(f"{algorithm}_chain", chain)
                kills += met
                equal.append(same)
            print(f"{algorithm}: {kills} kills met a run alive")
    print(f"{sum(equal)} of {len(equal)} resumed runs are equal to the uninterrupted one")
    sys.exit(0 if all(equal) else 1)


if __name__ == "__main__":
    main()

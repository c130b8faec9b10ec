"""Speed and memory of data sets: recording, saving, loading.

Random actions are recorded in 1024 environments side by side. A data set of 10^6 transitions of 20
numbers that is made up is saved and loaded; a file that was just written is read from the memory of
the system, not from the disk. Then it is loaded and trained on, with the default sizes: an ensemble
for one epoch, MOREC's dynamics reward, and a thousand updates of MOPO. Memory is the peak above
what was held before, without the files that the system keeps; Linux alone tells it.

    python benchmarks/offline_data.py --minari --output docs/results/offline_data.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import measure, origin, save, use_threads

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.replay import Transitions
from separatrix.agents.offline.config import MopoConfig, OfflineConfig
from separatrix.agents.offline.data.collect import from_transitions, record
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.data.files import load_dataset, save_dataset
from separatrix.agents.offline.data.minari_files import save_minari
from separatrix.agents.offline.methods import make_learner
from separatrix.agents.offline.model.experience import ModelExperience
from separatrix.agents.offline.model_config import FilterConfig, ModelConfig
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment

ENVIRONMENTS = ("DampedPendulum-v0", "Lorenz-v0")
NUM_ENVS, STEPS = 1024, 98
TIMES, COLUMNS = 1000, 1000
OBSERVATIONS, ACTIONS = 8, 3  # with the reward and the next observation 20 numbers
UPDATES = 1000
MINARI_ID = "benchmark/data-v0"


def made_up() -> Dataset:
    """Makes a data set of a thousand episodes of a thousand steps up."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn((TIMES + 1, COLUMNS, OBSERVATIONS), generator=generator)
    action = torch.rand((TIMES, COLUMNS, ACTIONS), generator=generator) * 2 - 1
    no = torch.zeros((TIMES, COLUMNS), dtype=torch.bool)
    return from_transitions(
        Transitions(observation[:-1], action, observation[:-1, :, 0], observation[1:], no, no)
    )


def memory(name: str) -> int:
    """Returns a line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def with_memory(run: Callable[[], Any]) -> dict[str, float]:
    """Returns the seconds that something takes, and the peak of its memory in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now what is held
    before, begin = memory("VmRSS"), time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - begin, "bytes": memory("VmHWM") - before}


def train_on(path: Path) -> None:
    """Loads a data set and trains on it with the method that holds most."""
    dataset = load_dataset(path)
    model = ModelConfig(max_epochs=1, termination="learned")  # nothing is asked of the environment
    method = MopoConfig(model=model, filter=FilterConfig())
    config = OfflineConfig(str(path), method=method)
    experience = ModelExperience(dataset, make_environment(ENVIRONMENTS[0], 1), config, 0)
    experience.prepare()
    learner = make_learner(config, OBSERVATIONS, ACTIONS, 0, "cpu", UPDATES, 0.0)
    for _ in range(UPDATES):
        learner.update(experience.batch(learner)[0])


def alone(step: str, path: Path) -> dict[str, float]:
    """Loads or trains in a process of its own, which has no freed memory to use again."""
    command = [sys.executable, __file__, f"--{step}", str(path)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    outcome: dict[str, float] = json.loads(found.stdout)
    return outcome


def measure_recording(rounds: int) -> list[dict[str, Any]]:
    """Measures how fast random actions are recorded."""
    rows = []
    for name in ENVIRONMENTS:
        environment = make_environment(name, NUM_ENVS)
        controller = RandomController(environment)
        transitions = NUM_ENVS * STEPS
        run = {name: lambda e=environment, c=controller: record(e, c, NUM_ENVS * STEPS, 0)}
        seconds = measure(run, rounds, 0.0)[name]["median"]
        rows.append({"environment": name, "transitions": transitions, "seconds": seconds})
        print(
            f"record {name:18} {transitions:,} transitions: {transitions / seconds:11,.0f} a second"
        )
    return rows


def measure_files(folder: Path, rounds: int, minari: bool) -> list[dict[str, Any]]:
    """Measures saving and loading, each in turn."""
    dataset = made_up()

    def outcomes_in(place: Path) -> dict[tuple[str, str], dict[str, float]]:
        found = {
            ("separatrix", "save"): with_memory(lambda: save_dataset(dataset, place / "set")),
            ("separatrix", "load"): alone("load", place / "set"),
        }
        if minari:
            saved = with_memory(lambda: save_minari(dataset, place, MINARI_ID))
            found |= {
                ("minari", "save"): saved,
                ("minari", "load"): alone("load", place / MINARI_ID),
            }
        return found

    outcomes = [outcomes_in(folder / str(number)) for number in range(rounds)]
    outcomes[0] |= {("MOREC-MOPO", "train"): alone("train", folder / "0" / "set")}
    size = sum(tensor.nbytes for tensor in dataset.tensors().values())
    rows: list[dict[str, Any]] = []
    for form, step in outcomes[0]:
        taken = [outcome[form, step] for outcome in outcomes if (form, step) in outcome]
        seconds = statistics.median(outcome["seconds"] for outcome in taken)
        peak = max(outcome["bytes"] for outcome in taken)
        row = {"form": form, "step": step, "seconds": seconds, "peak_bytes": peak}
        rows.append({**row, "transitions": len(dataset), "bytes": size})
        print(
            f"{step} {form:10} {len(dataset):,} transitions ({size / 1e6:.0f} MB): "
            f"{seconds:6.2f} s, peak {peak / 1e6:.0f} MB"
        )
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--minari", action="store_true", help="save and load Minari's form as well")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_threads(1)
    if arguments.load is not None:
        print(json.dumps(with_memory(lambda: load_dataset(arguments.load))))
        return
    if arguments.train is not None:
        print(json.dumps(with_memory(lambda: train_on(arguments.train))))
        return
    recording = measure_recording(arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        files = measure_files(Path(folder), arguments.rounds, arguments.minari)
    packages = ("h5py", "minari") if arguments.minari else ()
    save(arguments.output, {**origin(packages), "recording": recording, "files": files})


if __name__ == "__main__":
    main()

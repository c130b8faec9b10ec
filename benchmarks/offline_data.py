"""Speed and memory of data sets: recording, saving, loading.

Random actions are recorded in 1024 environments side by side. A data set of 10^6 transitions of 20
numbers that is made up is saved and loaded; a file that was just written is read from the memory of
the system, not from the disk. Memory is the peak above what was held before, without the files that
the system keeps; Linux alone tells it.

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
from separatrix.agents.offline.data.collect import from_transitions, record
from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.data.files import load_dataset, save_dataset
from separatrix.agents.offline.data.minari_files import save_minari
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment

ENVIRONMENTS = ("DampedPendulum-v0", "Lorenz-v0")
NUM_ENVS, STEPS = 1024, 98
TIMES, COLUMNS = 1000, 1000
OBSERVATIONS, ACTIONS = 8, 3  # with the reward and the next observation 20 numbers
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


def loading(path: Path) -> dict[str, float]:
    """Loads in a process of its own, which has no freed memory to use again."""
    command = [sys.executable, __file__, "--load", str(path)]
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
            ("separatrix", "load"): loading(place / "set"),
        }
        if minari:
            saved = with_memory(lambda: save_minari(dataset, place, MINARI_ID))
            found |= {("minari", "save"): saved, ("minari", "load"): loading(place / MINARI_ID)}
        return found

    outcomes = [outcomes_in(folder / str(number)) for number in range(rounds)]
    size = sum(tensor.nbytes for tensor in dataset.tensors().values())
    rows: list[dict[str, Any]] = []
    for form, step in outcomes[0]:
        seconds = statistics.median(outcome[form, step]["seconds"] for outcome in outcomes)
        peak = max(outcome[form, step]["bytes"] for outcome in outcomes)
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
    arguments = parser.parse_args()
    use_threads(1)
    if arguments.load is not None:
        print(json.dumps(with_memory(lambda: load_dataset(arguments.load))))
        return
    recording = measure_recording(arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        files = measure_files(Path(folder), arguments.rounds, arguments.minari)
    packages = ("h5py", "minari") if arguments.minari else ()
    save(arguments.output, {**origin(packages), "recording": recording, "files": files})


if __name__ == "__main__":
    main()

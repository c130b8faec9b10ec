"""What the benchmarks share: timing in turns, and where numbers come from."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from separatrix.agents.common.provenance import git_state, versions

Run = Callable[[], Any]


def measure(runs: Mapping[str, Run], rounds: int, duration: float) -> dict[str, dict[str, float]]:
    """Times every way in turn, in rounds, so that all see the same load of the machine.

    Args:
        runs: What to time.
        rounds: Number of rounds.
        duration: Time a way should take in a round, in seconds; it runs at least once.

    Returns:
        Seconds of one call, the fastest and the median round, by name.
    """
    repeats = {}
    for name, run in runs.items():
        run()
        begin = time.perf_counter()
        run()
        repeats[name] = max(1, int(duration / (time.perf_counter() - begin)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - begin) / repeats[name])
    return {
        name: {"minimum": min(found), "median": float(np.median(found))}
        for name, found in times.items()
    }


def use_threads(count: int) -> None:
    """Lets numba and torch use this many threads."""
    numba.set_num_threads(count)
    torch.set_num_threads(count)


def origin(packages: Sequence[str] = ()) -> dict[str, Any]:
    """The command, the commit, the versions (of these packages, too) and the machine."""
    git, threads = git_state(), torch.get_num_threads()  # numba's first call would change it
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": git["sha"],
        "uncommitted_changes": git["dirty"],
        "threads": {"numba": numba.get_num_threads(), "torch": threads},
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "versions": versions() | {name: metadata.version(name) for name in packages},
    }


def save(path: Path | None, content: Mapping[str, Any]) -> None:
    """Writes results as JSON, if a file is named."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"\nwrote {path}")

"""Evaluates the controllers on every environment: `python docs/controllers_table.py [id ...]`.

Writes `docs/results/controllers.json`, from which `generate.py` makes the table of their page. The
numbers are those that `separatrix control zero random lqr --environment <id>` prints. With ids,
these alone are measured, and take their places among the others.
"""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.provenance import git_state, versions
from separatrix.cli.evaluate import episode_seeds
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.evaluation import bootstrap_interval, evaluate
from separatrix.envs.core.registration import REGISTRY, find, make_environment
from separatrix.envs.streams.stream import STREAMS

RESULTS = Path(__file__).resolve().parent / "results" / "controllers.json"
EPISODES, EPISODES_OF_BODIES = 128, 16  # the latter in a stream, which take long
SHOWN = ("return", "on_target", "upright", "forward_velocity", "drag", "energy", "diverged")


def measure(environment_id: str) -> list[dict[str, Any]]:
    """Evaluates the controllers that an environment allows on the same episodes.

    Returns:
        A row for each: its name, and mean, lower and upper end of each quantity.
    """
    bodies = "resolution" in REGISTRY[environment_id].options
    episodes = EPISODES_OF_BODIES if bodies else EPISODES
    environment = make_environment(environment_id, episodes)
    rows = []
    for name in ("zero", "random", "lqr"):
        try:
            controller = make_controller(name, environment)
        except ValueError:  # no equilibrium
            continue
        found = evaluate(environment, controller, episode_seeds(0, episodes)).columns()
        quantities = {
            key: (found[key].mean().item(), *bootstrap_interval(found[key]))
            for key in SHOWN
            if key in found
        }
        rows.append({"environment": environment_id, "controller": name, **quantities})
    return rows


def table(content: Mapping[str, Any]) -> str:
    """Lays the results out, a line for each environment and quantity."""
    names = ("zero", "random", "lqr")
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in content["rows"]:
        for key in SHOWN:
            if key in row:
                mean, low, high = (f"{value:.3g}" for value in row[key])
                text = mean if low == high else f"{mean} [{low}, {high}]"
                cells.setdefault((row["environment"], key), {})[row["controller"]] = text
    lines = ["| environment | quantity | zero | random | LQR |", "| --- | --- | --- | --- | --- |"]
    for (environment, key), found in cells.items():
        label = environment.rpartition("/")[2] if key == "return" else ""
        values = " | ".join(found.get(name, "none") for name in names)
        lines.append(f"| {label} | {key.replace('_', ' ')} | {values} |")
    return "\n".join(lines)


def main() -> None:
    """Measures environments, all but the tasks of streams or those named, and writes the file."""
    torch.set_num_threads(1)
    git = git_state()
    ids = [name for name in REGISTRY if name not in STREAMS]  # a stream is its base
    chosen = [find(name).id for name in sys.argv[1:]] or ids
    rows = {name: [row | {"commit": git["sha"]} for row in measure(name)] for name in chosen}
    if chosen != ids:
        known = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
        rows = {name: [row for row in known if row["environment"] == name] for name in ids} | rows
    content = {
        "command": shlex.join(["python", *sys.argv]),
        "uncommitted_changes": git["dirty"],
        "cores": os.cpu_count(),
        "versions": versions(),
        "episodes": EPISODES,
        "episodes_of_bodies": EPISODES_OF_BODIES,
        "rows": [row for name in ids for row in rows[name]],
    }
    RESULTS.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()

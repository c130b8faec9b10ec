"""Measures what scores of streams are relative to: returns of random actions and of a reference.

For every task of a stream, or the first of them where planning takes long, the mean return of
random actions and that of a good controller which knows the task's true parameters: planning with
the true model, or what `PLANS` names. Episodes start with the same seeds in every task.

Results are written into `envs/streams/data/references.json`, beside those of streams that are not
measured this time. A task is marked where the reference is not better than random by five standard
errors of the difference.

    python benchmarks/stream_references.py
    python benchmarks/stream_references.py --streams LorenzStream-v0 PendulumStream-v0
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads

import separatrix  # noqa: F401  (registers the streams)
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.evaluation import Evaluation, evaluate
from separatrix.envs.core.registration import make_environment
from separatrix.envs.streams.stream import REFERENCES, STREAMS, TaskStream, find_stream

FIRST_SEED = 1000
RANDOM_EPISODES = 64


@dataclass(frozen=True)
class Plan:
    """How a stream is measured.

    Attributes:
        controller: Name of the reference, see `separatrix.controllers.catalog`.
        settings: Its settings.
        tasks: How many of the first tasks are measured.
        episodes: Of the reference, in each task.
    """

    controller: str
    settings: Mapping[str, Any]
    tasks: int
    episodes: int = 8


# Chosen by hand on a few tasks, with other seeds.
PLANS = {
    "separatrix/PendulumStream-v0": Plan(
        "icem", {"horizon": 60, "population": 64, "iterations": 4}, 50
    ),
    "separatrix/CartPoleStream-v0": Plan(
        "icem", {"horizon": 40, "population": 64, "iterations": 4}, 50
    ),
    "separatrix/LorenzStream-v0": Plan(
        "icem", {"horizon": 20, "population": 64, "iterations": 2}, 50
    ),
    "separatrix/KuramotoSivashinskyStream-v0": Plan(
        "gradient_mpc", {"horizon": 30, "starts": 4, "iterations": 5, "learning_rate": 0.2}, 8
    ),
    "separatrix/GlucoseStream-v0": Plan("basal_bolus", {}, 30, episodes=64),
    "separatrix/PusherStream-v0": Plan(
        "icem", {"horizon": 12, "population": 32, "iterations": 2}, 5, episodes=4
    ),
}
OTHERS = Plan("icem", {"horizon": 20, "population": 32, "iterations": 2}, 6)
"""Of bodies of MuJoCo, whose steps take long."""


def returns(stream: TaskStream, task: int, plan: Plan, episodes: int) -> tuple[float, float]:
    """Runs a controller on a task and returns the mean return and its standard error."""
    environment = make_environment(stream.id, episodes, task=task)
    controller = make_controller(plan.controller, environment, **plan.settings)
    seeds = torch.arange(FIRST_SEED, FIRST_SEED + episodes)
    found: Evaluation = evaluate(environment, controller, seeds)
    return found.returns.mean().item(), found.returns.std().item() / math.sqrt(episodes)


def measure(stream: TaskStream) -> dict[str, Any]:
    """Measures a stream; returns what is written of it."""
    plan = PLANS.get(stream.id, OTHERS)
    print(f"\n{stream.id}: {plan.controller} {dict(plan.settings)}")
    rows: dict[str, list[float]] = {
        name: [] for name in ("random", "random_error", "reference", "reference_error")
    }
    for task, label in enumerate(stream.labels[: plan.tasks]):
        random, random_error = returns(stream, task, Plan("random", {}, 1), RANDOM_EPISODES)
        reference, error = returns(stream, task, plan, plan.episodes)
        for name, value in zip(rows, (random, random_error, reference, error), strict=True):
            rows[name].append(value)
        unclear = reference - random < 5 * math.hypot(error, random_error)
        print(
            f"{task:3} {label:40} random {random:8.2f} +- {random_error:5.2f}   "
            f"reference {reference:8.2f} +- {error:5.2f}{'   UNCLEAR' if unclear else ''}",
            flush=True,
        )
    return {
        "controller": plan.controller,
        "settings": dict(plan.settings),
        "episodes": plan.episodes,
        "random_episodes": RANDOM_EPISODES,
        "first_seed": FIRST_SEED,
        **{name: [round(value, 4) for value in values] for name, values in rows.items()},
        "origin": origin(["mujoco"]),
    }


def main() -> None:
    """Measures the streams that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--streams", nargs="+", default=list(STREAMS), metavar="ID")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=REFERENCES)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    for name in arguments.streams:
        stream = find_stream(name)
        found = measure(stream)
        before = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
        save(arguments.output, {**before, stream.id: found})


if __name__ == "__main__":
    main()

"""Time of a gradient step against the number of tasks before: does learning a task stay as quick?

Learners as large as that of `configs/experiment/hypercrl_pendulum.yaml` begin task after task, on
transitions that are made up. In each task the time of a gradient step is taken, all methods in
turn, in rounds, of which the median counts.

    python benchmarks/hypercrl_steps.py --output docs/results/hypercrl_steps.json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import measure, origin, save, use_threads
from hypercrl import EQUAL_BYTES, HYPERNETWORK

from separatrix.agents.common.replay import Transitions
from separatrix.agents.hypercrl.config import CoresetConfig, FinetuneConfig, HyperCRLConfig
from separatrix.agents.hypercrl.learner import Learner

METHODS = {
    "HyperCRL": HYPERNETWORK,
    "HyperCRL, one task in the regulariser": replace(HYPERNETWORK, regularized_tasks=1),
    "finetune": FinetuneConfig(heads=False),
    "coreset": CoresetConfig(transitions=EQUAL_BYTES["pendulum"]),
}
OBSERVATIONS, ACTIONS = 3, 1
TIMES, NUM_ENVS = 300, 8
TASKS = 20
STEPS = 20


def transitions() -> Transitions:
    """Makes transitions of a linear system up."""
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn((TIMES, NUM_ENVS, OBSERVATIONS), generator=generator)
    action = torch.rand((TIMES, NUM_ENVS, ACTIONS), generator=generator)
    no = torch.zeros((TIMES, NUM_ENVS), dtype=torch.bool)
    return Transitions(observation, action, no.float(), 0.9 * observation, no, no)


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    use_threads(1)
    data, device = transitions(), torch.device("cpu")
    learners = {}
    for name, method in METHODS.items():
        config = HyperCRLConfig(method=method, layers=(64, 64), tasks=TASKS)
        features = torch.zeros((TASKS, 1))
        learners[name] = Learner(config, OBSERVATIONS, ACTIONS, features, 0, device)
    rows: list[dict[str, Any]] = []
    for tasks in range(1, TASKS + 1):
        for learner in learners.values():
            while learner.task < tasks - 1:
                if learner.task >= 0:
                    learner.end_task(data)
                learner.begin_task()
        runs = {
            name: lambda learner=learner: learner.train(data, STEPS)
            for name, learner in learners.items()
        }
        found = measure(runs, arguments.rounds, 0.2)
        row = {name: times["median"] / STEPS for name, times in found.items()}
        rows.append({"tasks": tasks, **row})
        print(f"task {tasks:2}", *(f"{name} {1e3 * t:.2f} ms  " for name, t in row.items()))
    content = {"methods": list(METHODS), "rows": rows, "steps": STEPS}
    save(arguments.output, {**origin(), **content})


if __name__ == "__main__":
    main()

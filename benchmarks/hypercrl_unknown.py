"""HyperCRL where the task is not told: how often it is inferred, and how soon a change is detected.

The learner of `configs/experiment/hypercrl_pendulum.yaml` goes through five tasks that are longer
than there, with more gradient steps, as changes are detected only once the model of a task has
settled. It detects where they begin; in the end its networks act in each task, which they are told
or infer.

    python benchmarks/hypercrl_unknown.py --output docs/results/hypercrl_unknown.json
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import origin, save

from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.hypercrl.detecting_loop import make_loop
from separatrix.agents.hypercrl.evaluation import StreamEvaluations
from separatrix.envs.streams.stream import find_stream

EXPERIMENT = "hypercrl_pendulum"
TASKS = 5
TASK_STEPS = 7000
"""No multiple of a session: tasks are to change in the middle of one."""


def experiment(seed: int) -> ExperimentConfig:
    """Makes the experiment of a run."""
    config = load_experiment(EXPERIMENT)
    assert isinstance(config.agent, HyperCRLConfig)
    agent = replace(config.agent, tasks=TASKS, gradient_steps=800, boundaries="detected")
    return replace(config, agent=agent, total_steps=TASKS * TASK_STEPS, seed=seed)


def run(seed: int) -> dict[str, Any]:
    """Learns the stream and acts in it; returns everything that was measured."""
    config, begin = experiment(seed), time.perf_counter()
    assert isinstance(config.agent, HyperCRLConfig)
    loop = make_loop(config)
    while not loop.done:
        loop.session()
        print(f"seed {seed}: {loop.steps} steps, detected {loop.record.detections}", flush=True)
    inferring = replace(config, agent=replace(config.agent, evaluation_tasks="inferred"))
    told, inferred = StreamEvaluations(config), StreamEvaluations(inferring)
    networks, tasks = loop.record.networks, range(TASKS)
    found = [inferred.run(loop.learner, [task], networks) for task in tasks]
    return {
        "seed": seed,
        "begins": [loop.task_end(task - 1) for task in tasks],
        "num_envs": config.environment.num_envs,
        "detections": loop.record.detections,
        "networks": networks,
        "learned_tasks": loop.learner.task + 1,
        "told": told.run(loop.learner, list(tasks), networks).returns.tolist(),
        "inferred": [returns.returns.item() for returns in found],
        "inferred_correctly": [returns.inferred_correctly for returns in found],
        "wall_seconds": time.perf_counter() - begin,
    }


def main() -> None:
    """Runs every seed, one after the other, on one thread."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stream = find_stream(experiment(0).environment.id)
    runs = [run(seed) for seed in arguments.seeds]
    for name in ("told", "inferred"):
        for found in runs:
            scores = stream.scores(torch.tensor(found[name]), list(range(TASKS)))
            found[f"{name}_scores"] = scores.tolist()
    content = {
        "stream": stream.id.rpartition("/")[2],
        "labels": stream.labels[:TASKS],
        "settings": {"experiment": EXPERIMENT, "tasks": TASKS, "task_steps": TASK_STEPS},
        "runs": runs,
    }
    save(arguments.output, {**origin(), **content})


if __name__ == "__main__":
    main()

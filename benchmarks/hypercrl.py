"""HyperCRL against its baselines over streams of tasks, seed by seed.

A study is a stream, an experiment of `configs/experiment`, and methods that differ from it in what
`STUDIES` says. Every run (method and seed) is a process of its own on one thread and leaves a JSON
file in `--folder`; a study that was interrupted goes on with the runs that are missing.

    python benchmarks/hypercrl.py main --output docs/results/hypercrl_main.json

Studies: `main` (five tasks, all methods), `long` (twenty tasks), `mujoco`. Learning rates and
strengths are those that did best in `benchmarks/hypercrl_tuning.py`, in all three.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import origin, save
from torch import Tensor

from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.hypercrl.config import (
    CoresetConfig,
    ElasticWeightsConfig,
    FinetuneConfig,
    HyperCRLConfig,
    HypernetworkConfig,
    MethodConfig,
    SingleConfig,
    SynapticIntelligenceConfig,
)
from separatrix.agents.hypercrl.loop import Loop
from separatrix.agents.hypercrl.storage import (
    coreset_size_for,
    count_storage,
    hidden_width_for,
)
from separatrix.agents.hypercrl.target import target_shape
from separatrix.envs.streams.stream import find_stream

HYPERNETWORK = HypernetworkConfig(layers=(32, 32), learning_rate=1e-3, beta=5.0)
CHUNKED = HypernetworkConfig(
    embedding_size=8,
    layers=(16, 16),
    chunk_size=200,
    chunk_embedding_size=8,
    learning_rate=1e-2,
    beta=0.5,
)
"""About as many numbers as one dynamics network has."""
LAYERS = (64, 64)
"""Hidden units of the dynamics networks, in all three experiments."""


def equal_bytes(observations: int, actions: int) -> int:
    """Returns how many transitions weigh as much as the weights to hold and a task's embedding."""
    weights = target_shape(observations + actions, LAYERS, observations).parameters
    size = 4 * (weights + HYPERNETWORK.embedding_size)
    return coreset_size_for(size, observations, actions, tasks=1)


EQUAL_BYTES = {
    "cart-pole": equal_bytes(5, 1),
    "pendulum": equal_bytes(3, 1),
    "pusher": equal_bytes(11, 2),
}
WIDE = "single, as large"
"""One network for each task, together as large as the hypernetwork of 164,247 numbers."""
WIDTHS = {WIDE: 2 * (hidden_width_for(164_247 // 5, 6, 5, layers=2),)}

Methods = dict[str, MethodConfig]

MAIN: Methods = {
    "HyperCRL": HYPERNETWORK,
    "HyperCRL chunked": CHUNKED,
    "single": SingleConfig(learning_rate=3e-3),
    WIDE: SingleConfig(learning_rate=3e-3),
    "finetune": FinetuneConfig(heads=False),
    "EWC": ElasticWeightsConfig(strength=1e5),
    "SI": SynapticIntelligenceConfig(strength=1.0),
    "coreset": CoresetConfig(transitions=EQUAL_BYTES["cart-pole"], learning_rate=3e-3),
    "multitask oracle": CoresetConfig(transitions=0, learning_rate=3e-3),
    "context oracle": CoresetConfig(transitions=0, heads=False, context=True),
}

LONG: Methods = {
    "HyperCRL": HYPERNETWORK,
    "finetune": MAIN["finetune"],
    "coreset": CoresetConfig(transitions=EQUAL_BYTES["pendulum"], learning_rate=3e-3),
}

MUJOCO: Methods = {
    **LONG,
    "coreset": CoresetConfig(transitions=EQUAL_BYTES["pusher"], learning_rate=3e-3),
}

STUDIES: dict[str, tuple[str, Methods, str | None]] = {
    "main": ("hypercrl_cart_pole", MAIN, "single"),
    "long": ("hypercrl_pendulum", LONG, None),
    "mujoco": ("hypercrl_pusher", MUJOCO, None),
}
"""Experiment, methods, and the method that learns every task alone."""


def experiment(study: str, method: str, seed: int) -> ExperimentConfig:
    """Makes the experiment of a run."""
    name, methods, _ = STUDIES[study]
    config = load_experiment(name)
    assert isinstance(config.agent, HyperCRLConfig)
    layers = WIDTHS.get(method, LAYERS)
    agent = replace(config.agent, method=methods[method], layers=layers)
    return replace(config, agent=agent, seed=seed)


def run(study: str, method: str, seed: int) -> dict[str, Any]:
    """Makes one run of a study; returns everything that was measured."""
    return learn_stream(experiment(study, method, seed))


def learn_stream(config: ExperimentConfig) -> dict[str, Any]:
    """Learns a stream; returns everything that was measured."""
    torch.set_num_threads(1)
    loop = Loop(config)
    every, begin = config.evaluation.every, time.perf_counter()
    while not loop.done:
        before = loop.record.ended
        loop.session()
        if loop.record.ended > before:
            passed = every and loop.steps // every > loop.task_end(loop.task - 1) // every
            loop.evaluate(list(range(loop.task + 1)) if loop.done or passed else [loop.task])
    record, stored = loop.record, loop.learner.stored()
    embeddings = loop.learner.embeddings()
    return {
        "seed": config.seed,
        "returns": numbers(record.returns),
        "model_error": numbers(record.errors),
        "return_curves": {str(task): curve for task, curve in enumerate(record.curves)},
        "seconds": record.seconds,
        "training_seconds": record.training_seconds,
        "wall_seconds": time.perf_counter() - begin,
        "evaluation_steps": record.evaluation_steps,
        "parameters": sum(p.numel() for p in loop.learner.networks.parameters()),
        "stored_floats": count_storage(stored).floats,
        "embeddings": None if embeddings is None else numbers(embeddings.double()),
    }


def numbers(matrix: Tensor) -> list[list[float | None]]:
    """Returns a matrix as JSON values, null where nothing was measured."""
    return [[None if x != x else x for x in row] for row in matrix.tolist()]


def scored(stream_id: str, found: dict[str, Any]) -> dict[str, Any]:
    """Adds scores to the returns of a run."""
    stream, count = find_stream(stream_id), len(found["returns"])
    returns = torch.tensor(
        [[torch.nan if x is None else x for x in row] for row in found["returns"]]
    )
    scores = stream.scores(returns.double(), list(range(count)))
    curves = {
        task: [
            [steps, stream.scores(torch.tensor([value]), [int(task)]).item()]
            for steps, value in curve
        ]
        for task, curve in found["return_curves"].items()
    }
    return {**found, "scores": numbers(scores), "curves": curves}


def main() -> None:
    """Runs what is missing of a study and writes it down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", help="run these alone, and write no table")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/hypercrl_study"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    study, seeds = arguments.study, arguments.seeds
    name, methods, baseline = STUDIES[study]
    config = load_experiment(name)
    assert isinstance(config.agent, HyperCRLConfig)
    folder = arguments.folder / study
    folder.mkdir(parents=True, exist_ok=True)

    def place(method: str, seed: int) -> Path:
        return folder / f"{method.replace(' ', '_').replace(',', '')}_s{seed}.json"

    chosen = arguments.methods or list(methods)
    missing = [(m, s) for s in seeds for m in chosen if not place(m, s).exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        futures = {pool.submit(run, study, *job): job for job in missing}
        for future in as_completed(futures):
            method, seed = futures[future]
            found = future.result()
            place(method, seed).write_text(json.dumps(found), encoding="utf-8")
            last = [x for x in found["returns"][-1] if x is not None]
            mean, seconds = sum(last) / len(last), found["wall_seconds"]
            print(f"{method}, seed {seed}: mean return {mean:.2f} in {seconds:.0f} s", flush=True)

    if arguments.methods:
        return
    stream, tasks = find_stream(config.environment.id), experiment(study, next(iter(methods)), 0)
    assert isinstance(tasks.agent, HyperCRLConfig)
    content = {
        "stream": stream.id.rpartition("/")[2],
        "tasks": tasks.agent.tasks,
        "labels": stream.labels[: tasks.agent.tasks],
        "settings": {"experiment": name, "seeds": seeds, "jobs": arguments.jobs},
        "baseline": baseline,
        "methods": [
            {
                "name": method,
                "runs": [
                    scored(stream.id, json.loads(place(method, seed).read_text("utf-8")))
                    for seed in seeds
                ],
            }
            for method in methods
        ],
    }
    save(arguments.output, {**origin(), "studies": [content]})


if __name__ == "__main__":
    main()

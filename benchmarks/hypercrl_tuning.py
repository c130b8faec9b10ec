"""Learning rates and strengths of the methods, chosen on recorded data of other tasks.

The tasks are the sixth to the tenth cart-pole of the stream, which the studies of
`benchmarks/hypercrl.py` never see, recorded as `benchmarks/hypercrl_plasticity.py` does. Every
setting learns them one after the other, 2,000 gradient steps each. What counts is the mean over the
tasks of the held-out error after the last one: what was not learned and what was forgotten both
raise it. Every method gets the same learning rates; those with a strength three strengths.
Every run leaves a JSON file in `--folder`, and is not repeated.

    python benchmarks/hypercrl_tuning.py --output docs/results/hypercrl_tuning.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import origin, save
from hypercrl import CHUNKED, EQUAL_BYTES, HYPERNETWORK, LAYERS, WIDE, WIDTHS
from hypercrl_plasticity import STREAM, learn, record

from separatrix.agents.hypercrl.config import (
    CoresetConfig,
    ElasticWeightsConfig,
    FinetuneConfig,
    HyperCRLConfig,
    MethodConfig,
    SingleConfig,
    SynapticIntelligenceConfig,
)
from separatrix.agents.hypercrl.learner import Learner
from separatrix.envs.streams.stream import find_stream

TASKS = range(5, 10)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def settings() -> Iterator[tuple[str, str, MethodConfig]]:
    """Yields method, setting and hyper-parameters of everything that is tried."""
    for rate in RATES:
        told = f"learning rate {rate:g}"
        for beta in (0.05, 0.5, 5.0):
            setting = f"{told}, beta {beta:g}"
            yield "HyperCRL", setting, replace(HYPERNETWORK, learning_rate=rate, beta=beta)
            yield "HyperCRL chunked", setting, replace(CHUNKED, learning_rate=rate, beta=beta)
        yield "single", told, SingleConfig(learning_rate=rate)
        yield WIDE, told, SingleConfig(learning_rate=rate)
        for heads in (False, True):
            setting = f"{told}, {'a head for each task' if heads else 'one head'}"
            yield "finetune", setting, FinetuneConfig(heads=heads, learning_rate=rate)
        for strength in (1e1, 1e3, 1e5):
            setting = f"{told}, strength {strength:g}"
            yield "EWC", setting, ElasticWeightsConfig(strength=strength, learning_rate=rate)
        for strength in (0.01, 1.0, 100.0):
            setting = f"{told}, strength {strength:g}"
            yield "SI", setting, SynapticIntelligenceConfig(strength=strength, learning_rate=rate)
        coreset = CoresetConfig(transitions=EQUAL_BYTES["cart-pole"], learning_rate=rate)
        yield "coreset", told, coreset
        yield "multitask oracle", told, replace(coreset, transitions=0)
        context = replace(coreset, transitions=0, heads=False, context=True)
        yield "context oracle", told, context


def run(name: str, setting: str, method: MethodConfig, seed: int, folder: Path) -> list[float]:
    """Learns the tasks one after the other; returns the error of each in the end."""
    place = folder / f"{name}, {setting}, seed {seed}.json"
    if place.exists():
        found: list[float] = json.loads(place.read_text(encoding="utf-8"))
        return found
    torch.set_num_threads(1)
    layers = WIDTHS.get(name, LAYERS)
    config = HyperCRLConfig(method=method, layers=layers, batch_size=100)
    data = [record(task) for task in TASKS]
    observations, actions = data[0].observation.shape[-1], data[0].action.shape[-1]
    features = find_stream(STREAM).features()[list(TASKS)]
    learner = Learner(config, observations, actions, features, seed, torch.device("cpu"))
    for transitions in data:
        learn(learner, transitions)
    errors = [learner.held_out_error(task, transitions) for task, transitions in enumerate(data)]
    place.write_text(json.dumps(errors), encoding="utf-8")
    return errors


def main() -> None:
    """Tries every setting and writes down how it did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/hypercrl_tuning"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    tried = list(settings())
    errors: dict[tuple[str, str], list[list[float]]] = {(name, s): [] for name, s, _ in tried}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        futures = {
            pool.submit(run, name, setting, method, seed, arguments.folder): (name, setting)
            for name, setting, method in tried
            for seed in arguments.seeds
        }
        for future in as_completed(futures):
            final = future.result()
            errors[futures[future]].append(final)
            print(*futures[future], f"{sum(final) / len(final):.3f}", flush=True)
    rows: list[dict[str, Any]] = [
        {"method": name, "setting": setting, "errors": errors[name, setting]}
        for name, setting, _ in tried
    ]
    best: dict[str, tuple[float, str]] = {}
    for row in rows:
        mean = float(torch.tensor(row["errors"]).mean())
        best[row["method"]] = min(
            best.get(row["method"], (mean, row["setting"])), (mean, row["setting"])
        )
    print(json.dumps(best, indent=1))
    save(arguments.output, {**origin(), "stream": STREAM, "tasks": list(TASKS), "rows": rows})


if __name__ == "__main__":
    main()

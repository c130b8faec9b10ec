"""Learning rates and strengths of the methods: on recorded data of other tasks, then in control.

First, recorded data of the sixth to the tenth cart-pole of the stream, which the studies of
`benchmarks/hypercrl.py` never see, as `benchmarks/hypercrl_plasticity.py` records them. Every
setting learns these tasks one after the other, 2,000 gradient steps each. What counts is the mean
over the tasks of the held-out error after the last one: what was not learned and what was forgotten
both raise it. Every method gets the same learning rates; those with a strength three strengths.

Then control, as a model that is good on much data is not always learned well from little: for each
of the learning rates of `CONTROL` the setting that did best, on the first three tasks of the
experiment with another seed. What counts is the mean return over the tasks after the last one.

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
from hypercrl import CHUNKED, EQUAL_BYTES, HYPERNETWORK, LAYERS, WIDE, WIDTHS, learn_stream
from hypercrl_plasticity import STREAM, learn, record

from separatrix.agents.common.configuration import load_experiment
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
CONTROL = (1e-3, 3e-3, 1e-2)
CONTROL_TASKS, CONTROL_SEED = 3, 100


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


def control(name: str, setting: str, method: MethodConfig, folder: Path) -> float:
    """Learns and controls three tasks one after the other; returns the mean return in the end."""
    place = folder / f"control, {name}, {setting}.json"
    if not place.exists():
        config = load_experiment("hypercrl_cart_pole")
        assert isinstance(config.agent, HyperCRLConfig)
        steps = config.total_steps * CONTROL_TASKS // config.agent.tasks
        layers = WIDTHS.get(name, LAYERS)
        agent = replace(config.agent, method=method, layers=layers, tasks=CONTROL_TASKS)
        found = learn_stream(replace(config, agent=agent, total_steps=steps, seed=CONTROL_SEED))
        place.write_text(json.dumps(found["returns"][-1]), encoding="utf-8")
    returns: list[float] = json.loads(place.read_text(encoding="utf-8"))
    return sum(returns) / len(returns)


def main() -> None:
    """Tries every setting and writes down how it did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/hypercrl_tuning"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    tried = [
        (name, setting, method, {"method": name, "setting": setting, "errors": []})
        for name, setting, method in settings()
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        futures: dict[Any, dict[str, Any]] = {
            pool.submit(run, name, setting, method, seed, arguments.folder): row
            for name, setting, method, row in tried
            for seed in arguments.seeds
        }
        for future in as_completed(futures):
            futures[future]["errors"].append(future.result())
        best: dict[tuple[str, float], tuple[float, Any]] = {}
        for one in tried:
            mean, place = (
                float(torch.tensor(one[3]["errors"]).mean()),
                (one[0], one[2].learning_rate),
            )
            if place[1] in CONTROL and (place not in best or mean < best[place][0]):
                best[place] = (mean, one)
        futures = {
            pool.submit(control, name, setting, method, arguments.folder): row
            for _, (name, setting, method, row) in best.values()
        }
        for future in as_completed(futures):
            row = futures[future]
            row["return"] = future.result()
            print(f"{row['method']}, {row['setting']}: return {row['return']:.1f}", flush=True)
    rows = [row for *_, row in tried]
    save(arguments.output, {**origin(), "stream": STREAM, "tasks": list(TASKS), "rows": rows})


if __name__ == "__main__":
    main()

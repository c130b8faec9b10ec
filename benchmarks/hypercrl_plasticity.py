"""What it costs a hypernetwork to learn the last task of a stream, without any planner.

Data are recorded once: random actions, held for 10 steps, in the first five cart-poles of the
stream, 4,000 transitions each, of which every fourth is held out. Every variant learns the tasks
one after the other, 2,000 gradient steps each, and once more the last task alone, as its first one.
Errors are root mean squares over held-out transitions and components, in units of the deviation of
the targets.

The target error is what one network of its own reaches after 500 gradient steps on the last task.
The cost of plasticity is how many times more steps than that a variant takes to it after four other
tasks. What it remembers is told by the errors of the first four tasks, at their own end and after
the last one.

    python benchmarks/hypercrl_plasticity.py --output docs/results/hypercrl_plasticity.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import origin, save
from hypercrl import HYPERNETWORK

from separatrix.agents.common.collector import Collector
from separatrix.agents.common.replay import ReplayBuffer, Transitions
from separatrix.agents.hypercrl.config import HyperCRLConfig, MethodConfig, SingleConfig
from separatrix.agents.hypercrl.learner import Learner
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment
from separatrix.envs.streams.stream import find_stream

STREAM, TASKS = "CartPoleStream-v0", 5
NUM_ENVS, EPISODES, HOLD = 8, 4, 10
STEPS, CHUNK = 2000, 100
TARGET_STEPS = 500

VARIANTS: dict[str, tuple[MethodConfig, dict[str, Any]]] = {
    "HyperCRL": (HYPERNETWORK, {}),
    "hyperfan": (replace(HYPERNETWORK, initialization="hyperfan"), {}),
    "constant norm": (replace(HYPERNETWORK, encoding="constant_norm"), {}),
    "base weights, frozen": (replace(HYPERNETWORK, base_weights="frozen"), {}),
    "MIP": (
        replace(
            HYPERNETWORK,
            encoding="constant_norm",
            initialization="fan_out",
            base_weights="frozen",
        ),
        {},
    ),
    "three members": (HYPERNETWORK, {"members": 3}),
    "no regulariser": (replace(HYPERNETWORK, beta=0.0), {}),
    "network of its own": (SingleConfig(learning_rate=3e-3), {}),
}


def record(task: int) -> Transitions:
    """Records transitions of a task, (times, environments, ...)."""
    environment = make_environment(STREAM, NUM_ENVS, task=task)
    times = EPISODES * environment.horizon
    buffer = ReplayBuffer(
        environment.observation_space.shape[0],
        environment.action_shape[0],
        capacity=times * NUM_ENVS,
        num_envs=NUM_ENVS,
    )
    collector = Collector(environment, buffer, seed=1000 * task)
    collector.collect(RandomController(environment, task, HOLD), times)
    return buffer.ordered()


def learn(learner: Learner, data: Transitions) -> list[float]:
    """Learns a task; returns the held-out error after every `CHUNK` gradient steps."""
    learner.begin_task()
    errors = []
    for _ in range(STEPS // CHUNK):
        errors.append(learner.train(data, CHUNK)["train/held_out_error"])
    learner.end_task(data)
    return errors


def run(variant: str, seed: int) -> dict[str, Any]:
    """Measures one variant with one seed."""
    torch.set_num_threads(1)
    method, changes = VARIANTS[variant]
    config = HyperCRLConfig(method=method, layers=(64, 64), batch_size=100, **changes)
    data = [record(task) for task in range(TASKS)]
    observations, actions = data[0].observation.shape[-1], data[0].action.shape[-1]
    features = find_stream(STREAM).features()[:TASKS]

    def fresh() -> Learner:
        device = torch.device("cpu")
        return Learner(config, observations, actions, features, seed, device)

    learner, begin = fresh(), time.perf_counter()
    curves = [learn(learner, transitions) for transitions in data]
    seconds = time.perf_counter() - begin
    final = [learner.held_out_error(task, transitions) for task, transitions in enumerate(data)]
    return {
        "seed": seed,
        "curves": curves,
        "final": final,
        "alone": learn(fresh(), data[-1]),
        "seconds": seconds,
        "parameters": sum(p.numel() for p in learner.networks.parameters()),
    }


def main() -> None:
    """Measures all variants and writes them down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    jobs = [(variant, seed) for variant in VARIANTS for seed in arguments.seeds]
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        for (variant, seed), result in zip(
            jobs, pool.map(run, *zip(*jobs, strict=True)), strict=True
        ):
            found[variant].append(result)
            last, alone = result["curves"][-1], result["alone"]
            print(
                f"{variant}, seed {seed}: last task {last[9]:.3f} {last[-1]:.3f}, alone "
                f"{alone[9]:.3f} {alone[-1]:.3f}, earlier ones "
                f"{sum(c[-1] for c in result['curves'][:-1]) / (TASKS - 1):.3f} -> "
                f"{sum(result['final'][:-1]) / (TASKS - 1):.3f}, {result['seconds']:.0f} s",
                flush=True,
            )
    content = {
        "stream": STREAM,
        "tasks": TASKS,
        "chunk": CHUNK,
        "target_steps": TARGET_STEPS,
        "target_variant": "network of its own",
        "variants": found,
    }
    save(arguments.output, {**origin(), **content})


if __name__ == "__main__":
    main()

"""Times whole environments, shows where a step's time goes, and weighs a batch.

Speed: steps a second of single environments (`gymnasium.make`, every wrapper on) beside
CartPole-v1, by a plain loop over given actions and by Gymnasium's own
`gymnasium.utils.performance`, which also samples the actions; then of batches of 4096 beside the
bare kernel on the same arrays.

Memory: what the process grows by when a batch of 2^20 environments is made, reset and stepped, an
environment, beside its state and observation; and the growth over 100,000 steps of 4096.

    python benchmarks/environments.py --output docs/results/environments.json
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import pstats
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numba
import numpy as np
import torch
from gymnasium.utils.performance import benchmark_step, benchmark_vector_step
from harness import Run, measure, origin, save, use_threads

import separatrix  # noqa: F401
from separatrix.envs.core.state import tensors

SINGLES = ("CartPole-v1", "separatrix/Lorenz-v0", "separatrix/CartPoleSwingUp-v0")
BATCHES = ("separatrix/Lorenz-v0", "separatrix/Lorenz96-v0", "separatrix/CartPoleSwingUp-v0")
STEPS = 1000
BATCH, WEIGHED = 4096, 2**20
LONG = 100_000


def single(name: str) -> Run:
    """Steps of a single environment under given random actions, with its resets."""
    env = gymnasium.make(name)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(STEPS)]
    env.reset(seed=0)

    def run() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return run


def singles(rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times single environments and prints a table."""
    found = measure({name: single(name) for name in SINGLES}, rounds, duration)
    print("\nsteps a second of one environment   best       median   gymnasium.utils.performance")
    rows = []
    for name, times in found.items():
        theirs = benchmark_step(gymnasium.make(name), target_duration=2, seed=0)
        best, median = STEPS / times["minimum"], STEPS / times["median"]
        rows.append({"environment": name, "best": best, "median": median, "gymnasium": theirs})
        print(f"{name:32s}{best:10,.0f} {median:12,.0f} {theirs:21,.0f}")
    return rows


def batch(name: str, output: str) -> tuple[Any, Run]:
    """A batch and its step under zero actions."""
    envs: Any = gymnasium.make_vec(name, num_envs=BATCH, output=output)
    envs.reset(seed=0)
    actions: Any = np.zeros(envs.action_space.shape, np.float32)
    if output == "torch":
        actions = torch.from_numpy(actions)
    return envs, lambda: envs.step(actions)


def bare_kernel(envs: Any) -> Run:
    """The environment's own kernel, from arrays to arrays that exist."""
    environment = envs.unwrapped.environment
    stepper = environment._stepper
    values = envs.unwrapped.state.values.numpy()
    outputs = (
        np.empty_like(values),
        np.empty((BATCH, stepper._num_observations), np.float32),
        np.empty((stepper._num_scalars, BATCH), np.float32),
        np.empty((2, BATCH), np.bool_),
    )
    action = np.zeros((BATCH, stepper._num_actions), np.float32)
    arguments = (values, action, environment._parameters.numpy(), *stepper._constants, *outputs)
    threads = numba.get_num_threads()
    if threads > 1:
        return lambda: stepper._kernel.threaded(threads, *arguments)
    return lambda: stepper._kernel.serial(*arguments)


def batches(rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times batches of 4096 beside their kernels and prints a table."""
    print(f"\nmicroseconds a step of {BATCH}        kernel   torch (ratio)     numpy (ratio)")
    rows = []
    for name in BATCHES:
        envs, in_torch = batch(name, "torch")
        ways = {"kernel": bare_kernel(envs), "torch": in_torch, "numpy": batch(name, "numpy")[1]}
        found = measure(ways, rounds, duration)
        times = {way: 1e6 * found[way]["median"] for way in ways}
        ratios = {way: times[way] / times["kernel"] for way in ("torch", "numpy")}
        theirs = benchmark_vector_step(batch(name, "numpy")[0], target_duration=2, seed=0)
        rows.append({"environment": name, **times, "over_kernel": ratios, "gymnasium": theirs})
        print(
            f"{name:32s}{times['kernel']:10.1f} {times['torch']:8.1f} ({ratios['torch']:4.2f})"
            f" {times['numpy']:9.1f} ({ratios['numpy']:4.2f})   {theirs:,.0f} steps/s by Gymnasium"
        )
    return rows


def profile() -> None:
    """Prints where the time of a step of 4096 Lorenz systems goes."""
    _, step = batch(BATCHES[0], "numpy")
    step()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(500):
        step()
    profiler.disable()
    print("\nprofile of 500 steps of 4096 Lorenz systems, numpy in and out:")
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(12)


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def highest() -> int:
    """Largest number of bytes that this process ever had in memory."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def weigh(name: str) -> dict[str, Any]:
    """Weighs a batch, in a process of its own: for the peak cannot be set back."""
    small: Any = gymnasium.make_vec(name, num_envs=2, output="torch")
    small.reset(seed=0)
    small.step(torch.zeros(small.action_space.shape))  # everything is loaded and compiled
    envs: Any = gymnasium.make_vec(name, num_envs=2, output="torch")
    empty = resident()
    envs = gymnasium.make_vec(name, num_envs=WEIGHED, output="torch")
    observation, _ = envs.reset(seed=0)
    actions = torch.zeros(envs.action_space.shape)
    for _ in range(5):
        observation, *_ = envs.step(actions)
    state = sum(t.nbytes for t in tensors(envs.unwrapped.state).values()) / WEIGHED
    seen = observation.nbytes / WEIGHED
    held, peak = ((found - empty) / WEIGHED for found in (resident(), highest()))
    return {
        "environment": name,
        "state": state,
        "observation": seen,
        "allowed": 4 * (state + seen) + 256,
        "held": held,
        "peak": peak,
    }


def memory() -> list[dict[str, Any]]:
    """Weighs batches and prints a table."""
    print(
        f"\nbytes an environment of {WEIGHED}     state  observation  held   peak   4 (s + o) + 256"
    )
    rows = []
    for name in BATCHES:
        command = [sys.executable, __file__, "--weigh", name]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        row = json.loads(found.splitlines()[-1])
        rows.append(row)
        print(
            f"{name:32s}{row['state']:10.0f} {row['observation']:10.0f} {row['held']:8.0f}"
            f" {row['peak']:6.0f} {row['allowed']:12.0f}"
        )
    return rows


def growth() -> dict[str, Any]:
    """Steps a batch for long and prints how the process grew."""
    envs, step = batch(BATCHES[0], "numpy")
    sizes = []
    for count in range(LONG + 1):
        if count % (LONG // 10) == 0:
            sizes.append(resident())
        step()
    table = ", ".join(f"{size / 2**20:.1f}" for size in sizes)
    print(f"\nMiB every {LONG // 10:,} steps of {envs.num_envs} Lorenz systems: {table}")
    return {"steps": LONG, "environments": BATCH, "bytes": sizes}


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--threads", type=int, default=1, help="of numba and torch")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison")
    parser.add_argument("--duration", type=float, default=0.1, help="seconds a way and round")
    parser.add_argument("--weigh", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    if arguments.weigh:
        print(json.dumps(weigh(arguments.weigh)))
        return
    found = origin()
    print(json.dumps(found, indent=1))
    rounds, duration = arguments.rounds, arguments.duration
    results = {"singles": singles(rounds, duration), "batches": batches(rounds, duration)}
    profile()
    results["memory"] = memory()
    save(arguments.output, {**found, **results, "growth": growth()})


if __name__ == "__main__":
    main()

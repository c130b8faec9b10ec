"""Times a surrogate of the cart-pole swing-up: steps, refits and gradients, beside PySINDy.

The model is that of configs/experiment/sindy_rl_cartpole.yaml, fitted to 4000 real steps under
random actions: 40 quadratic features of five states and a control, 20 members. PySINDy's
`DiscreteSINDy` has the same library but for its squares of the sine, and is fitted to the same
steps.

    step        the environment's step: the members' forecast, the projection onto the circle, the
                reward of the task, the limits, the deviation of 20 members and the leverage
    forecast    of this, what the model does: all but reward and limits
    next state  of this, what PySINDy does: one set of coefficients, no projection, no uncertainty.
                Compare PySINDy's `predict` with it; that the step has more to do is in the step's
                disfavour. It is in float32 as in training, in float64 as PySINDy's, and exported
    simulate    PySINDy's own loop of one state, which is a `predict` a step
    refit       16,000 other steps. In full: features, scaling, trimming, ensemble, leverage; the
                ensemble: from the features' values to the coefficients of 20 members, which is
                all that PySINDy's `EnsembleOptimizer` does
    gradient    32 steps of 256 environments, and the derivative of the sum of rewards by all
                actions

The ways of a table take turns in every round. BLAS and torch get the same number of threads; with
more than one, on a machine that does other work, they wait for each other. Memory is the growth of
the resident set at its peak, of a fresh process that makes one fit; Linux alone tells it.

    python benchmarks/surrogate_speed.py --output docs/results/surrogate_speed.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Run, measure, origin, save, use_threads
from sparse_regression import ALPHA, MEMBERS, ROWS, THRESHOLD, their_ensemble, their_model
from threadpoolctl import threadpool_limits
from torch import Tensor

from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.replay import Transitions
from separatrix.agents.common.sparse.ensemble import fit_ensemble
from separatrix.agents.common.sparse.stlsq import STLSQ
from separatrix.agents.sindy_rl.config import SindyRLConfig, SparseModelConfig
from separatrix.agents.sindy_rl.loop import Loop
from separatrix.agents.sindy_rl.sparse_dynamics import (
    SparseDynamics,
    fit_sparse_dynamics,
    make_library,
)
from separatrix.agents.sindy_rl.surrogate import SurrogateEnvironment

EXPERIMENT, STEPS = "sindy_rl_cartpole", 4000
CIRCLES = ((1, 2),)
BATCHES = (1, 256, 4096, 65536)
SIMULATED, DIFFERENTIATED, GRADIENT_BATCH = 50, 32, 256
REFITS = ("ours, in full", "ours, ensemble", "PySINDy, ensemble")


def fitted() -> tuple[Loop, SparseDynamics]:
    """The loop of the experiment, a model of its first steps, and more steps than these."""
    config = load_experiment(EXPERIMENT)
    assert isinstance(config.agent, SindyRLConfig)
    collection = replace(config.agent.collection, initial_steps=STEPS + ROWS)
    loop = Loop(replace(config, agent=replace(config.agent, collection=collection)))
    loop.begin()
    loop.modelling.fit(loop.data()[:STEPS], 0)
    assert isinstance(loop.modelling.dynamics, SparseDynamics)
    return loop, loop.modelling.dynamics


def batch_of(environment: SurrogateEnvironment, count: int) -> tuple[Any, Tensor]:
    """States at the start of episodes and random actions."""
    state, _ = environment.reset(torch.arange(count))
    generator = torch.Generator().manual_seed(0)
    return state, 2 * torch.rand((count, 1), generator=generator) - 1


def steppers(
    environment: SurrogateEnvironment, dynamics: SparseDynamics, theirs: Any, count: int
) -> dict[str, Run]:
    """The ways to get from a batch of states to the next ones."""
    state, action = batch_of(environment, count)
    observation, namespace = state.values, dict[str, Any]()
    exec(compile(dynamics.model.to_numpy_source(), "<model>", "exec"), namespace)
    double, control = observation.double(), action.double()
    wide = dynamics.model.to("cpu", torch.float64)
    theirs_state, theirs_control = double.numpy().copy(), control.numpy().copy()
    return {
        "ours, step": lambda: environment.step(state, action),
        "ours, forecast": lambda: dynamics.forecast(observation, action),
        "ours, next state": lambda: (
            observation + dynamics.model.predict(torch.cat((observation, action), 1))
        ),
        "ours, next state, float64": lambda: double + wide.predict(torch.cat((double, control), 1)),
        "ours, next state, exported": lambda: (
            theirs_state + namespace["step"](theirs_state, theirs_control)
        ),
        "PySINDy, predict": lambda: theirs.predict(theirs_state, u=theirs_control),
    }


def loops(environment: SurrogateEnvironment, theirs: Any) -> dict[str, Run]:
    """A trajectory of one state, ours by steps of the environment."""
    start, _ = environment.reset(torch.arange(1))
    zero, control = torch.zeros((1, 1)), np.zeros((SIMULATED, 1))
    first = start.values[0].double().numpy()

    def ours() -> None:
        state = start
        for _ in range(SIMULATED):
            state = environment.step(state, zero).state

    return {
        "ours, steps": ours,
        "PySINDy, simulate": lambda: theirs.simulate(first, SIMULATED + 1, u=control),
    }


def refits(model: SparseModelConfig, inputs: np.ndarray, next_states: np.ndarray) -> dict[str, Run]:
    """The ways to fit a model to transitions, from states and controls to the next states."""
    rows, targets = torch.from_numpy(inputs), torch.from_numpy(next_states)
    no = torch.zeros(len(rows), dtype=torch.bool)
    data = Transitions(rows[:, :5], rows[:, 5:], rows[:, 0], targets, no, no)
    library = make_library(model, model.names, ("u",), torch.tensor(CIRCLES))
    theta = library(rows)

    def same(values: Tensor) -> Tensor:
        return values

    ways: tuple[Run, ...] = (
        # The interval does not matter, as changes are fitted and no derivatives.
        lambda: fit_sparse_dynamics(data, model, interval=1.0, project=same, circles=CIRCLES),
        lambda: fit_ensemble(
            STLSQ(THRESHOLD, ALPHA, unbias=False), theta, targets, members=MEMBERS
        ),
        lambda: their_ensemble(False).fit(theta.numpy(), next_states),
    )
    return dict(zip(REFITS, ways, strict=True))


def memory(
    way: str, model: SparseModelConfig, inputs: np.ndarray, next_states: np.ndarray
) -> float | None:
    """Growth of the resident set by one fit at its peak, in MiB; None where it is not told."""
    status, marks = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if sys.platform != "linux":
        return None
    use_threads(1)
    run = refits(model, inputs, next_states)[way]
    marks.write_text("5")  # the peak begins anew
    before = int(re.findall(r"VmRSS:\s*(\d+)", status.read_text())[0])
    run()
    return (int(re.findall(r"VmHWM:\s*(\d+)", status.read_text())[0]) - before) / 1024


def gradients(environment: SurrogateEnvironment) -> dict[str, Run]:
    """Steps of a batch under one action a step and environment, with and without derivatives."""
    start, _ = batch_of(environment, GRADIENT_BATCH)
    actions = torch.zeros((DIFFERENTIATED, GRADIENT_BATCH, 1), requires_grad=True)

    def total() -> Tensor:
        state, rewards = start, []
        for action in actions:
            found = environment.step(state, action)
            state = found.state
            rewards.append(found.reward)
        return torch.stack(rewards).sum()

    def forward() -> Tensor:
        with torch.no_grad():
            return total()

    return {
        "ours, forward alone": forward,
        "ours, forward and backward": lambda: torch.autograd.grad(total(), actions),
    }


def rows_of(
    task: str, threads: int, work: int, found: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """Prints the times of a task and returns them as rows; a call does `work` steps, or fits."""
    theirs = [times["median"] for way, times in found.items() if way.startswith("PySINDy")]
    rows = []
    for way, times in found.items():
        ratio = theirs[0] / times["median"] if theirs else None
        text = f"{ratio:15.1f}" if ratio else ""
        rate = work / times["median"]
        row = {"task": task, "threads": threads, "way": way, **times}
        rows.append({**row, "per_second": rate, "pysindy_over_this": ratio})
        print(
            f"{task:20s} {threads:7d}   {way:27s} {1e3 * times['minimum']:10.3f} "
            f"{1e3 * times['median']:10.3f} {rate:13.1f} {text}"
        )
    return rows


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="one or more counts")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each comparison")
    arguments = parser.parse_args()
    found = origin(["pysindy", "scikit-learn"])
    print(json.dumps(found, indent=1))
    loop, dynamics = fitted()
    agent = loop.agent
    assert isinstance(agent.model, SparseModelConfig)
    environment, data = loop.modelling.surrogate, loop.data()
    inputs = torch.cat((data.observation, data.action), -1).flatten(0, 1).double().numpy()
    following = data.next_observation.flatten(0, 1).double().numpy()
    theirs = their_model(inputs[:STEPS], following[:STEPS])
    inputs, following = inputs[STEPS:], following[STEPS:]
    new = torch.from_numpy(inputs)
    predicted = {
        "ours": dynamics.forecast(new[:, :5], new[:, 5:]).next_observation.numpy(),
        "PySINDy": np.asarray(theirs.predict(inputs[:, :5], u=inputs[:, 5:])),
        "no change": inputs[:, :5],
    }
    errors = {
        name: float(np.median(np.linalg.norm(values - following, axis=1)))
        for name, values in predicted.items()
    }
    print(f"\nmedian error of the next state on {len(new)} new steps: {errors}")
    fits = refits(agent.model, inputs, following)
    print(
        "\ntask                 threads   way                         fastest ms  median ms    "
        "per second  PySINDy / this"
    )
    rows = []
    for threads in arguments.threads:
        use_threads(threads)
        with threadpool_limits(threads), torch.no_grad():
            for count in BATCHES:
                times = measure(
                    steppers(environment, dynamics, theirs, count), arguments.rounds, 0.05
                )
                rows += rows_of(f"next of {count}", threads, count, times)
            times = measure(loops(environment, theirs), arguments.rounds, 0.05)
            rows += rows_of(f"{SIMULATED} steps of 1", threads, SIMULATED, times)
            rows += rows_of("refit", threads, 1, measure(fits, arguments.rounds, 0.05))
        times = measure(gradients(environment), arguments.rounds, 0.05)
        work = DIFFERENTIATED * GRADIENT_BATCH
        rows += rows_of(f"{DIFFERENTIATED} steps of {GRADIENT_BATCH}", threads, work, times)
    memories = {}
    for way in REFITS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            memories[way] = pool.submit(memory, way, agent.model, inputs, following).result()
    print(f"peak memory of a refit beyond its data, in MiB: {memories}")
    del found["threads"]  # every row has its own
    content = {**found, "load_average_after": os.getloadavg(), "median_error": errors}
    save(arguments.output, {**content, "refit_memory_mib": memories, "times": rows})


if __name__ == "__main__":
    main()

"""Times the planners beside pytorch_mppi and pytorch_icem, and swings the cart-pole up with each.

    swing-up    CartPoleSwingUp-v0 on the true model, 250 steps of 0.04 s: the 10 s of the
                registered environment, with twice its integration step. The settings below were
                chosen by hand on episodes of seeds from 1000 on; those reported start with seeds
                0 to 49.
    throughput  one plan of 20 steps with 500 candidates over a small network as the model: five
                iterations of CEM and iCEM, one of MPPI. The network is the plant, too: the mean
                reward of a step in closed loop stands beside the speed. pytorch_icem has no batch:
                a planner for each environment plans after the other.

The ways take turns in every round. A package that is not installed is left out; the versions that
were compared are in the JSON file.

    python benchmarks/planners.py swing-up throughput --output docs/results/planners.json
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from gymnasium.spaces import Box
from harness import origin, save, use_threads
from torch import Tensor

from separatrix.controllers.evaluation import bootstrap_interval
from separatrix.controllers.planning.cem import CEM
from separatrix.controllers.planning.gradient_mpc import GradientMPC
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.planning.mppi import MPPI
from separatrix.controllers.planning.planner import Planner
from separatrix.controllers.planning.random_shooting import RandomShooting
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream

PEERS = ("pytorch_mppi", "pytorch_icem")

NARROW = {"standard_deviation": 0.5}
SWING_UP: dict[type[Planner], dict[str, Any]] = {
    ICEM: {"horizon": 30, "population": 64, "iterations": 4},
    MPPI: {"horizon": 30, "population": 256, "iterations": 3},
    GradientMPC: {"horizon": 30, "starts": 8, "iterations": 8, "learning_rate": 0.02},
    CEM: {"horizon": 25, "population": 100, "elites": 10, "iterations": 4, **NARROW},
    RandomShooting: {"horizon": 25, "population": 400},
}
UPRIGHT_STEPS = 25
"""An episode ends upright if the pole is upright in each of these last steps, one second."""


def swing_up_environment() -> Any:
    """The cart-pole with a control interval of 0.04 s."""
    return make_environment("CartPoleSwingUp-v0", control_interval=0.04, substeps=2, horizon=250)


def swing_up(
    kind: type[Planner], options: dict[str, Any], first_seed: int, episodes: int
) -> dict[str, Any]:
    """One episode of each seed under a planner on the true model."""
    environment = swing_up_environment()
    planner = kind(environment, **options)
    planner.plan(environment.reset(first_seed + torch.arange(episodes))[0])  # makes the kernels
    planner = kind(environment, **options)
    evaluated = 0

    def counted(state: Any, candidates: Tensor) -> Tensor:
        nonlocal evaluated
        evaluated += candidates.shape[1] * candidates.shape[2]
        return Planner.returns(planner, state, candidates)

    planner.returns = counted  # type: ignore[method-assign]
    seeds = torch.arange(first_seed, first_seed + episodes)
    begin = time.perf_counter()
    steps = list(rollout(environment, planner, seeds))
    wall = time.perf_counter() - begin
    returns = torch.stack([step.transition.reward for step in steps]).sum(0)
    upright = torch.stack([step.transition.info["upright"] for step in steps])[-UPRIGHT_STEPS:]
    return {
        "planner": kind.__name__,
        "options": options,
        "return": returns.mean().item(),
        "interval": bootstrap_interval(returns),
        "least_return": returns.min().item(),
        "fraction_of_maximum": returns.mean().item() / environment.horizon,
        "upright_at_the_end": (upright > 0.5).all(0).double().mean().item(),
        "upright_in_the_last_second": upright.double().mean().item(),
        "seconds_an_action_of_all": wall / len(steps),
        "milliseconds_an_action": 1e3 * wall / len(steps) / episodes,
        "model_steps_an_action": evaluated / len(steps),
    }


def swing_ups(episodes: int) -> list[dict[str, Any]]:
    """Swings the cart-pole up with every planner and prints a table."""
    print(f"\ncart-pole swing-up, {episodes} episodes of 250 steps in one batch, true model\n")
    print(
        "                                                    upright   last second      ms   steps"
    )
    print(
        "planner          return (of 250)      least  of max  at the end    upright  action  action"
    )
    rows = []
    for kind, options in SWING_UP.items():
        row = swing_up(kind, options, 0, episodes)
        rows.append(row)
        low, high = row["interval"]
        print(
            f"{row['planner']:14s} {row['return']:6.1f} [{low:5.1f}, {high:5.1f}] "
            f"{row['least_return']:7.1f} {row['fraction_of_maximum']:7.3f} "
            f"{row['upright_at_the_end']:11.2f} {row['upright_in_the_last_second']:10.2f} "
            f"{row['milliseconds_an_action']:7.2f} {row['model_steps_an_action']:7.0f}",
            flush=True,
        )
    return rows


@dataclass(frozen=True)
class NetworkState:
    """States of the network, (batch, 5)."""

    values: Tensor

    @property
    def unwrapped(self) -> Self:
        """Itself: it has no wrappers."""
        return self


class Network(Environment):
    """x' = x + 0.1 net(x, a), a network of two layers of 64; rewards 1 / (1 + |x'|^2)."""

    num_envs = 1
    device, dtype = torch.device("cpu"), torch.float32
    observation_space = Box(-np.inf, np.inf, (5,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    reward_range, metric_names, horizon = (0.0, 1.0), (), 12

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        sizes = (6, 64, 64, 5)
        self.weights = [
            (2 / math.sqrt(a)) * torch.randn(a, b, generator=generator)
            for a, b in itertools.pairwise(sizes)
        ]
        self.biases = [torch.zeros(b) for b in sizes[1:]]

    def dynamics(self, x: Tensor, action: Tensor) -> Tensor:
        """The next states."""
        hidden = torch.cat((x, action.clamp(-1, 1)), 1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.addmm(bias, hidden, weight).tanh()
        return torch.add(x, torch.addmm(self.biases[-1], hidden, self.weights[-1]), alpha=0.1)

    def cost(self, x: Tensor, action: Tensor) -> Tensor:
        """The negative reward of the states after a step; the last axis holds a state."""
        return -1 / (1 + x.square().sum(-1))

    def restart(self, stream: Stream) -> tuple[NetworkState, Tensor]:
        """Starts at normal states."""
        values, _ = stream.normal(5, torch.float32, 0)
        return NetworkState(values), values

    def observe(self, state: NetworkState) -> Tensor:
        """Returns the states."""
        return state.values

    def step(self, state: NetworkState, action: Tensor) -> Transition:
        """Advances every environment by one step."""
        values = self.dynamics(state.values, action)
        reward = -self.cost(values, action)
        never = torch.zeros_like(reward, dtype=torch.bool)
        return Transition(NetworkState(values), values, reward, never, {"diverged": never})

    def select(self, rows: Tensor) -> Self:
        """Returns itself."""
        return self

    def render(self, state: Any, row: int = 0) -> Any:
        """Is not drawn."""
        raise NotImplementedError


HORIZON, CANDIDATES, ITERATIONS, ELITES = 20, 500, 5, 40
DEVIATION, TEMPERATURE, EXPONENT, SMOOTHING, KEPT = 0.5, 0.05, 2.0, 0.1, 0.3
Law = Callable[[Tensor], Tensor]
"""What plans from states (batch, 5) to actions (batch, 1)."""


def ours(network: Network) -> dict[str, Law]:
    """Our planners, with the settings of the others."""
    common: dict[str, Any] = {"horizon": HORIZON, "population": CANDIDATES}
    iterated = {**common, "iterations": ITERATIONS, "elites": ELITES, "smoothing": SMOOTHING}
    planners = {
        "MPPI": MPPI(network, **common, standard_deviation=DEVIATION, temperature=TEMPERATURE),
        "ICEM": ICEM(
            network,
            **iterated,
            decay=1.0,
            kept_fraction=KEPT,
            noise_exponent=EXPONENT,
            standard_deviation=DEVIATION,
        ),
        "CEM": CEM(network, **iterated, standard_deviation=DEVIATION),
    }
    return {
        name: functools.partial(lambda planner, x: planner.plan(NetworkState(x)), planner)
        for name, planner in planners.items()
    }


def pytorch_mppi(network: Network, count: int) -> dict[str, Law]:
    """pytorch_mppi for this many environments: the class for one, or that for several."""
    package = importlib.import_module("pytorch_mppi")
    options = {
        "num_samples": CANDIDATES,
        "horizon": HORIZON,
        "lambda_": TEMPERATURE,
        "u_min": torch.tensor([-1.0]),
        "u_max": torch.tensor([1.0]),
    }
    model = (network.dynamics, network.cost, 5, torch.tensor([[DEVIATION**2]]))
    if count == 1:
        planner = package.MPPI(*model, **options)
        return {"pytorch_mppi": lambda x: planner.command(x[0])[None]}
    batched = package.MPPI_Batched(*model, count, **options)
    return {"pytorch_mppi": batched.command}


def pytorch_icem(network: Network, count: int) -> dict[str, Law]:
    """pytorch_icem: a planner for each environment."""
    package = importlib.import_module("pytorch_icem")
    planners = [
        package.iCEM(
            network.dynamics,
            lambda x, action: network.cost(x, action).sum(-1),
            5,
            1,
            sigma=torch.tensor([DEVIATION]),
            num_samples=CANDIDATES,
            num_elites=ELITES,
            horizon=HORIZON,
            elites_keep_fraction=KEPT,
            alpha=SMOOTHING,
            noise_beta=EXPONENT,
            warmup_iters=ITERATIONS,
            online_iters=ITERATIONS,
        )
        for _ in range(count)
    ]
    return {
        "pytorch_icem": lambda x: torch.stack(
            [planner.command(row) for planner, row in zip(planners, x, strict=True)]
        )
    }


def mean_reward(network: Network, law: Law, count: int) -> float:
    """Mean reward of a step over an episode of this many environments."""
    state, _ = network.reset(torch.arange(count))
    rewards = []
    for _ in range(network.horizon):
        state, _, reward, _, _ = network.step(state, law(state.values).clamp(-1, 1))
        rewards.append(reward)
    return torch.stack(rewards).mean().item()


def times_in_turns(laws: dict[str, Law], states: Tensor, rounds: int) -> dict[str, Any]:
    """Seconds of one plan by name: the fastest and the median round."""
    times: dict[str, list[float]] = {name: [] for name in laws}
    for _ in range(rounds):
        for name, law in laws.items():
            begin = time.perf_counter()
            law(states)
            times[name].append(time.perf_counter() - begin)
    return {
        name: {"minimum": min(found), "median": float(np.median(found)), "rounds": rounds}
        for name, found in times.items()
    }


def throughput(sizes: list[int], rounds: int, installed: list[str]) -> list[dict[str, Any]]:
    """Times one plan of every planner at every size and prints a table."""
    network, rows = Network(), []
    print(f"\nplans of {HORIZON} steps with {CANDIDATES} candidates over the network\n")
    print("environments  planner          actions a second   ms a plan   reward   ours over it")
    for count in sizes:
        laws = ours(network)
        peers = {"pytorch_mppi": pytorch_mppi, "pytorch_icem": pytorch_icem}
        for name in installed:
            laws |= peers[name](network, count)
        start, _ = network.reset(torch.arange(1000, 1000 + count))
        # Closed loops with at most 16, which warm up, too: more would take long and tell the same.
        rewards = {}
        if count <= 16:
            rewards = {name: mean_reward(network, law, count) for name, law in laws.items()}
        found = times_in_turns(laws, start.values, max(2, 16 * rounds // count))
        zero = mean_reward(network, lambda x: torch.zeros(len(x), 1), count)
        print(f"{count:12d}  none{zero:48.4f}")
        for name, times in found.items():
            rival = {"pytorch_mppi": "MPPI", "pytorch_icem": "ICEM"}.get(name)
            ratio = times["median"] / found[rival]["median"] if rival else None
            row = {"environments": count, "planner": name, **times, "ours_over_it": ratio}
            row |= {"reward": rewards.get(name), "reward_without_control": zero}
            rows.append(row)
            reward = f"{rewards[name]:8.4f}" if name in rewards else "        "
            print(
                f"{count:12d}  {name:14s} {count / times['median']:18.1f} "
                f"{1e3 * times['median']:11.1f} {reward} {f'{ratio:14.2f}' if ratio else ''}",
                flush=True,
            )
    return rows


def main() -> None:
    """Runs the parts asked for and writes their numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("parts", nargs="+", choices=("swing-up", "throughput"))
    parser.add_argument("--output", type=Path, help="JSON file, whose other part is kept")
    parser.add_argument("--threads", type=int, default=1, help="of numba and torch")
    parser.add_argument("--episodes", type=int, default=50, help="of each planner's swing-up")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 16, 256], help="environments")
    parser.add_argument("--rounds", type=int, default=7, help="rounds at 16 environments")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    installed = [name for name in PEERS if find_spec(name)]
    for name in PEERS:
        if name not in installed:
            print(f"{name}: not installed, left out")
    found = origin(installed)
    print(json.dumps(found, indent=1))
    results: dict[str, Any] = {}
    if arguments.output is not None and arguments.output.exists():
        results = json.loads(arguments.output.read_text(encoding="utf-8"))
    if "swing-up" in arguments.parts:
        rows = swing_ups(arguments.episodes)
        results["swing_up"] = {**found, "load_average_after": os.getloadavg(), "planners": rows}
    if "throughput" in arguments.parts:
        with torch.no_grad():
            rows = throughput(arguments.sizes, arguments.rounds, installed)
        results["throughput"] = {**found, "load_average_after": os.getloadavg(), "planners": rows}
    save(arguments.output, results)


if __name__ == "__main__":
    main()

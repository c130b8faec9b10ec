"""Brings Kuramoto-Sivashinsky fields from the attractor to unstable equilibria, and keeps score.

Every controller starts from the same points of the attractor, of seeds from 1000 on; the settings
were chosen by hand on seeds 0 to 19. An episode succeeds if each step of its last tenth ends on
target. Reported are:

    success      share of the episodes that succeed, with its interval
    energy       mean squared action over the episode, and of the last tenth of those that succeed
    time         median of the time after which an episode that succeeds stays on target
    decision     wall time of a decision for all starts in one batch, and for one of them

Rows are no control, proportional feedback, LQR, planning through the true solver by gradients and
(`--planners icem mppi`) by sampling, both in the first case alone, and learned policies (`--run
NAME=FOLDER`), which act on the environment that they were trained on: rows of another target or
other actuators leave them out.

    python benchmarks/field_control.py --output docs/results/field_control.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.catalog import load_policy
from separatrix.agents.common.run import Run
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import bootstrap_interval
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment

NAME = "KuramotoSivashinsky-v0"
DEFAULTS = {"target_name": "E1", "actuators": 4}
CASES: list[dict[str, Any]] = [
    {"target_name": "E1"},
    {"target_name": "E2"},
    {"target_name": "E3"},
    {"target_name": "E1", "actuators": 8},
    {"target_name": "zero", "actuators": 8},
]
SETTINGS: dict[str, dict[str, Any]] = {
    "zero": {},
    "proportional": {"gain": 3.0},
    "lqr": {"control_weight": 0.1},
    "gradient_mpc": {"horizon": 30, "starts": 4, "iterations": 5, "learning_rate": 0.2},
    "icem": {"horizon": 30, "population": 32, "elites": 6, "iterations": 2},
    "mppi": {"horizon": 30, "population": 64, "iterations": 1},
}
SHORT = ("zero", "proportional", "lqr")


@dataclass
class Timed(Controller):
    """A controller that measures how long its decisions take.

    Attributes:
        inner: The controller.
        seconds: Spent in all decisions so far.
    """

    inner: Controller
    seconds: float = 0.0

    def act(self, observation: Tensor, state: Any) -> Tensor:
        """Returns the inner controller's actions."""
        begin = time.perf_counter()
        action = self.inner.act(observation, state)
        self.seconds += time.perf_counter() - begin
        return action

    def reset(self, mask: Tensor) -> None:
        """Resets the inner controller."""
        self.inner.reset(mask)


def measured(environment: Environment, controller: Controller, seeds: Tensor) -> dict[str, Any]:
    """Runs one episode of each seed and returns the scores."""
    timed = Timed(controller)
    infos = [step.transition.info for step in rollout(environment, timed, seeds)]
    on_target, energy, distance = (
        torch.stack([info[name] for info in infos]).double()
        for name in ("on_target", "energy", "distance")
    )
    steps, last = len(infos), max(1, environment.horizon // 10)
    success = (on_target[-last:] > 0.5).all(0) & (steps == environment.horizon)
    # The first step after the last one off target.
    off = torch.arange(1, steps + 1)[:, None] * (on_target < 0.5)
    arrival = off.amax(0).double() * environment.control_interval

    def held(values: Tensor) -> float | None:
        return values[success].mean().item() if success.any() else None

    return {
        "success": success.double().mean().item(),
        "interval": bootstrap_interval(success.double()),
        "energy": energy.mean().item(),
        "energy_when_held": held(energy[-last:].mean(0)),
        "median_time": arrival[success].median().item() if success.any() else None,
        "distance_at_the_end": distance[-last:].mean().item(),
        "seconds_a_decision_of_all": timed.seconds / steps,
        "milliseconds_a_decision": 1e3 * timed.seconds / steps / len(seeds),
    }


Player = tuple[Environment, Controller]
"""A controller and the environment that it acts in, which may have other sensors."""


def policies(runs: list[str], options: dict[str, Any]) -> dict[str, Player]:
    """Returns the learned policies that were trained on the environment of a case."""
    found = {}
    for text in runs:
        name, _, folder = text.partition("=")
        run = Run.open(folder)
        checkpoint, trained = run.latest_checkpoint(), run.config.environment
        if checkpoint is None:
            raise SystemExit(f"{folder} has no checkpoint yet")
        same = all(
            trained.options.get(option, default) == options.get(option, default)
            for option, default in DEFAULTS.items()
        )
        if same and trained.id.removeprefix("separatrix/") == NAME:
            environment = make_environment(NAME, **{**options, **trained.options})
            found[name] = environment, load_policy(run.config, checkpoint, environment)
    return found


def compared(case: dict[str, Any], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Scores every controller on one case and prints a table."""
    options = {**case, "authority": arguments.authority, "horizon": arguments.horizon}
    environment = make_environment(NAME, **options)
    seeds = torch.arange(arguments.first_seed, arguments.first_seed + arguments.starts)
    environment.reset(seeds)  # makes the kernels
    rows = []
    print(f"\n{json.dumps(options)}, {arguments.starts} starts")
    print("controller     success          energy   held     time   distance   ms a decision")
    players: dict[str, Player] = {
        name: (environment, make_controller(name, environment, **SETTINGS[name]))
        for name in (*SHORT, *(arguments.planners if case == CASES[0] else ()))
    }
    for name, player in (players | policies(arguments.run, options)).items():
        row = measured(*player, seeds)
        settings = SETTINGS.get(name, {})
        rows.append({"case": options, "controller": name, "settings": settings, **row})
        low, high = row["interval"]
        held, median = (row[key] for key in ("energy_when_held", "median_time"))
        print(
            f"{name:14s} {row['success']:.2f} [{low:.2f}, {high:.2f}] {row['energy']:8.4f} "
            f"{'-' if held is None else f'{held:.1e}':>8s} "
            f"{'-' if median is None else f'{median:.1f}':>6s} "
            f"{row['distance_at_the_end']:9.3f} {row['milliseconds_a_decision']:12.3f}",
            flush=True,
        )
    return rows


def main() -> None:
    """Reads the arguments and scores all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--horizon", type=int, default=400, help="steps of an episode")
    parser.add_argument("--authority", type=float, default=1.0)
    parser.add_argument("--planners", nargs="*", default=["gradient_mpc"], choices=[*SETTINGS])
    parser.add_argument("--cases", nargs="*", type=int, default=range(len(CASES)))
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    found = origin()
    print(json.dumps(found, indent=1))
    rows = [row for i in arguments.cases for row in compared(CASES[i], arguments)]
    save(arguments.output, {**found, "load_average_after": os.getloadavg(), "results": rows})


if __name__ == "__main__":
    main()

"""Lowers the drag of bodies in a stream by feedback, planning and learned policies.

Every controller starts from the same flows, of seeds from 1000 on; the settings were chosen by hand
on seeds 0 to 19. Reported, as means over the episodes with their bootstrap intervals, are:

    return       of the episode
    drag         mean coefficient over the last half of the episode, and its change by control
    lift         mean magnitude of the coefficient over the last half of the episode
    energy       mean squared action over the last half of the episode
    decision     wall time of a decision for one of the starts, all in one batch

Rows are no control, the largest action held ("steady"), feedback of the lift, gradients through the
true solver (`--planners`, in the first case), and learned policies (`--run NAME=FOLDER`), which act
on the environment that they were trained on: it may see other things and act less strongly.

    python benchmarks/body_control.py --output docs/results/body_control.json
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from field_control import Timed
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
from separatrix.envs.core.registration import find, make_environment

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("RotaryCylinder-v0", {}, {"gain": -0.15, "damping": -0.15}),
    ("RotaryCylinder-v0", {"lift_weight": 0.0}, {"gain": -0.15, "damping": -0.15}),
    ("RotaryCylinder-v0", {"domain": "free_stream"}, {"gain": -0.15, "damping": -0.15}),
    ("JetCylinder-v0", {"observed": "forces"}, {"gain": -0.38, "damping": -0.25}),
]
"""Environment, its options, and the gains of the feedback."""
PLANNERS: dict[str, dict[str, Any]] = {
    "gradient_mpc": {"horizon": 12, "starts": 2, "iterations": 4, "learning_rate": 0.1},
}


class Steady(Controller):
    """Holds the largest action.

    Args:
        environment: Where it acts.
    """

    def __init__(self, environment: Environment) -> None:
        self._size = environment.action_shape[0]

    def act(self, observation: Tensor, state: Any) -> Tensor:
        """Returns ones."""
        return observation.new_ones((len(observation), self._size))


def measured(environment: Environment, controller: Controller, seeds: Tensor) -> dict[str, Any]:
    """Runs one episode of each seed and returns the scores."""
    timed = Timed(controller)
    steps = list(rollout(environment, timed, seeds))
    infos = [step.transition.info for step in steps]
    last = infos[len(infos) // 2 :]
    quantities = {
        "return": torch.stack([step.transition.reward for step in steps]).sum(0),
        "drag": torch.stack([info["drag"] for info in last]).mean(0),
        "lift": torch.stack([info["lift"].abs() for info in last]).mean(0),
        "energy": torch.stack([info["energy"] for info in last]).mean(0),
    }
    found: dict[str, Any] = {
        name: (values.double().mean().item(), *bootstrap_interval(values.double()))
        for name, values in quantities.items()
    }
    diverged = torch.stack([info["diverged"] for info in infos]).any(0)
    found["diverged"] = diverged.double().mean().item()
    found["milliseconds_a_decision"] = 1e3 * timed.seconds / len(steps) / len(seeds)
    return found


def players(
    name: str, options: dict[str, Any], gains: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, tuple[Environment, Controller]]:
    """Returns every controller of a case with the environment that it acts on."""
    environment = make_environment(name, arguments.starts, **options)
    settings = {"zero": {}, "lift_feedback": gains}
    if not options:
        settings |= {planner: PLANNERS[planner] for planner in arguments.planners}
    found = {
        key: (environment, make_controller(key, environment, **value))
        for key, value in settings.items()
    }
    found["steady"] = environment, Steady(environment)
    for text in arguments.run:
        label, _, folder = text.partition("=")
        run = Run.open(folder)
        checkpoint, trained = run.latest_checkpoint(), run.config.environment
        if checkpoint is None:
            raise SystemExit(f"{folder} has no checkpoint yet")
        defaults = find(name).options
        same = all(
            {**defaults, **trained.options}[key] == {**defaults, **options}[key]
            for key in ("domain", "reynolds_number", "lift_weight")
        )
        if find(trained.id) is find(name) and same:
            own = make_environment(name, arguments.starts, **trained.options)
            found[label] = own, load_policy(run.config, checkpoint, own)
    return found


def main() -> None:
    """Reads the arguments and scores all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--planners", nargs="*", default=["gradient_mpc"], choices=[*PLANNERS])
    parser.add_argument("--cases", nargs="*", type=int, default=range(len(CASES)))
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    seeds = torch.arange(arguments.first_seed, arguments.first_seed + arguments.starts)
    rows = []
    for case in arguments.cases:
        name, options, gains = CASES[case]
        print(f"\n{name} {options}, {arguments.starts} starts")
        print("controller        return [interval]        drag   change   |lift|  energy  ms")
        free = None
        for label, player in players(name, options, gains, arguments).items():
            row = measured(*player, seeds)
            free = row["drag"][0] if free is None else free
            row["drag_change"] = row["drag"][0] / free - 1
            settings = {"lift_feedback": gains, **PLANNERS}.get(label, {})
            rows.append(
                {"environment": name, "options": options, "controller": label}
                | {"settings": settings, **row}
            )
            mean, low, high = row["return"]
            print(
                f"{label:14s} {mean:8.2f} [{low:7.2f}, {high:7.2f}] {row['drag'][0]:8.4f} "
                f"{100 * row['drag_change']:+6.2f} % {row['lift'][0]:7.3f} "
                f"{row['energy'][0]:7.4f} {row['milliseconds_a_decision']:7.2f}",
                flush=True,
            )
    save(arguments.output, {**origin(), "load_average_after": os.getloadavg(), "results": rows})


if __name__ == "__main__":
    main()

"""`separatrix demo`: PPO against LQR, noise and nothing on the Lorenz system, in about a minute."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from separatrix.agents.catalog import load_policy, train
from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.run import Run
from separatrix.agents.experiment import EvaluationConfig
from separatrix.cli.evaluate import episode_seeds, log_pictures
from separatrix.cli.tables import mean_with_interval
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import Evaluation, evaluate
from separatrix.envs.core.registration import make_environment

AUTHORITIES = (0.1, 0.3)
COLUMNS = {
    "return": "return",
    "on_target": "time within the target ball",
    "energy": "control energy",
}


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(demo, args=arguments, prog="separatrix demo")


def demo(steps: int | None = None, episodes: int = 128, root: Path = Path("runs")) -> int:
    """Train PPO on separatrix/Lorenz-v0 at two authorities and compare it with other controllers.

    Authority is the largest force, in units of the rms flow on the attractor. Every controller is
    evaluated on the same episodes, which start on the attractor.

    Args:
        steps: Environment steps of each training; by default those of the experiment lorenz_ppo.
        episodes: Episodes of each evaluation.
        root: Folder of all runs.
    """
    console = Console()
    table = Table(
        title=f"Lorenz-v0: hold the unstable fixed point; {episodes} episodes",
        caption="mean [95 % bootstrap interval]",
    )
    table.add_column("authority", justify="right")
    table.add_column("controller")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for authority in AUTHORITIES:
        for name, evaluation in compare(authority, steps, episodes, root, console).items():
            cells = (mean_with_interval(evaluation, column) for column in COLUMNS)
            table.add_row(f"{authority}", name, *cells)
        table.add_section()
    console.print(table)
    console.print(f"learning curves, phase portraits and videos: tensorboard --logdir {root}")
    return 0


def compare(
    authority: float, steps: int | None, episodes: int, root: Path, console: Console
) -> dict[str, Evaluation]:
    """Train PPO at one authority and evaluate it beside zero, random and LQR.

    Args:
        authority: Largest force, in units of the rms flow.
        steps: Environment steps of the training, None for those of the experiment.
        episodes: Episodes of each evaluation.
        root: Folder of all runs.
        console: Where to tell what is done.

    Returns:
        Evaluation of each controller.
    """
    config = load_experiment("lorenz_ppo")
    options: dict[str, Any] = {"authority": authority}
    environment = dataclasses.replace(config.environment, options=options)
    config = dataclasses.replace(
        config,
        environment=environment,
        total_steps=steps or config.total_steps,
        evaluation=EvaluationConfig(episodes=episodes),
    )
    torch.set_num_threads(config.threads)
    made = make_environment(environment.id, episodes, **options)
    seeds = episode_seeds(config.evaluation.seed, episodes)
    with Run.create(root, environment.id, "ppo", config.seed, config) as run:
        console.print(f"training PPO at authority {authority} in {run.folder}", soft_wrap=True)
        train(config, run)
        checkpoint = run.latest_checkpoint()
        assert checkpoint is not None
        policy = load_policy(config, checkpoint, made)
        log_pictures(run, made, policy, seeds, checkpoint.step)
    controllers: dict[str, Controller] = {
        "zero": make_controller("zero", made, seed=config.seed),
        "random": make_controller("random", made, seed=config.seed),
        "LQR": make_controller("lqr", made, seed=config.seed),
        "PPO": policy,
    }
    return {name: evaluate(made, each, seeds) for name, each in controllers.items()}

"""`separatrix evaluate`: the last checkpoint of a run, over many episodes."""

from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.catalog import load_policy
from separatrix.agents.common.checkpoint import CheckpointError
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.common.figures import phase_portrait, snapshots, space_time
from separatrix.agents.common.run import Run
from separatrix.agents.common.seeding import SEED_LIMIT, evaluation_seed
from separatrix.agents.experiment import EnvironmentConfig
from separatrix.cli.errors import UserError, reported
from separatrix.cli.tables import evaluation_table
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.recording import record_fields, record_frames, record_trajectories
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import find, make_environment
from separatrix.envs.streams.stream import STREAMS

DRAWN = 8  # episodes in the phase portrait
FRAMES_PER_SECOND = 20


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(evaluate_run, args=arguments, prog="separatrix evaluate")


def evaluate_run(
    folder: Annotated[Path, tyro.conf.Positional],
    episodes: int = 128,
    seed: int | None = None,
    task: int | None = None,
) -> int:
    """Evaluate the last checkpoint of a run, with deterministic actions.

    Prints the means with their 95 % intervals, and writes them to the run's metrics and TensorBoard
    (eval/..., those of task 2 as task_2/...), with a phase portrait and a video of one episode.

    Args:
        folder: Folder of the run.
        episodes: Episodes, run as one batch.
        seed: Seed of the episodes; by default the one in the run's configuration.
        task: Task of a stream; by default the first.
    """
    with reported(FileNotFoundError, ConfigurationError, CheckpointError):
        run = Run.open(folder)
        config = run.config
        checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        raise UserError(f"{folder} has no checkpoint yet")
    seeds = episode_seeds(config.evaluation.seed if seed is None else seed, episodes)
    with reported(ValueError):
        options = config.environment.arguments() | task_option(config.environment, task)
        environment = make_environment(config.environment.id, episodes, **options)
    torch.set_num_threads(config.threads)
    with reported(CheckpointError):
        controller = load_policy(config, checkpoint, environment)
    name = config.agent.algorithm
    evaluation = evaluate(environment, controller, seeds)
    with reported(OSError), run:
        means = evaluation.means()
        group = "eval" if task is None else f"task_{task}"
        run.log({f"{group}/{tag}": value for tag, value in means.items()}, checkpoint.step)
        log_pictures(run, environment, controller, seeds, checkpoint.step, group)
    subject, number = config.environment.id, options.get("task", 0)
    if subject in STREAMS and isinstance(number, int):
        subject = f"{subject}, task {number} ({STREAMS[subject].labels[number]})"
    title = f"{subject}, {episodes} episodes, step {checkpoint.step}"
    Console().print(evaluation_table({name: evaluation}, title))
    return 0


def task_option(environment: EnvironmentConfig, task: int | None) -> dict[str, int]:
    """Option of an environment that chooses a task of its stream.

    Args:
        environment: The environment of a run.
        task: Position in the stream; None for what the run's configuration says.

    Returns:
        The option, if a task is given.

    Raises:
        UserError: If a task is given and the environment has no option `task` that is a number.
    """
    if task is None:
        return {}
    if not isinstance(find(environment.id).options.get("task"), int):
        raise UserError(
            f"got --task {task} for {environment.id}, which is no stream of tasks; allowed for "
            f"runs of {', '.join(STREAMS)}"
        )
    return {"task": task}


def episode_seeds(seed: int, episodes: int) -> torch.Tensor:
    """Seeds of an evaluation's episodes.

    Args:
        seed: Seed of the evaluation.
        episodes: Number of episodes.

    Returns:
        int64 of shape (episodes,).

    Raises:
        UserError: If there are fewer than two episodes or the seed is outside its range.
    """
    if episodes < 2:
        raise UserError(f"got {episodes} episodes; allowed are 2 or more")
    if not 0 <= seed < SEED_LIMIT:
        raise UserError(f"got seed {seed}; allowed are 0 to {SEED_LIMIT - 1}")
    return torch.arange(episodes) + evaluation_seed(seed)


def log_pictures(
    run: Run,
    environment: Environment,
    controller: Controller,
    seeds: torch.Tensor,
    step: int,
    group: str = "eval",
) -> None:
    """Log a figure of the first episodes and a video of the very first.

    The figure is a phase portrait; of a field on a line its values over time and space, of one on a
    plane snapshots.

    Args:
        run: Where to log.
        environment: Environment of as many rows as there are seeds.
        controller: Controller that acts.
        seeds: Seeds of the episodes, int64.
        step: Environment steps taken in training.
        group: First part of the tags.
    """
    rows = torch.arange(min(DRAWN, len(seeds)))
    drawn = environment.select(rows.to(environment.device))
    interval = environment.control_interval
    field = record_fields(drawn, controller, seeds[rows])
    if field is None:
        trajectories = record_trajectories(drawn, controller, seeds[rows])
        figure = phase_portrait(
            trajectories.values, trajectories.names, interval, trajectories.target
        )
        run.log_figure(f"{group}/phase_portrait", figure, step)
    elif field.ndim == 3:
        run.log_figure(f"{group}/space_time", space_time(field, interval), step)
    else:
        run.log_figure(f"{group}/snapshots", snapshots(field, interval), step)
    first = environment.select(rows[:1].to(environment.device))
    frames = record_frames(first, controller, int(seeds[0]))
    run.log_video(f"{group}/rollout", frames, step, FRAMES_PER_SECOND)

"""`separatrix train`: train an agent, or resume a run that was interrupted."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.configuration import (
    ConfigurationError,
    check_experiment,
    experiment_names,
    load_experiment,
)
from separatrix.agents.experiment import ExperimentConfig
from separatrix.cli.errors import UserError, out_of_memory_reported, reported
from separatrix.cli.options import registry

if TYPE_CHECKING:
    from separatrix.agents.common.run import Run

USAGE = """\
usage: separatrix train <experiment> [--root FOLDER] [changes]
       separatrix train --resume <run folder>

Trains until the experiment's total_steps and writes a run folder: configuration, metrics for
TensorBoard, checkpoints. An interrupted run goes on from its last checkpoint.

  <experiment>  the path of a .yaml file, or one of
                {names}
  changes       such as --seed 3 --agent.learning-rate 1e-4 --environment.options authority=0.1;
                separatrix train <experiment> --help shows them all"""


@dataclasses.dataclass(frozen=True)
class _Arguments:
    experiment: Annotated[ExperimentConfig, tyro.conf.arg(name="")]

    root: Path = Path("runs")
    """Folder of all runs."""


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    match arguments:
        case ["-h" | "--help"]:
            names = [*experiment_names(), *(f"debug/{name}" for name in experiment_names("debug"))]
            print(USAGE.format(names=f"\n{'':16}".join(names)))
        case ["--resume", folder]:
            _train(_resume(Path(folder)))
        case [name, *changes] if not name.startswith("-"):
            created = _create(name, changes)
            try:
                _train(created)
            except UserError:
                created.discard_unused()
                raise
        case _:
            raise UserError(
                "needs an experiment first, or --resume <run folder> alone; see separatrix train "
                "--help"
            )
    return 0


def _create(name: str, changes: list[str]) -> "Run":
    """Start a run of an experiment with the changes of the command line."""
    with reported(ConfigurationError):
        loaded = load_experiment(name)
        with registry:
            parsed = tyro.cli(
                _Arguments,
                default=_Arguments(loaded),
                args=changes,
                prog=f"separatrix train {name}",
                description=f"Train {name} with changes.",
                config=(tyro.conf.AvoidSubcommands,),
            )
        config = parsed.experiment
        # Options given are added to those of the experiment.
        options = {**loaded.environment.options, **config.environment.options}
        environment = dataclasses.replace(config.environment, options=options)
        config = dataclasses.replace(config, environment=environment)
        config = check_experiment(config, "the command line")

    from separatrix.agents.common.run import Run

    _check_environments(config)
    agent = config.agent.algorithm
    with reported(OSError):
        return Run.create(parsed.root, config.environment.id, agent, config.seed, config)


def _resume(folder: Path) -> "Run":
    from separatrix.agents.common.checkpoint import CheckpointError
    from separatrix.agents.common.run import Run, RunInUseError

    with reported(OSError, ConfigurationError, CheckpointError, RunInUseError):
        _check_environments(Run.open(folder).config)
        return Run.resume(folder)


def _check_environments(config: ExperimentConfig) -> None:
    """Refuse values of options before anything is written, for training and for evaluation."""
    from separatrix.envs.core.registration import make_environment

    environment = config.environment
    for num_envs in (environment.num_envs, config.evaluation.episodes):
        with reported(ValueError):
            make_environment(environment.id, num_envs, **environment.arguments())


def _train(run: "Run") -> None:
    import torch

    from separatrix.agents.catalog import train
    from separatrix.agents.common.checkpoint import CheckpointError

    torch.set_num_threads(run.config.threads)
    console = Console()
    console.print(f"run folder: {run.folder}", soft_wrap=True)
    try:
        with reported(CheckpointError, ConfigurationError), out_of_memory_reported(), run:
            result = train(run.config, run)
    except OSError as error:  # such as a full disk
        raise UserError(
            f"{error}; once that is mended, separatrix train --resume {run.folder} goes on from "
            "the last checkpoint"
        ) from error
    console.print(f"steps: {result.steps} (and {result.evaluation_steps} of evaluations)")
    for tag, value in result.evaluation.items():
        console.print(f"{tag}: {value:.6g}")

"""What the training of every agent shares: result, progress bar, resumption, the final table."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from separatrix.agents.common.checkpoint import Checkpoint, CheckpointError
from separatrix.agents.common.configuration import ConfigurationError
from separatrix.agents.experiment import ExperimentConfig
from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import Environment


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a run: what its last checkpoint does, not the best one met on the way."""

    steps: int
    """Environment steps of training."""

    evaluation_steps: int
    """Environment steps of all evaluations, which are not among `steps`."""

    evaluation: dict[str, float]
    """Mean of each quantity over the episodes of the last evaluation, by tag: `eval/return`, ..."""


def check_continuous(config: ExperimentConfig, environment: Environment) -> None:
    """Refuse an environment whose actions are choices.

    Args:
        config: The experiment.
        environment: Where its agent is to learn.

    Raises:
        ConfigurationError: If its actions are choices.
    """
    try:
        require_continuous(environment, config.agent.algorithm)
    except ValueError as error:
        raise ConfigurationError(
            f"agent.algorithm: {error}; allowed: ppo, maskable_ppo, group_relative"
        ) from error


@contextmanager
def described_misfit(config: ExperimentConfig, checkpoint: Checkpoint) -> Iterator[None]:
    """Say that a checkpoint and a configuration do not belong together, around its loading.

    Args:
        config: The experiment that is to go on.
        checkpoint: The checkpoint that is being loaded.

    Raises:
        CheckpointError: If networks, optimisers, buffer or environments are others.
    """
    try:
        yield
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} does not fit {config.agent.algorithm} on "
            f"{config.environment.id} as config.yaml describes them: {error}"
        ) from error


def warn_of_changes(changes: Sequence[str], checkpoint: Checkpoint) -> None:
    """Warn if the configuration is not that of the checkpoint.

    Args:
        changes: What `separatrix.agents.common.configuration.differences` found.
        checkpoint: The checkpoint that the run goes on from.
    """
    if changes:
        warnings.warn(
            f"config.yaml has changed since the checkpoint of step {checkpoint.step}, and the "
            f"run goes on as it is now: {'; '.join(changes)}",
            RuntimeWarning,
            stacklevel=4,
        )


def progress_bar() -> Progress:
    """Make the progress bar of a training, which shows in a terminal only."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def hyper_parameters(config: ExperimentConfig) -> dict[str, bool | float | str]:
    """One flat table of what determines a run."""
    table = {
        "environment": config.environment.id,
        "num_envs": config.environment.num_envs,
        **config.environment.options,
        **vars(config.agent),
        "total_steps": config.total_steps,
        "seed": config.seed,
    }
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in table.items()
    }

"""The schema of a recording: `configs/dataset/<name>.yaml` holds one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import ConfigDict, Discriminator

from separatrix.agents.common.configuration import (
    check_environment,
    parse,
    read_text,
    shipped_names,
)
from separatrix.agents.common.requirements import require
from separatrix.agents.common.stable_baselines3.config import ModelFreeConfig, PPOConfig
from separatrix.agents.experiment import EnvironmentConfig

Recipe = Literal["random", "medium", "medium-replay", "medium-expert"]
RECIPES: tuple[Recipe, ...] = ("random", "medium", "medium-replay", "medium-expert")
"""Which policies acted, see `separatrix.agents.offline.data.recipes`."""


@dataclass(frozen=True)
class RecordingConfig:
    """How much is recorded; medium-replay has what training gives."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_envs: Annotated[int, Ge(1)]
    """Environments that are recorded side by side, each for the same number of steps."""

    random: Annotated[int, Ge(1)]
    """Transitions of uniformly random actions."""

    medium: Annotated[int, Ge(1)]
    """Transitions of the medium policy."""

    medium_expert: Annotated[int, Ge(1)]
    """Transitions of the medium policy and the expert, half of them each."""

    def __post_init__(self) -> None:
        """Raise a ValueError if environments cannot share the transitions evenly."""
        for name, parts in {"random": 1, "medium": 1, "medium_expert": 2}.items():
            size, unit = getattr(self, name), parts * self.num_envs
            require(size % unit == 0, name, size, f"multiples of {unit}, {parts} * num_envs")


@dataclass(frozen=True)
class DatasetConfig:
    """Everything that determines the data sets of an environment, but for the seed."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    environment: EnvironmentConfig
    """The environment; its `num_envs` is that of the training."""

    agent: Annotated[ModelFreeConfig, Discriminator("algorithm")]
    """Who is trained to act."""

    total_steps: Annotated[int, Ge(1)]
    """Environment steps of the training, summed over the environments."""

    snapshot_every: Annotated[int, Ge(1)]
    """Environment steps between snapshots of the policy, each of which is evaluated."""

    recording: RecordingConfig
    """How much is recorded."""

    snapshot_episodes: Annotated[int, Ge(2)] = 32
    """Episodes by which a snapshot is evaluated."""

    medium_share: Annotated[float, Gt(0), Lt(1)] = 0.5
    """The first snapshot whose mean return is this far from random to the best one is medium."""

    threads: Annotated[int, Ge(1)] = 1
    """Threads of torch on the CPU."""

    version: Annotated[int, Ge(0)] = 1
    """Version of the data, raised when this file changes."""

    def __post_init__(self) -> None:
        """Raise a ValueError if the replay buffer forgets what medium-replay is made of."""
        if not isinstance(self.agent, PPOConfig):
            # Training ends with a whole round.
            needed = self.total_steps + self.agent.train_every * self.environment.num_envs
            size = self.agent.buffer_size
            allowed = f"{needed} or more, all steps of the training"
            require(size >= needed, "agent.buffer_size", size, allowed)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes that can be made: an on-policy algorithm has no replay buffer."""
        on_policy = isinstance(self.agent, PPOConfig)
        return tuple(name for name in RECIPES if not (on_policy and name == "medium-replay"))


def dataset_names() -> list[str]:
    """Names of the recordings that come with the package, sorted."""
    return shipped_names("dataset")


def load_dataset_config(name_or_path: str | Path) -> DatasetConfig:
    """Read a recording.

    Args:
        name_or_path: Path of a YAML file, or the name of a recording of the package.

    Returns:
        The recording.

    Raises:
        ConfigurationError: If there is no such recording, or it does not follow the schema.
    """
    files = {name: f"dataset/{name}.yaml" for name in dataset_names()}
    text, source = read_text(name_or_path, "data set", files)
    config = parse(text, source, DatasetConfig)
    check_environment(config.environment, source)
    return config

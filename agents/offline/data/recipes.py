"""Recipes: which policies act in a data set (Fu et al. 2020, arXiv:2004.07219, section 5).

- random: actions drawn uniformly
- medium: a policy that is half way from random to the expert
- medium-replay: all that the training saw until that policy, from its first random actions on
- medium-expert: half of the data by the medium policy, half by the expert
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from separatrix.agents.common import provenance
from separatrix.agents.common.checkpoint import read_latest, write_checkpoint
from separatrix.agents.common.configuration import differences
from separatrix.agents.offline.data.behaviour import (
    Behaviour,
    Part,
    make_sampled,
    part_seed,
    train_behaviour,
)
from separatrix.agents.offline.data.collect import from_transitions, joined, record
from separatrix.agents.offline.data.config import DatasetConfig, Recipe
from separatrix.agents.offline.data.dataset import Dataset, DatasetError, Metadata
from separatrix.controllers.controller import Controller
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment


class Recorder:
    """Makes the data sets of one training.

    Args:
        config: The recording.
        behaviour: What the training left.
        seed: Seed of the recording.
    """

    def __init__(self, config: DatasetConfig, behaviour: Behaviour, seed: int) -> None:
        self._config, self._behaviour, self._seed = config, behaviour, seed
        environment = config.environment
        num_envs = config.recording.num_envs
        self._environment = make_environment(environment.id, num_envs, **environment.arguments())

    def make(self, recipe: Recipe) -> Dataset:
        """Makes a data set.

        Args:
            recipe: One of `DatasetConfig.recipes`.
        """
        sizes, metadata = self._config.recording, self.metadata(recipe)
        if recipe == "random":
            return self._record("random", sizes.random, metadata)
        if recipe == "medium":
            return self._record("medium", sizes.medium, metadata)
        if recipe == "medium-replay":
            assert self._behaviour.replay is not None
            return from_transitions(self._behaviour.replay, metadata)
        half = sizes.medium_expert // 2
        parts = [self._record(part, half, metadata) for part in ("mixed medium", "expert")]
        return joined(parts, metadata)

    def _record(self, part: Part, transitions: int, metadata: Metadata) -> Dataset:
        seed, environment = part_seed(self._seed, part), self._environment
        controller: Controller
        if part == "random":
            controller = RandomController(environment, seed)
        else:
            behaviour = self._behaviour
            snapshot = behaviour.expert if part == "expert" else behaviour.medium
            controller = make_sampled(self._config, snapshot, environment, seed)
        return record(environment, controller, transitions, seed, metadata)

    def metadata(self, recipe: Recipe) -> Metadata:
        """Returns what is known of a data set."""
        config, behaviour = self._config, self._behaviour
        data = config_data(config)
        options = dict(data["environment"]["options"])
        if config.environment.wrappers:
            options["wrap"] = data["environment"]["wrappers"]
        git = provenance.git_state()
        snapshots = {"medium": behaviour.medium, "expert": behaviour.expert}
        policies = {
            name: {"training_steps": snapshot.steps, "return": snapshot.mean_return}
            for name, snapshot in snapshots.items()
        }
        return Metadata(
            environment=config.environment.id,
            options=options,
            recipe=recipe,
            version=config.version,
            references=behaviour.references,
            origin={
                "command": shlex.join(sys.argv),
                "seed": self._seed,
                "policies": policies,
                "curve": [list(point) for point in behaviour.curve],
                "configuration": data,
                "versions": provenance.versions(),
                "commit": git["sha"],
                "uncommitted_changes": git["dirty"],
            },
        )


def config_data(config: DatasetConfig) -> dict[str, Any]:
    """Turns a recording into JSON values, with every default spelled out."""
    data: dict[str, Any] = TypeAdapter(DatasetConfig).dump_python(config, mode="json")
    return data


def behaviour_in(folder: Path, config: DatasetConfig, seed: int) -> Behaviour:
    """Reads the policies of a folder of data sets; trains them where there are none yet.

    Data sets that are recorded one day and another thus have the same policies and references.

    Args:
        folder: Where `behaviour/` is, or is to be.
        config: The recording.
        seed: Seed of the training.

    Raises:
        CheckpointError: The policies are damaged.
        DatasetError: They are those of another recording; or the training gives no medium policy.
    """
    place = folder / "behaviour"
    checkpoint = read_latest(place)
    if checkpoint is None:
        behaviour = train_behaviour(config, seed)
        tensors, state = behaviour.state_dict()
        origin = {"seed": seed, "configuration": config_data(config)}
        write_checkpoint(place, config.total_steps, tensors, {**origin, "behaviour": state}, 1)
        return behaviour
    check_origin(place, checkpoint.state, config, seed)
    return Behaviour.from_state_dict(checkpoint.tensors, checkpoint.state["behaviour"])


def check_origin(place: Path, origin: Mapping[str, Any], config: DatasetConfig, seed: int) -> None:
    """Refuses what comes from another recording.

    Args:
        place: Where it is, for the error message.
        origin: What it says of its `seed` and its `configuration`.
        config: The recording that it should come from.
        seed: The seed that it should come from.

    Raises:
        DatasetError: It comes from another; the message says how they differ.
    """
    wanted = {"seed": seed, "configuration": config_data(config)}
    found = {name: origin.get(name) for name in wanted}
    if found != wanted:
        raise DatasetError(
            f"{place} comes from another recording: {'; '.join(differences(found, wanted))}; "
            "allowed: the same, or another folder"
        )

"""Minari data sets (Younis et al. 2024), in folders that Minari's own functions read.

An episode of T steps has T + 1 observations there and T of everything else. What Minari has no
place for is kept in its metadata.json under the name `separatrix`, from which it is restored.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from pydantic import TypeAdapter

from separatrix.agents.common.files import written_aside
from separatrix.agents.offline.data.dataset import Dataset, DatasetError, Metadata, References
from separatrix.agents.offline.data.foreign import Columns
from separatrix.agents.offline.data.reading import Reader, imported, opened

ATTRIBUTE = "separatrix"
MAIN = "main_data.hdf5"


def save_minari(dataset: Dataset, root: Path | str, dataset_id: str) -> Path:
    """Writes a data set that `minari.load_dataset(dataset_id)` reads.

    Args:
        dataset: The data.
        root: Folder of all data sets, which Minari is told by MINARI_DATASETS_PATH.
        dataset_id: Minari's name, such as "pendulum/medium-v1".

    Returns:
        The folder of the data set.

    Raises:
        DatasetError: The id is none.
        FileExistsError: There is such a data set.
        ImportError: Minari is not installed.
        OSError: It cannot be written; nothing stays of it.
    """
    minari, storages = imported("minari"), imported("minari.dataset.minari_storage")
    check_id(dataset_id)
    observation, action = dataset.observation.cpu().numpy(), dataset.action.cpu().numpy()
    folder = Path(root) / dataset_id
    with written_aside(folder) as aside:
        storage = storages.MinariStorage.new(
            aside.resolve() / "data",  # of relative paths Minari forgets a part
            observation_space=Box(-np.inf, np.inf, observation.shape[1:], observation.dtype.type),
            action_space=Box(-1, 1, action.shape[1:], action.dtype.type),
            env_spec=_specification(dataset.metadata),
            data_format="hdf5",
        )
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                **_reference_scores(dataset.metadata.references),
                ATTRIBUTE: asdict(dataset.metadata),
            }
        )
        storage.update_episodes(_episodes(dataset))
        statistics = minari.EpisodeMetadataCallback()
        rewards = dataset.reward.cpu().numpy()
        storage.update_episode_metadata(
            statistics({"rewards": rewards[rows]}) for rows in _episode_rows(dataset)
        )
    return folder


def read_minari(folder: Path) -> Columns:
    """Reads the folder of a Minari data set of vectors, not of dictionaries or images.

    An episode of which Minari knows no end is truncated.

    Raises:
        DatasetError: A file is missing, damaged or faulty.
        ImportError: The package h5py is not installed.
    """
    path = folder / "data" / MAIN
    with opened(path) as file:
        parts = [_episode(path, file, f"episode_{number}") for number in range(len(file))]
    if not parts:
        raise DatasetError(f"{path}: got no episodes; allowed: one or more")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Columns(**columns, metadata=_metadata(folder / "data" / "metadata.json"))


def check_id(dataset_id: str) -> None:
    """Refuses what is no name of a Minari data set.

    Raises:
        DatasetError: It is none; the message says what is allowed.
        ImportError: Minari is not installed.
    """
    try:
        imported("minari.dataset.minari_dataset").parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # the latter where there is no version
        raise DatasetError(
            f"got the name {dataset_id!r} of a Minari data set; allowed: letters, digits, - and _, "
            'parts divided by /, and a version, such as "pendulum/medium-v1"'
        ) from error


def _episode_rows(dataset: Dataset) -> Iterator[slice]:
    begin = 0
    for end in (dataset.last.nonzero()[:, 0] + 1).tolist():
        yield slice(begin, end)
        begin = end


def _episodes(dataset: Dataset) -> Iterator[Any]:
    """Yields episodes as Minari has them."""
    minari = imported("minari.data_collector.episode_buffer")
    arrays = {name: tensor.cpu().numpy() for name, tensor in dataset.tensors().items()}
    for rows in _episode_rows(dataset):
        final = arrays["next_observation"][rows.stop - 1 : rows.stop]
        yield minari.EpisodeBuffer(
            observations=np.concatenate([arrays["observation"][rows], final]),
            actions=arrays["action"][rows],
            rewards=arrays["reward"][rows],
            terminations=arrays["terminated"][rows],
            truncations=arrays["truncated"][rows],
        )


def _episode(path: Path, file: Any, name: str) -> dict[str, np.ndarray]:
    """Reads an episode as columns."""
    if name not in file:
        raise DatasetError(f"{path}: {name}: missing; found {len(file)} episodes of other names")
    place, group = f"{path}: {name}", file[name]
    arrays = {
        key: group[key][()]
        for key in ("observations", "actions", "rewards", "terminations", "truncations")
        if key in group and hasattr(group[key], "shape")  # groups hold dictionaries and tuples
    }
    reader = Reader(place, arrays, "rewards")
    reward, terminated = reader.numbers("rewards", 1), reader.flags("terminations")
    last = terminated | reader.flags("truncations")
    if last[:-1].any():
        reader.refuse(int(last.argmax()), "terminations or truncations", True, "in the last row")
    last[-1] = True
    observation = Reader(place, arrays, "observations").numbers("observations", 2)
    if len(observation) != len(reward) + 1:
        raise DatasetError(
            f"{place}: observations: got {len(observation)} rows; allowed: {len(reward) + 1}, one "
            "more than rewards"
        )
    return {
        "observation": observation[:-1],
        "action": reader.numbers("actions", 2),
        "reward": reward,
        "next_observation": observation[1:],
        "terminated": terminated,
        "last": last,
    }


def _metadata(path: Path) -> Metadata:
    """Returns ours, or what Minari's say."""
    try:
        found = json.loads(path.read_bytes())
        if ATTRIBUTE in found:
            return TypeAdapter(Metadata).validate_python(found[ATTRIBUTE])
        references, low, high = None, found.get("ref_min_score"), found.get("ref_max_score")
        if low is not None and high is not None:
            episodes = int(found.get("num_episodes_average_score", 0))
            policy = "reference of the Minari data"
            references = References(float(low), float(high), episodes, policy)
        specification = json.loads(found.get("env_spec") or "{}")
        return Metadata(
            environment=specification.get("id", ""),
            options=specification.get("kwargs", {}),
            recipe=found.get("dataset_id", ""),
            references=references,
            origin={"minari_version": found.get("minari_version")},
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: unreadable: {' '.join(str(error).split())}") from error


def _reference_scores(references: References | None) -> dict[str, Any]:
    if references is None:
        return {}
    return {
        "ref_min_score": references.random,
        "ref_max_score": references.expert,
        "num_episodes_average_score": references.episodes,
    }


def _specification(metadata: Metadata) -> Any:
    """Returns what Minari recovers the environment from; None if it is not registered."""
    try:
        specification = copy.deepcopy(gymnasium.spec(metadata.environment))
    except gymnasium.error.Error:
        return None
    specification.kwargs |= metadata.options
    return specification

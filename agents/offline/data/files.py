"""Data sets on disk: our own form, and the one door to all forms that can be read.

A folder of ours holds

- transitions.npz: the tensors of a `Dataset` by name, not compressed
- metadata.json: version of the form, SHA-256 of the other file, shape and type of every tensor,
  and all of `Metadata`

It is written aside and renamed, so that a kill leaves the whole or nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from separatrix.agents.common.files import written_aside
from separatrix.agents.offline.data.dataset import Dataset, DatasetError, Metadata
from separatrix.agents.offline.data.foreign import Bound, Scaling, read_d4rl, read_neorl, to_dataset
from separatrix.agents.offline.data.minari_files import read_minari
from separatrix.agents.offline.data.reading import read_arrays

TRANSITIONS, METADATA = "transitions.npz", "metadata.json"
NAMES = tuple(field.name for field in fields(Dataset) if field.name != "metadata")


@dataclass(frozen=True)
class Form:
    """Shape and type of an array."""

    shape: tuple[int, ...]
    """Its shape."""

    dtype: str
    """Its type as numpy names it."""


@dataclass(frozen=True)
class Header:
    """What metadata.json holds."""

    form: Literal[1]
    """Version of the form of the folder."""

    sha256: str
    """Checksum of transitions.npz."""

    tensors: Mapping[str, Form]
    """Shape and type of every tensor."""

    metadata: Metadata
    """What is known of the data."""


def save_dataset(dataset: Dataset, folder: Path | str) -> None:
    """Writes a data set into a new folder.

    Args:
        dataset: The data.
        folder: The folder, which does not exist yet.

    Raises:
        FileExistsError: The folder exists.
        OSError: It cannot be written; nothing stays of it.
        TypeError: The metadata hold something that JSON cannot.
        ValueError: The metadata hold a number that is not finite.
    """
    tensors = dataset.tensors()
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    forms = {name: Form(array.shape, array.dtype.name) for name, array in arrays.items()}
    with written_aside(Path(folder)) as aside:
        np.savez(aside / TRANSITIONS, **arrays)
        header = Header(1, _checksum(aside / TRANSITIONS), forms, dataset.metadata)
        text = json.dumps(asdict(header), indent=1, allow_nan=False)
        (aside / METADATA).write_text(f"{text}\n", encoding="utf-8")


def load_dataset(
    path: Path | str,
    device: torch.device | str = "cpu",
    *,
    action_low: Bound = -1.0,
    action_high: Bound = 1.0,
    clip_actions: bool = False,
) -> Dataset:
    """Reads a data set of any form that is known.

    Known are a folder of ours; the folder of a Minari data set, which holds data/main_data.hdf5;
    a D4RL file, .hdf5; and a NeoRL or NeoRL-2 file, .npz. See
    `separatrix.agents.offline.data.foreign` for what becomes of the latter two. Nothing is clipped
    or filled in unasked: faulty data are refused.

    Args:
        path: The folder or the file.
        device: Where the tensors are to live.
        action_low: In data of others, lower bound of the actions, which becomes -1.
        action_high: In data of others, upper bound of the actions, which becomes 1.
        clip_actions: Whether actions of others outside their bounds are clipped, not refused.

    Returns:
        The data, those of others in float32.

    Raises:
        DatasetError: The data are missing, damaged or faulty; the message names file and place.
        ImportError: The form needs a package that is not installed.
    """
    path, scaling = Path(path), Scaling(action_low, action_high, clip_actions)
    if (path / "data").is_dir():
        columns = read_minari(path)
    elif path.is_dir():
        if scaling != Scaling():
            raise DatasetError(f"{path}: got bounds of actions; allowed: for data of others only")
        return _load(path, device)
    elif path.suffix in (".hdf5", ".h5"):
        columns = read_d4rl(path)
    elif path.suffix == ".npz":
        columns = read_neorl(path)
    else:
        raise DatasetError(
            f"{path}: got {'something else' if path.exists() else 'nothing'}; allowed: a folder "
            "that save_dataset or Minari wrote, a .hdf5 file of D4RL, a .npz file of NeoRL"
        )
    return to_dataset(path, columns, device, scaling)


def _load(folder: Path, device: torch.device | str) -> Dataset:
    header, path = _read_header(folder / METADATA), folder / TRANSITIONS
    try:
        checksum = _checksum(path)
    except OSError as error:
        raise DatasetError(f"{path}: unreadable: {error}") from error
    if checksum != header.sha256:
        raise DatasetError(
            f"{path}: got SHA-256 {checksum}; allowed: {header.sha256}, that of {METADATA}: the "
            "file is damaged, or another's"
        )
    arrays = read_arrays(path)
    forms = {name: Form(array.shape, array.dtype.name) for name, array in arrays.items()}
    if forms != header.tensors or forms.keys() != set(NAMES):
        raise DatasetError(
            f"{path}: got {forms}; allowed: {', '.join(NAMES)} of the forms that {METADATA} names"
        )
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    try:
        return Dataset(**tensors, metadata=header.metadata)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _read_header(path: Path) -> Header:
    try:
        return TypeAdapter(Header).validate_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: unreadable: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise DatasetError(f"{path}: {place}: {first['msg']}") from error


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

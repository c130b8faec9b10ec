"""Checkpoints: tensors as safetensors, the rest as JSON, checksums beside them, no pickle.

A checkpoint is a folder `step_<n>/`:

    tensors.safetensors   weights, optimiser moments, buffers, normalisers, random states
    state.json            {"step": n, "state": {...}}
    SHA256SUMS            checksums of both, as `sha256sum --check` reads them

It is written into a temporary folder beside its place, flushed to the disk, and renamed. A process
killed at any moment thus leaves either the whole checkpoint or none, and a file that was damaged
later fails its checksum and is never used.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

TENSORS, STATE, CHECKSUMS = "tensors.safetensors", "state.json", "SHA256SUMS"
PREFIX = "step_"


class CheckpointError(Exception):
    """A checkpoint is incomplete or damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """What training needs to go on from `step`."""

    step: int
    """Environment steps taken."""

    tensors: dict[str, Tensor]
    """Named tensors, on the CPU."""

    state: dict[str, Any]
    """Everything that is not a tensor, as plain JSON values."""


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write `folder/step_<step>` and remove all but the last `keep` checkpoints.

    A checkpoint of the same step is replaced, and later ones go too: they are damaged, or of a past
    that this one starts to rewrite.

    Args:
        folder: Folder of the checkpoints; made if it is missing.
        step: Environment steps taken, not negative.
        tensors: Named tensors; each owns its memory.
        state: JSON values: text keys, finite numbers, text, booleans, None, lists, mappings.
        keep: How many checkpoints stay.

    Returns:
        The folder of the checkpoint.

    Raises:
        ValueError: If the step is negative or the state holds a number that is not finite.
        TypeError: If the state holds something that JSON cannot.
    """
    if step < 0:
        raise ValueError(f"got step {step}; allowed are numbers from 0")
    try:
        text = json.dumps({"step": step, "state": dict(state)}, indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"the state of a checkpoint holds finite numbers only: {error}") from error
    contents = {
        TENSORS: safetensors.torch.save({k: v.detach().contiguous() for k, v in tensors.items()}),
        STATE: text.encode(),
    }
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items()]
    contents[CHECKSUMS] = "".join(lines).encode()

    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*"):
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{step}.", dir=folder))
    for name, data in contents.items():
        with (temporary / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _flush_folder(temporary)
    temporary.chmod(0o755)
    target = folder / f"{PREFIX}{step}"
    if target.exists():
        target.rename(folder / f".{PREFIX}{step}.replaced")
    temporary.rename(target)
    _flush_folder(folder)
    folders = _folders(folder)
    position = folders.index(target)
    for old in folders[:position] + folders[position + keep :]:
        shutil.rmtree(old)
    shutil.rmtree(folder / f".{PREFIX}{step}.replaced", ignore_errors=True)
    return target


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint after comparing its checksums.

    Args:
        folder: The folder `step_<n>`.

    Returns:
        The checkpoint, its tensors on the CPU.

    Raises:
        CheckpointError: If a file is missing, damaged, or belongs to another step.
    """
    contents = {}
    try:
        listed = {}
        for line in (folder / CHECKSUMS).read_text().splitlines():
            checksum, name = line.split("  ", 1)
            listed[name] = checksum
        for name in (TENSORS, STATE):
            contents[name] = (folder / name).read_bytes()
            if hashlib.sha256(contents[name]).hexdigest() != listed.get(name):
                raise CheckpointError(f"{folder / name} does not match its checksum")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is incomplete or damaged: {error}") from error
    document = json.loads(contents[STATE])
    if folder.name != f"{PREFIX}{document['step']}":
        raise CheckpointError(f"{folder} holds a checkpoint of step {document['step']}")
    tensors = safetensors.torch.load(contents[TENSORS])
    return Checkpoint(document["step"], tensors, document["state"])


def read_latest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole, with a warning for each newer one that is not.

    Args:
        folder: Folder of the checkpoints.

    Returns:
        The checkpoint, or None if none was ever finished.

    Raises:
        CheckpointError: If there are checkpoints and none is whole.
    """
    folders = _folders(folder)
    for candidate in folders:
        try:
            return read_checkpoint(candidate)
        except CheckpointError as error:
            warnings.warn(f"skipping a checkpoint: {error}", RuntimeWarning, stacklevel=2)
    if folders:
        raise CheckpointError(f"none of the {len(folders)} checkpoints in {folder} is whole")
    return None


def _folders(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    found = {
        int(path.name.removeprefix(PREFIX)): path
        for path in folder.glob(f"{PREFIX}*")
        if path.name.removeprefix(PREFIX).isdecimal()
    }
    return [found[step] for step in sorted(found, reverse=True)]


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Checkpoints: tensors as safetensors, the rest as JSON, checksums beside them, no pickle.

A checkpoint is a folder `step_<n>/`:

    tensors.safetensors   weights, optimiser moments, buffers, normalisers, random states
    state.json            {"step": n, "state": {...}}
    SHA256SUMS            checksums of both, as `sha256sum --check` reads them

It is written into a temporary folder beside its place, flushed to the disk, and renamed. A process
killed at any moment thus leaves either the whole checkpoint or none; the leftovers have names that
start with a dot. A file that was damaged later fails its checksum: the checkpoint is never used,
and the one before it is, with a warning.
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
from safetensors import SafetensorError
from torch import Tensor

from separatrix.agents.common.files import flush, write_flushed

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
        OSError: If the disk is full or the folder cannot be written; the checkpoints that are
            there stay, and nothing else does.
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
    for leftover in folder.glob(f".{PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    target = folder / f"{PREFIX}{step}"
    temporary = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{step}.", dir=folder))
    try:
        for name, data in contents.items():
            write_flushed(temporary / name, data)
        flush(temporary)
        temporary.chmod(0o755)
        if target.exists():
            _remove(target)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    flush(folder)
    folders = _folders(folder)
    position = folders.index(target)
    for old in folders[:position] + folders[position + keep :]:
        _remove(old)
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
        document = json.loads(contents[STATE])
        checkpoint = Checkpoint(
            document["step"], safetensors.torch.load(contents[TENSORS]), document["state"]
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is incomplete or damaged: {error}") from error
    if folder.name != f"{PREFIX}{checkpoint.step}":
        raise CheckpointError(f"{folder} holds a checkpoint of step {checkpoint.step}")
    return checkpoint


def read_latest(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that is whole, with a warning for each newer one that is not.

    Args:
        folder: Folder of the checkpoints.

    Returns:
        The checkpoint, or None if none was ever finished.

    Raises:
        CheckpointError: If there are checkpoints and none is whole.
    """
    try:
        candidates = _folders(folder)
    except OSError as error:  # it is there: training must not start again and write over it
        raise CheckpointError(f"cannot read the checkpoints: {error}") from error
    problems = []
    for candidate in candidates:
        try:
            checkpoint = read_checkpoint(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            message = f"skipping a checkpoint for the one of step {checkpoint.step}: {problem}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return checkpoint
    if problems:
        raise CheckpointError(
            f"none of the {len(problems)} checkpoints in {folder} is whole: {'; '.join(problems)}"
        )
    return None


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one part of a checkpoint, such as `policy`, by their names within it."""
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as one part of a checkpoint; `with_prefix` takes it apart again."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _folders(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    steps = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    found = sorted((int(step) for step in steps if step.isdecimal()), reverse=True)
    return [folder / f"{PREFIX}{step}" for step in found]


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint: out of sight at once, since a kill may cut the deletion short."""
    hidden = Path(tempfile.mkdtemp(prefix=f".{checkpoint.name}.", dir=checkpoint.parent))
    checkpoint.rename(hidden / "removed")
    shutil.rmtree(hidden, ignore_errors=True)

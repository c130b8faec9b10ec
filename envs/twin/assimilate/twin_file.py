"""One file of named tensors and a JSON document, without pickle: safetensors and a checksum."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

DOCUMENT, CHECKSUM, FORMAT = "separatrix.twin", "sha256", 1


def write_file(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Writes a file aside, flushes it to the disk and renames it into its place.

    Args:
        path: The file; replaced if it exists.
        tensors: Named tensors.
        document: What JSON can hold.

    Raises:
        ValueError: The document holds something else.
        OSError: The file cannot be written; what was there before is untouched.
    """
    try:
        text = json.dumps({"format": FORMAT, **document}, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = "a file of a twin holds numbers, texts, lists and mappings, and finite ones only"
        raise ValueError(f"{message}: {error}") from error
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    notes = {DOCUMENT: text, CHECKSUM: _checksum(text, plain)}
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("wb") as file:
            file.write(safetensors.torch.save(plain, notes))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors, on the CPU, and the document of a file.

    Raises:
        ValueError: It is no file of a twin, of another version, or damaged.
        OSError: It cannot be read.
    """
    with path.open("rb"):  # what cannot be opened is not called damaged
        pass
    try:
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no file of a twin, or damaged: {error}") from error
    if not {DOCUMENT, CHECKSUM} <= notes.keys():
        raise ValueError(f"{path} is no file of a twin; allowed: what Twin.save wrote")
    if _checksum(notes[DOCUMENT], tensors) != notes[CHECKSUM]:
        raise ValueError(f"{path} is damaged: its contents do not match their checksum")
    document = json.loads(notes[DOCUMENT])
    if document["format"] != FORMAT:
        raise ValueError(f"{path}: got format {document['format']!r}; allowed: {FORMAT}")
    return tensors, document


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()

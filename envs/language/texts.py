"""Texts that states are cut from, as one row of tokens."""

from __future__ import annotations

import reprlib
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from separatrix.envs.language.language_model import LanguageModel

SENTENCES = Path(__file__).resolve().parent / "data" / "sentences.txt"
SOURCES = ("sentences", "python")
"""Sentences of our own, and the documentation of Python's topics in the standard library."""


def read_text(source: str) -> str:
    """Returns a text.

    Args:
        source: One of `SOURCES`, or the path of a text file in UTF-8.

    Raises:
        ValueError: There is no such text.
    """
    if source == "python":
        from separatrix.envs.language.character_training import read_text as read_topics

        return read_topics()
    path = SENTENCES if source == "sentences" else Path(source)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        allowed = f"{', '.join(SOURCES)}, or the path of a text file in UTF-8"
        raise ValueError(f"texts: got {reprlib.repr(source)}; allowed: {allowed}") from error


@lru_cache(maxsize=8)
def read_tokens(source: str, model: LanguageModel, shortest: int) -> Int64[Tensor, " tokens"]:
    """Returns the tokens of a text.

    Args:
        source: See `read_text`.
        model: Whose tokens.
        shortest: How many there must be.

    Raises:
        ValueError: There is no such text, the model cannot read it, or it is too short.
    """
    try:
        tokens = model.encode(read_text(source))
    except ValueError as error:
        raise ValueError(f"texts: {source!r} is not for the model {model.name}: {error}") from error
    if len(tokens) < shortest:
        raise ValueError(
            f"texts: {source!r} has {len(tokens)} tokens; allowed: {shortest} or more, which a "
            "state and its target take"
        )
    return torch.tensor(tokens, device=model.device)

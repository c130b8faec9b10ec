"""Checks of options, whose messages say what was got and what is allowed."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

MOST = 2**16 - 1
"""Largest number that an option may count, of tokens or directions."""


def require(fulfilled: Any, name: str, value: Any, allowed: str) -> None:
    """Raises a ValueError that says what is allowed, unless it is fulfilled."""
    if not fulfilled:
        raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: {allowed}")


def read_word(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Returns an option that is one of some words.

    Raises:
        ValueError: It is something else.
    """
    require(isinstance(value, str) and value in allowed, name, value, ", ".join(allowed))
    return str(value)


def read_count(name: str, value: Any, least: int = 1) -> int:
    """Returns an option that is a number of tokens.

    Raises:
        ValueError: It is something else.
    """
    require(_is_count(value, least), name, value, f"an integer from {least} to {MOST}")
    return int(value)


def read_count_or_none(name: str, value: Any) -> int | None:
    """Returns an option that is a number of 1 or more, or None.

    Raises:
        ValueError: It is something else.
    """
    fits = value is None or _is_count(value, 1)
    require(fits, name, value, f"None, or an integer from 1 to {MOST}")
    return None if value is None else int(value)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST

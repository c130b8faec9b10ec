"""Mistakes of the user, told in one line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """The arguments or the files named by them are wrong; the message says what is allowed."""


@contextmanager
def reported(*errors: type[Exception]) -> Iterator[None]:
    """Turn errors of some types into `UserError`, around the few lines that read user input.

    Args:
        *errors: Types of errors that can only come from what the user gave.
    """
    try:
        yield
    except errors as error:
        raise UserError(str(error)) from error


@contextmanager
def out_of_memory_reported() -> Iterator[None]:
    """Turn what numpy and torch raise when they get no memory into `UserError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate" in str(error):
            raise UserError(f"out of memory: {error}") from error
        raise

"""Writing files so that a kill, a full disk or a power cut leaves the whole file or the old one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Make errors of writing to a file say which file it is.

    Args:
        path: The file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file aside, flush it to the disk and rename it into its place.

    Args:
        path: The file; replaced if it exists.
        data: Its contents.

    Raises:
        OSError: If it cannot be written; what was there before is untouched.
    """
    aside = path.with_name(f".{path.name}.new")
    try:
        write_flushed(aside, data)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk holds it.

    Args:
        path: The file.
        data: Its contents.

    Raises:
        OSError: If it cannot be written.
    """
    with named_in_errors(path), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut.

    Args:
        folder: The folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Writing files so that a kill, a full disk or a power cut leaves the whole file or the old one."""

import os
import shutil
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
    flush(path.parent)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Write a folder aside, flush it to the disk and rename it into its place.

    Args:
        folder: The folder, which does not exist yet.

    Yields:
        An empty folder to write into; if that fails, nothing stays of it.

    Raises:
        FileExistsError: If the folder exists.
        OSError: If it cannot be written.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)  # what a kill left
    aside.mkdir()
    try:
        yield aside
        for path in [*aside.rglob("*"), aside]:
            flush(path)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    flush(folder.parent)


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


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut.

    Args:
        path: The file or the folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

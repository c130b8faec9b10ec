"""What the readers of all forms share: files that may be damaged, arrays that may be faulty."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool

from separatrix.agents.offline.data.dataset import DatasetError


def imported(name: str) -> Any:
    """Imports a package where it is used.

    Args:
        name: The package or one of its modules.

    Raises:
        ImportError: It is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"this form of data needs the package {package}: pip install 'separatrix[offline]'"
        ) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file.

    Raises:
        DatasetError: The file is missing or damaged.
    """
    try:
        # Opened here, for numpy leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path}: unreadable: {error}") from error


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens an HDF5 file for reading.

    Raises:
        DatasetError: It is missing or damaged.
        ImportError: The package h5py is not installed.
    """
    h5py = imported("h5py")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        # Memory is what a damaged size asks for.
        raise DatasetError(f"{path}: unreadable: {error}") from error


class Reader:
    """Arrays of a file, checked on the way out.

    Args:
        path: The file, for error messages.
        found: Its arrays.
        first: Name of the array that gives the number of rows.

    Raises:
        DatasetError: The first array is missing or empty.
    """

    def __init__(self, path: Path | str, found: Mapping[str, Any], first: str) -> None:
        self._path, self._found, self._first = path, found, first
        self._rows = len(self.array(first)) if np.ndim(self.array(first)) else 0
        if self._rows == 0:
            raise DatasetError(f"{path}: {first}: got no rows; allowed: one or more")

    def array(self, name: str) -> np.ndarray:
        """Returns an array as it is.

        Raises:
            DatasetError: It is missing.
        """
        if name not in self._found:
            raise DatasetError(
                f"{self._path}: {name}: missing; found: {', '.join(self._found) or 'nothing'}"
            )
        return np.asarray(self._found[name])

    def numbers(self, name: str, axes: int) -> np.ndarray:
        """Returns finite numbers in float32, a row for each step.

        Raises:
            DatasetError: The array is missing, has another form, or a number is not finite.
        """
        with np.errstate(over="ignore"):
            array = self._rowwise(name, axes).astype(np.float32)
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            row, *component = wrong[0].tolist()
            self.refuse(row, f"{name}{component or ''}", array[tuple(wrong[0])], "finite numbers")
        return array

    def flags(self, name: str) -> Bool[np.ndarray, " rows"]:
        """Returns a flag for each step.

        Raises:
            DatasetError: The array is missing, has another form, or holds something but 0 and 1.
        """
        array = self._rowwise(name, 1)
        wrong = (array != 0) & (array != 1)
        if wrong.any():
            row = int(wrong.argmax())
            self.refuse(row, name, array[row], "0 and 1")
        return array.astype(bool)

    def refuse(self, row: int, name: str, got: object, allowed: str) -> NoReturn:
        """Raises the error of a row."""
        raise DatasetError(f"{self._path}: row {row}: {name}: got {got}; allowed: {allowed}")

    def _rowwise(self, name: str, axes: int) -> np.ndarray:
        array = self.array(name)
        if array.dtype.kind not in "biuf":
            raise DatasetError(f"{self._path}: {name}: got {array.dtype}; allowed: real numbers")
        if axes == 1 and array.shape == (self._rows, 1):
            array = array[:, 0]
        if array.ndim != axes or len(array) != self._rows:
            expected = f"({self._rows}, components)" if axes == 2 else f"({self._rows},)"
            raise DatasetError(
                f"{self._path}: {name}: got shape {array.shape}; allowed: {expected}, for "
                f"{self._first} has {self._rows} rows"
            )
        return array

"""Scalars in a file that any program reads: a row `step,tag,value,wall_time` for each."""

import csv
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from separatrix.agents.common.files import named_in_errors, write_whole

HEADER = "step,tag,value,wall_time\n"


class MetricsFile:
    """Appends scalars to a CSV file in long format, so that new tags need no new columns.

    Values are written with all their digits, those that are not finite as `nan`, `inf`, `-inf`;
    `wall_time` is in seconds since 1970.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, made if it is missing; a last row that a kill cut off is dropped.

        Rows that are damaged are dropped too, with a warning that counts them.

        Args:
            path: The file.
        """
        self._path = path
        if not path.exists():
            write_whole(path, HEADER.encode())
        found = path.read_bytes()
        # What follows the last line break is a row that was being written.
        first, *lines = found[: found.rfind(b"\n") + 1].splitlines(keepends=True) or [b""]
        kept = [line for line in lines if _step_of(line) is not None]
        damaged = len(lines) - len(kept)
        damaged += first != HEADER.encode() and not HEADER.encode().startswith(found)
        if damaged:
            message = f"{path} is damaged: dropping {damaged} lines that are not {HEADER.strip()}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        whole = b"".join([HEADER.encode(), *kept])
        if whole != found:
            write_whole(path, whole)
        self._file = path.open("a", encoding="utf-8")

    def append(self, scalars: Mapping[str, float], step: int) -> None:
        """Append one row for each tag.

        Args:
            scalars: Value of each tag.
            step: Environment steps taken.

        Raises:
            ValueError: If a tag is empty or holds a comma, a quotation mark or a line break.
        """
        for tag in scalars:
            if not tag or any(character in tag for character in ',"\r\n'):
                raise ValueError(
                    f'got tag {tag!r}; allowed is text without , and " and line breaks'
                )
        now = f"{time.time():.3f}"
        rows = [f"{step},{tag},{float(value)!r},{now}\n" for tag, value in scalars.items()]
        self._write("".join(rows))

    def cut(self, step: int) -> None:
        """Remove the rows after a step, which a resumed run writes again.

        Args:
            step: Last step to keep.
        """
        self._file.close()
        header, *rows = self._path.read_bytes().splitlines(keepends=True)
        kept = [row for row in rows if (found := _step_of(row)) is not None and found <= step]
        write_whole(self._path, b"".join([header, *kept]))
        self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        with named_in_errors(self._path):
            self._file.close()

    def _write(self, text: str) -> None:
        with named_in_errors(self._path):
            self._file.write(text)
            self._file.flush()


def _step_of(row: bytes) -> int | None:
    """The step of a row, None if it is not one that `append` writes."""
    try:
        step, tag, value, wall_time = row.decode().removesuffix("\n").split(",")
        float(value), float(wall_time)
        return int(step) if tag and '"' not in tag else None
    except ValueError:
        return None


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read a metrics file.

    Args:
        path: The file.

    Returns:
        For each tag its (step, value) pairs, in the order they were written.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            series.setdefault(row["tag"], []).append((int(row["step"]), float(row["value"])))
    return series

"""Scalars in a file that any program reads: a row `step,tag,value,wall_time` for each."""

import csv
import os
import time
from collections.abc import Mapping
from pathlib import Path

HEADER = "step,tag,value,wall_time\n"


class MetricsFile:
    """Appends scalars to a CSV file in long format, so that new tags need no new columns.

    Values are written with all their digits, those that are not finite as `nan`, `inf`, `-inf`;
    `wall_time` is in seconds since 1970.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, made if it is missing; a last row that a kill cut off is dropped.

        Args:
            path: The file.
        """
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self._path = path
        self._file = path.open("a")
        if self._file.tell() == 0:
            self._write(HEADER)

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
        header, *rows = self._path.read_text().splitlines(keepends=True)
        kept = [row for row in rows if int(row.partition(",")[0]) <= step]
        aside = self._path.with_suffix(".csv.new")
        aside.write_text("".join([header, *kept]))
        aside.replace(self._path)
        self._file = self._path.open("a")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read a metrics file.

    Args:
        path: The file.

    Returns:
        For each tag its (step, value) pairs, in the order they were written.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            series.setdefault(row["tag"], []).append((int(row["step"]), float(row["value"])))
    return series

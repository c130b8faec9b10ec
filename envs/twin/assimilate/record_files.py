"""Tables in files, CSV or parquet: a header, and rows with their numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

DELIMITERS = ",;\t"

Row = tuple[int, Sequence[Any]]
"""Number of a row as an editor counts lines, and its cells: texts, or numbers and times."""


class RefusedFile(ValueError):
    """A file that cannot be used at all; the message names file, row and reason."""

    def __init__(self, path: Path, reason: str, row: int | None = None) -> None:
        place = f"{path}, row {row}" if row is not None else str(path)
        super().__init__(f"{place}: {reason}")


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Returns the header and the rows of a file.

    Args:
        path: A text file with separated values (comma, semicolon or tab), or `.parquet`.

    Raises:
        ImportError: Reading parquet needs pyarrow.
        RefusedFile: The file cannot be read, or has no header.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    rows = _csv_rows(path)
    for _, cells in rows:
        return [str(cell).strip() for cell in cells], list(rows)
    raise RefusedFile(path, "the file is empty; allowed: a header and records", 1)


def _csv_rows(path: Path) -> Iterator[Row]:
    """Yields rows that are not blank, each with the line on which it begins."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=header.count)
            reader, begins = csv.reader(file, delimiter=delimiter, strict=True), 1
            try:
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        yield begins, cells
                    begins = reader.line_num + 1
            except csv.Error as error:
                raise RefusedFile(path, f"unreadable: {error}", begins) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedFile(path, f"unreadable: {error}") from error


def _read_parquet(path: Path) -> tuple[list[str], list[Row]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            "reading parquet needs the package pyarrow: pip install 'separatrix[parquet]'"
        ) from error
    try:
        table = parquet.read_table(path)
        for i, column in enumerate(table.schema):
            if pyarrow.types.is_timestamp(column.type):  # Python's times have no nanoseconds
                kind = pyarrow.timestamp("us", column.type.tz)
                table = table.set_column(i, column.name, table[i].cast(kind, safe=False))
        columns = [column.to_pylist() for column in table.columns]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise RefusedFile(path, f"unreadable: {error}") from error
    names = [str(name).strip() for name in table.column_names]
    return names, list(enumerate(zip(*columns, strict=True), start=1))


def read_number(cell: Any) -> float | None:
    """Returns the number in a cell; None if it is empty.

    Raises:
        ValueError: The cell holds something else; the message says what.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        if isinstance(cell, bool | datetime) or (isinstance(cell, str) and "_" in cell):
            raise ValueError
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"got {str(cell)[:40]!r}; allowed: a number") from None
    if not abs(number) < float("inf"):
        raise ValueError(f"got {number}; allowed: a finite number")
    return number


def read_date(cell: Any) -> datetime:
    """Returns the time in a cell, with or without a zone as it stands there.

    Raises:
        ValueError: The cell holds something else; the message says what.
    """
    if isinstance(cell, datetime):
        return cell
    try:
        return datetime.fromisoformat(str(cell).strip())
    except ValueError:
        allowed = "a time in ISO 8601, or numbers under a header such as 'time [min]'"
        raise ValueError(f"got {str(cell)[:40]!r}; allowed: {allowed}") from None

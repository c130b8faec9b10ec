"""Timestamped records of what was measured and done, read from files and checked.

What cannot be meant is refused with the file, the row and the reason: a missing column, an unknown
or wrong unit, times of mixed kinds. What is wrong in single rows is left out and flagged, with the
row as an editor counts lines: times out of order or twice, texts that are no numbers, values that
cannot be. Nothing that was flagged enters a twin.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from separatrix.envs.core.registration import suggest
from separatrix.envs.twin.assimilate.record_files import (
    RefusedFile,
    Row,
    read_date,
    read_number,
    read_table,
)

KINDS = ("observation", "rate", "amount")
TIME_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in a unit of time."""


@dataclass(frozen=True)
class Column:
    """What is recorded in one column.

    In a file its header is the name, with a unit if that is another one than `unit`: `glucose`,
    `glucose [mmol/L]` or `glucose (mmol/L)`, in letters of either case.

    Attributes:
        name: Its name.
        unit: Of the values that are handed on.
        low, high: Least and largest value that can be, in that unit.
        kind: "observation"; or what was done: a "rate", which holds until the next record, or an
            "amount", which is given at once.
        units: Other units, and what a value in one is multiplied by.
        optional: Whether a file may lack it.

    Raises:
        ValueError: The kind is unknown, the range is empty, or a factor is not a number > 0.
    """

    name: str
    unit: str
    low: float
    high: float
    kind: str = "observation"
    units: Mapping[str, float] = field(default_factory=dict)
    optional: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: got {self.kind!r}; {suggest(self.kind, KINDS)}")
        if not self.low < self.high:
            got = f"{self.low!r} to {self.high!r}"
            raise ValueError(f"low and high of {self.name!r}: got {got}; allowed: low < high")
        for unit, factor in self.units.items():
            if not 0 < factor < math.inf:
                raise ValueError(f"factor of {unit!r}: got {factor!r}; allowed: a number > 0")

    @property
    def factors(self) -> dict[str, float]:
        """What values are multiplied by, for every unit that is known."""
        return {self.unit: 1.0, **self.units}


@dataclass(frozen=True)
class Flag:
    """Something in a file that is not used.

    Attributes:
        row: Number of the row, as an editor counts lines.
        reason: What is wrong.
    """

    row: int
    reason: str


@dataclass(frozen=True)
class Records:
    """Records in the order of their arrival.

    Attributes:
        columns: What is recorded.
        time_unit: Unit of the times.
        time: When it was measured or done: the numbers of the file; dates count from 1970, in UTC
            if they have a zone.
        arrival: When it became known; without a column `arrival` the same.
        values: In the units of the columns; NaN for what is missing.
        row: Number of each record's row.
        flags: What was left out, by rows.
        source: The file.
    """

    columns: tuple[Column, ...]
    time_unit: str
    time: Float64[np.ndarray, " record"]
    arrival: Float64[np.ndarray, " record"]
    values: Float64[np.ndarray, "record column"]
    row: Int64[np.ndarray, " record"]
    flags: tuple[Flag, ...]
    source: str


def read_records(
    path: str | Path,
    columns: Sequence[Column],
    *,
    time_unit: str = "min",
    largest_gap: float = math.inf,
) -> Records:
    """Reads records from a CSV or parquet file.

    The file has a header and a column `time`: dates in ISO 8601, all with a zone or all without, or
    numbers with their unit, `time [min]`. A column `arrival` of the same kind tells when a record
    became known; records then come in the order of arrival. Empty cells are missing values. Columns
    of other names are left aside.

    Args:
        path: The file; `.parquet` needs the package pyarrow.
        columns: What is to be read.
        time_unit: Unit of the times that are handed on, "ms", "s", "min", "h" or "d".
        largest_gap: Time after one record in which the next comes; a later one is flagged.

    Raises:
        ValueError: The file cannot be used; the message names it, the row and the reason.
        ImportError: The file needs pyarrow.
    """
    path = Path(path)
    if time_unit not in TIME_UNITS:
        raise ValueError(f"time_unit: got {time_unit!r}; {suggest(time_unit, TIME_UNITS)}")
    header, rows = read_table(path)
    places = _places(path, header)
    if "time" not in places:
        got = ", ".join(header)[:200]
        raise RefusedFile(path, f"no column 'time'; got: {got}", 1)
    if not rows:
        raise RefusedFile(path, "no records; allowed: a header and at least one record", 1)
    sound = [row for row in rows if len(row[1]) == len(header)]
    flags = [
        Flag(number, f"got {len(cells)} cells; allowed: {len(header)}, as in the header")
        for number, cells in rows
        if len(cells) != len(header)
    ]
    clock = _Clock(path, time_unit)
    time = clock.read("time", *places["time"], sound, flags)
    arrival = time
    if "arrival" in places:
        arrival = clock.read("arrival", *places["arrival"], sound, flags)
    kept = _in_order(time, arrival, sound, largest_gap, flags)
    values = np.full((len(sound), len(columns)), np.nan)
    for i, column in enumerate(columns):
        if column.name.lower() in places:
            values[:, i] = _read_column(path, column, places[column.name.lower()], sound, flags)
        elif not column.optional:
            reason = f"no column {column.name!r}; {suggest(column.name, places)}"
            raise RefusedFile(path, reason, 1)
    return Records(
        tuple(columns),
        time_unit,
        time[kept],
        arrival[kept],
        values[kept],
        np.array([number for number, _ in sound], dtype=np.int64)[kept],
        tuple(sorted(flags, key=lambda flag: flag.row)),
        str(path),
    )


def _places(path: Path, header: Sequence[str]) -> dict[str, tuple[int, str | None]]:
    """Returns the place of every column and the unit that its header gives, by name."""
    found: dict[str, tuple[int, str | None]] = {}
    for i, text in enumerate(header):
        match = re.fullmatch(r"(.*?)\s*(?:\[([^][]*)\]|\(([^()]*)\))?", text, re.DOTALL)
        assert match is not None  # the first group takes anything
        name, unit = match[1].strip().lower(), match[2] or match[3]
        if name in found:
            raise RefusedFile(path, f"two columns {name!r}; allowed: one", 1)
        found[name] = i, unit
    return found


class _Clock:
    """Reads columns of times, which must all be of one kind."""

    def __init__(self, path: Path, unit: str) -> None:
        self._path, self._second = path, 1 / TIME_UNITS[unit]
        self._zoned: bool | None = None

    def read(
        self, name: str, place: int, unit: str | None, rows: Sequence[Row], flags: list[Flag]
    ) -> Float64[np.ndarray, " row"]:
        """Returns times, NaN where there is none that can be read, which is flagged.

        Raises:
            RefusedFile: None can be read, the unit is unknown, or the times are of mixed kinds.
        """
        if unit is not None and unit.strip() not in TIME_UNITS:
            reason = f"unit of {name}: got {unit!r}; {suggest(unit, TIME_UNITS)}"
            raise RefusedFile(self._path, reason, 1)
        factor = None if unit is None else TIME_UNITS[unit.strip()] * self._second

        def parse(cell: Any, row: int) -> float:
            if factor is None:
                return self._seconds(name, read_date(cell), row) * self._second
            number = read_number(cell)
            if number is None or not math.isfinite(number * factor):
                raise ValueError(f"got {str(cell)[:40]!r}; allowed: a number")
            return number * factor

        times, bad = _parsed(name, place, rows, parse)
        if len(bad) == len(rows):
            reason = bad[0].reason if bad else "no row has as many cells as the header"
            raise RefusedFile(self._path, reason, bad[0].row if bad else None)
        flags += bad
        return times

    def _seconds(self, name: str, date: datetime, row: int) -> float:
        zoned = date.tzinfo is not None
        if self._zoned not in (None, zoned):
            reason = f"{name}: got times with a zone and times without; allowed: one kind"
            raise RefusedFile(self._path, reason, row)
        self._zoned = zoned
        origin = datetime(1970, 1, 1, tzinfo=UTC if zoned else None)
        return (date - origin).total_seconds()


def _parsed(
    name: str, place: int, rows: Sequence[Row], parse: Callable[[Any, int], float | None]
) -> tuple[Float64[np.ndarray, " row"], list[Flag]]:
    """Returns the numbers of a column, NaN where there is none, and what could not be read."""
    found, bad = np.full(len(rows), np.nan), []
    for i, (row, cells) in enumerate(rows):
        try:
            value = parse(cells[place], row)
        except RefusedFile:
            raise
        except ValueError as error:
            bad.append(Flag(row, f"{name}: {error}"))
            continue
        if value is not None:
            found[i] = value
    return found, bad


def _in_order(
    time: np.ndarray,
    arrival: np.ndarray,
    rows: Sequence[Row],
    largest_gap: float,
    flags: list[Flag],
) -> list[int]:
    """Returns the rows whose times go on, none of them twice; flags the others."""
    kept: list[int] = []
    known: set[float] = set()
    for i, (row, _) in enumerate(rows):
        if math.isnan(time[i]) or math.isnan(arrival[i]):
            continue  # flagged where it was read
        late, last = arrival[i], arrival[kept[-1]] if kept else None
        if time[i] in known:
            flags.append(Flag(row, "duplicated: the time of an earlier record"))
        elif last is not None and late < last:
            flags.append(Flag(row, "out of order: before the record above"))
        elif last is not None and late - last > largest_gap:
            flags.append(
                Flag(row, f"{late - last:g} after the record above; {largest_gap:g} allowed")
            )
        elif late < time[i]:
            flags.append(Flag(row, "arrival: before the time of the record"))
        else:
            kept.append(i)
            known.add(float(time[i]))
    return kept


def _read_column(
    path: Path,
    column: Column,
    place: tuple[int, str | None],
    rows: Sequence[Row],
    flags: list[Flag],
) -> Float64[np.ndarray, " row"]:
    """Returns the values of a column; NaN where they are missing or flagged."""
    known = {unit.lower().replace(" ", ""): unit for unit in column.factors}
    given = column.unit if place[1] is None else place[1]
    unit = known.get(given.lower().replace(" ", ""))
    if unit is None:
        reason = f"unit of {column.name}: got {given!r}; {suggest(given, column.factors)}"
        raise RefusedFile(path, reason, 1)
    written, bad = _parsed(column.name, place[0], rows, lambda cell, _: read_number(cell))
    flags += bad
    other = _better_unit(column, unit, written)
    if other is not None:
        first = int(np.flatnonzero(~_possible(column, unit, written))[0])
        raise RefusedFile(
            path,
            f"wrong unit of {column.name}: most values, such as {written[first]:g}, cannot be in "
            f"{unit}, but in {other}; allowed in {unit}: {_range(column, unit)}",
            rows[first][0],
        )
    impossible = ~_possible(column, unit, written)
    for i in np.flatnonzero(impossible).tolist():
        allowed = f"{_range(column, unit)} {unit}"
        flags.append(Flag(rows[i][0], f"{column.name}: got {written[i]:g}; allowed: {allowed}"))
    written[impossible] = np.nan
    return np.clip(written * column.factors[unit], column.low, column.high)  # but for rounding


def _possible(column: Column, unit: str, written: np.ndarray) -> np.ndarray:
    """Tells which values, as they are written, can be; missing ones can."""
    factor = column.factors[unit]  # the range is divided: what is written may be too large for it
    low, high = column.low / factor, column.high / factor
    return np.isnan(written) | ((written >= low) & (written <= high))


def _better_unit(column: Column, unit: str, written: np.ndarray) -> str | None:
    """Returns another unit, in which most values can be that cannot be in the one that is given."""
    numbers = written[~np.isnan(written) & (written != 0)]

    def fraction(unit: str) -> float:
        return float(_possible(column, unit, numbers).mean()) if len(numbers) else 1.0

    best = max(column.factors, key=fraction)
    return best if fraction(unit) < 0.5 < fraction(best) else None


def _range(column: Column, unit: str) -> str:
    factor = column.factors[unit]
    return f"{column.low / factor:g} to {column.high / factor:g}"

"""Records replayed on the time grid of a twin: each one once, late ones at their own time.

stream = TwinStream(read_records("patient.csv", columns), interval=5.0)
for moment, twin in stream.follow(twin, variance=100.0, window=12):
    ...
done = stream.state_dict()  # to be kept with the twin
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float64

from separatrix.envs.core.registration import is_positive
from separatrix.envs.twin.assimilate.records import Flag, Records

ROUNDING = 1e-6
"""Part of an interval by which a time may miss the grid and still lie on it."""
MOST_MOMENTS = 10**7


@runtime_checkable
class Follower(Protocol):
    """What follows records, such as a `separatrix.envs.twin.assimilate.twin.Twin`."""

    def forecast(self, control: Any) -> None:
        """Moves forward by one control interval under a held control, (control,)."""
        ...

    def assimilate(self, observation: Any, variance: Any) -> None:
        """Takes up an observation (observation,), in which NaN is missing."""
        ...

    def fork(self) -> Self:
        """Returns one that goes on from here by itself."""
        ...


@dataclass(frozen=True)
class Moment:
    """A moment of the time grid, and the control interval that ends there.

    Attributes:
        index: Number of control intervals since the start.
        time: In the unit of the records.
        control: Of the interval, in the order of the columns: the mean of a rate, 0 before its
            first record, and the sum of an amount; of moment 0, which ends no interval, zeros.
        observation: The last of the interval, in the order of the columns; NaN where there is none.
    """

    index: int
    time: float
    control: Float64[np.ndarray, " control"]
    observation: Float64[np.ndarray, " observation"]


FollowerKind = TypeVar("FollowerKind", bound=Follower)
Advance = Callable[[Any, Moment, Any], None]


def forecast_and_assimilate(twin: Follower, moment: Moment, variance: Any) -> None:
    """Takes a twin through a moment: the interval that ends there, then the observation."""
    if moment.index > 0:
        twin.forecast(moment.control)
    twin.assimilate(moment.observation, variance)


class TwinStream:
    """Replays records on a time grid, in order and each one once.

    A rate that changes within an interval is averaged over it. Amounts count to the interval in
    which they were given, from its beginning on. Observations count to its end, and of several the
    last one is taken. Records of an interval that is not over wait for a stream that goes on.

    Args:
        records: What is replayed.
        interval: The twin's control interval, in the unit of the records' times.
        start: Time of moment 0; None for that of the first record. Of records before it, only
            rates count.

    Attributes:
        control_names, observation_names: Of the columns, in order.
        flags: Of the records, and of what could not be assimilated.
        next: Index of the moment that is next: all before it are done, and never come again.

    Raises:
        ValueError: The interval is no number > 0, or the records last too many of them.
    """

    def __init__(self, records: Records, interval: float, *, start: float | None = None) -> None:
        if not is_positive(interval):
            raise ValueError(f"interval: got {interval!r}; allowed: a number > 0")
        self.records, self.interval, self.next = records, float(interval), 0
        self.flags = list(records.flags)
        if start is None:
            start = float(records.time.min()) if len(records.time) else 0.0
        self._start = float(start)
        kinds = [column.kind for column in records.columns]
        self._seen = [i for i, kind in enumerate(kinds) if kind == "observation"]
        self._done = [i for i, kind in enumerate(kinds) if kind != "observation"]
        names = [column.name for column in records.columns]
        self.observation_names = tuple(names[i] for i in self._seen)
        self.control_names = tuple(names[i] for i in self._done)
        self._held = dict.fromkeys(self.control_names, 0.0)
        self._left_out: list[float] = []
        self._lay_out()

    def _lay_out(self) -> None:
        """Sorts the records by time and finds the moments that they belong to."""
        order = np.argsort(self.records.time, kind="stable")
        self._values, self._row = self.records.values[order], self.records.row[order]
        self._time = (self.records.time[order] - self._start) / self.interval
        arrival = (self.records.arrival[order] - self._start) / self.interval
        if len(arrival) and not arrival.max() < MOST_MOMENTS:
            got = f"records for {arrival.max():g} intervals"
            raise ValueError(f"interval: got {got}; allowed: fewer than {MOST_MOMENTS:g}")
        # Both tell the first moment that a record is part of, or known at.
        self._known = np.ceil(arrival - ROUNDING)
        seen = ~np.isnan(self._values[:, self._seen]).all(1)
        done = ~np.isnan(self._values[:, self._done]).all(1)
        self._first = np.full(len(order), np.inf)
        self._first[done] = np.floor(self._time[done] + ROUNDING) + 1
        self._first[seen] = np.minimum(self._first[seen], np.ceil(self._time[seen] - ROUNDING))
        self._of_column = [
            np.flatnonzero(~np.isnan(column)) for column in self._values.T
        ]  # rows that have a value
        self.last = int(np.floor(arrival.max() + ROUNDING)) if len(arrival) else -1

    def _leave_out(self, which: np.ndarray, reason: str) -> None:
        """Flags records, which are never known from then on."""
        self.flags += [Flag(int(row), reason) for row in self._row[which]]
        self._left_out += [float(time) for time in self._time[which]]
        self._known[which], self._first[which] = np.inf, np.inf

    def moment(self, index: int, known: float = math.inf) -> Moment:
        """Returns a moment of the grid.

        Args:
            index: Its number, 0 or more.
            known: Only records that were known at the moment of this number count.
        """
        control = np.zeros(len(self._done))
        if index > 0:
            for place, column in enumerate(self._done):
                control[place] = self._control(column, index - 1, known)
        observation = np.full(len(self._seen), np.nan)
        for place, column in enumerate(self._seen):
            for i in self._between(column, index - 1 + ROUNDING, index + ROUNDING):
                if self._known[i] <= known:
                    observation[place] = self._values[i, column]
        return Moment(index, self._start + index * self.interval, control, observation)

    def _between(self, column: int, begin: float, end: float) -> np.ndarray:
        """Returns the records of a column from one time on until before another."""
        rows = self._of_column[column]
        low, high = np.searchsorted(self._time[rows], (begin, end))
        return rows[low:high]

    def _control(self, column: int, begin: int, known: float) -> float:
        """Returns the control of the interval that begins at a moment."""
        inside = self._between(column, begin - ROUNDING, begin + 1 - ROUNDING)
        inside = inside[self._known[inside] <= known]
        values = self._values[:, column]
        if self.records.columns[column].kind == "amount":
            return float(values[inside].sum())
        rate = self._rate(column, begin, known)
        if not len(inside):
            return rate
        rates = np.append(rate, values[inside])
        changes = np.clip(self._time[inside] - begin, 0.0, 1.0)
        return float(rates @ np.diff(np.concatenate(([0.0], changes, [1.0]))))

    def _rate(self, column: int, time: int, known: float) -> float:
        """Returns the rate that holds until a moment."""
        for i in self._between(column, -math.inf, time - ROUNDING)[::-1]:
            if self._known[i] <= known:
                return float(self._values[i, column])
        return self._held[self.records.columns[column].name]

    def __iter__(self) -> Iterator[Moment]:
        """Yields the moments that are next; records that come late are flagged."""
        for moment, _ in self._moments(0):
            yield moment

    def _moments(self, window: int) -> Iterator[tuple[Moment, int]]:
        """Yields moments, and the first one that what has become known since the last changes."""
        begin = self.next
        while self.next <= self.last:
            now = self.next
            late = (self._known == now) & (self._first < now)
            oldest = max(begin, now - window)
            self._leave_out(late & (self._first < oldest), "too late")
            changed = self._first[late & (self._known == now)]
            moment = self.moment(now, known=now)
            self.next += 1  # before the caller may break off with this moment done
            yield moment, int(changed.min()) if len(changed) else now

    def follow(
        self,
        twin: FollowerKind,
        variance: Any,
        *,
        window: int = 0,
        advance: Advance = forecast_and_assimilate,
    ) -> Iterator[tuple[Moment, FollowerKind]]:
        """Takes a twin through the moments that are next.

        What comes late is assimilated at its own time: the twin goes back to where it was before,
        and once more through all that followed. That is another twin than the one before.

        Args:
            twin: Where the stream begins; it is moved.
            variance: Of the observations, handed to `advance`.
            window: Moments that a record may come late; those later still are flagged.
            advance: Takes the twin through a moment.

        Yields:
            Each moment, and the twin after it.
        """
        before: dict[int, FollowerKind] = {}
        for moment, first in self._moments(window):
            now = moment.index
            if first < now:
                twin = before[first].fork()
                for index in range(first, now):
                    before[index] = twin.fork()
                    advance(twin, self.moment(index, known=now), variance)
            if window:
                before[now] = twin.fork()
                before.pop(now - window, None)
            advance(twin, moment, variance)
            yield moment, twin

    def state_dict(self) -> dict[str, Any]:
        """Returns how far the records are done, as JSON can hold it; to be kept with the twin."""
        held = {
            name: self._rate(column, self.next - 1, self.next - 1)
            for name, column in zip(self.control_names, self._done, strict=True)
        }
        return {
            "start": self._start,
            "interval": self.interval,
            "next": self.next,
            "columns": [column.name for column in self.records.columns],
            "held": held,
            "left_out": list(self._left_out),
        }

    def load_state_dict(self, found: Mapping[str, Any]) -> None:
        """Goes on where another stream stopped, over the same file or one that goes on.

        The file must hold all records from the last moment that is done on. Those of moments that
        are done are flagged: whether they were assimilated or come too late, they do not enter the
        twin again.

        Raises:
            ValueError: The other stream had another interval or other columns.
        """
        own = {"interval": self.interval, "columns": [c.name for c in self.records.columns]}
        for name, value in own.items():
            if found[name] != value:
                raise ValueError(f"{name}: got {found[name]!r}; allowed: {value!r}, as here")
        self._start, self.next = float(found["start"]), int(found["next"])
        self._held = {name: float(rate) for name, rate in found["held"].items()}
        self.flags, self._left_out = list(self.records.flags), []
        self._lay_out()
        self._leave_out(np.isin(self._time, found["left_out"]), "too late")
        done = (self._first < self.next) & (self._known < self.next)
        self.flags += [
            Flag(int(row), "not after what has been assimilated") for row in self._row[done]
        ]

"""Records on a time grid: each once, in order, late ones at their own time."""

import json
import math
from typing import Any, Self

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import separatrix  # noqa: F401
from separatrix.envs.twin.assimilate.records import Column, Records
from separatrix.envs.twin.assimilate.stream import TwinStream
from separatrix.envs.twin.assimilate.twin import Twin

NAN = math.nan
COLUMNS = (
    Column("glucose", "mg/dL", 35, 600),
    Column("basal", "U/h", 0, 30, kind="rate"),
    Column("bolus", "U", 0, 30, kind="amount"),
)


class Diary:
    """A twin that writes down what happens to it."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def forecast(self, control: Any) -> None:
        self.entries.append(("forecast", *np.round(control, 9).tolist()))

    def assimilate(self, observation: Any, variance: Any) -> None:
        if not np.isnan(observation).all():
            self.entries.append(("assimilate", *observation.tolist()))

    def fork(self) -> Self:
        other = type(self)()
        other.entries = list(self.entries)
        return other

    @property
    def seen(self) -> list[float]:
        return [entry[1] for entry in self.entries if entry[0] == "assimilate"]


def records(time: Any, *values: Any, arrival: Any = None) -> Records:
    """Records of glucose, basal and bolus; columns that are not given are missing."""
    table = np.full((len(time), 3), NAN)
    for i, column in enumerate(values):
        table[:, i] = column
    when = np.array(time, dtype=np.float64)
    known = when if arrival is None else np.array(arrival, dtype=np.float64)
    row = np.arange(2, len(time) + 2)
    return Records(COLUMNS, "min", when, known, table, row, (), "a test")


def follow(stream: TwinStream, twin: Diary, window: int = 0, most: int | None = None) -> Diary:
    for moment, there in stream.follow(twin, 1.0, window=window):
        twin = there
        if moment.index == most:
            break
    return twin


def test_moments_hold_what_was_measured_and_done() -> None:
    stream = TwinStream(
        records(
            [0, 2, 4, 5, 7.5, 19, 25],
            [100, 101, 102, 103, NAN, 104, NAN],
            [1.0, NAN, NAN, NAN, 2.0, NAN, NAN],
            [NAN, 3, 0.5, 1, NAN, NAN, NAN],
        ),
        5.0,
    )
    found = list(stream)
    assert [m.index for m in found] == [0, 1, 2, 3, 4, 5]
    assert [m.time for m in found] == [0, 5, 10, 15, 20, 25]
    seen = [m.observation[0] for m in found]
    assert np.allclose(seen, [100, 103, NAN, NAN, 104, NAN], equal_nan=True)
    # The rate doubles in the middle of the second interval; amounts count from its beginning on.
    assert [m.control.tolist() for m in found] == [
        [0, 0], [1, 3.5], [1.5, 1], [2, 0], [2, 0], [2, 0],
    ]  # fmt: skip
    assert stream.control_names == ("basal", "bolus") and stream.flags == []
    assert list(stream) == []


def test_insulin_is_neither_lost_nor_given_twice() -> None:
    generator = np.random.default_rng(0)
    time = np.sort(generator.uniform(0, 300, 200))
    time[0], time[-1] = 0.0, 300.0
    basal, bolus = generator.uniform(0, 2, 200), generator.uniform(0, 5, 200)
    found = list(TwinStream(records(time, [NAN] * 200, basal, bolus), 5.0))
    total = np.sum([m.control for m in found], axis=0)
    assert total[1] == pytest.approx(bolus[:-1].sum())  # the last one waits for its interval
    assert total[0] * 5 == pytest.approx((basal[:-1] * np.diff(time)).sum())


def test_times_that_miss_the_grid_by_rounding_lie_on_it() -> None:
    time = np.arange(1, 301) * 0.1 + 27_000_000  # minutes since 1970
    found = list(TwinStream(records(time, np.arange(300) + 100.0), 0.1))
    assert [m.observation[0] for m in found] == (np.arange(300) + 100.0).tolist()


def test_records_of_an_interval_that_is_not_over_wait() -> None:
    first = TwinStream(records([0, 5, 7], [100, 101, 102]), 5.0)
    assert [m.index for m in first] == [0, 1]
    second = TwinStream(records([0, 5, 7, 10], [100, 101, 102, NAN]), 5.0)
    second.load_state_dict(first.state_dict())
    assert [m.observation[0] for m in second] == [102]


# Late records


def test_late_records_are_assimilated_at_their_own_time() -> None:
    late = records([0, 5, 15, 20, 10, 25], [100, 101, 103, 104, 102, 105],
                   arrival=[0, 5, 15, 20, 21, 25])  # fmt: skip
    in_time = records([0, 5, 10, 15, 20, 25], [100, 101, 102, 103, 104, 105])
    expected = follow(TwinStream(in_time, 5.0), Diary())
    stream = TwinStream(late, 5.0)
    assert follow(stream, Diary(), window=3).entries == expected.entries
    assert stream.flags == []
    narrow = TwinStream(late, 5.0)
    assert follow(narrow, Diary(), window=2).seen == [100, 101, 103, 104, 105]
    assert [(flag.row, flag.reason) for flag in narrow.flags] == [(6, "too late")]


def test_a_late_bolus_changes_the_forecasts_since() -> None:
    late = records([0, 10, 2, 20], [100, 101, NAN, 102], [1, NAN, 3, NAN], [NAN, NAN, 4, NAN],
                   arrival=[0, 10, 12, 20])  # fmt: skip
    in_time = records([0, 2, 10, 20], [100, NAN, 101, 102], [1, 3, NAN, NAN], [NAN, 4, NAN, NAN])
    expected = follow(TwinStream(in_time, 5.0), Diary())
    assert follow(TwinStream(late, 5.0), Diary(), window=5).entries == expected.entries
    assert expected.entries[1] == ("forecast", 2.2, 4.0)


def test_what_is_not_known_yet_is_not_used() -> None:
    late = records([0, 10, 5], [100, 102, 101], arrival=[0, 10, 15])
    seen = [twin.seen for _, twin in TwinStream(late, 5.0).follow(Diary(), 1.0, window=9)]
    assert seen == [[100], [100], [100, 102], [100, 101, 102]]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 40), st.booleans()),
        min_size=1,
        max_size=15,
        unique_by=lambda entry: entry[0],
    ),
    st.integers(0, 8),
)
def test_nothing_is_assimilated_twice_or_at_a_wrong_time(
    entries: list[tuple[int, int, bool]], window: int
) -> None:
    """Whatever comes when: the last history is that of all records but the flagged ones."""
    entries = sorted(entries, key=lambda entry: entry[0] + entry[1])
    glucose = [100.0 + time if seen else NAN for time, _, seen in entries]
    bolus = [NAN if seen else 0.01 * time for time, _, seen in entries]
    time = [entry[0] for entry in entries]
    arrival = [sum(entry[:2]) for entry in entries]
    stream = TwinStream(records(time, glucose, [NAN] * len(time), bolus, arrival=arrival), 5.0)
    twin = follow(stream, Diary(), window)
    flagged = {flag.row for flag in stream.flags}
    over = min(time) + 5.0 * stream.last  # what comes later waits for a stream that goes on
    kept = [i for i in range(len(time)) if i + 2 not in flagged and arrival[i] <= over]
    kept.sort(key=lambda i: time[i])
    sound = records(
        [time[i] for i in kept],
        [glucose[i] for i in kept],
        [NAN] * len(kept),
        [bolus[i] for i in kept],
        arrival=[time[i] for i in kept],
    )
    other = TwinStream(sound, 5.0, start=min(time))
    other.last = stream.last
    assert twin.entries == follow(other, Diary()).entries
    if window == 8 and max(entry[1] for entry in entries) < 35:
        assert not flagged


# Going on


def test_the_same_file_twice_changes_nothing() -> None:
    table = records([0, 5, 10], [100, 101, 102])
    first = TwinStream(table, 5.0)
    twin = follow(first, Diary())
    again = TwinStream(table, 5.0)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    before = list(twin.entries)
    assert follow(again, twin).entries == before and again.next == 3
    expected = [(row, "not after what has been assimilated") for row in (2, 3, 4)]
    assert [(flag.row, flag.reason) for flag in again.flags] == expected


@pytest.mark.parametrize("stop", range(12))
def test_a_stream_that_goes_on_is_one_that_never_stopped(stop: int) -> None:
    generator = np.random.default_rng(1)
    time = np.sort(generator.uniform(0, 60, 40))
    values = generator.uniform(50, 300, (3, 40))
    values[generator.random((3, 40)) < 0.5] = NAN
    table = records(time, *(values / np.array([[1], [100], [100]])))
    whole = follow(TwinStream(table, 5.0), Diary())
    first = TwinStream(table, 5.0)
    twin = follow(first, Diary(), most=stop)
    found = json.loads(json.dumps(first.state_dict()))
    second = TwinStream(table, 5.0)
    second.load_state_dict(found)
    assert follow(second, twin.fork()).entries == whole.entries
    # A file that begins where the last one was left: the rate that holds is remembered.
    rest = time >= time[0] + 5 * stop - 1e-9
    later = TwinStream(records(time[rest], *(values[:, rest] / np.array([[1], [100], [100]]))), 5.0)
    later.load_state_dict(found)
    assert follow(later, twin.fork()).entries == whole.entries


def test_what_came_too_late_stays_out_when_a_stream_goes_on() -> None:
    table = records([0, 10, 15, 1, 20, 25], [100, 101, 102, NAN, 103, 104],
                    [1, NAN, NAN, 9, NAN, NAN], arrival=[0, 10, 15, 16, 20, 25])  # fmt: skip
    whole = follow(TwinStream(table, 5.0), Diary(), window=1)
    first = TwinStream(table, 5.0)
    twin = follow(first, Diary(), window=1, most=4)
    second = TwinStream(table, 5.0)
    second.load_state_dict(first.state_dict())
    assert follow(second, twin, window=1).entries == whole.entries
    assert all(entry[1] == 1 for entry in whole.entries if entry[0] == "forecast")


def test_other_streams_are_refused() -> None:
    found = TwinStream(records([0, 5], [100, 101]), 5.0).state_dict()
    with pytest.raises(ValueError, match=r"interval: got 5\.0; allowed: 6\.0, as here"):
        TwinStream(records([0, 6], [100, 101]), 6.0).load_state_dict(found)
    with pytest.raises(ValueError, match="columns: got "):
        TwinStream(records([0, 5], [100, 101]), 5.0).load_state_dict(found | {"columns": ["x"]})
    with pytest.raises(ValueError, match="interval: got 0; allowed: a number > 0"):
        TwinStream(records([0, 5], [100, 101]), 0)
    with pytest.raises(ValueError, match="got records for 2e"):
        TwinStream(records([0, 1e9], [100, 101]), 5.0)
    assert list(TwinStream(records([], []), 5.0)) == []


# A twin


def lorenz_records(steps: int, delay: int) -> Records:
    """All three components, every other step; some come late."""
    plant = Twin.of("Lorenz-v0", 2, seed=99)
    table = np.full((steps, 4), NAN)
    interval = plant.system.control_interval
    for step in range(steps):
        table[step, 3] = math.sin(step / 5)
        if step % 2 == 0:
            table[step, :3] = plant.values[0].numpy()
        plant.forecast([table[step, 3]])
    time = np.arange(steps) * interval
    arrival = time + (np.arange(steps) % 6 == 2) * delay * interval
    columns = tuple(Column(name, "1", -100, 100) for name in "xyz")
    columns = (*columns, Column("u", "1", -100, 100, kind="rate"))
    order = np.argsort(arrival, kind="stable")
    row = np.arange(steps) + 2
    return Records(columns, "s", time[order], arrival[order], table[order], row, (), "Lorenz")


def test_a_twin_follows_late_records_as_if_they_had_come_in_time() -> None:
    interval = Twin.of("Lorenz-v0", 2, seed=0).system.control_interval

    def run(delay: int) -> Twin:
        twin = Twin.of("Lorenz-v0", 8, seed=0, options={"dtype": "float64"})
        stream = TwinStream(lorenz_records(30, delay), interval)
        for moment, there in stream.follow(twin, 1.0, window=5):
            twin = there
            if moment.index == 29:
                break
        assert stream.flags == []
        return twin

    in_time = run(0)
    for delay in (1, 3):
        assert torch.equal(run(delay).values, in_time.values)


def test_a_twin_that_was_saved_goes_on_with_its_stream(tmp_path: Any) -> None:
    table = lorenz_records(30, 0)
    twin = Twin.of("Lorenz-v0", 8, seed=0)
    interval = twin.system.control_interval
    whole = TwinStream(table, interval)
    for _, end in whole.follow(twin.fork(), 1.0):
        expected = end
    first = TwinStream(table, interval)
    for moment, there in first.follow(twin, 1.0):
        if moment.index == 11:
            there.save(tmp_path / "twin.safetensors")
            done = json.dumps(first.state_dict())
            break
    second = TwinStream(table, interval)
    second.load_state_dict(json.loads(done))
    for _, end in second.follow(Twin.load(tmp_path / "twin.safetensors"), 1.0):
        found = end
    assert torch.equal(found.values, expected.values)

"""Records from files: what is read, what is flagged with its row, what is refused and why."""

import math
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from separatrix.envs.twin.assimilate.records import Column, Records, read_records
from separatrix.envs.twin.glucose.records import PATIENT_COLUMNS

COLUMNS = PATIENT_COLUMNS


def read(tmp_path: Path, text: str, **options: Any) -> Records:
    path = tmp_path / "patient.csv"
    path.write_bytes(text.encode())
    return read_records(path, COLUMNS, **options)


def flags(records: Records) -> list[tuple[int, str]]:
    return [(flag.row, flag.reason) for flag in records.flags]


def test_a_sound_file_is_read_as_it_stands(tmp_path: Path) -> None:
    text = (
        "\ufefftime,Glucose,bolus,note,carbohydrates [g],basal (U/min)\n"
        "2024-03-01T08:00,110,,woke up,,0.02\n"
        "2024-03-01T08:05,112.5,4,,60,\n"
        "2024-03-01 08:11:30,115,,,,0.01\n"
    )
    records = read(tmp_path, text)
    assert records.flags == () and records.row.tolist() == [2, 3, 4]
    assert np.allclose(np.diff(records.time), [5.0, 6.5])
    assert records.time[0] == (datetime(2024, 3, 1, 8) - datetime(1970, 1, 1)).total_seconds() / 60
    expected = [
        [110, 1.2, math.nan, math.nan],
        [112.5, math.nan, 4, 60],
        [115, 0.6] + [math.nan] * 2,
    ]
    assert np.allclose(records.values, expected, equal_nan=True)
    assert np.array_equal(records.arrival, records.time)


@pytest.mark.parametrize(
    "header", ["glucose [mmol/L]", "GLUCOSE (mmol/l)", " Glucose [ mmol / L ]"]
)
def test_units_in_the_header_are_converted(tmp_path: Path, header: str) -> None:
    records = read(tmp_path, f"time [min];{header}\n0;5.5\n5;6\n")
    assert np.allclose(records.values[:, 0], [5.5 * 18.0156, 6 * 18.0156])


@pytest.mark.parametrize(("unit", "factor"), [("s", 1 / 60), ("min", 1), ("h", 60), ("d", 1440)])
def test_times_may_be_numbers(tmp_path: Path, unit: str, factor: float) -> None:
    records = read(tmp_path, f"time [{unit}]\tglucose\n0\t100\n1.5\t101\n")
    assert np.allclose(records.time, [0, 1.5 * factor])


def test_zones_are_taken_off(tmp_path: Path) -> None:
    text = "time,glucose\n2024-03-01T08:00+02:00,100\n2024-03-01T06:05Z,100\n"
    assert np.allclose(np.diff(read(tmp_path, text).time), 5)


def test_bad_rows_are_flagged_and_left_out(tmp_path: Path) -> None:
    text = (
        "time [min],glucose,basal\n"
        "0,100,1\n"
        "5,4000,1\n"  # 3: absurd; the rest of the row stands
        "10,nan,1\n"  # 4
        "15,inf,1\n"  # 5
        "15,101,1\n"  # 6: duplicated
        "12,102,1\n"  # 7: before the row above
        "\n"
        "20,high,1\n"  # 9
        "25,103\n"  # 10: a cell is missing
        "x,104,1\n"  # 11
        "30,-5,1\n"  # 12
        "35,1_00,1\n"  # 13
        "40,105,1\n"
    )
    records = read(tmp_path, text)
    assert flags(records) == [
        (3, "glucose: got 4000; allowed: 35 to 600 mg/dL"),
        (4, "glucose: got nan; allowed: a finite number"),
        (5, "glucose: got inf; allowed: a finite number"),
        (6, "duplicated: the time of an earlier record"),
        (7, "out of order: before the record above"),
        (9, "glucose: got 'high'; allowed: a number"),
        (10, "got 2 cells; allowed: 3, as in the header"),
        (11, "time: got 'x'; allowed: a number"),
        (12, "glucose: got -5; allowed: 35 to 600 mg/dL"),
        (13, "glucose: got '1_00'; allowed: a number"),
    ]
    assert records.time.tolist() == [0, 5, 10, 15, 20, 30, 35, 40]
    seen = records.values[:, 0]
    assert seen[~np.isnan(seen)].tolist() == [100, 105]
    assert (records.values[:, 1] == 1).all()


def test_rows_are_the_lines_of_an_editor(tmp_path: Path) -> None:
    text = 'time [min],glucose,note\r\n0,100,"two\r\nlines"\r\n\r\n5,9999,\r\n10,100,\r\n'
    records = read(tmp_path, text)
    assert flags(records) == [(5, "glucose: got 9999; allowed: 35 to 600 mg/dL")]
    assert records.row.tolist() == [2, 5, 6]


def test_late_records_come_in_the_order_of_their_arrival(tmp_path: Path) -> None:
    text = (
        "time [min],arrival [min],glucose\n"
        "0,0,100\n"
        "10,10,101\n"
        "5,12,102\n"  # late, not out of order
        "20,15,103\n"  # known before it was measured
        "25,11,104\n"  # came before the row above
    )
    records = read(tmp_path, text)
    assert records.time.tolist() == [0, 10, 5] and records.arrival.tolist() == [0, 10, 12]
    assert [row for row, _ in flags(records)] == [5, 6]


def test_a_wild_time_does_not_hide_what_follows(tmp_path: Path) -> None:
    text = "time [min],glucose\n0,100\n1e9,101\n5,102\n"
    assert [row for row, _ in flags(read(tmp_path, text))] == [4]
    records = read(tmp_path, text, largest_gap=1440)
    assert flags(records) == [(3, "1e+09 after the record above; 1440 allowed")]
    assert records.time.tolist() == [0, 5]


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        ("", 1, "the file is empty"),
        ("\n\n", 1, "the file is empty"),
        ("time [min],glucose\n", 1, "no records"),
        ("when,glucose\n0,100\n", 1, "no column 'time'; got: when, glucose"),
        ("time [min],gluc\n0,100\n", 1, "no column 'glucose'"),
        ("time [min],glucose,glucose\n0,1,1\n", 1, "two columns 'glucose'"),
        ("time [min],glucose [mmol]\n0,5\n", 1, "unit of glucose: got 'mmol'; did you mean"),
        ("time [week],glucose\n0,100\n", 1, "unit of time: got 'week'"),
        ("time,glucose\n0.5,100\n1.5,100\n", 2, "time: got '0.5'; allowed: a time in ISO 8601, or"),
        ("time [min],glucose\nx,100\n", 2, "time: got 'x'"),
        ("time [min],glucose\n0\n", None, "no row has as many cells"),
        (
            "time,glucose\n2024-01-01T00:00,100\n2024-01-01T00:05Z,100\n",
            3,
            "time: got times with a zone and times without",
        ),
        (
            "time [min],glucose [mg/dL]\n0,5.5\n5,6.1\n10,34\n",
            2,
            "wrong unit of glucose: most values, such as 5.5, cannot be in mg/dL, but in mmol/L",
        ),
        (
            "time [min],glucose [mmol/L]\n0,110\n5,120\n",
            2,
            "wrong unit of glucose: most values, such as 110, cannot be in mmol/L, but in mg/dL",
        ),
        ('time [min],glucose\n0,100\n5,"100\n', 3, "unreadable"),
    ],
)
def test_files_that_cannot_be_meant_are_refused(
    tmp_path: Path, text: str, row: int | None, reason: str
) -> None:
    place = "patient.csv" + ("" if row is None else f", row {row}") + ": "
    with pytest.raises(ValueError) as caught:
        read(tmp_path, text)
    assert place + reason in str(caught.value)


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "patient.csv"
    with pytest.raises(ValueError, match=r"patient\.csv: unreadable"):
        read_records(path, COLUMNS)
    path.write_bytes(b"time [min],glucose\n0,\xff\xfe\n")
    with pytest.raises(ValueError, match=r"patient\.csv: unreadable"):
        read_records(path, COLUMNS)
    with pytest.raises(ValueError, match="time_unit: got 'year'"):
        read_records(path, COLUMNS, time_unit="year")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "control"}, "kind: got 'control'; allowed: observation"),
        ({"low": 5.0, "high": 5.0}, "allowed: low < high"),
        ({"units": {"x": 0.0}}, "factor of 'x': got 0.0"),
    ],
)
def test_columns_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Column("x", "1", 0.0, 1.0), **change)


cells = st.one_of(
    st.sampled_from(["", "0", "5", "100", "1e308", "-1", "nan", "inf", '"', "5.5", "2024-01-01"]),
    st.floats().map(repr),
    st.text(max_size=6),
)
lines = st.lists(st.lists(cells, min_size=1, max_size=4).map(",".join), max_size=8)
headers = st.sampled_from(
    ["time [min],glucose", "time,glucose", "time [min],glucose [mmol/L],basal", "time [s];bolus"]
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(header=st.one_of(headers, st.text(max_size=20)), body=lines)
def test_whatever_the_text_is(tmp_path: Path, header: str, body: list[str]) -> None:
    """It is refused with the file, or every value handed on can be, at times that go on."""
    text = "\n".join([header, *body])
    try:
        records = read(tmp_path, text.encode(errors="ignore").decode())
    except ValueError as error:
        assert str(tmp_path / "patient.csv") in str(error)
        return
    for i, column in enumerate(COLUMNS):
        found = records.values[:, i]
        found = found[~np.isnan(found)]
        assert ((found >= column.low) & (found <= column.high)).all()
    assert np.isfinite(records.time).all() and (np.diff(records.time) > 0).all()
    last = text.count("\n") + text.count("\r") + 1
    rows = [*records.row.tolist(), *(flag.row for flag in records.flags)]
    assert all(2 <= row <= last for row in rows)
    assert all(flag.reason for flag in records.flags)


# Parquet


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    times = [datetime(2024, 3, 1, 8, minute) for minute in (0, 5, 5, 10)]
    table = {
        "time": pyarrow.array(times, pyarrow.timestamp("ns")),
        "glucose [mmol/L]": pyarrow.array([5.5, None, 6.0, 1000.0]),
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "patient.parquet")
    records = read_records(tmp_path / "patient.parquet", COLUMNS)
    assert np.allclose(np.diff(records.time), 5)
    assert np.allclose(records.values[:, 0], [5.5 * 18.0156, np.nan, np.nan], equal_nan=True)
    assert [row for row, _ in flags(records)] == [3, 4]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=r"broken\.parquet: unreadable"):
        read_records(tmp_path / "broken.parquet", COLUMNS)


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "patient.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="needs the package pyarrow: pip install"):
        read_records(path, COLUMNS)

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from separatrix.agents.common.metrics import HEADER, MetricsFile, read_metrics


def test_new_tags_may_come_at_any_time(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.csv")
    metrics.append({"a": 1 / 3}, 10)
    metrics.append({"a": 2.0, "b/c": math.nan, "d": -math.inf}, 20)
    metrics.close()
    series = read_metrics(tmp_path / "metrics.csv")
    assert series["a"] == [(10, 1 / 3), (20, 2.0)]
    assert math.isnan(series["b/c"][0][1])
    assert series["d"] == [(20, -math.inf)]


def test_opening_again_appends(tmp_path: Path) -> None:
    for step in (1, 2):
        metrics = MetricsFile(tmp_path / "metrics.csv")
        metrics.append({"a": step}, step)
        metrics.close()
    assert read_metrics(tmp_path / "metrics.csv") == {"a": [(1, 1.0), (2, 2.0)]}


def test_cut_removes_later_rows(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step in (5, 10, 15):
        metrics.append({"a": step}, step)
    metrics.cut(10)
    metrics.append({"a": 11}, 11)
    metrics.close()
    assert read_metrics(tmp_path / "metrics.csv") == {"a": [(5, 5.0), (10, 10.0), (11, 11.0)]}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.integers(0, 200))
def test_a_row_cut_off_by_a_kill_is_dropped(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "metrics.csv"
    path.unlink(missing_ok=True)
    metrics = MetricsFile(path)
    for step in range(6):
        metrics.append({"a": step + 0.125}, step)
    metrics.close()
    path.write_bytes(path.read_bytes()[:kept])
    metrics = MetricsFile(path)
    metrics.append({"a": 7.0}, 7)
    metrics.close()
    assert path.read_text().startswith(HEADER)
    *before, last = read_metrics(path)["a"]
    assert last == (7, 7.0)
    assert before == [(step, step + 0.125) for step in range(len(before))]


@pytest.mark.parametrize("tag", ["", "a,b", 'a"b', "a\nb"])
def test_tags_that_break_the_format_are_refused(tmp_path: Path, tag: str) -> None:
    metrics = MetricsFile(tmp_path / "metrics.csv")
    with pytest.raises(ValueError, match="got tag"):
        metrics.append({tag: 1.0}, 0)
    metrics.close()
    assert read_metrics(tmp_path / "metrics.csv") == {}


def test_damaged_rows_are_dropped_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    good = [b"1,a,0.5,9.0\n", b"2,b,nan,9.0\n"]
    bad = [
        b"x,a,0.5,9.0\n",
        b"3,a,0.5\n",
        b"3,a,zero,9.0\n",
        b"\x00\xff\n",
        b"\n",
        b"3,,0.5,9.0\n",
        b'3,"a,0.5,9.0\n',
    ]
    path.write_bytes(b"".join([HEADER.encode(), good[0], *bad, good[1], b"3,a,0."]))
    with pytest.warns(RuntimeWarning, match=r"metrics\.csv is damaged: dropping 7 lines"):
        MetricsFile(path).close()
    assert path.read_bytes() == b"".join([HEADER.encode(), *good])
    path.write_bytes(bytes(50) + b"\n" + good[0])
    with pytest.warns(RuntimeWarning, match="dropping 1 lines"):
        MetricsFile(path).close()
    assert path.read_bytes() == HEADER.encode() + good[0]

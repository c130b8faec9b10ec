"""What the edge of reach was to show, held against what was measured, in `docs/results`.

The runs take an hour (`benchmarks/offline_edge_of_reach.py`); these tests read what they left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
GROWS = "after 120,000 updates the base's values are 11 times the true ones, and still growing"
LOW = "RAVL's values never go astray, but stay at a third of the true ones"
UNSURE = "RAVL's critics disagree elsewhere, too: the area is 0.78"


def last(method: str) -> list[dict[str, Any]]:
    """Returns what was measured of a method at the end, with the largest value over the true."""
    path = RESULTS / "offline_edge_of_reach.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["methods"][method]
    return [
        run["rows"][-1] | {"ratio": run["rows"][-1]["largest_value"] / run["largest_true_value"]}
        for run in runs
    ]


def test_true_values_at_the_edge_keep_all_values_sane() -> None:
    assert all(0.5 < run["ratio"] < 2 for run in last("patched"))


@pytest.mark.xfail(reason=GROWS, strict=True)
def test_values_at_the_edge_grow_without_bound() -> None:
    assert all(run["ratio"] > 100 for run in last("base"))


@pytest.mark.xfail(reason=LOW, strict=True)
def test_ravl_keeps_values_near_the_true_ones() -> None:
    assert all(0.5 < run["ratio"] < 2 for run in last("RAVL"))


@pytest.mark.xfail(reason=UNSURE, strict=True)
def test_the_spread_of_ravl_tells_the_edge() -> None:
    assert all(run["spread_auc"] > 0.9 for run in last("RAVL"))

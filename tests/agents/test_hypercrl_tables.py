"""The tables of continual learning, of files of results that are made up."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
ORIGIN = {
    "command": "python benchmarks/hypercrl.py",
    "commit": "0",
    "versions": {"cpu": "one", "torch": "2", "python": "3"},
    "cores": 2,
    "load_average": [0.5, 0.5, 0.5],
    "threads": {"torch": 1},
}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("hypercrl_tables")


def run(seed: int, kept: float) -> dict[str, Any]:
    return {
        "seed": seed,
        "scores": [[0.8, 0.1], [kept, 0.6]],
        "curves": {"0": [[0, 0.0], [100, 0.8]], "1": [[0, 0.4], [100, 0.6]]},
        "model_error": [[0.01, None], [0.02, 0.04]],
        "seconds": [10.0, 12.5],
        "training_seconds": [6.0, 7.0],
        "parameters": 1234,
        "stored_floats": {"hypernetwork": 1000, "embeddings": 20},
    }


def content() -> dict[str, Any]:
    alone = run(0, 0.8)
    alone["curves"] = {"0": [[0, 0.0], [100, 0.8]], "1": [[0, 0.0], [100, 0.5]]}
    methods = [
        {"name": "HyperCRL", "runs": [run(0, 0.6), run(1, 0.8)]},
        {"name": "single", "runs": [alone]},
    ]
    study = {
        "stream": "LorenzStream-v0",
        "tasks": 2,
        "labels": ["rho = 28", "rho = 35"],
        "settings": {"random_steps": 200},
        "baseline": "single",
        "methods": methods,
    }
    return {**ORIGIN, "studies": [study]}


def cells(text: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a table; what follows it tells its origin."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert "`python benchmarks/hypercrl.py`; one, 2 cores, 1 thread, torch 2" in text
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows[0], rows[2:]


def test_methods_by_hand(tables: Any) -> None:
    heading, (ours, alone) = cells(tables.methods(content()))
    found = dict(zip(heading, ours, strict=True))
    assert found == {
        "stream": "LorenzStream-v0",
        "method": "HyperCRL",
        "seeds": "2",
        "average performance": "0.65 [0.60, 0.70]",
        "forgetting": "0.05 [0.00, 0.10]",
        "retention": "0.94 [0.88, 1.00]",  # (0.6 / 0.8 + 1) / 2 and 1
        "forward transfer": "0.17",  # (0 + (0.5 - 0.25) / 0.75) / 2
        "BWT": "-0.10 [-0.20, 0.00]",
        "10-step model error": "0.03",
        "seconds a task, first to last": "10.0 to 12.5",
        "of these training": "6.0 to 7.0",
        "parameters": "1,234",
        "floats kept between tasks": "1,020",
        "while learning": "1,020",
    }
    found = dict(zip(heading, alone, strict=True))
    assert found["method"] == "single"
    assert found["forward transfer"] == "0.00"


def test_without_a_baseline_there_is_no_forward_transfer(tables: Any) -> None:
    made = content()
    made["studies"][0]["baseline"] = None
    heading, rows = cells(tables.methods(made))
    assert [row[heading.index("forward transfer")] for row in rows] == ["", ""]


def test_seeds_without_a_number_are_told(tables: Any) -> None:
    made = content()
    made["studies"][0]["methods"][0]["runs"][1]["scores"] = [[None, None], [None, None]]
    heading, rows = cells(tables.methods(made))
    assert rows[0][heading.index("average performance")] == "0.60 (1)"
    assert rows[0][heading.index("seeds")] == "2"


def test_plasticity_counts_steps_to_the_error_of_a_network_of_its_own(tables: Any) -> None:
    def variant(last: list[float], alone: list[float]) -> dict[str, Any]:
        curves = [[0.5, 0.1, 0.1], last]
        return {
            "curves": curves, "alone": alone, "final": [0.2, last[-1]], "seconds": 3.0,
            "parameters": 1234,
        }  # fmt: skip

    made = {
        **ORIGIN,
        "chunk": 100,
        "tasks": 2,
        "target_steps": 200,
        "target_variant": "own",
        "variants": {
            "HyperCRL": [variant([0.9, 0.5, 0.3], [0.6, 0.3, 0.2])],
            "own": [variant([0.6, 0.3, 0.2], [0.6, 0.3, 0.2])],
            "lost": [variant([0.9, 0.8, 0.7], [0.6, 0.3, 0.2])],
        },
    }
    heading, rows = cells(tables.plasticity(made))
    steps = heading.index("steps to an error of 0.300 on the last task")
    assert [row[steps] for row in rows] == ["300", "200", ""]
    assert [row[steps + 1] for row in rows] == ["200", "200", "200"]
    first = dict(zip(heading, rows[0], strict=True))
    assert first["its error in the end"] == "0.300"
    assert first["error of earlier tasks at their own end"] == "0.100"
    assert first["in the end"] == "0.200"


def test_tuning_marks_the_best_setting_of_each_method(tables: Any) -> None:
    rows = [
        {"method": "single", "setting": "a", "errors": [[0.1, 0.3], [0.2, 0.2]], "return": 80.0},
        {"method": "EWC", "setting": "a", "errors": [[0.5, 0.5]], "return": 70.0},
        {"method": "EWC", "setting": "not tried in control", "errors": [[0.6, 0.6]]},
        {"method": "single", "setting": "b", "errors": [[0.1, 0.1]], "return": 75.0},
    ]
    _, found = cells(tables.tuning({**ORIGIN, "rows": rows}))
    assert found == [
        ["single", "a", "0.200", "**80.0**"],
        ["single", "b", "0.100", "75.0"],
        ["EWC", "a", "0.500", "**70.0**"],
    ]


def test_task_by_task(tables: Any) -> None:
    heading, rows = cells(tables.tasks(content()))
    first, second = (dict(zip(heading, row, strict=True)) for row in rows)
    assert first["physics"] == "rho = 28"
    assert first["score before"] == ""
    assert second["score before"] == "0.10"
    assert first["after its training"] == "0.80"
    assert first["in the end"] == "0.70 [0.60, 0.80]"
    assert first["model error after its training"] == "0.01"
    assert first["model error in the end"] == "0.02"
    assert (first["seconds"], second["seconds"]) == ("10.0", "12.5")


def test_tasks_that_are_not_told(tables: Any) -> None:
    made = {
        "begins": [0, 800, 1600],
        "num_envs": 8,
        "told_scores": [0.9, 0.8, 0.7],
        "inferred_scores": [0.8, 0.8, 0.6],
        "inferred_correctly": [0.99, 0.95, 0.5],
    }
    runs = [
        {**made, "detections": [[400, 320, -1], [880, 800, -1]]},
        {**made, "detections": [[960, 800, -1], [1200, 1000, 0], [1840, 1600, -1]]},
    ]
    content = {**ORIGIN, "labels": ["a", "b", "c"], "runs": runs}
    heading, rows = cells(tables.unknown(content))
    first, second, third = (dict(zip(heading, row, strict=True)) for row in rows)
    told = ("begin detected in runs", "after steps of each environment", "false alarms in all")
    assert [first[name] for name in told] == ["", "", "1"]
    assert [second[name] for name in told] == ["2 of 2", "15 [10, 20]", "1"]
    assert [third[name] for name in told] == ["1 of 2", "30 (1)", "0"]
    assert (first["score, told the task"], first["inferring it"]) == ("0.90", "0.80")
    assert third["steps inferred correctly"] == "0.500"


def test_only_results_that_exist_make_blocks(
    tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.tables() == {}
    (tmp_path / "hypercrl_long.json").write_text(json.dumps(content()))
    made = tables.tables()
    assert set(made) == {"hypercrl long", "hypercrl long tasks"}
    assert made["hypercrl long"] == tables.methods(content())


def test_matrices_and_areas(tables: Any) -> None:
    made = run(0, 0.6)
    assert math.isnan(tables.matrix(made, "model_error")[0, 1])
    del made["curves"]["1"]
    first, second = tables.areas(made, 2).tolist()
    assert first == pytest.approx(0.4)
    assert math.isnan(second)

"""Tables of continual learning, from `docs/results/hypercrl_*.json`, where these files exist.

The files are `hypercrl_main`, `hypercrl_long`, `hypercrl_ablation` and `hypercrl_mujoco`, the name
of a block with an underscore for its space. Each holds what `benchmarks/harness.py` tells about the
origin (command, commit, versions, cores, threads, load_average), and

    studies: a list, one for each stream, of
        stream            id, such as "LorenzStream-v0"
        tasks             number of tasks
        labels            short name of each task
        settings          whatever else the runs share, as JSON values
        baseline          name of the method that learns every task alone, whose curves forward
                          transfer is measured against; null for none
        methods: a list of
            name          such as "HyperCRL"
            runs: a list, one for each seed, of
                seed
                scores              rows: trained up to this task; columns: all tasks; normalised,
                                    null where not measured
                curves              task (its number as text) -> list of [steps in the task, score];
                                    equal steps for all methods and seeds
                model_error         like scores: 10-step errors of the task's model; smaller is
                                    better
                seconds             wall time of each task
                training_seconds    wall time of each task that the model was trained for
                parameters          learned numbers, those of all tasks
                stored_floats       category (see separatrix.agents.hypercrl.storage) -> numbers

A mean stands with its 95 % bootstrap interval over the seeds; where some seeds have no number their
mean is of the others, and in parentheses stands of how many.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from result_tables import RESULTS, lines
from torch import Tensor

from separatrix.agents.hypercrl import metrics

BLOCKS = ("main", "long", "ablation", "mujoco")
"""Results that may exist."""

SHOWN = "HyperCRL"
"""The method that is told task by task."""

Run = dict[str, Any]
Study = dict[str, Any]


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block whose results exist, by its name."""
    found = {}
    for name in BLOCKS:
        path = RESULTS / f"hypercrl_{name}.json"
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            if name == "ablation":
                found["hypercrl ablation"] = ablation(content)
            else:
                found[f"hypercrl {name}"] = methods(content)
                found[f"hypercrl {name} tasks"] = tasks(content)
    return found


def methods(content: dict[str, Any]) -> str:
    """Every method on every stream."""
    rows = [
        [
            study["stream"],
            method["name"],
            str(len(method["runs"])),
            *(cell(method, number, "{:.2f}") for number in numbers(study)),
            cell(method, model_error, "{:.3g}"),
            _first_and_last(method, "seconds"),
            _first_and_last(method, "training_seconds"),
            cell(method, lambda run: float(run["parameters"]), "{:,.0f}"),
            cell(method, lambda run: float(sum(run["stored_floats"].values())), "{:,.0f}"),
        ]
        for study in content["studies"]
        for method in study["methods"]
    ]
    heading = (
        "stream | method | seeds: | average performance: | forgetting: | retention: "
        "| forward transfer: | BWT: | 10-step model error: | seconds a task, first to last: "
        "| of these training: | parameters: | stored floats:"
    )
    return lines(heading, rows, content)


def ablation(content: dict[str, Any]) -> str:
    """Every variant, and how far it lies from the first of its stream."""
    rows = []
    for study in content["studies"]:
        first = float(_mean(study["methods"][0], performance))
        for method in study["methods"]:
            difference = float(_mean(method, performance)) - first
            rows.append(
                [
                    study["stream"],
                    method["name"],
                    str(len(method["runs"])),
                    cell(method, performance, "{:.2f}"),
                    "" if method is study["methods"][0] else f"{difference:+.2f}",
                    *(cell(method, number, "{:.2f}") for number in numbers(study)[1:4]),
                    cell(method, model_error, "{:.3g}"),
                    _first_and_last(method, "training_seconds"),
                    cell(method, lambda run: float(run["parameters"]), "{:,.0f}"),
                ]
            )
    heading = (
        "stream | variant | seeds: | average performance: | less the first's: | forgetting: "
        "| retention: | forward transfer: | 10-step model error: "
        "| training seconds a task, first to last: | parameters:"
    )
    return lines(heading, rows, content)


def tasks(content: dict[str, Any]) -> str:
    """Task by task, of the method `SHOWN`."""
    rows = []
    for study in content["studies"]:
        method = next((found for found in study["methods"] if found["name"] == SHOWN), None)
        if method is None:
            continue
        for task, label in enumerate(study["labels"][: study["tasks"]]):
            rows.append(
                [
                    study["stream"],
                    str(task + 1),
                    label,
                    cell(method, _entry("scores", task - 1, task) if task else _nothing, "{:.2f}"),
                    cell(method, _entry("scores", task, task), "{:.2f}"),
                    cell(method, _entry("scores", -1, task), "{:.2f}"),
                    cell(method, _entry("model_error", task, task), "{:.3g}"),
                    cell(method, _entry("model_error", -1, task), "{:.3g}"),
                    cell(method, _time("seconds", task), "{:.1f}"),
                ]
            )
    heading = (
        "stream | task: | physics | score before: | after its training: | in the end: "
        "| model error after its training: | model error in the end: | seconds:"
    )
    return lines(heading, rows, content)


Number = Callable[[Run], float]
"""A number of a run; NaN where it has none."""


def numbers(study: Study) -> list[Number]:
    """Average performance, forgetting, retention, forward transfer and BWT of a run."""
    return [
        performance,
        lambda run: metrics.forgetting(matrix(run, "scores")).nanmean().item(),
        lambda run: metrics.retention(matrix(run, "scores")).nanmean().item(),
        _forward_transfer(study),
        lambda run: metrics.backward_transfer(matrix(run, "scores")).item(),
    ]


def performance(run: Run) -> float:
    """Average performance of a run."""
    return metrics.average_performance(matrix(run, "scores")).item()


def model_error(run: Run) -> float:
    """Mean over the tasks of the latest errors of their models."""
    return metrics.average_performance(matrix(run, "model_error")).item()


def matrix(run: Run, name: str) -> Tensor:
    """A matrix of a run, NaN where it was not measured."""
    return torch.tensor(
        [[torch.nan if value is None else value for value in row] for row in run[name]],
        dtype=torch.float64,
    )


def areas(run: Run, count: int) -> Tensor:
    """Area under each task's curve, (task,); NaN for tasks without one."""
    found = torch.full((count,), torch.nan, dtype=torch.float64)
    for task, points in run["curves"].items():
        steps, scores = torch.tensor(points, dtype=torch.float64).T
        found[int(task)] = metrics.curve_area(steps, scores)
    return found


def cell(method: dict[str, Any], number: Number, form: str) -> str:
    """Mean over the seeds with its interval; empty where no run has the number."""
    values = torch.tensor([number(run) for run in method["runs"]], dtype=torch.float64)
    found = metrics.interval(values)
    if not found.seeds:
        return ""
    mean, low, high = (form.format(value) for value in found[:3])
    text = mean if low == high == mean else f"{mean} [{low}, {high}]"
    return text if found.seeds == len(values) else f"{text} ({found.seeds})"


def _nothing(run: Run) -> float:
    return torch.nan


def _entry(name: str, row: int, column: int) -> Number:
    return lambda run: float(matrix(run, name)[row, column])


def _time(name: str, task: int) -> Number:
    return lambda run: float(run[name][task])


def _forward_transfer(study: Study) -> Number:
    count = study["tasks"]
    alone = [found for found in study["methods"] if found["name"] == study["baseline"]]
    if not alone:
        return _nothing
    baseline = torch.stack([areas(run, count) for run in alone[0]["runs"]]).nanmean(0)
    return lambda run: metrics.forward_transfer(areas(run, count), baseline).nanmean().item()


def _mean(method: dict[str, Any], number: Number) -> float:
    return torch.tensor([number(run) for run in method["runs"]]).nanmean().item()


def _first_and_last(method: dict[str, Any], name: str) -> str:
    first, last = (cell(method, _time(name, task), "{:.1f}") for task in (0, -1))
    return f"{first} to {last}"

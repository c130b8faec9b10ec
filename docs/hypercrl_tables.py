"""Tables of continual learning, from `docs/results/hypercrl_*.json`, where these files exist.

The files are `hypercrl_main`, `hypercrl_long` and `hypercrl_mujoco`, the name of a block with an
underscore for its space; those of `ALONE` hold what their scripts write. Each holds what
`benchmarks/harness.py` tells about the origin (command, commit, versions, cores, threads,
load_average), and

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
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from result_tables import RESULTS, lines
from torch import Tensor

from separatrix.agents.common.tensorboard import encode_png
from separatrix.agents.hypercrl import figures, metrics

BLOCKS = ("main", "long", "mujoco", "plasticity", "tuning", "steps", "unknown")
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
            if name in ALONE:
                found[f"hypercrl {name}"] = ALONE[name](content)
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
            cell(method, kept, "{:,.0f}"),
            cell(method, lambda run: float(sum(run["stored_floats"].values())), "{:,.0f}"),
        ]
        for study in content["studies"]
        for method in study["methods"]
    ]
    heading = (
        "stream | method | seeds: | average performance: | forgetting: | retention: "
        "| forward transfer: | BWT: | 10-step model error: | seconds a task, first to last: "
        "| of these training: | parameters: | floats kept between tasks: | while learning:"
    )
    return lines(heading, rows, content)


def plasticity(content: dict[str, Any]) -> str:
    """How long every variant takes to learn the last task, after the others and alone."""
    chunk, count = content["chunk"], content["tasks"]
    own = content["variants"][content["target_variant"]]
    at = content["target_steps"] // chunk - 1
    target = torch.tensor([run["alone"][at] for run in own]).mean().item()
    rows = []
    for name, runs in content["variants"].items():

        def number(
            found: Callable[[Run], float], form: str = "{:.3f}", runs: list[Run] = runs
        ) -> str:
            return cell({"runs": runs}, found, form)

        rows.append(
            [
                name,
                str(len(runs)),
                number(lambda run: _steps_to(target, run["curves"][-1], chunk), "{:,.0f}"),
                number(lambda run: _steps_to(target, run["alone"], chunk), "{:,.0f}"),
                number(lambda run: run["curves"][-1][-1]),
                number(lambda run: run["alone"][-1]),
                number(lambda run: sum(c[-1] for c in run["curves"][:-1]) / (count - 1)),
                number(lambda run: sum(run["final"][:-1]) / (count - 1)),
                number(lambda run: run["seconds"], "{:.0f}"),
                f"{runs[0]['parameters']:,}",
            ]
        )
    heading = (
        f"variant | seeds: | steps to an error of {target:.3f} on the last task: | alone: "
        "| its error in the end: | alone: | error of earlier tasks at their own end: "
        "| in the end: | seconds: | parameters:"
    )
    return lines(heading, rows, content)


def steps(content: dict[str, Any]) -> str:
    """Milliseconds of a gradient step in some tasks of a long stream."""
    shown = [row for row in content["rows"] if row["tasks"] in (1, 2, 5, 10, 20)]
    rows = [[name, *(f"{1e3 * row[name]:.2f}" for row in shown)] for name in content["methods"]]
    heading = "ms in task | " + " | ".join(f"{row['tasks']}:" for row in shown)
    return lines(heading, rows, content)


def _steps_to(target: float, curve: list[float], chunk: int) -> float:
    """Gradient steps until an error is reached; NaN if it never is."""
    reached = [i for i, error in enumerate(curve) if error <= target]
    return chunk * (reached[0] + 1.0) if reached else torch.nan


def tuning(content: dict[str, Any]) -> str:
    """Error on recorded data and return in control, for every setting that was tried in control."""
    tried = [row for row in content["rows"] if "return" in row]
    best = {
        name: max(row["return"] for row in tried if row["method"] == name)
        for name in dict.fromkeys(row["method"] for row in tried)
    }
    rows = [
        [
            row["method"],
            row["setting"],
            f"{torch.tensor(row['errors']).mean():.3f}",
            f"**{row['return']:.1f}**"
            if row["return"] == best[row["method"]]
            else f"{row['return']:.1f}",
        ]
        for name in best
        for row in tried
        if row["method"] == name
    ]
    return lines("method | setting | error on recorded data: | return in control:", rows, content)


def unknown(content: dict[str, Any]) -> str:
    """Task by task, what came of tasks that were not told, see `benchmarks/hypercrl_unknown.py`."""
    rows, method = [], {"runs": content["runs"]}
    for task, label in enumerate(content["labels"]):
        delays = [alarms(run, task)[0] for run in content["runs"]]
        found = sum(delay == delay for delay in delays)
        rows.append(
            [
                str(task + 1),
                label,
                cell(method, _item("told_scores", task), "{:.2f}"),
                cell(method, _item("inferred_scores", task), "{:.2f}"),
                cell(method, _item("inferred_correctly", task), "{:.3f}"),
                f"{found} of {len(delays)}" if task else "",
                cell(method, _delay(task), "{:.0f}"),
                str(sum(alarms(run, task)[1] for run in content["runs"])),
            ]
        )
    heading = (
        "task: | physics | score, told the task: | inferring it: | steps inferred correctly: "
        "| begin detected in runs: | after steps of each environment: | false alarms in all:"
    )
    return lines(heading, rows, content)


def alarms(run: Run, task: int) -> tuple[float, int]:
    """What was detected while the environments were in a task.

    Returns:
        Steps of each environment from its begin to its detection, the first one there, NaN if there
        is none; and the number of the others, which are false. The first task is not to be
        detected.
    """
    begin, *later = run["begins"][task:]
    inside = [steps for steps, *_ in run["detections"] if begin < steps <= (*later, math.inf)[0]]
    if task == 0 or not inside:
        return math.nan, len(inside)
    return (inside[0] - begin) / run["num_envs"], len(inside) - 1


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
                    cell(method, _item("seconds", task), "{:.1f}"),
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


def kept(run: Run) -> float:
    """Numbers that are kept from task to task; the rest is made anew when one begins."""
    anew = ("optimiser", "regulariser targets")
    return float(sum(n for name, n in run["stored_floats"].items() if name not in anew))


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


def _delay(task: int) -> Number:
    return lambda run: alarms(run, task)[0]


def _nothing(run: Run) -> float:
    return torch.nan


def _entry(name: str, row: int, column: int) -> Number:
    return lambda run: float(matrix(run, name)[row, column])


def _item(name: str, task: int) -> Number:
    return lambda run: float(run[name][task])


def _forward_transfer(study: Study) -> Number:
    count = study["tasks"]
    alone = [found for found in study["methods"] if found["name"] == study["baseline"]]
    if not alone:
        return _nothing
    baseline = torch.stack([areas(run, count) for run in alone[0]["runs"]]).nanmean(0)
    return lambda run: metrics.forward_transfer(areas(run, count), baseline).nanmean().item()


def _first_and_last(method: dict[str, Any], name: str) -> str:
    first, last = (cell(method, _item(name, task), "{:.1f}") for task in (0, -1))
    return f"{first} to {last}"


def picture() -> bytes:
    """Draws the seconds of 1,000 gradient steps in every task of a long stream, as PNG."""
    content = json.loads((RESULTS / "hypercrl_steps.json").read_text(encoding="utf-8"))
    seconds = {
        name: 1e3 * np.array([row[name] for row in content["rows"]]) for name in content["methods"]
    }
    return encode_png(figures.wall_times(seconds))


ALONE = {"plasticity": plasticity, "tuning": tuning, "steps": steps, "unknown": unknown}
"""Results with a table of their own."""

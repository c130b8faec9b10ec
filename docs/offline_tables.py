"""Tables of offline learning, from `docs/results/offline_*.json`, where these files exist.

Those of `STUDIES` and "true" are written by `benchmarks/offline.py`, the others by the scripts of
their names, `benchmarks/offline_refrigerator.py` and so on. Means over seeds stand with their
smallest and largest value, as three seeds have no interval worth the name; over all runs of a
method stands the interquartile mean with its interval of 95 %, from a bootstrap that draws seeds
anew within each data set (R. Agarwal et al., Deep reinforcement learning at the edge of the
statistical precipice, NeurIPS 2021).
"""

from typing import Any

import numpy as np
from result_tables import existing, lines
from scipy.stats import trim_mean

STUDIES = ("short", "full", "signed")
RESAMPLES = 2000


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block whose results exist, by its name."""
    return existing("offline", TABLES)


def scores(content: dict[str, Any]) -> str:
    """Score of every method on every data set, and over all of them."""
    cells = {(row["dataset"], row["method"]): _scores(row) for row in content["rows"]}
    datasets = list(dict.fromkeys(row["dataset"] for row in content["rows"]))
    rows = []
    for method in dict.fromkeys(row["method"] for row in content["rows"]):
        values = np.stack([cells[dataset, method] for dataset in datasets])
        seconds = [
            run["seconds"]
            for row in content["rows"]
            for run in row["runs"]
            if row["method"] == method
        ]
        rows.append(
            [
                method,
                *(spread(cells[dataset, method]) for dataset in datasets),
                middle(values),
                f"{np.mean(seconds):.0f}",
            ]
        )
    heading = f"method | {' | '.join(f'{d}:' for d in datasets)} | interquartile mean: | seconds:"
    return lines(heading, rows, content)


def collapse(content: dict[str, Any]) -> str:
    """Score, and the largest value that a critic gave to a transition at the end."""
    rows = []
    for row in content["rows"]:
        largest = np.array([run["largest_values"][-1][1] for run in row["runs"]])
        rows.append([row["dataset"], row["method"], spread(_scores(row)), spread(largest, ".3g")])
    return lines("data set | method | score: | largest value in the end:", rows, content)


def edge(content: dict[str, Any]) -> str:
    """Values, spread and return at the end of training on the edge of reach."""
    rows = []
    for name, runs in content["methods"].items():

        def cell(key: str, form: str, runs: list[dict[str, Any]] = runs) -> str:
            return spread(np.array([run["rows"][-1][key] for run in runs]), form)

        true = runs[0]["largest_true_value"]
        highest = [max(row["largest_value"] for row in run["rows"]) / true for run in runs]
        rows.append(
            [
                name,
                cell("largest_value", ".3g"),
                spread(np.array(highest), ".3g"),
                cell("mean_value_within", ".3g"),
                cell("spread_auc", ".2f"),
                cell("return", ".2f"),
                f"{np.mean([run['seconds'] for run in runs]):.0f}",
            ]
        )
    first = next(iter(content["methods"].values()))[0]
    truth = [f"{first['largest_true_value']:.3g}", "", f"{first['mean_true_value_within']:.3g}", ""]
    rows.append(["true optimum", *truth, f"{content['best_return']:.2f}", ""])
    heading = (
        "method | largest value in the end: | largest ever, over the true one: "
        "| mean value within reach: | AUC of the spread: | return: | seconds:"
    )
    return lines(heading, rows, content)


def refrigerator_errors(content: dict[str, Any]) -> str:
    """Errors in degrees after a step and after fifty, by distance from the data."""
    runs = content["runs"]
    steps = list(runs[0]["errors"]["member"])
    classes = [row["up_to"] for row in runs[0]["errors"]["member"]["1"]]
    rows = []
    for count in steps:
        for name in runs[0]["errors"]:
            cells = []
            for high in classes:
                found = [
                    row
                    for run in runs
                    for row in run["errors"][name][count]
                    if row["up_to"] == high
                ]
                believed = np.mean([row["believed"] for row in found]) if found else 0.0
                error = f"{np.mean([row['error'] for row in found]):.3f}" if found else ""
                cells.append(f"{error} ({believed:.0%})" if found else "")
            rows.append([count, name, *cells])
    headings = [f"{high:g}:" for high in classes]
    return lines(f"steps: | chosen by | within {' | to '.join(headings)}", rows, content)


def refrigerator_ranks(content: dict[str, Any]) -> str:
    """How often the true next temperature scores above a wrong one, by temperature."""
    told = [row for run in content["runs"] for row in run["told_apart"]]
    bins = list(dict.fromkeys((row["low"], row["high"]) for row in told))
    rows = []
    for name in dict.fromkeys(row["score"] for row in told):
        cells = []
        for low, _ in bins:
            here = [row["pairs"] for row in told if (row["low"], row["score"]) == (low, name)]
            cells.append(" / ".join(f"{value:.2f}" for value in np.mean(here, 0)))
        rows.append([name, *cells])
    headings = " | ".join(f"{low} to {high} °C:" for low, high in bins)
    return lines(f"score | {headings}", rows, content)


def speed(content: dict[str, Any]) -> str:
    """Updates and rollout transitions a second, beside OfflineRL-Kit."""
    rows = [
        [
            row["what"],
            f"{row['ours']:,.0f}",
            f"{row['OfflineRL-Kit']:,.0f}",
            f"{row['ours'] / row['OfflineRL-Kit']:.2f}",
        ]
        for row in content["rows"]
    ]
    return lines("a second | ours: | OfflineRL-Kit: | ratio:", rows, content)


def floor(content: dict[str, Any]) -> str:
    """Shares of held-out transitions that the filter refuses, by how its reward is clamped."""
    names = {"generated": "as published", "recorded": "ours"}
    moved = list(content["rows"][0]["moved"])
    rows = []
    for key, name in names.items():
        runs = [row for row in content["rows"] if row["floor"] == key]
        shares = [[run["recorded"], run["proposed"], *run["moved"].values()] for run in runs]
        rows.append([name, *(spread(column, ".1%") for column in np.array(shares).T)])
    heading = "clamp | recorded: | proposed by the model: | " + " | ".join(
        f"{distance} deviations off:" for distance in moved
    )
    return lines(heading, rows, content)


def data(content: dict[str, Any]) -> str:
    """Speed of recording, saving and loading."""
    rows = [
        [f"record {row['environment']}", f"{row['transitions']:,}", f"{row['seconds']:.3f}", ""]
        for row in content["recording"]
    ] + [
        [
            f"{row['step']}, {row['form']}",
            f"{row['transitions']:,}",
            f"{row['seconds']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
        ]
        for row in content["files"]
    ]
    return lines("what | transitions: | seconds: | peak MB:", rows, content)


def middle(values: np.ndarray) -> str:
    """Interquartile mean, and its interval where there is more than one seed.

    Args:
        values: (data sets, seeds).
    """
    mean = f"{trim_mean(values, 0.25, axis=None):.1f}"
    if values.shape[1] == 1:
        return mean
    low, high = interval(values)
    return f"{mean} [{low:.1f}, {high:.1f}]"


def interval(values: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of the interquartile mean, seeds drawn anew within each data set.

    Args:
        values: (data sets, seeds).
    """
    random = np.random.default_rng(0)
    drawn = random.integers(values.shape[1], size=(RESAMPLES, *values.shape))
    resampled = np.take_along_axis(values[None], drawn, axis=2).reshape(RESAMPLES, -1)
    low, high = np.quantile(trim_mean(resampled, 0.25, axis=1), [0.025, 0.975])
    return float(low), float(high)


def spread(values: np.ndarray, form: str = ".1f") -> str:
    """Mean of the seeds, and their smallest and largest value if there are several."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{values.mean():{form}} ({values.min():{form}} to {values.max():{form}})"


def _scores(row: dict[str, Any]) -> np.ndarray:
    return np.array([run["evaluation"]["eval/score"] for run in row["runs"]])


TABLES = {
    **dict.fromkeys(STUDIES, scores),
    "true": collapse,
    "edge_of_reach": edge,
    "refrigerator errors": refrigerator_errors,
    "refrigerator ranks": refrigerator_ranks,
    "floor": floor,
    "speed": speed,
    "data": data,
}
"""Tables by the names of their blocks, whose first words are those of the files."""

"""Tables of offline learning, from `docs/results/offline_*.json`, where these files exist.

Those of `STUDIES` are written by `benchmarks/offline.py`. Means over seeds stand with their
smallest and largest value, as three seeds have no interval worth the name; over all runs of a
method stands the interquartile mean with its interval of 95 %, from a bootstrap that draws seeds
anew within each data set (R. Agarwal et al., Deep reinforcement learning at the edge of the
statistical precipice, NeurIPS 2021).
"""

import json
from typing import Any

import numpy as np
from result_tables import RESULTS, lines
from scipy.stats import trim_mean

STUDIES = ("short", "full", "signed")
RESAMPLES = 2000


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block whose results exist, by its name."""
    found = {}
    for name, table in {**dict.fromkeys(STUDIES, scores), "true": collapse}.items():
        path = RESULTS / f"offline_{name}.json"
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            found[f"offline {name}"] = table(content)
    return found


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
        low, high = interval(values)
        rows.append(
            [
                method,
                *(spread(cells[dataset, method]) for dataset in datasets),
                f"{trim_mean(values, 0.25, axis=None):.1f} [{low:.1f}, {high:.1f}]",
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
    """Mean of the seeds, and their smallest and largest value."""
    return f"{values.mean():{form}} ({values.min():{form}} to {values.max():{form}})"


def _scores(row: dict[str, Any]) -> np.ndarray:
    return np.array([run["evaluation"]["eval/score"] for run in row["runs"]])

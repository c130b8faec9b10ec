"""Discovers the errors of imperfect models of Kuramoto-Sivashinsky, without and with noise.

Every way of `WAYS` is a configuration of `separatrix.agents.medida`. Without noise it runs on all
cases, with noise on some of every kind and ten seeds; all see the same flows. A run is exact if it
found all terms of the error, with their signs, and no other.

    python benchmarks/medida.py --output docs/results/medida.json
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads

from separatrix.agents.medida.cases import CASES
from separatrix.agents.medida.config import MedidaConfig
from separatrix.agents.medida.study import study
from separatrix.agents.medida.terms import equation

NOISE = 0.01
NOISY_CASES = (1, 2, 3, 4, 9, 10, 12, 14, 20, 24)
WAYS = {
    "no noise, RVM": MedidaConfig(),
    "no noise, ensemble SINDy": MedidaConfig(regression="ensemble"),
    "no noise, RVM, one round": MedidaConfig(rounds=1),
    "filter, RVM": MedidaConfig(noise=NOISE),
    "filter, ensemble SINDy": MedidaConfig(noise=NOISE, regression="ensemble"),
    "filter, RVM, one round": MedidaConfig(noise=NOISE, rounds=1),
    "filter of 20 members, RVM": MedidaConfig(noise=NOISE, members=20),
    "truncation, RVM": MedidaConfig(noise=NOISE, assimilation="truncation"),
    "truncation, ensemble SINDy": MedidaConfig(
        noise=NOISE, assimilation="truncation", regression="ensemble"
    ),
    "observations as they are, RVM": MedidaConfig(noise=NOISE, assimilation="none"),
    "observations as they are, ensemble SINDy": MedidaConfig(
        noise=NOISE, assimilation="none", regression="ensemble"
    ),
}
FLOWS = 1
"""Seed of the flows; settings were tried on seed 0, and the number of members on this one."""


def run(name: str, cases: Sequence[int], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Runs a way on all cases, and prints what it found."""
    use_threads(1)
    config, rows = WAYS[name], []
    if config.noise > 0:
        cases = [case for case in cases if case in NOISY_CASES]
    for result in study(config, cases, seeds if config.noise else (0,), FLOWS):
        rows.append(result.row())
        print(f"{name}, seed {result.seed}, case {result.case}: {rows[-1]['error']}", flush=True)
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares and errors over all runs, and by case."""

    def of(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
        terms = sum(len(CASES[row["case"]].error) for row in some)
        exact = [row for row in some if not row["missed"] and not row["spurious"]]
        errors = [row["largest_error"] for row in exact]
        return {
            "runs": len(some),
            "exact": len(exact),
            "terms": terms,
            "found": terms - sum(len(row["missed"]) for row in some),
            "spurious": sum(len(row["spurious"]) for row in some),
            "median_error_when_exact": statistics.median(errors) if errors else None,
            "largest_error_when_exact": max(errors, default=None),
        }

    numbers = dict.fromkeys(row["case"] for row in rows)
    cases = {str(n): of([row for row in rows if row["case"] == n]) for n in numbers}
    return {"all": of(rows), "cases": cases}


def main() -> None:
    """Runs all ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--cases", nargs="+", type=int, default=list(CASES))
    parser.add_argument("--seeds", type=int, default=10, help="of the noise")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    content = origin()
    seeds = range(1, options.seeds + 1)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        futures = {name: pool.submit(run, name, options.cases, seeds) for name in options.ways}
        found = {name: future.result() for name, future in futures.items()}
    content["errors"] = {str(n): equation(CASES[n].error) for n in options.cases}
    content["results"] = [
        {"name": name, "config": asdict(WAYS[name]), **summary(rows), "rows": rows}
        for name, rows in found.items()
    ]
    for result in content["results"]:
        counts = result["all"]
        error = counts["median_error_when_exact"]
        told = "" if error is None else f", median error {error:.1e}"
        print(f"{result['name']}: exact {counts['exact']} of {counts['runs']}{told}")
    save(options.output, content)


if __name__ == "__main__":
    main()

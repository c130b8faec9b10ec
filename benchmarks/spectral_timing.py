"""What is timed in spectral.py, and how it is shown."""

from __future__ import annotations

import math
from typing import Any

import torch
from harness import Run, measure

ALONE = ("controlgym", "HydroGym")
"""Timed by one environment: they step one after the other."""

Ways = dict[str, tuple[Run, float]]
"""What to time by name, and how many steps of a batch one call takes."""


def stepping(environment: Any) -> Run:
    """A step of a batch from its start under zero actions."""
    state, _ = environment.reset(0)
    action = torch.zeros((environment.num_envs, *environment.action_shape))
    action = action.to(environment.dtype)
    return lambda: environment.step(state, action)


def timed(
    ways: Ways, batch: int, rounds: int, duration: float, over: str = ""
) -> dict[str, dict[str, float]]:
    """Times ways of a batch.

    Args:
        ways: Of that batch.
        batch: Number of environments.
        rounds: Of the comparison.
        duration: Seconds a way and round.
        over: The way to which the others are compared, if it is there.

    Returns:
        By name: median and minimum of the seconds of one step of the batch, median steps of one
        environment a second, and how many times as many these are.
    """
    found = measure({name: run for name, (run, _) in ways.items()}, rounds, duration)
    rows = {}
    for name, times in found.items():
        each = {key: value / ways[name][1] for key, value in times.items()}
        alone = 1 if name in ALONE else batch
        rows[name] = {**each, "steps_a_second": alone / each["median"]}
    if over in rows:
        for row in rows.values():
            row[f"over_{over}"] = row["steps_a_second"] / rows[over]["steps_a_second"]
    return rows


def show(title: str, columns: dict[int, dict[str, dict[str, float]]]) -> None:
    """Prints steps of one environment a second, a way a row and a batch a column."""
    names = list(dict.fromkeys(name for rows in columns.values() for name in rows))
    print(f"\n{title:32s}" + "".join(f"{batch:>12d}" for batch in columns))
    for name in names:
        rates = [rows.get(name, {}).get("steps_a_second", math.nan) for rows in columns.values()]
        print(f"{name:32s}" + "".join(f"{rate:12,.0f}" for rate in rates))

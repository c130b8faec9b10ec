"""Learning to control fields: gradients through the equation, PPO, SAC and SINDy-RL over seeds.

    python benchmarks/field_learning.py kuramoto-sivashinsky \
        --output docs/results/kuramoto_sivashinsky_learning.json
    python benchmarks/field_learning.py burgers --output docs/results/burgers_learning.json
    python benchmarks/field_learning.py rotary-cylinder \
        --output docs/results/rotary_cylinder_learning.json

Every row is a run of `separatrix train`, see `sindy_rl.py`: folders stay, and a table that was
interrupted goes on where it was. Beside the steps to a return stands the wall clock from the start
of the process's run to that evaluation, evaluations included.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from sindy_rl import Arm, finish, quartiles, table, train

WHOLE = ("--agent.window", "200", "--total-steps", "1500000", "--evaluation.every", "100000")
"""Through 200 control steps at once an update takes twelve times as many steps."""


def seconds_to(folder: Path, step: int | None) -> float:
    """Returns the seconds from the start of a run to an evaluation; infinity if there is none."""
    if step is None:
        return float("inf")
    began = (folder / "config.yaml").stat().st_mtime
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        times = [float(row[3]) for row in csv.reader(file) if row[:2] == [str(step), "eval/return"]]
    return times[0] - began


def measure(
    arms: list[Arm], root: Path, workers: int, output: Path | None, threshold: float
) -> None:
    """Trains all runs, prints a table and saves it."""
    results: list[dict[str, Any]] = table(arms, root, workers, threshold)
    for arm, row in zip(arms, results, strict=True):
        folders = [train(arm, seed, root) for seed in range(arm.seeds)]
        seconds = [
            seconds_to(folder, step)
            for folder, step in zip(folders, row["steps_of_seeds"], strict=True)
        ]
        row["seconds"] = [s if np.isfinite(s) else None for s in quartiles(seconds)]
        row["runs"] = [str(folder) for folder in folders]
        print(f"{arm.name}: seconds to {threshold:g}: {row['seconds']}")
    finish(results, output, workers)


def kuramoto_sivashinsky(
    root: Path = Path("runs/fields/kuramoto_sivashinsky"),
    workers: int = 2,
    seeds: int = 3,
    output: Path | None = None,
) -> None:
    """Steps and seconds until flame fronts are held at E1: a return of 300 of at most 400.

    Args:
        root: Folder of the runs.
        workers: Runs side by side, each with one thread.
        seeds: Runs of every arm.
        output: JSON file for the results.
    """
    arms = [
        Arm("gradients through the equation", "analytic_policy_kuramoto_sivashinsky", (), seeds),
        Arm("the same, windows of 200", "analytic_policy_kuramoto_sivashinsky", WHOLE, seeds),
        Arm("PPO", "ppo_kuramoto_sivashinsky", (), seeds),
        Arm("SINDy-RL", "sindy_rl_kuramoto_sivashinsky", (), seeds),
        Arm("SAC", "sac_kuramoto_sivashinsky", (), seeds),
    ]
    measure(arms, root, workers, output, 300.0)


def burgers(
    root: Path = Path("runs/fields/burgers"),
    workers: int = 2,
    seeds: int = 3,
    output: Path | None = None,
) -> None:
    """Steps and seconds until a wave travels as wanted: a return of 80 of at most 100.

    Args:
        root: Folder of the runs.
        workers: Runs side by side, each with one thread.
        seeds: Runs of every arm.
        output: JSON file for the results.
    """
    arms = [
        Arm("gradients through the equation", "analytic_policy_burgers", (), seeds),
        Arm("PPO", "ppo_burgers", (), seeds),
        Arm("SINDy-RL", "sindy_rl_burgers", (), seeds),
        Arm("SAC", "sac_burgers", (), seeds),
    ]
    measure(arms, root, workers, output, 80.0)


def rotary_cylinder(
    root: Path = Path("runs/fields/rotary_cylinder"),
    workers: int = 2,
    seeds: int = 3,
    output: Path | None = None,
) -> None:
    """Steps and seconds until rotation saves 3 % of a cylinder's drag: a return of 8.

    Args:
        root: Folder of the runs.
        workers: Runs side by side, each with one thread.
        seeds: Runs of every arm.
        output: JSON file for the results.
    """
    arms = [
        Arm("SINDy-RL", "sindy_rl_rotary_cylinder", (), seeds),
        Arm("gradients through the flow", "analytic_policy_rotary_cylinder", (), seeds),
        Arm("SAC", "sac_rotary_cylinder", (), seeds),
        Arm("PPO", "ppo_rotary_cylinder", (), seeds),
    ]
    measure(arms, root, workers, output, 8.0)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {
            "kuramoto-sivashinsky": kuramoto_sivashinsky,
            "burgers": burgers,
            "rotary-cylinder": rotary_cylinder,
        }
    )

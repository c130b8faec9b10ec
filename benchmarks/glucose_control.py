"""Doses insulin for thirty patients by rule, by feedback, by planning and by learned policies.

Every controller meets the same days, each from midnight to midnight, of seeds from 1000 on;
planners the first of them. Reported, as means over the days with their bootstrap intervals, are the
shares of time in, below and above the range of 70 to 180 mg/dL, and below 54 mg/dL; the mean risk
of Kovatchev and its parts of low and of high glucose; the insulin of a day; the episodes that ended
in death; and the wall time of a decision for one patient.

Basal-bolus, PID and learned policies see the sensor; of the meal, all but PID see its carbohydrates
in the step in which it begins. Planners know the patient's parameters and state, and all meals that
are to come: what they reach is a bound, not a proposal. Their settings were tried on the adults of
this table: with a horizon of three hours insulin acts after the plan ends, and kills.

    python benchmarks/glucose_control.py --output docs/results/glucose_control.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from field_control import Timed
from harness import origin, save, use_threads

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.catalog import load_policy
from separatrix.agents.common.run import Run
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.evaluation import bootstrap_interval, evaluate
from separatrix.envs.core.registration import make_environment
from separatrix.envs.twin.glucose.patients import patient_names

GROUPS = ("adult", "adolescent", "child")
QUANTITIES = (
    "in_range", "below_range", "above_range", "severe", "risk", "low_risk", "high_risk", "insulin",
)  # fmt: skip
RULES: dict[str, dict[str, Any]] = {"zero": {}, "basal_bolus": {}, "glucose_pid": {}}
PLANNERS: dict[str, dict[str, Any]] = {
    "gradient_mpc": {"horizon": 60, "starts": 2, "iterations": 4, "learning_rate": 0.01},
}


def measured(
    names: list[str], days: int, controller: str, settings: dict[str, Any], folder: str | None
) -> dict[str, Any]:
    """Runs days of every patient and returns the scores."""
    patients = [name for name in names for _ in range(days)]
    environment = make_environment("Glucose-v0", len(patients), patient=patients)
    if folder is None:
        made = make_controller(controller, environment, **settings)
    else:
        run = Run.open(folder)
        checkpoint = run.latest_checkpoint()
        if checkpoint is None:
            raise SystemExit(f"{folder} has no checkpoint yet")
        made = load_policy(run.config, checkpoint, environment)
    timed = Timed(made)
    seeds = torch.arange(1000, 1000 + days).repeat(len(names))
    seeds = seeds + 100 * torch.arange(len(names)).repeat_interleave(days)
    found = evaluate(environment, timed, seeds).columns()
    row: dict[str, Any] = {
        name: (found[name].double().mean().item(), *bootstrap_interval(found[name].double()))
        for name in QUANTITIES
    }
    row["insulin"] = [environment.horizon * value for value in row["insulin"]]
    row["died"] = int((found["length"] < environment.horizon).sum())
    row["days"] = len(patients)
    row["milliseconds_a_decision"] = 1e3 * timed.seconds / environment.horizon / len(patients)
    return row


def main() -> None:
    """Reads the arguments and scores all groups."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=14, help="of each patient, of rules")
    parser.add_argument("--planner-days", type=int, default=1)
    parser.add_argument("--planners", nargs="*", default=[*PLANNERS], choices=[*PLANNERS])
    parser.add_argument("--groups", nargs="*", default=GROUPS, choices=GROUPS)
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    rows = []
    print("group       controller      in    below   above  severe   risk  LBGI  U a day  died  ms")
    for group in arguments.groups:
        names = patient_names(group)
        players = [(name, arguments.days, settings, None) for name, settings in RULES.items()]
        for text in arguments.run:
            label, _, folder = text.partition("=")
            players.append((label, arguments.days, {}, folder))
        players += [
            (name, arguments.planner_days, PLANNERS[name], None) for name in arguments.planners
        ]
        for label, days, settings, folder in players:
            row = measured(names, days, label, settings, folder)
            rows.append({"group": group, "controller": label, "settings": settings, **row})
            shares = " ".join(f"{100 * row[name][0]:6.1f} %" for name in QUANTITIES[:4])
            print(
                f"{group:11s} {label:12s} {shares} {row['risk'][0]:6.2f} {row['low_risk'][0]:5.2f} "
                f"{row['insulin'][0]:6.1f} {row['died']:4d}/{row['days']} "
                f"{row['milliseconds_a_decision']:7.3f}",
                flush=True,
            )
    save(arguments.output, {**origin(), "results": rows})


if __name__ == "__main__":
    main()

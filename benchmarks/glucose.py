"""Times Glucose-v0: patient-minutes a second, beside simglucose's patient in the same run.

One call of ours is a control interval of 5 minutes of a batch of patients, each with parameters of
its own, in float32, in the middle of a day with meals.

    environment   `Environment.step`: pump, meals, sensor, kernel, observation, reward and metrics
    system        `System.advance`: the same without task, from state to state
    kernel        the generated kernel alone, from arrays to arrays that exist
    simglucose    `T1DPatient.step` of simglucose 0.2.11, one minute of one patient, which is what
                  its environment spends its time in; left out where it is not installed

The ways take turns in every round, so that all see the same load of the machine. One call of
simglucose is timed over the 30 minutes from the beginning of a meal, the patient being made anew.

    python benchmarks/glucose.py --output docs/results/glucose_speed.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from harness import Run, measure, origin, save, use_threads
from simglucose_patient import load_patient

from separatrix.envs.core.registration import make_environment
from separatrix.envs.twin.glucose.patients import shipped_patients

SIZES = (1, 256, 16384)
INTERVAL, MINUTES = 5, 30
NOON = 12 * 60 // INTERVAL


def kernel(system: Any, state: Any) -> Run:
    """The generated kernel on a batch."""
    stepper, values = system._stepper, state.values.numpy()
    count = len(values)
    inputs = np.zeros((count, 3), np.float32)
    inputs[:, 0], inputs[:, 2] = 0.02, -1
    outputs = (
        np.empty_like(values),
        np.empty((count, 0), np.float32),
        np.empty((1, count), np.float32),
        np.empty((2, count), np.bool_),
    )
    arguments = (values, inputs, system._parameter_rows.numpy(), *stepper._constants, *outputs)
    threads = numba.get_num_threads()
    if count >= 1024 and threads > 1:
        return lambda: stepper._kernel.threaded(threads, *arguments)
    return lambda: stepper._kernel.serial(*arguments)


def ours(count: int) -> dict[str, Run]:
    """Our ways, from patients who have lunch."""
    names = list(shipped_patients())
    environment: Any = make_environment(
        "Glucose-v0", count, patient=[names[i % len(names)] for i in range(count)]
    )
    state, _ = environment.reset(torch.arange(count))
    action = torch.zeros((count, 2))
    for _ in range(NOON):
        state = environment.step(state, action).state
    control = environment.task.control(action)
    return {
        "environment": lambda: environment.step(state, action),
        "system": lambda: environment.system.advance(state, control),
        "kernel": kernel(environment.system, state),
    }


def simglucose() -> Callable[[], Any]:
    """Half an hour of one patient of simglucose, from the beginning of a meal."""
    module = load_patient()
    patient = module.T1DPatient.withName("adult#001")
    insulin = patient._params.u2ss * patient._params.BW / 6000

    def run() -> Any:
        patient.reset()
        for minute in range(MINUTES):
            patient.step(module.Action(CHO=70.0 * (minute == 0), insulin=insulin))
        return patient.observation

    return run


def table(threads: int, rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times everything with a number of threads, and prints it."""
    use_threads(threads)
    print(f"\n{threads} threads\npatients   way          patient-minutes/s   over simglucose")
    rows = []
    for count in SIZES:
        runs = ours(count)
        minutes = dict.fromkeys(runs, count * INTERVAL)
        try:
            runs["simglucose"], minutes["simglucose"] = simglucose(), MINUTES
        except ImportError as reason:
            print(f"simglucose: left out ({reason})")
        found = measure(runs, rounds, duration)
        speed = {name: minutes[name] / times["median"] for name, times in found.items()}
        for name, times in found.items():
            row = {"patients": count, "threads": threads, "way": name, **times}
            row |= {"patient_minutes_per_second": speed[name]}
            if "simglucose" in speed:
                row["over_simglucose"] = speed[name] / speed["simglucose"]
            rows.append(row)
            over = f"{row['over_simglucose']:17,.0f}" if "over_simglucose" in row else ""
            print(f"{count:8d}   {name:11s} {speed[name]:18,.0f} {over}")
    return rows


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of numba and torch")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each comparison")
    parser.add_argument("--duration", type=float, default=0.3, help="seconds a way and round")
    arguments = parser.parse_args()
    found = origin(["scipy"])
    print(json.dumps(found, indent=1))
    rows = []
    with torch.no_grad():
        for threads in arguments.threads:
            rows += table(threads, arguments.rounds, arguments.duration)
    save(arguments.output, {**found, "load_average_after": os.getloadavg(), "speed": rows})


if __name__ == "__main__":
    main()

"""Parameters of synthetic patients from 14 days of a glucose sensor: do the intervals hold?

Forty patients, so that more than a hundred intervals are counted, and the first twenty of them by
themselves. Patients are adults whose `ESTIMATED` parameters are drawn from a log-normal prior
around the cohort's mean; the other parameters are the cohort's, and known. They eat random meals,
announced, and take insulin by the book (basal, carbohydrate ratio, correction of high readings) and
wrongly: basal insulin is off by a random factor for six hours at a time, boluses by one each, and
one in ten is forgotten. The sensor has its full error (Johnson SU, correlated, interpolated).
Calibration knows insulin and meals. Readings of the first 12 hours, and those at the sensor's
limits, are left out.

Every way of `ERRORS` is a model of the sensor's error, by the method of Levenberg and Marquardt;
ensemble Kalman inversion has the best of them. A parameter counts where the report calls it
identifiable. The last case is harder: all parameters of the patients are their own, and those that
are not estimated are taken for the cohort's, except weight.

    python benchmarks/calibration.py --output docs/results/calibration.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.assimilate.calibration import Calibration, calibrate
from separatrix.envs.twin.assimilate.ensemble_inversion import ensemble_inversion
from separatrix.envs.twin.assimilate.priors import InitialFactor, LogNormal
from separatrix.envs.twin.assimilate.reading_error import ReadingError
from separatrix.envs.twin.glucose.model import PARAMETERS
from separatrix.envs.twin.glucose.patients import find_patient, patient_names
from separatrix.envs.twin.glucose.sensor import LARGEST, SMALLEST
from separatrix.envs.twin.glucose.system import GLUCOSE, GlucoseState, GlucoseSystem

ESTIMATED = {
    "kp1": 0.1, "kp3": 0.2, "Vmx": 0.2, "kmax": 0.2, "kabs": 0.2, "p2u": 0.2, "kd": 0.2, "k2": 0.1,
}  # fmt: skip
"""Parameters to estimate, and their coefficients of variation."""
MINUTES = 5
ITERATIONS = 20
BURN_IN = 12 * 60 // MINUTES
FIFTEEN = 0.69
"""Correlation of errors 15 minutes apart, see `separatrix.envs.twin.glucose.sensor`."""
SENSOR = {"deviation": 11.7, "mean": 0.78}
ERRORS = {
    "white, all readings": ReadingError(**SENSOR),
    "white, every 30 minutes": ReadingError(**SENSOR, every=6),
    "correlated, all readings": ReadingError(**SENSOR, correlation=FIFTEEN ** (1 / 3)),
    "correlated, every 15 minutes": ReadingError(**SENSOR, correlation=FIFTEEN ** (1 / 3), every=3),
}
BEST = "correlated, every 15 minutes"


def cohort() -> dict[str, float]:
    """The geometric means of the adults' parameters."""
    found = [find_patient(name).parameters for name in patient_names("adult")]
    return {
        name: statistics.geometric_mean(parameters[name] for parameters in found)
        for name in PARAMETERS
    }


def live(
    system: GlucoseSystem, state: GlucoseState, days: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Lets patients live under their insulin.

    Returns:
        Controls and readings, (interval, patient, ...), and the true glucose.
    """

    def factor(spread: float) -> Tensor:
        noise = torch.randn(system.num_envs, generator=generator, dtype=torch.float64)
        return (spread * noise).exp()

    daily = 48 * system.basal  # half of the insulin of a day is basal
    ratio, correction = 500 / daily, 1700 / daily
    controls, readings, truth, shift = [], [], [], factor(0.0)
    for interval in range(days * 1440 // MINUTES):
        if interval % (6 * 60 // MINUTES) == 0:
            shift = factor(0.25)
        _, grams = system.meal_ahead(state)
        high = (state.readings[:, -1] - 140).clamp(min=0) / correction
        forgotten = torch.rand(system.num_envs, generator=generator) < 0.1
        bolus = (grams / ratio + high) * factor(0.3)
        bolus = torch.where((grams > 0) & ~forgotten, bolus, 0.0)
        controls.append(torch.stack(((system.basal * shift).expand_as(bolus), bolus), 1))
        state = system.advance(state, controls[-1])
        readings.append(state.readings[:, -1:])
        truth.append(system.glucose(state))
    return torch.stack(controls), torch.stack(readings), torch.stack(truth)


def experiment(count: int, days: int, seed: int, own: bool) -> dict[str, Any]:
    """Patients, what they did, and what is known of them.

    Args:
        count: Number of patients.
        days: Length of the records.
        seed: Of everything.
        own: Whether all parameters are the patients' own, instead of `ESTIMATED` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    means = cohort()
    priors = {name: LogNormal(means[name], v) for name, v in ESTIMATED.items()}
    noise = torch.randn((len(priors), count, 1), generator=generator, dtype=torch.float64)
    drawn = {k: p.decode(noise[i])[:, 0] for i, (k, p) in enumerate(priors.items())}
    options: dict[str, Any] = {"dtype": "float64", "control_interval": MINUTES, "days": days}
    if own:
        names = patient_names("adult")[:count]
        truth = make_environment("Glucose-v0", count, patient=names, **options).system
        del means["BW"]
    else:
        truth = make_environment("Glucose-v0", count, **options, **(means | drawn)).system
    # What the pump gives is known: a system with other parameters keeps its settings.
    fixed = {k: torch.full((count,), v, dtype=torch.float64) for k, v in means.items()}
    model = truth.with_parameters(fixed, count)
    seeds = Stream.start(torch.arange(count) + 1000 * (seed + 1))
    started = truth.initial_state(seeds)
    controls, readings, glucose = live(truth, started, days, generator)
    readings[(readings <= SMALLEST) | (readings >= LARGEST)] = torch.nan
    missing = float(readings.isnan().double().mean())
    readings[:BURN_IN] = torch.nan
    print(
        f"\n{count} patients, {days} days: glucose {glucose.mean():.0f} mg/dL on average, "
        f"{float(((glucose >= 70) & (glucose <= 180)).double().mean()):.2f} of the time in range, "
        f"{missing:.4f} of the readings at a limit; basal {truth.basal.min():.2f} to "
        f"{truth.basal.max():.2f} U/h"
    )
    start = model._start.expand(count, -1)
    return {
        "truth": {name: truth.parameters[name].expand(count) for name in ESTIMATED},
        "arguments": {
            "system": model,
            "initial": replace(started, values=start.clone()),
            "controls": controls,
            "observations": readings,
            "parameters": priors,
            "factors": {"glucose at start": InitialFactor(GLUCOSE, LogNormal(1.0, 0.3))},
            "observe": lambda system, state: system.glucose(state)[:, None],
        },
    }


def scores(
    found: Calibration, truth: Mapping[str, Tensor], patients: int | None = None
) -> dict[str, Any]:
    """Coverage and errors over the parameters that are called identifiable, in total and each.

    Args:
        found: The calibration.
        truth: The parameters of the patients.
        patients: How many of them, the first, count; None for all.
    """
    intervals, estimates = found.intervals(0.9), found.estimates
    names = list(truth)
    sound = found.converged & found.center.isfinite().all(1)
    sound = sound & (torch.arange(len(sound)) < (patients or len(sound)))
    counted = found.identifiability.identifiable[:, : len(names)] & sound[:, None]
    inside = torch.stack(
        [(t >= intervals[n][:, 0]) & (t <= intervals[n][:, 1]) for n, t in truth.items()], 1
    )
    errors = torch.stack([estimates[n] / t - 1 for n, t in truth.items()], 1)
    pairs = list(zip(found.priors, truth.values(), strict=False))  # without the factor
    nothing = torch.zeros((1, 1), dtype=torch.float64)
    prior = torch.stack([p.decode(nothing)[0] / t - 1 for p, t in pairs], 1)
    ratio = found.identifiability.ratio[:, : len(names)]
    z = torch.stack([p.encode(t[:, None])[:, 0] for p, t in pairs], 1)
    distance = (found.center[:, : len(names)] - z) / ratio

    def summary(mask: Tensor) -> dict[str, float]:
        if not mask.any():
            return {"intervals": 0}
        return {
            "intervals": int(mask.sum()),
            "coverage": float(inside[mask].double().mean()),
            "rms_distance": float(distance[mask].square().mean().sqrt()),
            "median_relative_error": float(errors[mask].abs().median()),
            "rms_relative_error": float(errors[mask].square().mean().sqrt()),
            "rms_relative_error_of_prior": float(prior[mask].square().mean().sqrt()),
            "median_posterior_over_prior": float(ratio[mask].median()),
        }

    column = torch.eye(len(names), dtype=torch.bool)
    return {
        "identifiable": summary(counted),
        "all": summary(sound[:, None].expand_as(counted)),
        "parameters": {n: summary(counted & column[i]) for i, n in enumerate(names)},
        "converged": int(sound.sum()),
        "misfit": float(found.misfit[sound].mean()),
        "simulations": int(found.simulations.max()),
    }


def show(name: str, row: Mapping[str, Any]) -> None:
    """Prints one line of the table."""
    sure, every = row["identifiable"], row["all"]
    print(
        f"{name:44s} {sure['intervals']:5d} {sure.get('coverage', float('nan')):8.3f}"
        f" {sure.get('rms_distance', float('nan')):8.2f} {every['intervals']:5d}"
        f" {every['coverage']:8.3f}"
        f" {sure.get('rms_relative_error', float('nan')):8.3f}"
        f" {sure.get('rms_relative_error_of_prior', float('nan')):8.3f} {row['misfit']:7.2f}"
        f" {row['converged']:4d} {row['simulations']:4d} {row['seconds']:6.0f} s",
        flush=True,
    )


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--members", type=int, default=100, help="of ensemble Kalman inversion")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of numba and torch")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    found = origin()
    print(json.dumps(found, indent=1))
    rows: dict[str, Any] = {}
    case = experiment(arguments.patients, arguments.days, arguments.seed, own=False)
    hard = experiment(min(arguments.patients, 10), arguments.days, arguments.seed, own=True)
    print(
        f"\n{'':44s} identifiable:           all:           relative error:\n{'way':44s} count"
        "  covered  distance count  covered    found    prior  misfit  conv. sim."
    )
    runs = [
        (f"MAP, {name}", case, calibrate, {"error": e, "iterations": ITERATIONS})
        for name, e in ERRORS.items()
    ]
    sampled = {"error": ERRORS[BEST], "seed": 0, "members": arguments.members}
    runs.append((f"EKI, {BEST}", case, ensemble_inversion, sampled))
    runs.append((f"MAP, {BEST}, rest wrong", hard, *runs[-2][2:]))
    tables = {}
    for name, chosen, method, options in runs:
        begin = time.perf_counter()
        result = method(**chosen["arguments"], **options)  # type: ignore[operator]
        seconds = {"seconds": time.perf_counter() - begin}
        rows[name] = scores(result, chosen["truth"]) | seconds
        tables[name] = result.identifiability.table(0)
        show(name, rows[name])
        if chosen is case and options["error"] is ERRORS[BEST]:
            rows[f"{name}, first 20"] = scores(result, chosen["truth"], 20) | seconds
            show("    first 20 of these patients", rows[f"{name}, first 20"])
    print(f"\nfirst patient, MAP, {BEST}:\n{tables[f'MAP, {BEST}']}")
    for name in ESTIMATED:
        print(name, json.dumps(rows[f"MAP, {BEST}"]["parameters"][name]))
    save(
        arguments.output,
        {
            **found,
            "load_average_after": os.getloadavg(),
            "estimated": ESTIMATED,
            "sizes": {k: getattr(arguments, k) for k in ("patients", "days", "members", "seed")},
            "ways": rows,
            "first_patient": tables[f"MAP, {BEST}"],
        },
    )


if __name__ == "__main__":
    main()

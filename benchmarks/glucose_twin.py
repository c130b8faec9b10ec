"""A twin of a patient follows a glucose sensor: is it nearer to the truth than the sensor is?

Every patient (ten adults, ten adolescents) eats random meals, takes basal insulin and, for every
meal, the bolus of their carbohydrate ratio, for three days. The twin knows the insulin, but not the
meals. Its parameters `WRONG` are off by 20 %, each by a log-normal factor of its own; it knows that
they are, and estimates them with the state. It takes up a reading every five minutes by an ensemble
transform filter. What is compared is the glucose under the skin, which the sensor measures with an
error, from six hours after the start.

    free run       the same ensemble without readings
    white          readings have a white error of 11.7 mg/dL, the model none
    white, pushed  the model's glucose is pushed at random, as by meals: 2 mg/kg/min, with a memory
                   of an hour
    bias, pushed   the sensor's error is a component of the state (11.7 mg/dL, 0.69 after 15
                   minutes), and 2 mg/dL of white error remain
    bias, habits   the same; every member eats meals of its own, drawn as the patient's are, in
                   place of the push
    bias, told     the same; the meals are announced, and nothing pushes

`FLOOR` and `INFLATION` were chosen among two values each on four adults with seed 7.

    python benchmarks/glucose_twin.py --output docs/results/glucose_twin.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.assimilate.disturbed import (
    Disturbance,
    DisturbedState,
    DisturbedSystem,
)
from separatrix.envs.twin.assimilate.scores import fair_crps, quantiles
from separatrix.envs.twin.assimilate.twin import Twin
from separatrix.envs.twin.assimilate.uncertain import Uncertain
from separatrix.envs.twin.glucose.model import COMPARTMENTS
from separatrix.envs.twin.glucose.patients import patient_names
from separatrix.envs.twin.glucose.system import GLUCOSE

WRONG = (
    "k1", "k2", "kmax", "kabs", "kp1", "kp2", "kp3", "ki", "Vm0", "Vmx", "p2u", "m1", "ka1", "ka2",
    "kd", "ksc",
)  # fmt: skip
"""Parameters of which the twin has wrong values."""
SHOWN = ("kp1", "Vmx")
FLOOR = 0.03
"""Relative error that the twin never believes its estimated parameters to be below."""
INFLATION = 1.02
"""Of deviations after an analysis."""
MINUTES, SENSOR, FIFTEEN = 5, 11.7, 0.69
MEMORY = FIFTEEN ** (MINUTES / 15)
PUSH = Disturbance(2.0 * MINUTES, 1 - MINUTES / 60, COMPARTMENTS.index("Gp"))
BIAS = Disturbance(SENSOR, MEMORY)
NOTHING = [(0, 0)]
SKIPPED = 6 * 60 // MINUTES


@dataclass(frozen=True)
class Way:
    """How a twin follows the patient.

    Attributes:
        deviation: Of white errors of readings, mg/dL; None to take up none.
        pushed: Whether the model is pushed at random.
        biased: Whether the sensor's error is a component of the state.
        meals: "none", "habits" or "told".
    """

    deviation: float | None
    pushed: bool = False
    biased: bool = False
    meals: str = "none"


WAYS = {
    "free run": Way(None),
    "white": Way(SENSOR),
    "white, pushed": Way(SENSOR, pushed=True),
    "bias, pushed": Way(2.0, pushed=True, biased=True),
    "bias, habits": Way(2.0, biased=True, meals="habits"),
    "bias, told": Way(2.0, biased=True, meals="told"),
}


def options(days: int) -> dict[str, Any]:
    """What patient and twin have in common."""
    return {"control_interval": MINUTES, "days": days, "dtype": "float64"}


@dataclass(frozen=True)
class Life:
    """What happened to a patient: (interval,) each, and the first state."""

    start: Any
    controls: Tensor
    readings: Tensor
    glucose: Tensor
    plasma: Tensor


def live(patient: str, seed: int, days: int) -> Life:
    """Lets a patient live under basal insulin and boluses."""
    system = make_environment("Glucose-v0", 1, patient=patient, **options(days)).system
    state = start = system.initial_state(Stream.start(torch.tensor([seed])))
    rows: list[list[Tensor]] = []
    for _ in range(days * 1440 // MINUTES):
        _, grams = system.meal_ahead(state)
        bolus = grams / system.settings["carbohydrate_ratio"]
        control = torch.stack((system.basal.expand_as(bolus), bolus), 1)
        state = system.advance(state, control)
        plasma = state.values[:, COMPARTMENTS.index("Gp")] / system.parameters["Vg"]
        rows.append([control[0], state.readings[0, -1], system.glucose(state)[0], plasma[0]])
    return Life(start, *(torch.stack(column) for column in zip(*rows, strict=True)))


def twin_of(patient: str, life: Life, way: Way, members: int, seed: int, days: int) -> Twin:
    """Returns a twin with wrong parameters, which starts about the first reading."""
    meals = {"none": NOTHING, "habits": "random", "told": "random"}[way.meals]
    system = make_environment("Glucose-v0", members, patient=patient, meals=meals, **options(days))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(WRONG), generator=generator, dtype=torch.float64)
    wrong = {
        name: (system.system.parameters[name] * (0.2 * noise[i]).exp()).expand(members)
        for i, name in enumerate(WRONG)
    }
    physics = system.system.with_parameters(wrong, members)
    disturbances = {"push": PUSH} if way.pushed else {}
    if way.biased:
        disturbances["bias"] = BIAS
    disturbed = DisturbedSystem(physics, disturbances)
    state = disturbed.initial_state(Stream.start(torch.arange(members) + 10**6 * (seed + 1)))
    inner = state.inner
    if way.meals == "told":
        told = {name: getattr(life.start, name) for name in ("meal_minute", "meal_size")}
        inner = replace(inner, **{k: v.expand(members, -1).clone() for k, v in told.items()})
    values = system.system.initial_state(Stream.start(torch.zeros(members).long())).values.clone()
    values[:, GLUCOSE] *= (life.readings[0] / physics.glucose(replace(inner, values=values)))[
        :, None
    ]
    spread = torch.randn(members, generator=generator, dtype=torch.float64)
    values[:, GLUCOSE] *= (0.1 * spread).exp()[:, None]
    state = replace(state, inner=replace(inner, values=values))

    def observe(system: DisturbedSystem, state: DisturbedState) -> Tensor:
        glucose = system.inner.glucose(state.inner)  # type: ignore[attr-defined]
        return (glucose + (state.disturbances[:, -1] if way.biased else 0.0))[:, None]

    low = torch.full((len(COMPARTMENTS) + len(disturbances),), -torch.inf, dtype=torch.float64)
    low[: len(COMPARTMENTS)] = 0.0
    low[COMPARTMENTS.index("X")] = -torch.inf
    uncertain = {name: Uncertain(0.2, floor=FLOOR) for name in WRONG}
    return Twin(
        disturbed, state, seed=seed, observe=observe, inflation=INFLATION, uncertain=uncertain,
        low=low,
    )  # fmt: skip


def follow(twin: Twin, life: Life, way: Way) -> tuple[Tensor, Tensor]:
    """Returns the ensembles of glucose under the skin and in plasma after every analysis."""
    glucose, plasma = [], []
    for control, reading in zip(life.controls, life.readings, strict=True):
        twin.forecast(control)
        if way.deviation is not None:
            twin.assimilate([float(reading)], way.deviation**2)
        physics, state = twin.system.inner, twin.state.inner  # type: ignore[attr-defined]
        glucose.append(physics.glucose(state))
        plasma.append(state.values[:, COMPARTMENTS.index("Gp")] / physics.parameters["Vg"])
    return torch.stack(glucose), torch.stack(plasma)


def rms(error: Tensor) -> float:
    """Root mean square after the first hours."""
    return float(error[SKIPPED:].square().mean().sqrt())


def compare(patient: str, number: int, members: int, days: int, seed: int) -> dict[str, Any]:
    """One patient by all ways."""
    life = live(patient, 1000 * seed + number, days)
    found: dict[str, Any] = {"sensor": {"rmse": rms(life.readings - life.glucose)}}
    model = make_environment("Glucose-v0", 1, patient=patient, **options(days)).system.parameters
    for name, way in WAYS.items():
        twin = twin_of(patient, life, way, members, 1000 * seed + number, days)
        first = {k: float(v.log().mean()) for k, v in twin.parameters.items()}
        ensemble, plasma = follow(twin, life, way)
        truth = life.glucose[:, None]
        low, high = (quantiles(ensemble[..., None], p)[:, 0] for p in (0.05, 0.95))
        inside = (low <= life.glucose) & (life.glucose <= high)
        found[name] = {
            "rmse": rms(ensemble.mean(1) - life.glucose),
            "plasma_rmse": rms(plasma.mean(1) - life.plasma),
            "spread": float(ensemble.var(1)[SKIPPED:].mean().sqrt()),
            "crps": float(fair_crps(ensemble[..., None], truth)[SKIPPED:].mean()),
            "covered": float(inside[SKIPPED:].double().mean()),
            "resampled": twin.resampled,
            "parameters": {
                k: {
                    "before": first[k] - float(model[k].log()),
                    "after": float(v.log().mean()) - float(model[k].log()),
                }
                for k, v in twin.parameters.items()
                if k in SHOWN
            },
        }
    return {"patient": patient, "range": [float(life.glucose.min()), float(life.glucose.max())]} | {
        "ways": found
    }


def show(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Prints and returns the means over patients."""
    print(f"\n{'':16s} {'glucose: rmse':>13s} {'worst':>7s} {'spread':>7s} {'CRPS':>6s}"
          f" {'90 % covers':>11s} {'plasma: rmse':>12s}  relative error of kp1, Vmx")  # fmt: skip
    table: dict[str, Any] = {}
    for name in rows[0]["ways"]:
        each = [row["ways"][name] for row in rows]
        table[name] = {
            key: float(torch.tensor([e[key] for e in each], dtype=torch.float64).mean())
            for key in each[0]
            if key != "parameters"
        }
        table[name]["worst_rmse"] = max(e["rmse"] for e in each)
        mean = table[name]
        line = f"{name:16s} {mean['rmse']:13.2f} {mean['worst_rmse']:7.2f}"
        if "parameters" in each[0]:
            errors = {
                k: [
                    torch.tensor([e["parameters"][k][when] for e in each]).square().mean().sqrt()
                    for when in ("before", "after")
                ]
                for k in SHOWN
            }
            mean["parameter_error"] = {k: [float(v) for v in pair] for k, pair in errors.items()}
            text = ", ".join(f"{a:.2f} -> {b:.2f}" for a, b in mean["parameter_error"].values())
            line += (
                f" {mean['spread']:7.2f} {mean['crps']:6.2f} {mean['covered']:11.3f}"
                f" {mean['plasma_rmse']:12.2f}  {text}"
            )
        print(line)
    return table


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of numba and torch")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    found = origin()
    print(json.dumps(found, indent=1))
    names = [name for group in ("adult", "adolescent") for name in patient_names(group)]
    begin, rows = time.perf_counter(), []
    for number in range(arguments.patients):
        patient = names[number % len(names)]
        rows.append(compare(patient, number, arguments.members, arguments.days, arguments.seed))
        errors = " ".join(f"{k}: {v['rmse']:.1f}" for k, v in rows[-1]["ways"].items())
        print(f"{patient:16s} {errors}", flush=True)
    table = show(rows)
    save(
        arguments.output,
        {
            **found,
            "load_average_after": os.getloadavg(),
            "seconds": time.perf_counter() - begin,
            "sizes": {k: getattr(arguments, k) for k in ("patients", "days", "members", "seed")},
            "mean": table,
            "patients": rows,
        },
    )


if __name__ == "__main__":
    main()

"""Patients that do not exist, of three ages, drawn from what is published of those who do.

    python -m separatrix.envs.twin.glucose.population --seed 0 --output patients.csv

Every quantity of `DISTRIBUTIONS` is log-normal, with a mean for each age and a coefficient of
variation. Means of the physiology are those of healthy people (C. Dalla Man, R. Rizza, C. Cobelli,
IEEE Trans. Biomed. Eng. 54 (2007) 1740), of insulin under the skin those of C. Dalla Man et al.
(J. Diabetes Sci. Technol. 1 (2007) 323). What differs in type-1 diabetes and between ages follows
the literature named at each line. Coefficients of variation are rounded figures of the size that
such studies report, written down from memory and not from one table. What the physiology ties
together is not drawn: the liver takes 60 % of the insulin that is cleared, production of glucose
balances its consumption at the fasting glucose, and the stomach empties more slowly when half full.
Insulin resistance goes with high fasting insulin, and liver and tissues resist together.

A draw that no clinic would see is thrown away, see `CHECKS`. No number comes from the tables of the
UVA/Padova simulator or of simglucose.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from separatrix.envs.core.registration import check_count, suggest
from separatrix.envs.twin.glucose.model import PARAMETERS
from separatrix.envs.twin.glucose.patients import COLUMNS, Patient
from separatrix.envs.twin.glucose.physiology import measure

GROUPS = ("adult", "adolescent", "child")
VERSION = 1
"""Of the population, to change with its numbers."""
BLOCK = 128
"""Candidates measured at a time; those of a seed are the same whatever it is."""
DIGITS = 6
"""Significant ones of what is drawn, which the last bits of a machine's logarithm do not reach."""

# Means of adult, adolescent and child; coefficient of variation.
DISTRIBUTIONS: dict[str, tuple[tuple[float, float, float], float]] = {
    # Growth charts (CDC 2000): 8 to 11, 13 to 17 years, grown up, kg.
    "BW": ((75.0, 54.0, 32.0), 0.18),
    # Glucose under basal insulin, mg/dL: what is aimed at with a pump, 90 to 145 and somewhat above
    # (R. Holt et al., Diabetes Care 44 (2021) 2589).
    "Gb": ((132.0, 132.0, 132.0), 0.10),
    # Insulin in plasma when fasting, pmol/l: given under the skin, it lacks the liver's first pass,
    # so that the periphery has more than the 25 of the healthy.
    "Ib": ((95.0, 105.0, 85.0), 0.15),
    # Clearance of insulin, l/kg/min (R. Hovorka et al., Physiol. Meas. 25 (2004) 905: 0.0166).
    "clearance": ((0.0160, 0.0160, 0.0160), 0.20),
    "Vi": ((0.05, 0.05, 0.05), 0.10),
    "m1": ((0.19, 0.19, 0.19), 0.25),
    # Production of glucose when fasting, mg/kg/min, and what the brain takes of it: both go with
    # the brain's share of the weight (D. Bier et al., Diabetes 26 (1977) 1016).
    "EGPb": ((2.4, 3.0, 4.0), 0.10),
    "Fsnc": ((1.0, 1.3, 2.0), 0.05),
    # Sensitivity to insulin of liver and tissues: about a third less than in the healthy (R.
    # DeFronzo et al., Diabetes 31 (1982) 795), least in puberty (S. Amiel et al., N. Engl. J. Med.
    # 315 (1986) 215), highest before it.
    "kp3": ((0.0070, 0.0065, 0.0100), 0.30),
    "Vmx": ((0.031, 0.027, 0.040), 0.30),
    "kp2": ((0.0021, 0.0021, 0.0021), 0.30),
    "ki": ((0.0079, 0.0079, 0.0079), 0.25),
    "p2u": ((0.0331, 0.0331, 0.0331), 0.30),
    "Km0": ((225.59, 225.59, 225.59), 0.05),
    "Vg": ((1.88, 1.88, 1.88), 0.10),
    "k1": ((0.065, 0.065, 0.065), 0.20),
    "k2": ((0.079, 0.079, 0.079), 0.20),
    "kmax": ((0.0558, 0.0558, 0.0558), 0.25),
    "slowing": ((0.143, 0.143, 0.143), 0.35),  # kmin / kmax
    "kabs": ((0.057, 0.057, 0.057), 0.30),
    "1-b": ((0.18, 0.18, 0.18), 0.30),
    "d": ((0.010, 0.010, 0.010), 0.40),
    "kd": ((0.0164, 0.0164, 0.0164), 0.20),
    "ka1": ((0.0018, 0.0018, 0.0018), 0.30),
    "ka2": ((0.0182, 0.0182, 0.0182), 0.20),
    # A lag of the sensor's place behind plasma of 5 to 15 minutes (A. Basu et al., Diabetes 62
    # (2013) 4083).
    "ksc": ((0.10, 0.10, 0.10), 0.25),
}
CORRELATIONS = {("kp3", "Vmx"): 0.6, ("Ib", "kp3"): -0.5, ("Ib", "Vmx"): -0.5}
"""Of the logarithms."""
SHARED = {"f": 0.9, "ke1": 0.0005, "ke2": 339.0}
"""Parameters that are the same in all: those of Dalla Man et al."""
EXTRACTION = 0.6
"""Share of the liver in the clearance of insulin."""
CARBOHYDRATES = {"adult": 220.0, "adolescent": 250.0, "child": 180.0}
"""Of a day, g: half the energy of 1800 to 2000, 2000 and 1450 kcal."""


class Draw:
    """A block of candidates.

    Attributes:
        group: Their age.
        parameters: Of the model, each (rows,).
        fasting_glucose: In mg/dL.
        responses: What is measured of them.
        daily: Insulin of a day per weight, U/kg: basal, and what the day's carbohydrates need.
    """

    def __init__(self, group: str, generator: np.random.Generator) -> None:
        self.group = group
        names = list(DISTRIBUTIONS)
        correlation = np.eye(len(names))
        for (first, second), value in CORRELATIONS.items():
            i, j = names.index(first), names.index(second)
            correlation[i, j] = correlation[j, i] = value
        normal = generator.standard_normal((BLOCK, len(names))) @ np.linalg.cholesky(correlation).T
        q = {}
        for name, column in zip(names, normal.T, strict=True):
            means, variation = DISTRIBUTIONS[name]
            spread = math.sqrt(math.log1p(variation**2))
            value = means[GROUPS.index(group)] * np.exp(spread * column - spread**2 / 2)
            q[name] = torch.from_numpy(value)
        self.fasting_glucose = _rounded(q["Gb"])
        self.parameters = {name: _rounded(value) for name, value in _tied(q).items()}
        self.responses = measure(self.parameters, self.fasting_glucose)
        basal, ratio = self.responses.basal, self.responses.carbohydrate_ratio
        self.daily = (24 * basal + CARBOHYDRATES[group] / ratio) / self.parameters["BW"]

    def patient(self, row: int, name: str) -> Patient:
        """Returns one of them."""
        return Patient(
            name,
            {key: float(self.parameters[key][row]) for key in PARAMETERS},
            float(self.fasting_glucose[row]),
            float(f"{self.responses.carbohydrate_ratio[row]:.3g}"),
            float(f"{self.responses.correction_factor[row]:.3g}"),
        )


def _tied(q: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the parameters of the model, with those that follow from others."""
    drawn = {name: q[name] for name in PARAMETERS if name in q}
    plasma = q["Gb"] * q["Vg"]
    tissue = (q["Fsnc"] - q["EGPb"] + q["k1"] * plasma) / q["k2"]
    rate = q["clearance"] / q["Vi"]
    followed = {
        # Dalla Man et al., of what is cleared the liver takes 60 %.
        "m2": rate,
        "m4": (1 - EXTRACTION) * rate,
        "m30": q["m1"] * EXTRACTION / (1 - EXTRACTION),
        "kmin": q["kmax"] * q["slowing"],
        "b": 1 - q["1-b"],
        # Rest at the fasting glucose: production is EGPb; tissues take what the brain leaves.
        "kp1": q["EGPb"] + q["kp2"] * plasma + q["kp3"] * q["Ib"],
        "Vm0": (q["EGPb"] - q["Fsnc"]) * (q["Km0"] + tissue) / tissue,
    }
    shared = {name: torch.full_like(plasma, value) for name, value in SHARED.items()}
    found = drawn | followed | shared
    return {name: found[name] for name in PARAMETERS}


def _rounded(values: Float64[Tensor, " rows"]) -> Float64[Tensor, " rows"]:
    return torch.tensor([float(f"{value:.{DIGITS}g}") for value in values], dtype=torch.float64)


def _between(low: float, values: Tensor, high: float) -> Bool[Tensor, " rows"]:
    return (values >= low) & (values <= high)


def _daily(draw: Draw) -> Tensor:
    return draw.daily * draw.parameters["BW"]


CHECKS: dict[str, Callable[[Draw], Tensor]] = {
    # The body.
    "stomach": lambda d: (
        (d.parameters["kmin"] < d.parameters["kmax"])
        & (d.parameters["d"] > 0)
        & (d.parameters["d"] < d.parameters["b"])
        & (d.parameters["b"] < 1)
    ),
    # Without any insulin tissues still take glucose up and do not give it back.
    "uptake": lambda d: d.parameters["Vm0"] >= d.parameters["Vmx"] * d.parameters["Ib"],
    # At rest. Insulin: what keeps people with type 1 diabetes at such a glucose overnight.
    "fasting glucose": lambda d: _between(110, d.fasting_glucose, 160),
    "fasting insulin": lambda d: _between(80, d.parameters["Ib"], 130),
    "basal insulin": lambda d: _between(0.15, d.responses.basal, 2.5),
    # Diabetes management in children, adolescents and adults (ISPAD guidelines; American Diabetes
    # Association, Standards of Care): 0.5 a day after the first year to 1.2 U/kg in puberty.
    "daily insulin": lambda d: _between(0.4, d.daily, 1.2),
    # A meal without a bolus raises glucose for hours, but not into a coma; nor does it end low.
    "rise": lambda d: _between(40, d.responses.rise, 200),
    "peak": lambda d: _between(60, d.responses.peak_time, 300),
    "lowest": lambda d: d.responses.lowest >= 70,
    # Rapid insulin acts for 3 to 5 hours, large boluses for up to 7 (T. Heise et al., Diabetes Care
    # 30 (2007) 2746, and the settings of pumps).
    "action": lambda d: _between(180, d.responses.action_time, 420),
    # The rules of the clinic, 1700 mg/dL and 500 g over the daily units (P. Davidson et al.,
    # Endocr. Pract. 14 (2008) 1095), whose own scatter is large: within a factor of three.
    "correction": lambda d: _between(1700 / 3, d.responses.correction_factor * _daily(d), 3 * 1700),
    "ratio": lambda d: _between(500 / 3, d.responses.carbohydrate_ratio * _daily(d), 3 * 500),
}
"""What a candidate has to meet, by name."""


def draw_patients(count: int, group: str, seed: int) -> list[Patient]:
    """Draws patients who are not among those that come with the package.

    Args:
        count: How many.
        group: "adult", "adolescent" or "child".
        seed: The first patients of a seed are the same whatever the count; those of seed 0 are
            the ones that come with the package.

    Raises:
        ValueError: An argument is not allowed.
    """
    return _draw(count, group, seed)[0]


def _draw(count: int, group: str, seed: int) -> tuple[list[Patient], Counter[str]]:
    """Returns patients, and how many candidates failed each check; "drawn" counts candidates."""
    check_count("count", count)
    if not isinstance(group, str) or group not in GROUPS:
        raise ValueError(f"group: got {group!r}; {suggest(group, GROUPS)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: got {seed!r}; allowed: a whole number >= 0")
    generator = np.random.default_rng([seed, GROUPS.index(group)])
    found: list[Patient] = []
    failed: Counter[str] = Counter()
    while len(found) < count:
        draw = Draw(group, generator)
        sound = {name: check(draw) for name, check in CHECKS.items()}
        failed.update({name: int((~passed).sum()) for name, passed in sound.items()})
        failed["drawn"] += BLOCK
        for row in torch.stack(list(sound.values())).all(0).nonzero()[:, 0].tolist():
            found.append(draw.patient(row, f"{group}#{len(found) + 1:03d}"))
    return found[:count], failed


def write(path: Path, count: int, seed: int) -> None:
    """Draws as many patients of each age and writes them with where they come from."""
    lines = [
        "# Patients with type-1 diabetes that do not exist; research only. Drawn by",
        f"# python -m separatrix.envs.twin.glucose.population --seed {seed} --count {count}",
        f"# population {VERSION}, seed {seed}",
        "# Gb: fasting glucose, mg/dL; CR: carbohydrate ratio, g/U; CF: correction factor, mg/dL/U",
    ]
    rows: list[list[str]] = []
    for group in GROUPS:
        patients, failed = _draw(count, group, seed)
        drawn = failed.pop("drawn")
        reasons = ", ".join(f"{name} {times}" for name, times in failed.items() if times)
        print(f"{group}: {drawn} candidates, of which failed {reasons}")
        for p in patients:
            numbers = dict(p.parameters) | {"Gb": p.fasting_glucose}
            numbers |= {"CR": p.carbohydrate_ratio, "CF": p.correction_factor}
            rows.append([p.name, *(f"{numbers[name]:.{DIGITS}g}" for name in COLUMNS[1:])])
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> None:
    """Writes a file of patients."""
    parser = argparse.ArgumentParser(description="Draws patients of three ages into a CSV file.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10, help="patients of each age")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    write(given.output, given.count, given.seed)


if __name__ == "__main__":
    main(sys.argv[1:])

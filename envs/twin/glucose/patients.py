"""Patients: parameters of the model by name, ours and those of an installed simglucose.

Ours are drawn by `separatrix.envs.twin.glucose.population`. Those of simglucose do not come with
this package: their origin is the licensed UVA/Padova simulator of 2008.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from separatrix.envs.twin.glucose.model import PARAMETERS

SHIPPED = Path(__file__).parent / "data" / "patients.csv"
FASTING_GLUCOSE = "Gb"
"""The glucose in mg/dL at which a patient's own basal insulin keeps them, beside the parameters."""
COLUMNS = ("name", *PARAMETERS, FASTING_GLUCOSE, "CR", "CF")
"""Of a file of patients."""
SIMGLUCOSE = "simglucose/"
"""What the names of patients from simglucose begin with."""


@dataclass(frozen=True)
class Patient:
    """A person with type-1 diabetes.

    Attributes:
        name: Such as "adult#001".
        parameters: Of the model, by name.
        fasting_glucose: Under basal insulin, mg/dL.
        carbohydrate_ratio: Carbohydrates that one unit of insulin makes up for, g/U.
        correction_factor: By how much one unit lowers glucose, mg/dL/U.
    """

    name: str
    parameters: Mapping[str, float]
    fasting_glucose: float
    carbohydrate_ratio: float
    correction_factor: float


def find_patient(name: str) -> Patient:
    """Looks a patient up.

    Args:
        name: Such as "adult#001", or "simglucose/adult#001" if simglucose is installed.

    Raises:
        ValueError: There is no such patient.
        ImportError: The patient is one of simglucose's, which is not installed.
    """
    found = simglucose_patients() if str(name).startswith(SIMGLUCOSE) else shipped_patients()
    if name not in found:
        near = difflib.get_close_matches(str(name), found, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        names = list(found)
        raise ValueError(f"unknown patient {name!r}; {hint}allowed: {names[0]} to {names[-1]}")
    return found[name]


def patient_names(group: str) -> list[str]:
    """Returns the names of a group.

    Args:
        group: "adult", "adolescent" or "child", or one of simglucose's, "simglucose/adult".

    Raises:
        ValueError: The group is unknown.
    """
    found = simglucose_patients() if group.startswith(SIMGLUCOSE) else shipped_patients()
    names = [name for name in found if name.rpartition("#")[0] == group]
    if not names:
        groups = dict.fromkeys(name.rpartition("#")[0] for name in found)
        raise ValueError(f"unknown group {group!r}; allowed: {', '.join(groups)}")
    return names


@cache
def shipped_patients() -> dict[str, Patient]:
    """Returns the patients of this package by name."""
    with SHIPPED.open(newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        return _read(csv.DictReader(lines), "name", "")


@cache
def simglucose_patients() -> dict[str, Patient]:
    """Returns the 30 patients of the installed simglucose by name.

    Raises:
        ImportError: simglucose is not installed.
    """
    spec = find_spec("simglucose")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "patients of simglucose need the package simglucose: "
            "pip install --no-deps simglucose==0.2.11"
        )
    folder = Path(spec.submodule_search_locations[0]) / "params"
    with (folder / "Quest.csv").open(newline="") as file:
        quest = {row["Name"]: row for row in csv.DictReader(file)}
    with (folder / "vpatient_params.csv").open(newline="") as file:
        rows = [row | quest[row["Name"]] for row in csv.DictReader(file)]
    return _read(rows, "Name", SIMGLUCOSE)


def _read(rows: Iterable[Mapping[str, str]], key: str, prefix: str) -> dict[str, Patient]:
    found = {}
    for row in rows:
        parameters = {name: float(row[name]) for name in PARAMETERS}
        rest = (float(row[name]) for name in (FASTING_GLUCOSE, "CR", "CF"))
        patient = Patient(prefix + row[key], parameters, *rest)
        found[patient.name] = patient
    return found

"""Glucose against simglucose, frozen and alive, against a tight solver, and against itself."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import sympy
import torch
from scipy.integrate import DOP853
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem, traced
from separatrix.envs.twin.glucose.fasting import basal_insulin, fasting_state
from separatrix.envs.twin.glucose.model import (
    COMPARTMENTS,
    EATING_RATE,
    MEMORY,
    PARAMETERS,
    UNIT,
    glucose,
)
from separatrix.envs.twin.glucose.patients import (
    Patient,
    shipped_patients,
    simglucose_patients,
)

ROOT = Path(__file__).resolve().parents[2]
FROZEN = Path(__file__).parent / "data" / "simglucose_adolescent001.csv"
NAME, SIMGLUCOSE = "Glucose-v0", "simglucose 0.2.11"
DAY = 1440
MEALS = {420: 45.0, 720: 70.0, 960: 15.0, 1080: 80.0, 1380: 10.0}
"""Minute and g: of the protocol by which all patients are compared."""
Gate = Callable[..., None]
Insulin = Callable[[int], Tensor]
"""In U/min, of every patient, in a minute."""


@cache
def their_module() -> Any:
    """The patient of simglucose; the test is skipped where it is not installed."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from simglucose_patient import load_patient  # type: ignore[import-not-found]

        return load_patient()
    except ImportError as reason:
        pytest.skip(str(reason))
    finally:
        sys.path.pop(0)


def cohort(source: str) -> list[Patient]:
    if source == "simglucose":
        their_module()
        return list(simglucose_patients().values())
    return list(shipped_patients().values())


def parameters_of(patients: list[Patient]) -> dict[str, Tensor]:
    return {
        name: torch.tensor([p.parameters[name] for p in patients], dtype=torch.float64)
        for name in PARAMETERS
    }


def fasting(patients: list[Patient]) -> tuple[Tensor, Tensor]:
    """Basal insulin in U/h, and the states at rest under it."""
    found = torch.tensor([p.fasting_glucose for p in patients], dtype=torch.float64)
    basal = basal_insulin(parameters_of(patients), found)
    return basal, fasting_state(parameters_of(patients), basal)


def in_minutes(patients: list[Patient], dtype: torch.dtype = torch.float64) -> OdeSystem:
    """The model minute by minute."""
    return OdeSystem(
        glucose,
        {name: value.tolist() for name, value in parameters_of(patients).items()},
        num_envs=len(patients),
        control_interval=1.0,
        substeps=1,
        integrator="rk4",
        device=torch.device("cpu"),
        dtype=dtype,
        backend="numba",
    )


def run(
    patients: list[Patient],
    start: Tensor,
    insulin: Insulin,
    meals: dict[int, float],
    minutes: int,
    dtype: torch.dtype = torch.float64,
) -> np.ndarray:
    """Compartments and memory at the end of every minute, (minute, patient, state)."""
    system, count = in_minutes(patients, dtype), len(patients)
    values = torch.cat((start, start.new_zeros((count, len(MEMORY)))), 1).to(dtype)
    rows = torch.arange(count)
    state = OdeState(Stream.start(rows), torch.zeros_like(rows), values)
    found = []
    for minute in range(minutes):
        control = torch.zeros((count, 3), dtype=dtype)
        control[:, 0], control[:, 1] = insulin(minute), meals.get(minute, 0.0)
        control[:, 2] = minute if minute in meals else -1.0
        state = system.advance(state, control)
        found.append(state.values)
    return torch.stack(found).double().numpy()


def shown(path: np.ndarray, patients: list[Patient]) -> np.ndarray:
    """Glucose under the skin, mg/dL."""
    return path[..., COMPARTMENTS.index("Gs")] / parameters_of(patients)["Vg"].numpy()


def bolused(patients: list[Patient], basal: Tensor, meals: dict[int, float]) -> Insulin:
    """Own basal insulin in U/min; at a meal, 1 U for 10 g and 70 kg in five minutes."""
    weight = parameters_of(patients)["BW"]

    def insulin(minute: int) -> Tensor:
        grams = sum(size for begin, size in meals.items() if begin <= minute < begin + 5)
        return basal / 60 + grams / 10 * weight / 70 / 5

    return insulin


# The right-hand side, the rest, and the frozen run.


def test_the_right_hand_side_is_simglucose_s(gate: Gate) -> None:
    module = their_module()
    patients, generator = cohort("simglucose"), np.random.default_rng(0)
    scale = np.array([3e4, 3e4, 3e4, 500, 400, 20, 100, 300, 300, 10, 200, 200, 500])
    worst = 0.0
    for _ in range(20):
        states = generator.uniform(-0.1, 1, (30, 13)) * scale
        states[:, :3] = abs(states[:, :3])  # a tanh of a negative stomach is no question
        insulin, bite, eaten = generator.uniform(0, (1, 5, 90), (30, 3)).T
        before = generator.uniform(1, 2e4, 30)
        memory = np.stack((0 * bite, eaten, before, bite, 0 * bite), 1)
        control = torch.from_numpy(np.stack((insulin, 0 * bite, -1 + 0 * bite), 1))
        values = torch.from_numpy(np.concatenate((states, memory), 1))
        ours = in_minutes(patients).vector_field(values, control).numpy()[:, :13]
        for row, patient in enumerate(patients):
            given = module.Action(CHO=bite[row], insulin=insulin[row])
            theirs = module.T1DPatient.model(
                0, states[row], given, their_parameters(patient), before[row], eaten[row]
            )
            terms = np.abs(theirs) + 1e-3 * scale  # some rates are small differences
            worst = max(worst, float((abs(ours[row] - theirs) / terms).max()))
    gate(NAME, "rates of change at random states, relative", worst, 0.0, tolerance=1e-10,
         source=SIMGLUCOSE)  # fmt: skip


@cache
def their_table() -> Any:
    import pandas

    return pandas.read_csv(their_module().PATIENT_PARA_FILE).set_index("Name", drop=False)


def their_parameters(patient: Patient) -> Any:
    return their_table().loc[patient.name.removeprefix("simglucose/")]


def test_rests_are_those_of_simglucose_s_table(gate: Gate) -> None:
    patients = cohort("simglucose")
    basal, rest = fasting(patients)
    rows = [their_parameters(patient) for patient in patients]
    their_basal = np.array([row.u2ss * row.BW / 6000 * 60 for row in rows])
    their_rest = np.array([row.iloc[2:15].to_numpy(float) for row in rows])
    worst = float(abs(basal.numpy() / their_basal - 1).max())
    gate(NAME, "basal insulin of 30 patients, relative", worst, 0.0, tolerance=1e-8,
         source=SIMGLUCOSE)  # fmt: skip
    scale = their_rest.max(0) + (their_rest.max(0) == 0)
    worst = float((abs(rest.numpy() - their_rest) / scale).max())
    gate(NAME, "fasting states of 30 patients, relative", worst, 0.0, tolerance=1e-8,
         source=SIMGLUCOSE)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_two_days_that_simglucose_once_recorded(dtype: torch.dtype, gate: Gate) -> None:
    patient = [simglucose_patients()["simglucose/adolescent#001"] for _ in [their_module()]]
    with FROZEN.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    meals = {int(row["meal_minute"]): 3 * float(row["CHO"]) for row in rows if row["meal_minute"]}
    insulin = torch.tensor([float(row["insulin"]) for row in rows], dtype=torch.float64)
    expected = np.array([float(row["BG"]) for row in rows])
    assert len(meals) == 9 and len(rows) == 961
    _, rest = fasting(patient)
    path = run(patient, rest, lambda minute: insulin[minute // 3], meals, 2 * DAY, dtype)
    ours = shown(path, patient).reshape(-1, 3).mean(1)
    rmse = math.sqrt(np.square(ours - expected[1:]).mean())
    name = str(dtype).removeprefix("torch.")
    gate(NAME, f"two recorded days of adolescent#001 in {name}, RMSE in mg/dL", rmse, 0.0,
         tolerance=0.005, source="tests/sim_results.csv of simglucose")  # fmt: skip


# A day of all patients.


@cache
def compiled_rates() -> Any:
    """The right-hand side as numba makes it from the equations, of one patient after the other."""
    program, v = traced(glucose), sympy.IndexedBase("v")
    symbols = (*program.state, *program.control, *program.parameter)
    named = {symbol: v[place] for place, symbol in enumerate(symbols)}
    rates = sympy.lambdify(v, [rate.xreplace(named) for rate in program.vector_field[:13]],
                           "math", cse=True)  # fmt: skip
    one = numba.njit(rates)

    @numba.njit
    def fill(x: Any, inputs: Any) -> Any:
        found = np.empty_like(x)
        for row in range(x.shape[1]):
            inputs[:13, row] = x[:, row]
            found[:, row] = one(inputs[:, row])
        return found

    return fill


def solved(patients: list[Patient], start: Tensor, insulin: Insulin) -> np.ndarray:
    """What `run` computes, by DOP853 with tolerance 1e-10 in every minute, and meals by hand."""
    rates, count = compiled_rates(), len(patients)
    inputs = np.zeros((len(COMPARTMENTS) + len(MEMORY) + 3 + len(PARAMETERS), count))
    inputs[-len(PARAMETERS) :] = torch.stack(list(parameters_of(patients).values())).numpy()
    values = start.numpy().T.copy()
    waiting, eaten, before, eating = 0.0, 0.0, np.zeros(count), False
    found = []
    for minute in range(DAY):
        waiting += MEALS.get(minute, 0.0)
        bite = min(EATING_RATE, waiting)
        waiting -= bite
        if bite > 0 and not eating:
            eaten, before = 0.0, values[0] + values[1]
        eating = bite > 0
        eaten += bite
        inputs[14], inputs[15], inputs[16] = eaten, before, bite
        inputs[18] = insulin(minute).numpy()

        def field(_: float, x: np.ndarray) -> np.ndarray:
            return rates(x.reshape(13, count), inputs).ravel()

        solver = DOP853(field, 0.0, values.ravel(), 1.0, rtol=1e-10, atol=1e-10)
        while solver.status == "running":
            solver.step()
        assert solver.status == "finished"
        values = solver.y.reshape(13, count)
        found.append(values.T.copy())
    return np.stack(found)


@pytest.mark.parametrize("source", ["shipped", "simglucose"])
def test_a_day_of_30_patients_by_a_tight_solver(source: str, gate: Gate) -> None:
    patients = cohort(source)
    basal, rest = fasting(patients)
    insulin = bolused(patients, basal, MEALS)
    exact = shown(solved(patients, rest, insulin), patients)
    assert exact.max() > 300 and exact.min() < 110
    for dtype in (torch.float64, torch.float32):
        ours = shown(run(patients, rest, insulin, MEALS, DAY, dtype), patients)
        rmse = np.sqrt(np.square(ours - exact).mean(0))
        what = f"a day of 30 patients ({source}) in {str(dtype).removeprefix('torch.')}"
        origin = "DOP853 at 1e-10, restarted every minute"
        gate(NAME, f"{what}, mean RMSE in mg/dL", rmse.mean(), 0, tolerance=0.02, source=origin)
        gate(NAME, f"{what}, worst RMSE in mg/dL", rmse.max(), 0, tolerance=0.1, source=origin)
        gate(NAME, f"{what}, largest error in mg/dL", abs(ours - exact).max(), 0, tolerance=0.5,
             source=origin)  # fmt: skip


def theirs(patient: Patient, insulin: list[float], meals: dict[int, float]) -> np.ndarray:
    """Glucose after every minute of `T1DPatient.step`, mg/dL."""
    module = their_module()
    found, them = [], module.T1DPatient(their_parameters(patient))
    for minute, given in enumerate(insulin):
        them.step(module.Action(CHO=meals.get(minute, 0.0), insulin=given))
        found.append(them.observation.Gsub)
    return np.array(found)


def beside(numbers: list[int], meals: dict[int, float], minutes: int, gate: Gate) -> None:
    patients = [cohort("simglucose")[number] for number in numbers]
    basal, rest = fasting(patients)
    insulin = bolused(patients, basal, meals)
    ours = shown(run(patients, rest, insulin, meals, minutes), patients)
    expected = [
        theirs(patient, [float(insulin(minute)[row]) for minute in range(minutes)], meals)
        for row, patient in enumerate(patients)
    ]
    rmse = np.sqrt(np.square(ours.T - np.array(expected)).mean(1))
    what = f"{minutes} minutes of {len(numbers)} patients step by step"
    gate(NAME, f"{what}, mean RMSE in mg/dL", rmse.mean(), 0, tolerance=0.02, source=SIMGLUCOSE)
    gate(NAME, f"{what}, worst RMSE in mg/dL", rmse.max(), 0, tolerance=0.1, source=SIMGLUCOSE)


def test_some_hours_beside_simglucose(gate: Gate) -> None:
    """One of each age; the second meal finds the first one in the stomach."""
    beside([0, 10, 29], {10: 60.0, 80: 33.0}, 150, gate)


@pytest.mark.slow
def test_a_day_of_all_patients_beside_simglucose(gate: Gate) -> None:
    beside(list(range(30)), MEALS, DAY, gate)


def test_no_carbohydrate_is_lost(gate: Gate) -> None:
    """What is eaten is in the stomach, in the gut, or has been absorbed at kabs Q3."""
    patients = cohort("shipped")
    basal, rest = fasting(patients)
    path = run(patients, rest, bolused(patients, basal, MEALS), MEALS, DAY)
    begun = np.concatenate((np.zeros_like(path[:1]), path[:-1]))
    begun[..., 13:] = path[..., 13:]  # of meals, what holds in that minute
    system = in_minutes(patients).with_parameters(
        {name: value.repeat(DAY) for name, value in parameters_of(patients).items()}, DAY * 30
    )
    kabs = parameters_of(patients)["kabs"].numpy()

    def absorption(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = torch.from_numpy(values).flatten(0, 1)
        rate = system.vector_field(flat, flat.new_zeros((len(flat), 3)))
        return kabs * values[..., 2], kabs * rate[:, 2].numpy().reshape(DAY, 30)

    (first, first_slope), (last, last_slope) = absorption(begun), absorption(path)
    # The trapezium rule with the slopes at both ends errs with the fifth power of the step.
    absorbed = (first + last) / 2 + (first_slope - last_slope) / 12
    found = (path[-1, :, :3].sum(-1) + absorbed.sum(0)) / (1000 * sum(MEALS.values()))
    worst = found[abs(found - 1).argmax()]
    gate(NAME, "carbohydrates found over those eaten, worst of 30", worst, 1.0, tolerance=1e-4,
         source="conservation of mass")  # fmt: skip


def test_patients_who_fast_stay_at_rest(gate: Gate) -> None:
    patients = cohort("shipped")
    basal, rest = fasting(patients)
    path = shown(run(patients, rest, lambda minute: basal / 60, {}, DAY), patients)
    fasted = np.array([p.fasting_glucose for p in patients])
    gate(NAME, "drift of glucose in 24 fasting hours, mg/dL", abs(path - fasted).max(), 0.0,
         tolerance=0.1, source="rest under basal insulin")  # fmt: skip


def test_a_unit_is_6000_pmol() -> None:
    """And what is given arrives: at rest as much leaves plasma as is infused."""
    patients = cohort("shipped")
    basal, rest = fasting(patients)
    p = parameters_of(patients)
    plasma, liver = rest[:, COMPARTMENTS.index("Ip")], rest[:, COMPARTMENTS.index("Il")]
    lost = (p["m2"] + p["m4"]) * plasma - p["m1"] * liver
    torch.testing.assert_close(lost * p["BW"], basal / 60 * UNIT, rtol=1e-10, atol=0.0)

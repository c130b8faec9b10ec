"""The synthetic patients: reproducible, plausible, and usable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.twin.glucose import population
from separatrix.envs.twin.glucose.model import PARAMETERS
from separatrix.envs.twin.glucose.patients import (
    SHIPPED,
    Patient,
    find_patient,
    patient_names,
    shipped_patients,
)
from separatrix.envs.twin.glucose.physiology import MEAL, Responses, measure
from separatrix.envs.twin.glucose.population import CHECKS, GROUPS, draw_patients


def responses_of(patients: list[Patient]) -> Responses:
    def column(of: Any) -> torch.Tensor:
        return torch.tensor([of(p) for p in patients], dtype=torch.float64)

    parameters = {name: column(lambda p, name=name: p.parameters[name]) for name in PARAMETERS}
    return measure(parameters, column(lambda p: p.fasting_glucose))


def test_the_file_is_what_its_command_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    population.main(["--seed", "0", "--output", str(tmp_path / "again.csv")])
    assert (tmp_path / "again.csv").read_bytes() == SHIPPED.read_bytes()
    text = SHIPPED.read_text()
    assert "separatrix.envs.twin.glucose.population --seed 0" in text
    assert "population 1, seed 0" in text
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(GROUPS)
    assert all("candidates, of which failed uptake" in line for line in lines)


def test_ten_of_each_age() -> None:
    assert [len(patient_names(group)) for group in GROUPS] == [10, 10, 10]
    assert next(iter(shipped_patients())) == "adult#001"
    weights = [
        np.mean([find_patient(name).parameters["BW"] for name in patient_names(group)])
        for group in GROUPS
    ]
    assert weights[0] > weights[1] > weights[2]


def test_measured_again_they_are_what_the_file_says() -> None:
    patients = list(shipped_patients().values())
    found = responses_of(patients)
    for row, patient in enumerate(patients):
        assert found.carbohydrate_ratio[row] == pytest.approx(patient.carbohydrate_ratio, rel=6e-3)
        assert found.correction_factor[row] == pytest.approx(patient.correction_factor, rel=6e-3)
    assert (found.basal >= 0.15).all() and (found.basal <= 2.5).all()
    assert (found.lowest >= 70).all()
    assert ((found.action_time >= 180) & (found.action_time <= 420)).all()
    assert ((found.rise >= 40) & (found.rise <= 200)).all()


def test_a_meal_with_its_bolus_ends_where_it_began() -> None:
    """The ratio and the factor of the environment's own patients, in the environment."""
    patients = list(shipped_patients().values())
    environment: Any = make_environment(
        "Glucose-v0", 30, patient=patients, dtype="float64", meals=[], sensor_noise=0,
        start_deviation=0,
    )  # fmt: skip
    system = environment.system
    state, _ = environment.reset(0)
    fasting = torch.tensor([p.fasting_glucose for p in patients], dtype=torch.float64)
    ratio = torch.tensor([p.carbohydrate_ratio for p in patients], dtype=torch.float64)
    grams = MEAL * system.parameters["BW"]
    torch.testing.assert_close(system.glucose(state), fasting, rtol=1e-10, atol=0.0)
    for step in range(60):
        bolus, eaten = (grams / ratio, grams) if step == 0 else (0 * grams, 0 * grams)
        state = system.advance(state, torch.stack((system.basal, bolus, eaten), 1))
    assert (system.glucose(state) - fasting).abs().max() < 1.0


def test_first_patients_of_a_seed_do_not_depend_on_the_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor on how many are measured together; and another seed draws others."""
    many = draw_patients(3, "child", 5)
    monkeypatch.setattr(population, "BLOCK", 16)
    few = draw_patients(1, "child", 5)
    assert few == many[:1] and [p.name for p in many] == ["child#001", "child#002", "child#003"]
    assert few[0].parameters != find_patient("child#001").parameters
    environment = make_environment("Glucose-v0", 3, patient=many)
    state, _ = environment.reset(0)
    assert state.values.isfinite().all()


def test_candidates_that_fail_a_check_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one of seed 0 is too light for a check of our own."""
    first = find_patient("adult#001")
    weight = first.parameters["BW"]
    heavy = {"weight": lambda draw: draw.parameters["BW"] > weight}
    monkeypatch.setattr(population, "CHECKS", CHECKS | heavy)
    found = draw_patients(2, "adult", 0)
    assert all(p.parameters["BW"] > weight for p in found)
    shipped = [p for p in shipped_patients().values() if p.parameters["BW"] > weight]
    assert [p.parameters for p in found] == [p.parameters for p in shipped[:2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "adult", 0), "count: got 0; allowed: an integer >= 1"),
        ((1, "adlt", 0), "group: got 'adlt'; did you mean 'adult'. allowed: adult, adolescent"),
        ((1, "adult", -1), "seed: got -1; allowed: a whole number >= 0"),
        ((1, "adult", True), "seed: got True; allowed"),
    ],
)
def test_bad_draws_say_what_is_allowed(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_patients(*arguments)


def test_unknown_patients() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'adult#001'. allowed: adult#001 to child"):
        find_patient("adul#001")
    with pytest.raises(ValueError, match="unknown group 'baby'; allowed: adult, adolescent, child"):
        patient_names("baby")
    with pytest.raises(ValueError, match=r"patient: got .*; allowed: a name or a Patient, or one"):
        make_environment("Glucose-v0", 3, patient=["adult#001", "adult#002"])

"""Basal-bolus and PID: doses by hand, and what they reach on patients."""

import pytest
import torch

from separatrix.controllers.catalog import make_controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.glucose import BasalBolus, GlucosePID
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ActionDelay
from separatrix.envs.twin.glucose.patients import find_patient, patient_names
from separatrix.envs.twin.glucose.system import GlucoseSystem
from separatrix.envs.twin.glucose.task import GlucoseTask


def doses(environment: ComposedEnvironment, action: torch.Tensor) -> list[float]:
    """Basal insulin in U/h and bolus in U of one patient."""
    found: list[float] = environment.task.control(action)[0].tolist()
    return found


def own_basal(environment: Environment) -> torch.Tensor:
    """Basal insulin of the patients, U/h."""
    assert isinstance(environment.system, GlucoseSystem)
    return environment.system.basal


@pytest.fixture
def eats_at_once() -> ComposedEnvironment:
    """Somebody who eats 60 g at midnight, seen without error."""
    environment = make_environment(
        "Glucose-v0", meals=[(0, 60)], sensor_noise=0.0, start_deviation=0.0, dtype="float64"
    )
    assert isinstance(environment, ComposedEnvironment)
    return environment


def test_a_bolus_is_carbohydrates_over_their_ratio(eats_at_once: ComposedEnvironment) -> None:
    patient = find_patient("adult#001")
    state, observation = eats_at_once.reset(0)
    assert float(state.readings[0, -1]) == pytest.approx(patient.fasting_glucose)
    assert patient.fasting_glucose < 150  # nothing to correct
    controller = BasalBolus(eats_at_once)
    basal, bolus = doses(eats_at_once, controller.act(observation, state))
    assert basal == pytest.approx(float(own_basal(eats_at_once)))
    assert bolus == pytest.approx(60 / patient.carbohydrate_ratio)
    later = eats_at_once.step(state, controller.act(observation, state)).state
    assert doses(eats_at_once, controller.act(observation, later))[1] == 0


def test_a_high_reading_is_corrected_with_the_meal_less_what_is_on_board() -> None:
    environment = make_environment(
        "Glucose-v0", meals=[(0, 60)], sensor_noise=0.0, start_deviation=0.0, dtype="float64"
    )
    assert isinstance(environment, ComposedEnvironment)
    patient = find_patient("adult#001")
    state, observation = environment.reset(0)
    state.readings[:] = 240.0
    controller = BasalBolus(environment, target=140, correct_above=150)
    plain, correction = 60 / patient.carbohydrate_ratio, 100 / patient.correction_factor
    assert doses(environment, controller.act(observation, state))[1] == pytest.approx(
        plain + correction
    )
    state.on_board[:, 0] += correction / 4
    assert doses(environment, controller.act(observation, state))[1] == pytest.approx(
        plain + 0.75 * correction
    )
    state.on_board[:, 0] += correction
    assert doses(environment, controller.act(observation, state))[1] == pytest.approx(plain)


def test_pid_gives_basal_at_the_target_and_more_above_and_never_less_than_none() -> None:
    environment = make_environment("Glucose-v0", 3, sensor_noise=0.0, dtype="float64")
    assert isinstance(environment, ComposedEnvironment)
    state, observation = environment.reset(0)
    state.readings[:] = torch.tensor([120.0, 150.0, 45.0])[:, None]
    controller = GlucosePID(environment, integral_time=1e12)
    control = environment.task.control(controller.act(observation, state))
    own = own_basal(environment)
    torch.testing.assert_close(control[:, 0] / own, torch.tensor([1.0, 1.5, 0.0]).double())
    assert (control[:, 1] == 0).all()
    falling = 120.0 + 10.0 * torch.arange(11, -1, -1, dtype=torch.float64)
    state.readings[0] = falling  # at the target, and 2 mg/dL a minute downwards
    assert float(environment.task.control(controller.act(observation, state))[0, 0]) == 0


def test_pid_forgets_the_integral_of_those_that_start_anew() -> None:
    environment = make_environment("Glucose-v0", 2, sensor_noise=0.0, dtype="float64")
    state, observation = environment.reset(0)
    state.readings[:] = 180.0
    controller = GlucosePID(environment)
    first = controller.act(observation, state)
    controller.act(observation, state)
    controller.reset(torch.tensor([True, False]))
    third = controller.act(observation, state)
    assert torch.equal(third[0], first[0]) and third[1, 0] > first[1, 0]


def test_rules_keep_adults_in_range() -> None:
    names = patient_names("adult")
    environment = make_environment("Glucose-v0", len(names), patient=names)
    share = {}
    for name in ("zero", "glucose_pid", "basal_bolus"):
        found = evaluate(environment, make_controller(name, environment), torch.arange(10))
        columns = found.columns()
        share[name] = float(columns["in_range"].mean())
        assert name == "zero" or float(columns["severe"].max()) < 0.05
    assert share["zero"] < share["glucose_pid"] < share["basal_bolus"]  # measured: .38, .70, .91
    assert share["basal_bolus"] > 0.8


@pytest.mark.parametrize("name", ["basal_bolus", "glucose_pid"])
def test_other_environments_are_refused(name: str) -> None:
    for environment in (
        make_environment("Lorenz-v0"),
        make_environment("Glucose-v0", wrap=[ActionDelay(1)]),
    ):
        with pytest.raises(ValueError, match=r"doses insulin, got a .*; allowed: Glucose-v0"):
            make_controller(name, environment)
    with pytest.raises(ValueError, match="allowed: numbers > 0"):
        make_controller("glucose_pid", make_environment("Glucose-v0"), scale=0.0)


def test_actions_give_back_the_doses_that_they_were_made_of() -> None:
    environment = make_environment("Glucose-v0", 2, patient=["adult#001", "child#001"])
    task = environment.task  # type: ignore[attr-defined]
    assert isinstance(task, GlucoseTask)
    basal, bolus = torch.tensor([1.0, 0.5]), torch.tensor([4.0, 2.0])
    torch.testing.assert_close(task.control(task.action(basal, bolus)).T[0], basal)
    torch.testing.assert_close(task.control(task.action(basal, bolus)).T[1], bolus)
    most = task.control(task.action(basal * 100, bolus * 100))
    own = own_basal(environment).float()
    torch.testing.assert_close(most, torch.stack((4 * own, 24 * own), 1))

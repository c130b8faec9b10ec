"""Glucose-v0 as an environment: meals, pump, sensor, ends, options."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.glucose.meals import draw_meals
from separatrix.envs.twin.glucose.model import COMPARTMENTS, MEMORY
from separatrix.envs.twin.glucose.risk import kovatchev_risk
from separatrix.envs.twin.glucose.sensor import advance_process, error, start_process
from separatrix.envs.twin.glucose.system import READINGS

THREE = ["adult#001", "adolescent#002", "child#003"]
QUIET = {"sensor_noise": 0, "start_deviation": 0}


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment("Glucose-v0", num_envs, **options)


def walk(environment: Any, state: Any, actions: Tensor) -> tuple[Any, list[Any]]:
    found = []
    for action in actions:
        found.append(environment.step(state, action))
        state = found[-1].state
    return state, found


def actions_of(steps: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return 0.5 * torch.rand((steps, rows, 2), generator=generator) - 0.4


def test_a_batch_is_its_environments() -> None:
    seeds = torch.tensor([5, 0, 9])
    actions = actions_of(100, 3)  # breakfast is among them
    everybody = make(3, patient=THREE)
    state, first = everybody.reset(seeds)
    state, found = walk(everybody, state, actions)
    assert sum(float(t.info["carbohydrates"].sum()) for t in found) > 60
    for row, name in enumerate(THREE):
        alone = make(1, patient=name)
        single, observation = alone.reset(seeds[row : row + 1])
        assert torch.equal(observation[0], first[row])
        single, steps = walk(alone, single, actions[:, row : row + 1])
        for field in fields(single):
            if field.name != "stream":
                one, other = getattr(single, field.name), getattr(state, field.name)
                assert torch.equal(one[0], other[row]), field.name
        assert torch.equal(steps[-1].observation[0], found[-1].observation[row])
        assert torch.equal(steps[-1].reward[0], found[-1].reward[row])


def test_a_row_that_is_no_number_stays_alone() -> None:
    environment = make(3, patient=THREE)
    state, _ = environment.reset(0)
    values = environment.system.values(state).clone()
    values[1] = torch.nan
    broken = environment.step(environment.system.with_values(state, values), torch.zeros(3, 2))
    sound = environment.step(state, torch.zeros(3, 2))
    assert broken.info["diverged"].tolist() == [False, True, False]
    assert torch.equal(broken.observation[::2], sound.observation[::2])


def test_single_precision_is_enough_for_a_day() -> None:
    paths = []
    for dtype in ("float32", "float64"):
        environment = make(3, patient=THREE, dtype=dtype)
        state, _ = environment.reset(0)
        actions = actions_of(288, 3).to(environment.dtype)
        _, found = walk(environment, state, actions)
        paths.append(torch.stack([t.info["glucose"].double() for t in found]))
    assert paths[1].std() > 10
    assert (paths[0] - paths[1]).abs().max() < 0.05


def test_meals_are_eaten_at_their_minute() -> None:
    """At 5 g a minute; two meals of one interval begin together, and the sum is conserved."""
    environment = make(meals=[(7, 12), (61, 3), (63, 4)], **QUIET)
    state, _ = environment.reset(0)
    eaten = COMPARTMENTS.index("Q1")
    waiting, bite = (len(COMPARTMENTS) + MEMORY.index(name) for name in ("waiting", "bite"))
    sizes = []
    for step in range(14):
        sizes.append(float(environment.system.meal_ahead(state)[1][0]))
        state = environment.step(state, torch.zeros(1, 2)).state
        row = state.values[0]
        if step == 0:
            assert row[eaten] == 0
        if step == 1:  # minutes 7, 8 and 9 of this interval
            assert (row[waiting], row[bite]) == (0, 2) and row[eaten] > 10_000
    assert sizes == [0, 12, *[0] * 10, 7, 0]


def test_announced_meals_are_seen() -> None:
    for announced in (True, False):
        environment = make(meals=[(5, 40)], announced=announced)
        state, observation = environment.reset(0)
        assert observation[0, 13] == 0
        observation = environment.step(state, torch.zeros(1, 2)).observation
        assert observation[0, 13] == pytest.approx(0.8 if announced else 0.0)


def test_days_of_meals_repeat() -> None:
    minutes, grams = draw_meals(Stream.start(torch.arange(3)), 3, 1.0)
    assert grams.shape == (3, 18) and (minutes // 1440).unique().tolist() == [0, 1, 2]
    assert not torch.equal(grams[:, :6], grams[:, 6:12])
    environment = make(days=2, control_interval=30, **QUIET)
    state, _ = environment.reset(3)
    eaten = []
    for _ in range(4 * 48):
        eaten.append(float(environment.system.meal_ahead(state)[1][0]))
        state = environment.step(state, torch.zeros(1, 2)).state
    assert eaten[: 2 * 48] == eaten[2 * 48 :] and eaten[:48] != eaten[48 : 2 * 48]
    assert sum(map(bool, eaten)) >= 6


def test_a_meal_factor_scales_meals() -> None:
    _, plain = draw_meals(Stream.start(torch.arange(50)), 1, 1.0)
    _, double = draw_meals(Stream.start(torch.arange(50)), 1, 2.0)
    assert torch.equal(double, 2 * plain) and plain.max() > 70


def test_episodes_differ_and_seeds_repeat() -> None:
    environment = make(2)
    first, _ = environment.reset(torch.tensor([4, 4]))
    second, _ = environment.reset(torch.tensor([4, 4]), episode=1)
    for name in ("meal_minute", "noise", "values", "readings"):
        rows, later = getattr(first, name), getattr(second, name)
        assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], later[0]), name


def test_the_sensor_does_not_depend_on_how_it_is_stepped() -> None:
    stream = Stream.start(torch.arange(20))
    minute = torch.zeros(20, dtype=torch.int64)
    once = advance_process(start_process(stream), stream, minute, 60)
    often = start_process(stream)
    readings = [error(often, minute)]
    for start in range(0, 60, 5):
        often = advance_process(often, stream, minute + start, 5)
        readings.append(error(often, minute + start + 5))
    assert torch.equal(once, often)
    changes = torch.stack(readings).diff(dim=0).abs()
    assert 0 < changes.min() and changes.max() < 40  # no jump where one cubic follows another


def test_actions_are_insulin_and_back() -> None:
    environment = make(3, patient=THREE, dtype="float64")
    task, basal = environment.task, environment.system.basal
    action = torch.tensor([[0.0, -0.5], [1.0, 1.0], [-1.0, 0.25]], dtype=torch.float64)
    control = task.control(action)
    assert torch.equal(control[:, 0], basal * torch.tensor([1.0, 4.0, 0.0]))
    torch.testing.assert_close(control[:, 1], 24 * basal * torch.tensor([0.0, 1.0, 0.25]))
    back = task.action(control[:, 0], control[:, 1])
    torch.testing.assert_close(back, action.clamp_min(torch.tensor([-1.0, 0.0])))
    state, _ = environment.reset(0)
    found = environment.step(state, action)
    expected = basal * torch.tensor([1.0, 4.0, 0.0]) / 12 + control[:, 1]
    torch.testing.assert_close(found.info["insulin"], expected)


def test_rewards_and_the_end_by_death() -> None:
    values = {"kovatchev": 1 - float(kovatchev_risk(torch.tensor([60.0]))[0]) / 100, "in_range": 0}
    for reward in ("kovatchev", "magni", "in_range"):
        environment = make(3, reward=reward, meals=[], dtype="float64", **QUIET)
        state, _ = environment.reset(0)
        compartments = environment.system.values(state).clone()
        target = torch.tensor([60.0, 5.0, 650.0], dtype=torch.float64)
        scale = target / environment.system.glucose(state)
        for name in ("Gp", "Gt", "Gs"):
            compartments[:, COMPARTMENTS.index(name)] *= scale
        state = environment.system.with_values(state, compartments)
        found = environment.step(state, torch.tensor([-1.0, 0.0], dtype=torch.float64).expand(3, 2))
        assert found.terminated.tolist() == [False, True, True]
        assert found.reward[1:].tolist() == [0, 0] and 0 <= found.reward[0] <= 1
        if reward in values:
            assert found.reward[0] == pytest.approx(values[reward], abs=0.05)
        assert found.info["below_range"].tolist() == [1, 1, 0]
        assert found.info["severe"].tolist() == [0, 1, 0]


def test_insulin_on_board_decays_as_the_pump_believes() -> None:
    environment = make(meals=[], dtype="float64", **QUIET)
    system = environment.system
    state, observation = environment.reset(0)
    assert observation[0, READINGS] == pytest.approx(0, abs=1e-12)
    start = float(system.on_board_beyond_basal(state)[0])
    basal = float(system.basal[0])
    given = torch.tensor([[basal, 2.0]], dtype=torch.float64)
    state = system.advance(state, given)
    boarded = [float(system.on_board_beyond_basal(state)[0])]
    for _ in range(96):
        state = system.advance(state, torch.tensor([[basal, 0.0]], dtype=torch.float64))
        boarded.append(float(system.on_board_beyond_basal(state)[0]))
    assert start == pytest.approx(0, abs=1e-12) and 1.9 < boarded[0] <= 2
    assert boarded == sorted(boarded, reverse=True) and boarded[-1] < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"patient": "adult#999"},
            "unknown patient 'adult#999'; did you mean 'adult#009'. allowed: a",
        ),
        ({"patient": 3}, "patient: got 3; allowed: a name or a Patient"),
        ({"control_interval": 0}, "control_interval: got 0; allowed: an integer >= 1"),
        ({"control_interval": 61}, "control_interval: got 61; allowed: 1 to 60 minutes"),
        ({"days": 1.5}, "days: got 1.5; allowed: an integer >= 1"),
        ({"meals": "often"}, "meals: got 'often'; allowed: \"random\", or pairs"),
        ({"meals": [(1440, 5)]}, r"meals: got \[\(1440, 5\)\]; allowed"),
        ({"meals": [(60.5, 5)]}, r"meals: got \[\(60.5, 5\)\]; allowed"),
        ({"meals": [(60, 5), (60, 6)]}, "each once"),
        ({"meals": [(60, -5)]}, "carbohydrates from 0 to 500 g"),
        ({"meal_factor": -1}, "meal_factor: got -1; allowed: a number >= 0"),
        ({"sensor_noise": "no"}, "sensor_noise: got 'no'; allowed: a number >= 0"),
        ({"bolus_hours": 0}, "bolus_hours: got 0; allowed: a number > 0"),
        ({"reward": "magny"}, "reward: got 'magny'; did you mean 'magni'. allowed: kovatchev, ma"),
        ({"announced": 1}, "announced: got 1; allowed: True, False"),
        ({"Vmx": [0.1, 0.2]}, "parameter 'Vmx': got shape .*; allowed: one number"),
        ({"Vg": float("nan")}, "parameter 'Vg': got nan; allowed: finite"),
    ],
)
def test_bad_options_say_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(3, **options)


def test_parameters_stand_in_for_those_of_the_patient() -> None:
    environment = make(2, kp3=[0.006, 0.012], meals=[], dtype="float64", **QUIET)
    assert environment.system.parameters["kp3"].tolist() == [0.006, 0.012]
    state, _ = environment.reset(0)
    start = environment.system.glucose(state)
    torch.testing.assert_close(start[0], start[1])  # either rests where the patient does
    basal = environment.system.basal
    assert basal[1] < basal[0]  # and needs less insulin for it the more the liver heeds it

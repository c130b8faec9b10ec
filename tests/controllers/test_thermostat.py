"""The thermostat holds the set-point, and forgets with the episode."""

import pytest
import torch

from separatrix.controllers.catalog import make_controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.thermostat import Thermostat
from separatrix.envs.core.registration import make_environment


@pytest.mark.parametrize("set_point", [-12.0, 4.0, 12.0])
def test_it_holds_the_set_point_without_error(set_point: float) -> None:
    """Behind a closed door: the integral finds the power that balances the leak."""
    environment = make_environment(
        "Refrigerator-v0", 8, dtype="float64", door="closed", noise=0.0, set_point=set_point
    )
    controller = Thermostat(environment)
    state, observation = environment.reset(0)
    controller.reset(torch.ones(8, dtype=torch.bool))
    for _ in range(250):
        action = controller.act(observation, state)
        state, observation, *_ = environment.step(state, action)
    assert (state.temperature - set_point).abs().max() < 1e-3
    power = (1 + action) / 2
    assert power[:, 0].tolist() == pytest.approx([(15 - set_point) / 50] * 8, abs=1e-3)


def test_it_is_better_than_half_of_the_power() -> None:
    environment = make_environment("Refrigerator-v0", 64)
    seeds = torch.arange(64)
    means = {
        name: evaluate(environment, make_controller(name, environment), seeds).means()
        for name in ("zero", "thermostat")
    }
    assert means["thermostat"]["return"] > -8.0  # measured: -5.6
    assert means["zero"]["return"] < -100.0
    assert means["thermostat"]["deviation"] < 0.4  # measured: 0.25


def test_environments_that_start_anew_forget_alone() -> None:
    environment = make_environment("Refrigerator-v0", 3, dtype="float64")
    controller = Thermostat(environment)
    state, observation = environment.reset(0)
    controller.reset(torch.ones(3, dtype=torch.bool))
    hot = observation.clone()
    hot[:, 0] = hot[:, 2] + 0.05  # half a degree too warm
    first = controller.act(hot, state)
    later = controller.act(hot, state)
    assert (later > first).all()
    controller.reset(torch.tensor([False, True, False]))
    again = controller.act(hot, state)
    assert torch.equal(again[1], first[1])
    assert (again[[0, 2]] > later[[0, 2]]).all()


def test_a_saturated_integral_does_not_wind_up() -> None:
    environment = make_environment("Refrigerator-v0", dtype="float64")
    controller = Thermostat(environment, gain=1.0, integral_time=2.0)
    cold = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    warm = torch.tensor([[1.1, 0.0, 1.0]], dtype=torch.float64)
    state, _ = environment.reset(0)
    for _ in range(50):
        assert controller.act(cold, state).item() == -1.0
    assert controller.act(warm, state).item() == 1.0  # at once


def test_other_environments_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"thermostat cools, got .*; allowed: Refrigerator-v0"):
        make_controller("thermostat", make_environment("Lorenz-v0"))
    environment = make_environment("Refrigerator-v0")
    for setting in ({"gain": 0.0}, {"integral_time": -1.0}):
        with pytest.raises(ValueError, match=r"thermostat: got .*; allowed: numbers > 0"):
            Thermostat(environment, **setting)

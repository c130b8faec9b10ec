"""LQG: its estimate, its memory, and what it holds with the observation alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.lqg import LQG
from separatrix.controllers.lqr import LQR
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ActionDelay, ObservationNoise, PartialObservation

NOISE = {"process_noise": 1e-4, "measurement_noise": 1e-6}


def environment_of(name: str, num_envs: int = 1, **options: Any) -> Any:
    return make_environment(name, num_envs, dtype="float64", **options)


def beside_the_equilibrium(environment: Any, batch: int, size: float) -> Any:
    """States of the physics near the task's equilibrium."""
    state, _ = environment.reset(torch.arange(batch))
    target = linearize(environment.unwrapped).state
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((batch, target.shape[1]), generator=generator, dtype=torch.float64)
    if state.unwrapped is state:
        return replace(state, values=target + size * noise)
    return replace(state, inner=replace(state.inner, values=target + size * noise))


def held(environment: Any, controller: LQG, batch: int, size: float, steps: int) -> Tensor:
    """Distance from the equilibrium after some steps, (batch,)."""
    state = beside_the_equilibrium(environment, batch, size)
    controller.reset(torch.ones(batch, dtype=torch.bool))
    observation = environment.observe(state)
    for _ in range(steps):
        state, observation, *_ = environment.step(state, controller.act(observation, state))
    target = linearize(environment.unwrapped).state
    return environment.system.difference(state.unwrapped.values, target).norm(dim=1)


@pytest.mark.parametrize(
    ("name", "wrap", "steps"),
    [
        ("Lorenz-v0", [PartialObservation([0])], 200),
        ("Lorenz-v0", [ActionDelay(1)], 200),
        ("CartPoleSwingUp-v0", [], 600),
        ("DoublePendulum-v0", [PartialObservation([2, 3])], 200),
        ("Henon-v0", [PartialObservation([0])], 40),
    ],
)
def test_the_equilibrium_is_held_by_observations(name: str, wrap: list, steps: int) -> None:
    environment = environment_of(name, wrap=wrap)
    controller = LQG(environment, **NOISE)
    assert held(environment, controller, 8, 1e-3, steps).max() < 1e-4


def test_noise_is_filtered() -> None:
    """Of one noisy coordinate in three, the state is held within a tenth of the noise."""
    wrap = [ObservationNoise(0.1), PartialObservation([1])]
    environment = environment_of("Lorenz-v0", wrap=wrap)
    controller = LQG(environment, process_noise=1e-4, measurement_noise=0.01)
    assert held(environment, controller, 16, 0.01, 300).mean() < 0.5  # the noise is 0.9 in y


def test_the_estimate_tends_to_the_state_and_the_gain_is_that_of_lqr() -> None:
    environment = environment_of("Lorenz-v0", wrap=[PartialObservation([0])])
    controller, regulator = LQG(environment, **NOISE), LQR(environment.unwrapped)
    torch.testing.assert_close(controller.gain, regulator.gain)
    state = beside_the_equilibrium(environment, 4, 1e-3)
    observation = environment.observe(state)
    controller.reset(torch.ones(4, dtype=torch.bool))
    for _ in range(60):
        action = controller.act(observation, state)
        wanted = regulator.act(observation, state)
        state, observation, *_ = environment.step(state, action)
    torch.testing.assert_close(action, wanted, rtol=0.01, atol=1e-9)


def test_the_filter_is_told_the_saturated_action() -> None:
    environment = environment_of("Lorenz-v0")
    controller = LQG(environment, **NOISE)
    model = linearize(environment)
    observation = torch.full((1, 3), 8.0).double()
    controller.reset(torch.ones(1, dtype=torch.bool))
    action = controller.act(observation, None)
    assert action.abs() == 1
    estimate = controller.filter_gain[0] @ (observation - model.observation)[0]
    assert (controller.gain[0] @ estimate).abs() > 1
    predicted = model.a[0] @ estimate + model.b[0] @ action[0]
    expected = -controller.gain[0] @ (
        predicted + controller.filter_gain[0] @ (-model.c[0] @ predicted)
    )
    found = controller.act(model.observation, None)
    torch.testing.assert_close(found[0], expected.clamp(-1, 1), rtol=1e-9, atol=1e-12)


def test_reset_forgets_the_masked_environments_alone() -> None:
    environment = environment_of("Lorenz-v0")
    controller, fresh = LQG(environment, **NOISE), LQG(environment, **NOISE)
    first = 0.02 * torch.arange(6).double().view(2, 3)
    for each in (controller, fresh):
        each.reset(torch.ones(2, dtype=torch.bool))
    controller.act(first, None)
    controller.reset(torch.tensor([True, False]))
    again, anew = controller.act(first, None), fresh.act(first, None)
    assert torch.equal(again[0], anew[0]) and not torch.equal(again[1], anew[1])


def test_each_environment_gets_a_filter_of_its_own() -> None:
    rho = [24.5, 28.0, 33.0]
    together = LQG(environment_of("Lorenz-v0", 3, rho=rho), **NOISE)
    for i, value in enumerate(rho):
        alone = LQG(environment_of("Lorenz-v0", rho=value), **NOISE)
        for found, expected in (
            (together.gain, alone.gain),
            (together.filter_gain, alone.filter_gain),
            (together.mean_cost, alone.mean_cost),
        ):
            torch.testing.assert_close(found[i], expected[0], rtol=1e-9, atol=0)


def test_bad_arguments_are_refused() -> None:
    environment = environment_of("Lorenz-v0")
    for noises, message in (
        ((1e-4, 0.0), "measurement_noise: got a singular matrix; allowed: positive definite"),
        ((-1.0, 1.0), "process_noise: got no covariance; allowed: symmetric"),
        ((torch.eye(2), 1.0), r"process_noise: got shape \(2, 2\); allowed: \(3, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            LQG(environment, process_noise=noises[0], measurement_noise=noises[1])
    with pytest.raises(ValueError, match="control_weight: got 0; allowed: a number > 0"):
        LQG(environment, **NOISE, control_weight=0)
    blind = environment_of("DoublePendulum-v0", wrap=[PartialObservation([0])])
    with pytest.raises(ValueError, match="the linearized system cannot be estimated"):
        LQG(blind, **NOISE)  # a cosine shows nothing of the first order
    controller = LQG(environment, **NOISE)
    with pytest.raises(ValueError, match="got a batch of 1; allowed: 0, as `reset` was told last"):
        controller.act(torch.zeros((1, 3)).double(), None)

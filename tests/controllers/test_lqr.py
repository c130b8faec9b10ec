"""The LQR against the Riccati equation, on the linear model and on the environment itself."""

import math

import numpy as np
import pytest
import torch

from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR, design
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers.ode_system import OdeState

CHAOTIC = ["Lorenz-v0", "Rossler-v0"]


@pytest.mark.parametrize("name", CHAOTIC)
def test_cost_on_the_linearized_system_is_the_riccati_value(name: str) -> None:
    environment = make_environment(name, dtype="float64")
    controller = LQR(environment, control_weight=0.1)
    linear = linearize(environment)
    a, b, c = (matrix[0].numpy() for matrix in (linear.a, linear.b, linear.c))
    gain = controller.gain[0].numpy()
    start = x = np.random.default_rng(0).standard_normal(len(a))
    measured = 0.0
    for _ in range(20_000):
        action = -gain @ x
        measured += np.sum((c @ x) ** 2) + 0.1 * np.sum(action**2)
        x = a @ x + b @ action
    assert np.linalg.norm(x) < 1e-12  # all of the cost has been summed
    assert measured == pytest.approx(start @ controller.cost[0].numpy() @ start, rel=1e-9)


@pytest.mark.parametrize("name", CHAOTIC)
def test_cost_on_the_environment_tends_to_the_riccati_value_near_the_fixed_point(
    name: str,
) -> None:
    environment = make_environment(name, dtype="float64", authority=0.3)
    controller = LQR(environment, control_weight=0.1)
    direction = torch.tensor([[0.3, -0.5, 0.2]], dtype=torch.float64)
    errors = []
    for size in (1e-2, 1e-3):
        state, _ = environment.reset(0)
        values = linearize(environment).state + size * direction
        state = OdeState(state.stream, state.interval, values)
        observation = environment.observe(state)
        measured = 0.0
        for _ in range(3_000):
            action = controller.act(observation, state)
            measured += float(observation.square().sum() + 0.1 * action.square().sum())
            state, observation, *_ = environment.step(state, action)
        expected = size**2 * float(direction @ controller.cost[0] @ direction.T)
        errors.append(abs(measured / expected - 1))
    assert errors[1] < 1e-3
    assert errors[1] < 0.3 * errors[0]  # of first order in the size, or better


def test_scalar_design_solves_the_quadratic_equation() -> None:
    # p = q + a^2 p - a^2 p^2 / (r + p), for b = 1.
    a, q, r = 1.5, 2.0, 0.7
    half = (q + r * (a * a - 1)) / 2
    expected = half + math.sqrt(half * half + q * r)
    gain, cost = design(np.array([[a]]), np.eye(1), np.array([[q]]), r)
    assert cost[0, 0] == pytest.approx(expected, rel=1e-12)
    assert gain[0, 0] == pytest.approx(a * expected / (r + expected), rel=1e-12)


def test_each_environment_gets_the_gain_of_its_own_parameters() -> None:
    rho = [24.5, 28.0, 33.0]
    together = LQR(make_environment("Lorenz-v0", 3, rho=rho))
    assert together.gain.shape == (3, 1, 3)
    for row, value in enumerate(rho):
        alone = LQR(make_environment("Lorenz-v0", rho=value))
        torch.testing.assert_close(together.gain[row], alone.gain[0], rtol=1e-10, atol=0)


def test_actions_saturate_and_vanish_outside_the_capture_region() -> None:
    environment = make_environment("Lorenz-v0", 2)
    state, observation = environment.reset(0)
    far = OdeState(state.stream, state.interval, torch.tensor([[-15.0, -20.0, 30.0]] * 2))
    assert LQR(environment).act(observation, far).abs().eq(1).all()
    assert LQR(environment, capture=1.0).act(observation, far).eq(0).all()


def test_an_angle_counts_modulo_a_turn() -> None:
    environment = make_environment("CartPoleSwingUp-v0", 1)
    controller = LQR(environment)
    state, observation = environment.reset(0)
    near = torch.tensor([[0.1, 0.02, 0.0, 0.0]])
    turned = near + torch.tensor([[0.0, 2 * math.pi, 0.0, 0.0]])
    actions = [
        controller.act(observation, OdeState(state.stream, state.interval, values))
        for values in (near, turned)
    ]
    torch.testing.assert_close(actions[0], actions[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("authority", "least"), [(0.1, 0.7), (0.3, 0.9)])
def test_lorenz_is_held_from_the_attractor(authority: float, least: float) -> None:
    environment = make_environment("Lorenz-v0", 64, authority=authority)
    evaluation = evaluate(environment, LQR(environment), torch.arange(64))
    assert evaluation.metrics["on_target"].mean() > least
    assert not evaluation.diverged.any()


def test_bad_arguments_are_refused() -> None:
    environment = make_environment("Lorenz-v0")
    with pytest.raises(ValueError, match=r"control_weight: got -1; allowed: a number > 0"):
        LQR(environment, control_weight=-1)
    with pytest.raises(ValueError, match=r"capture: got 0; allowed"):
        LQR(environment, capture=0)


def test_an_uncontrollable_unstable_system_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be stabilized"):
        design(np.diag([2.0, 0.5]), np.array([[0.0], [1.0]]), np.eye(2), 1.0)


def test_a_map_is_held_by_the_derivative_of_its_iteration() -> None:
    environment = make_environment("Henon-v0", 16, dtype="float64")
    controller, model = LQR(environment), linearize(environment)
    closed = model.a - model.b @ controller.gain
    assert torch.linalg.eigvals(model.a).abs().max() > 1.9  # Henon (1976): -1.92
    assert torch.linalg.eigvals(closed).abs().max() < 1
    state, _ = environment.reset(0)
    state.values[:] = model.state + 1e-3 * torch.linspace(-1, 1, 16).double()[:, None]
    for _ in range(60):
        action = controller.act(environment.observe(state), state)
        state = environment.step(state, action).state
    assert (state.values - model.state).abs().max() < 1e-9

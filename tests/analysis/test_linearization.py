"""Linear models against differences of steps, for every id; equilibria, controllability."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.analysis.coordinates import flatten, unflatten
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.state import take
from separatrix.envs.core.wrappers import (
    ActionDelay,
    FrameStack,
    ObservationNoise,
    PartialObservation,
    RateLimit,
)

STEP = 1e-5


def differences(environment: Any, state: Any, action: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of a step by state and action, (batch, coordinate, input)."""
    base = torch.cat((flatten(state), action), 1)
    (batch, inputs), n = base.shape, base.shape[1] - action.shape[1]
    moves = STEP * torch.cat((torch.eye(inputs), -torch.eye(inputs))).double()
    moved = (base[:, None] + moves).flatten(0, 1)
    copies = take(state, torch.arange(batch).repeat_interleave(2 * inputs))
    ends = flatten(environment.step(unflatten(moved[:, :n], copies), moved[:, n:]).state)
    above, below = ends.view(batch, 2, inputs, n).unbind(1)
    found = ((above - below) / (2 * STEP)).transpose(1, 2)
    return found[..., :n], found[..., n:]


def check(environment: Any, state: Any, action: Tensor) -> None:
    """Compares a linear model with central differences."""
    model = linearize(environment, flatten(state), action)
    by_state, by_action = differences(environment, state, action)
    for found, expected in ((model.a, by_state), (model.b, by_action)):
        size = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * size)
    assert not model.d.any()
    following = flatten(environment.step(state, action).state)
    torch.testing.assert_close(model.drift, following - flatten(state), rtol=1e-9, atol=1e-9)


# Of a flow on a lattice, 100,000 values, no matrix is made. Without food, as at the start of a day,
# a stomach is at no smooth moment: patients are checked where there is the option to eat. The ranks
# that a language model's state holds have no slopes.
MODELLED = [
    name
    for name, entry in REGISTRY.items()
    if not entry.options.keys() & {"resolution", "model"} and not name.endswith("GlucoseStream-v0")
]


@pytest.mark.parametrize("name", MODELLED)
def test_discrete_model_equals_central_differences_of_a_step(name: str) -> None:
    backend = "torch" if "torch" in REGISTRY[name].backends else "auto"
    points: dict[str, Any] = {"points": 24} if "points" in REGISTRY[name].options else {}
    eats: dict[str, Any] = {"meals": [(0, 60)]} if "meals" in REGISTRY[name].options else {}
    drawn = "noise" in REGISTRY[name].options  # of a step that is drawn there is no one model
    still: dict[str, Any] = {"noise": 0.0, "door": "closed"} if drawn else {}
    options = {**points, **eats, **still}
    environment = make_environment(name, 3, dtype="float64", backend=backend, **options)
    state, _ = environment.reset(5)
    if eats:  # the beginning of a meal is no smooth moment, its middle is
        eating = environment.step(state, torch.zeros(3, 2)).state
        state = replace(eating, interval=state.interval)  # of time the coordinates tell nothing
    generator = torch.Generator().manual_seed(1)
    shape = (3, *environment.action_shape)
    action = 1.6 * torch.rand(shape, generator=generator).double() - 0.8
    if environment.differentiable:
        check(environment, state, action)
    else:
        with pytest.raises(ValueError, match="no derivatives"):
            linearize(environment, flatten(state), action)


@pytest.mark.parametrize("name", ["Lorenz-v0", "CartPoleSwingUp-v0"])
def test_observation_matrix_equals_central_differences(name: str) -> None:
    environment = make_environment(name, 2, dtype="float64", backend="torch")
    state: Any = environment.reset(5)[0]
    model = linearize(environment, state.values)
    for i in range(state.values.shape[1]):
        moved = torch.zeros_like(state.values)
        moved[:, i] = STEP
        above, below = (
            environment.observe(replace(state, values=state.values + sign * moved))
            for sign in (1, -1)
        )
        expected = (above - below) / (2 * STEP)
        torch.testing.assert_close(model.c[..., i], expected, rtol=0, atol=1e-9)


def test_wrappers_join_the_model_with_what_they_remember() -> None:
    wrap: list[Any] = [PartialObservation([1]), ActionDelay(2), FrameStack(3), RateLimit(0.5)]
    environment = make_environment("Lorenz-v0", 2, dtype="float64", backend="torch", wrap=wrap)
    state, _ = environment.reset(0)
    check(environment, state, torch.full((2, 1), 0.1, dtype=torch.float64))
    model = linearize(environment)
    assert model.a.shape == (1, 9, 9) and model.c.shape == (1, 3, 9)
    assert model.drift.abs().max() < 1e-12  # the equilibrium of the task rests under wrappers
    # An action acts after two steps; the third frame is the newest.
    bare = linearize(environment.unwrapped)
    impulse = model.a[0] @ model.a[0] @ model.b[0]
    torch.testing.assert_close(impulse[:3], bare.b[0])
    torch.testing.assert_close((model.c @ impulse)[0, 2], (bare.c[0] @ bare.b[0])[1])


def test_noise_is_left_out_and_hidden_components_too() -> None:
    wrap: list[Any] = [ObservationNoise(5.0), PartialObservation([2, 0])]
    environment = make_environment("Lorenz-v0", dtype="float64", wrap=wrap)
    model, bare = linearize(environment), linearize(environment.unwrapped)
    assert torch.equal(model.a, bare.a) and torch.equal(model.b, bare.b)
    torch.testing.assert_close(model.c, bare.c[:, [2, 0]])
    assert model.observation.abs().max() < 1e-12
    assert torch.equal(linearize(environment, time="continuous").a, _continuous("Lorenz-v0").a)


def _continuous(name: str) -> Any:
    return linearize(make_environment(name), time="continuous")


def test_float32_environments_are_linearized_in_float64() -> None:
    for name in ("Lorenz-v0", "CartPoleSwingUp-v0", "Lorenz96-v0", "Henon-v0"):
        single, double = (
            linearize(make_environment(name, dtype=dtype)) for dtype in ("float32", "float64")
        )
        for field in ("a", "b", "c", "drift"):
            found, expected = getattr(single, field), getattr(double, field)
            torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_short_steps_of_the_continuous_model_are_the_discrete_one() -> None:
    environment = make_environment("Lorenz-v0")
    flow, step = linearize(environment, time="continuous"), linearize(environment)
    expected = torch.linalg.matrix_exp(flow.a * environment.control_interval)
    torch.testing.assert_close(step.a, expected, rtol=0, atol=1e-6)  # Runge-Kutta's error
    assert flow.interval is None and step.interval == environment.control_interval


def test_a_row_for_each_environment() -> None:
    rho = [20.0, 28.0, 35.0]
    together = linearize(make_environment("Lorenz-v0", 3, rho=rho))
    for i, value in enumerate(rho):
        alone = linearize(make_environment("Lorenz-v0", rho=value))
        for field in ("a", "b", "c", "state"):
            assert torch.equal(getattr(together, field)[i], getattr(alone, field)[0])


def test_clipped_actions_have_no_effect() -> None:
    environment = make_environment("Lorenz-v0", dtype="float64")
    state = linearize(environment).state
    assert not linearize(environment, state, torch.full((1, 1), 1.5)).b.any()
    assert linearize(environment, state, torch.full((1, 1), 0.5)).b.any()


def test_bad_arguments_are_refused() -> None:
    environment = make_environment("Lorenz-v0", dtype="float64")
    with pytest.raises(ValueError, match=r"time: got 'cont'; allowed: 'discrete', 'continuous'"):
        linearize(environment, time="cont")
    with pytest.raises(ValueError, match=r"state: got shape \(1, 2\); allowed: \(1, 3\)"):
        linearize(environment, torch.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"action: got shape \(1, 2\); allowed: \(1, 1\)"):
        linearize(environment, action=torch.zeros((1, 2)))
    with pytest.raises(ValueError, match="in row 0 a step from it leaves the safe box"):
        linearize(environment, torch.full((1, 3), 1e3))
    with pytest.raises(ValueError, match="task FollowOrbit of duffing has no equilibrium"):
        linearize(make_environment("Duffing-v0"))
    delayed = make_environment("Lorenz-v0", wrap=[ActionDelay(1)])
    for other in (delayed, make_environment("Henon-v0")):
        with pytest.raises(ValueError, match="time: got 'continuous' for"):
            linearize(other, time="continuous")


def test_states_too_large_for_matrices_are_refused() -> None:
    environment = make_environment("RotaryCylinder-v0", start="impulsive")
    state = flatten(environment.reset(0)[0])
    with pytest.raises(ValueError, match=r"the state's size, which is \d+ for .*; allowed: up to"):
        linearize(environment, state)


def test_eigenvalues_come_most_unstable_first() -> None:
    for time in ("discrete", "continuous"):
        values = linearize(make_environment("Lorenz-v0"), time=time).eigenvalues()[0]
        growth = values.abs() if time == "discrete" else values.real
        assert np.all(np.diff(growth.numpy()) <= 0)

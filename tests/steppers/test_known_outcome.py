"""Reward and termination of observations, against those of steps of the physics."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.core.wrappers import (
    ActionDelay,
    FrameStack,
    ObservationNoise,
    PartialObservation,
    RateLimit,
    Wrapper,
)
from separatrix.envs.steppers.component_task import Components, ComponentTask, Parameters
from separatrix.envs.steppers.functions import Expression, angle_of, cos, sin
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeSystem

BATCH, STEPS = 8, 30
# Rewards of size 1 after some twenty operations. The energies of the double pendulum, some 30 J,
# are compared in units of 15 J.
TOLERANCE = {"float64": 1e-14, "float32": 2e-6}


def tasks_of(environment_id: str) -> list[str]:
    """Names of the tasks of an id, which its error message lists."""
    with pytest.raises(ValueError, match="unknown task") as caught:
        make_environment(environment_id, task="?")
    return re.findall(r"\w+", str(caught.value).split("allowed: ")[1])


TASKS = [
    (entry.id, task)
    for entry in REGISTRY.values()
    if isinstance(entry.options.get("task"), str) and "points" not in entry.options
    for task in tasks_of(entry.id)
]


def roll(environment: Any, steps: int) -> list[tuple[Tensor, Tensor, Transition]]:
    """Observations, random actions, a part of which is clipped, and transitions.

    The angles start anywhere in three turns, so that the rewards differ.
    """
    generator = torch.Generator().manual_seed(3)
    state, observation = environment.reset(0)
    definition = environment.system.definition
    for name in definition.angles:
        spread = 6 * torch.pi * (torch.rand(BATCH, generator=generator) - 0.5)
        state.values[:, definition.state_names.index(name)] += spread
    observation = environment.observe(state)
    found = []
    for _ in range(steps):
        action = 2.6 * torch.rand(BATCH, *environment.action_shape, generator=generator) - 1.3
        transition = environment.step(state, action)
        found.append((observation, action, transition))
        state, observation = transition.state, transition.observation
    return found


def check(environment: Environment, tolerance: float, steps: int = STEPS) -> Tensor:
    """Compares known outcomes with those of steps, and returns the true rewards."""
    rewards = []
    for observation, action, transition in roll(environment, steps):
        reward, terminated = environment.known_outcome(observation, action, transition.observation)
        sound = ~transition.info["diverged"]
        assert sound.any()
        assert (reward.dtype, terminated.dtype) == (environment.dtype, torch.bool)
        difference = (reward - transition.reward)[sound].abs().max().item()
        assert difference <= tolerance
        assert torch.equal(terminated[sound], transition.terminated[sound])
        rewards.append(transition.reward)
    return torch.stack(rewards)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("environment_id", "task"), TASKS)
def test_outcome_of_observations_is_that_of_the_step(
    environment_id: str, task: str, dtype: str
) -> None:
    environment = make_environment(environment_id, BATCH, task=task, dtype=dtype, backend="torch")
    rewards = check(environment, TOLERANCE[dtype])
    assert rewards.std() > 100 * TOLERANCE[dtype]


@pytest.mark.parametrize(("environment_id", "task"), TASKS)
def test_gradients_are_finite(environment_id: str, task: str) -> None:
    """Near observations of states, and where a model of them may stray: far away and at zero."""
    environment = make_environment(environment_id, 4, task=task, dtype="float64", backend="torch")
    _, seen = environment.reset(0)
    inputs = torch.stack((seen[0], 3 * seen[1], 1e-9 * seen[2], 0 * seen[3]))
    action = torch.full((4, *environment.action_shape), 0.3, dtype=torch.float64)
    leaves = [tensor.clone().requires_grad_() for tensor in (inputs, action, inputs)]
    reward, _ = environment.known_outcome(*leaves)
    low, high = environment.reward_range
    assert ((reward >= low) & (reward <= high)).all()
    gradients = torch.autograd.grad(reward.sum(), leaves, allow_unused=True)
    assert gradients[2] is not None  # every reward here is of the next observation
    assert gradients[2][0].abs().sum() > 0
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_gradient_equals_central_differences() -> None:
    """Where the angles of a double pendulum enter as a difference."""
    environment = make_environment(
        "DoublePendulum-v0", BATCH, task="energy", dtype="float64", backend="torch"
    )
    _, seen = environment.reset(0)
    seen = seen * torch.linspace(0.7, 1.4, 7, dtype=torch.float64)  # off the unit circle
    action = torch.zeros((BATCH, 1), dtype=torch.float64)

    def reward(after: Tensor) -> Tensor:
        return environment.known_outcome(seen, action, after)[0]

    leaf = seen.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reward(leaf).sum(), leaf)
    for i in range(7):
        shift = torch.zeros(7, dtype=torch.float64)
        shift[i] = 1e-5
        slope = (reward(seen + shift) - reward(seen - shift)) / 2e-5
        torch.testing.assert_close(gradient[:, i], slope, rtol=1e-6, atol=1e-8)


def test_cosine_and_sine_count_by_their_direction() -> None:
    environment = make_environment("CartPoleSwingUp-v0", 3, dtype="float64", backend="torch")
    state, _ = environment.reset(0)
    state.values[:, 1] = torch.tensor([0.4, 2.0, -1.0])
    seen = environment.observe(state)
    scaled = seen * torch.tensor([1.0, 2.5, 2.5, 1.0, 1.0], dtype=torch.float64)
    action = torch.zeros((3, 1), dtype=torch.float64)
    expected, _ = environment.known_outcome(seen, action, seen)
    found, _ = environment.known_outcome(scaled, action, scaled)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0.0)
    assert expected[0] > 0.9 > 0.5 > expected[1]


@dataclass(frozen=True)
class Anywhere:
    """Angle and velocity uniform in [0, 1]."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        return stream.uniform(2, torch.float64, INITIAL_STATE)


@ode(states="q v", controls="u", start=Anywhere(), angles="q", box=(-50.0, 50.0))
def pendulum(
    q: Expression, v: Expression, u: Expression, *, gravity: Expression = 4.0
) -> tuple[Expression, ...]:
    """A pendulum with an angle from upright."""
    return v, gravity * sin(q) + u


@dataclass(frozen=True)
class Reach(ComponentTask):
    """Its reward is of state, control and next state; it ends at one side; it has a parameter."""

    reward_range = (-60.0, 1.0)

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        return {"unit": system.parameters["gravity"]}

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        return np.array([1.0, 1.0, 50.0])

    def control(self, action: Components, parameters: Parameters) -> Components:
        return [3 * action[0]]

    def observe(self, state: Components, parameters: Parameters) -> Components:
        return [sin(state[0]), cos(state[0]), state[1] / parameters["unit"]]

    def state_of(self, observation: Components, parameters: Parameters) -> Components | None:
        return [angle_of(observation[1], observation[0]), observation[2] * parameters["unit"]]

    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        return cos(2 * next_state[0] - state[0]) - control[0] ** 2 * state[1]

    def terminated(self, state: Components, parameters: Parameters) -> Expression:
        return (sin(state[0]) > 0.7) & (state[1] > 0)


@dataclass(frozen=True)
class ReachBlindly(Reach):
    """The same without a state of the observation."""

    def state_of(self, observation: Components, parameters: Parameters) -> None:
        return None


def reaching(task: ComponentTask, gravity: Any = 4.0) -> OdeEnvironment:
    system = OdeSystem(
        pendulum,
        {"gravity": gravity},
        num_envs=BATCH,
        control_interval=0.1,
        substeps=1,
        device=torch.device("cpu"),
        dtype=torch.float64,
        backend="torch",
    )
    return OdeEnvironment(system, task, 100, lambda values, _: np.zeros(0))


def test_all_that_an_outcome_may_depend_on() -> None:
    environment = reaching(Reach(), torch.linspace(2.0, 6.0, BATCH))
    check(environment, 1e-13)
    ended = [transition.terminated for _, _, transition in roll(environment, STEPS)]
    assert 0 < torch.stack(ended).sum() < BATCH * STEPS


def test_divergence_is_not_seen() -> None:
    """The held state gets its own reward, not the lowest one."""
    environment = reaching(Reach())
    state, _ = environment.reset(0)
    edge = replace(state, values=torch.tensor([[49.99, 1.0]], dtype=torch.float64).repeat(BATCH, 1))
    action = torch.ones((BATCH, 1), dtype=torch.float64)
    transition = environment.step(edge, action)
    assert transition.info["diverged"].all()
    assert (transition.reward == -60.0).all()
    held = transition.observation
    reward, terminated = environment.known_outcome(environment.observe(edge), action, held)
    torch.testing.assert_close(reward, (edge.values[:, 0].cos() - 9.0))
    assert not terminated.any()


def test_rows_of_their_own_parameters() -> None:
    """Widths of the reward that follow gravity: as many rows as environments, in their order."""
    gravity = torch.linspace(4.0, 12.0, BATCH)
    environment = make_environment(
        "DampedPendulum-v0", BATCH, gravity=gravity, dtype="float64", backend="torch"
    )
    check(environment, TOLERANCE["float64"])
    seen = torch.rand((5, 3), dtype=torch.float64)
    action = torch.zeros((5, 1), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"got shapes \[\(5, 3\).*allowed: \[\(8, 3\)"):
        environment.known_outcome(seen, action, seen)
    chosen = environment.select(torch.tensor([0, 2, 4, 5, 7]))
    assert chosen.known_outcome(seen, action, seen)[0].shape == (5,)


@pytest.mark.parametrize("rows", [0, 1, 5, 100])
def test_shared_parameters_take_rows_of_any_number(rows: int) -> None:
    environment = make_environment("CartPoleSwingUp-v0", BATCH, backend="torch")
    seen, action = torch.rand(rows, 5), torch.rand(rows, 1)
    reward, terminated = environment.known_outcome(seen, action, seen)
    assert reward.shape == terminated.shape == (rows,)
    for i in range(0, rows, 20):  # a row is the same alone
        alone, _ = environment.known_outcome(seen[[i]], action[[i]], seen[[i]])
        torch.testing.assert_close(alone[0], reward[i])


@pytest.mark.parametrize(
    "shapes",
    [((4, 5), (4, 2), (4, 5)), ((4, 5), (3, 1), (4, 5)), ((4, 5), (4, 1), (4, 4)), ((),) * 3],
)
def test_wrong_shapes_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    environment = make_environment("CartPoleSwingUp-v0", backend="torch")
    with pytest.raises(ValueError, match="observation, action and next_observation: got shapes"):
        environment.known_outcome(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    "wrapper",
    [
        ObservationNoise(0.1),
        PartialObservation([0, 1]),
        ActionDelay(1),
        RateLimit(0.5),
        FrameStack(2),
    ],
    ids=lambda wrapper: wrapper.kind,
)
def test_wrapped_environments_do_not_know(wrapper: Wrapper) -> None:
    environment = make_environment("CartPoleSwingUp-v0", backend="torch", wrap=[wrapper])
    _, seen = environment.reset(0)
    with pytest.raises(ValueError, match="does not determine its reward"):
        environment.known_outcome(seen, torch.zeros(1, 1), seen)


def test_task_without_a_state_of_the_observation_does_not_know() -> None:
    environment = reaching(ReachBlindly())
    _, seen = environment.reset(0)
    with pytest.raises(ValueError, match="OdeEnvironment does not determine its reward"):
        environment.known_outcome(seen, torch.zeros(BATCH, 1), seen)

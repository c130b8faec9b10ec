"""Environments of streams: rows of different tasks, the shells, and options that are wrong."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3.common.env_checker
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import separatrix  # noqa: F401  (registers the streams)
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.planning.icem import ICEM
from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.wrappers import ActionDelay, FrameStack
from separatrix.envs.streams.environment import StreamEnvironment
from separatrix.envs.streams.stream import STREAMS

TASKS = [3, 0, 4, 0]
STEPS = 6
ODE = ("LorenzStream-v0", "CartPoleStream-v0", "PendulumStream-v0")
LORENZ, GLUCOSE, FLAMES = (
    f"separatrix/{name}Stream-v0" for name in ("Lorenz", "Glucose", "KuramotoSivashinsky")
)
BACKENDS = [
    pytest.param(
        *(name, backend),
        marks=[pytest.mark.slow] if (name, backend) == (FLAMES, "torch") else [],
    )
    for name in STREAMS
    for backend in REGISTRY[name].backends
    if backend in ("numba", "torch", "mujoco")
]


def make(name: str, num_envs: int = 4, **options: Any) -> Any:
    return make_environment(name, num_envs, **{"task": TASKS, **options})


def roll(environment: Any, seeds: Tensor, actions: Tensor) -> list[Any]:
    state, observation = environment.reset(seeds)
    found = [observation]
    for action in actions:
        transition = environment.step(state, action)
        state = transition.state
        found += [transition.observation, transition.reward, *transition.info.values()]
    return found


def actions_of(environment: Any, rows: int = 4, steps: int = STEPS) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (steps, rows, *environment.action_shape)
    return (2 * torch.rand(shape, generator=generator) - 1).to(environment.dtype)


@pytest.mark.parametrize(("name", "backend"), BACKENDS)
def test_rows_of_tasks_equal_single_environments(name: str, backend: str) -> None:
    """Bit for bit, and the first to the base with the options of its task."""
    batch = make(name, backend=backend)
    assert isinstance(batch, StreamEnvironment) and batch.stream is STREAMS[name]
    assert batch.tasks.tolist() == TASKS
    actions, seeds = actions_of(batch), torch.tensor([5, 6, 7, 8])
    expected = roll(batch, seeds, actions)
    for i, task in enumerate(TASKS):
        single = make_environment(name, 1, task=task, backend=backend)
        assert single.horizon == batch.horizon == batch.stream.horizon
        found = roll(single, seeds[i : i + 1], actions[:, i : i + 1])
        assert all(torch.equal(a[0], b[i]) for a, b in zip(found, expected, strict=True))
    options = batch.stream.options(TASKS[0])
    base = make_environment(batch.stream.base, 1, backend=backend, **options)
    found = roll(base, seeds[:1], actions[:, :1])
    assert all(torch.equal(a[0], b[0]) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ODE)
def test_known_outcome_of_rows_is_that_of_their_steps(name: str) -> None:
    batch = make(name, dtype="float64")
    rows = torch.tensor([2, 0])
    for environment, seeds in (
        (batch, torch.arange(4)),
        (batch.select(rows), rows),
        (make(name, task=1, dtype="float64"), torch.arange(4)),
    ):
        state, observation = environment.reset(seeds)
        for action in actions_of(environment, len(seeds), 20):
            transition = environment.step(state, action)
            reward, ended = environment.known_outcome(observation, action, transition.observation)
            torch.testing.assert_close(reward, transition.reward, rtol=0, atol=1e-13)
            assert torch.equal(ended, transition.terminated)
            state, observation = transition.state, transition.observation


@pytest.mark.parametrize("name", ODE)
def test_selected_rows_keep_their_tasks(name: str) -> None:
    batch = make(name)
    rows = torch.tensor([2, 0, 2])
    selected = batch.select(rows)
    assert selected.tasks.tolist() == [4, 3, 4] and batch.tasks.tolist() == TASKS
    actions, seeds = actions_of(batch), torch.arange(4)
    expected = roll(batch, seeds, actions)
    found = roll(selected, rows, actions[:, rows])
    assert all(torch.equal(a, b[rows]) for a, b in zip(found, expected, strict=True))
    shared = make(name, task=2)
    assert shared.select(rows) is shared and shared.tasks.tolist() == [2] * 4


def test_other_physics_keep_the_tasks() -> None:
    rho = torch.full((6,), 30.0, dtype=torch.float64)
    assert make(LORENZ, task=1).with_parameters({"rho": rho}, 6).tasks.tolist() == [1] * 6
    assert make(LORENZ).with_parameters({"rho": rho[:4]}, 4).tasks.tolist() == TASKS
    with pytest.raises(ValueError, match="num_envs: got 6; allowed: 4"):
        make(LORENZ).with_parameters({"rho": rho}, 6)


def test_a_planner_plans_for_rows_of_tasks_behind_wrappers() -> None:
    model = make(LORENZ)
    wrapped = make_environment(
        "LorenzStream-v0", 4, task=TASKS, wrap=[ActionDelay(1), FrameStack(2)]
    )
    state, observation = wrapped.reset(0)
    planner = ICEM(model, horizon=3, population=8, elites=2, iterations=1)
    assert planner.act(observation, state).shape == (4, 1)


@pytest.mark.parametrize(("name", "controller"), [(LORENZ, "lqr"), (GLUCOSE, "basal_bolus")])
def test_controllers_of_the_base_control_its_streams(name: str, controller: str) -> None:
    batch = make(name)
    state, observation = batch.reset(0)
    action = make_controller(controller, batch).act(observation, state)
    expected = make_controller(controller, batch.inner).act(observation, state)
    assert action.shape == (4, *batch.action_shape) and torch.equal(action, expected)


@pytest.mark.parametrize("name", ODE)
def test_the_contract_of_batches_is_kept_with_a_task_in_each_row(name: str) -> None:
    modes = [AutoresetMode.SAME_STEP]  # `test_check_vector_env.py` has all of them
    parameters = {"task": [2, 0, 1]}
    check_vector_env(f"separatrix/{name}", num_envs=3, parameters=parameters, autoreset_modes=modes)


def test_tasks_are_made_by_gymnasium() -> None:
    env: Any = gym.make(GLUCOSE, task=2).unwrapped
    stable_baselines3.common.env_checker.check_env(env)
    assert env.environment.tasks.tolist() == [2]
    envs: Any = gym.make_vec(LORENZ, num_envs=4, task=[0, 0, 1, 1])
    assert envs.environment.tasks.tolist() == [0, 0, 1, 1]
    again: Any = gym.make_vec(envs.spec)
    assert again.environment.tasks.tolist() == [0, 0, 1, 1]
    assert np.array_equal(envs.reset(seed=3)[0], again.reset(seed=3)[0])


def test_a_seed_starts_every_task_alike() -> None:
    """The start of the base does not follow its parameters, and a seed fixes it."""
    for name in ("CartPoleStream-v0", "PendulumStream-v0"):
        environment = make(name)
        observation = environment.reset(torch.full((4,), 7))[1]
        assert torch.equal(observation, observation[:1].expand(4, -1))
        assert torch.equal(observation, environment.reset(torch.full((4,), 7))[1])


@pytest.mark.parametrize("kind", [list, tuple, np.asarray, torch.as_tensor])
def test_tasks_may_be_any_sequence_of_whole_numbers(kind: Any) -> None:
    assert make(LORENZ, task=kind(TASKS)).tasks.tolist() == TASKS
    assert make(LORENZ, task=[np.int64(3), torch.tensor(0), 4, 0]).tasks.tolist() == TASKS
    assert make(LORENZ, task=np.int64(3)).tasks.tolist() == [3] * 4
    assert make(LORENZ, 1, task=[3]).tasks.tolist() == [3]


WRONG: list[Any] = [
    -1, 50, 2**70, 1.0, True, None, "1", "abcd", b"0", {}, {0: 1, 1: 2, 2: 3, 3: 4}, set(), object,
    [], [0], [0, 1, 2], [0] * 5, [0, 1, 2, 50], [0, 1, 2, -1], [0, 1, 2, 0.5], [0, 1, 2, True],
    [0, 1, 2, None], [[0, 1, 2, 3]], [[0]] * 4, np.zeros(4), np.zeros((2, 2), int), np.array("a"),
    torch.zeros(4), torch.tensor([0, 1]), torch.tensor(0.0), float("nan"), [float("inf")] * 4,
]  # fmt: skip


@pytest.mark.parametrize("task", WRONG, ids=repr)
def test_wrong_tasks_are_refused(task: Any) -> None:
    with pytest.raises(ValueError, match=r"^task: got .*LorenzStream-v0; allowed: "):
        make(LORENZ, task=task)


def is_task(value: Any) -> bool:
    return type(value) is int and 0 <= value < 50


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TASK = st.integers(0, 49)


@settings(max_examples=200)
@given(JUNK | TASK | st.lists(JUNK | TASK, max_size=6) | st.dictionaries(JUNK, JUNK, max_size=3))
def test_any_value_is_a_task_or_refused(value: Any) -> None:
    several = isinstance(value, list)
    sound = len(value) == 2 and all(map(is_task, value)) if several else is_task(value)
    if sound:
        expected = value if several else [value] * 2
        assert make("PendulumStream-v0", 2, task=value).tasks.tolist() == expected
        return
    with pytest.raises(ValueError, match=r"^task: got (.|\n)*; allowed: "):
        make("PendulumStream-v0", 2, task=value)


def test_options_of_the_base_are_not_those_of_a_stream() -> None:
    with pytest.raises(ValueError, match="unknown option 'rho' of separatrix/LorenzStream-v0"):
        make(LORENZ, rho=28.0)

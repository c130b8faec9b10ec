"""The single environment's way around torch gives the numbers of the pure environment."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.single_env import SingleEnv
from separatrix.envs.core.state import tensors
from separatrix.envs.streams.stream import STREAMS


def start(name: str, **options: Any) -> SingleEnv:
    env = gym.make(name, **options).unwrapped
    assert isinstance(env, SingleEnv)
    env.reset(seed=3)
    return env


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", REGISTRY)
def test_equals_the_pure_environment(name: str, dtype: str) -> None:
    env, pure = start(name, dtype=dtype), make_environment(name, dtype=dtype)
    stepper = env.environment.array_stepper(env.state)
    base = STREAMS[name].base if name in STREAMS else name
    in_torch = REGISTRY[base].options.keys() & {
        "points",
        "resolution",
        "patient",
        "set_point",
        "model",
    }
    assert (stepper is None) == bool(in_torch)
    state, _ = pure.reset(3)
    generator = np.random.default_rng(0)
    env.action_space.seed(0)
    chooses = not isinstance(env.action_space, Box)
    for _ in range(30):
        action = generator.uniform(-1.3, 1.3, env.action_space.shape)
        if chooses:
            action = np.asarray(env.action_space.sample())
        observation, reward, terminated, truncated, info = env.step(action)
        actions = torch.tensor(action[None]).to(torch.int64 if chooses else pure.dtype)
        state, expected, rewards, ended, infos = pure.step(state, actions)
        assert observation.dtype == env.observation_space.dtype
        assert np.array_equal(observation, expected[0].numpy())
        assert (reward, terminated, truncated) == (rewards.item(), ended.item(), False)
        assert info == {key: value.item() for key, value in infos.items()}
        assert [type(info[key]) for key in infos] == [type(v.item()) for v in infos.values()]
        found, wanted = tensors(env.state), tensors(state)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        if terminated:
            break


def test_a_state_can_be_set() -> None:
    env = start("separatrix/Lorenz-v0")
    before = env.state
    action = np.array([0.3], np.float32)
    first = env.step(action)
    env.state = before
    again = env.step(action)
    assert np.array_equal(first[0], again[0]) and first[1] == again[1]
    env.state = replace(before, values=before.values + 1)
    assert not np.array_equal(env.step(action)[0], first[0])


def test_what_is_handed_out_shares_no_memory() -> None:
    env = start("separatrix/Lorenz-v0")
    action = np.array([0.3], np.float32)
    state = env.state
    values = state.values.clone()
    observation = env.step(action)[0]
    kept = observation.copy()
    second = env.step(action)[0]
    assert torch.equal(state.values, values) and np.array_equal(observation, kept)
    env.state.values.fill_(0.0)
    second.fill(0.0)
    assert not np.array_equal(env.step(action)[0], kept) and (env.state.values != 0).all()


@pytest.mark.parametrize(
    "action",
    [[0.3], (0.3,), np.array([0.3]), np.array([0.3, 9.0], np.float32)[:1], torch.tensor([0.3])],
)
def test_any_real_action_is_taken(action: object) -> None:
    expected = start("separatrix/Lorenz-v0").step(np.array([0.3], np.float32))[0]
    assert np.array_equal(start("separatrix/Lorenz-v0").step(action)[0], expected)


def test_read_only_and_reversed_actions_are_taken() -> None:
    action = np.linspace(-1, 1, 40, dtype=np.float32)
    expected = start("separatrix/Lorenz96-v0").step(action)[0]
    action.setflags(write=False)
    assert np.array_equal(start("separatrix/Lorenz96-v0").step(action)[0], expected)
    reversed_twice = np.ascontiguousarray(action[::-1])[::-1]
    assert np.array_equal(start("separatrix/Lorenz96-v0").step(reversed_twice)[0], expected)


def test_the_torch_backend_has_none() -> None:
    env = start("separatrix/Lorenz-v0", backend="torch")
    assert env.environment.array_stepper(env.state) is None
    assert np.isfinite(env.step([0.3])[0]).all()

"""The shell of one environment."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit

import separatrix  # noqa: F401
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.single_env import SingleEnv

LORENZ = "separatrix/Lorenz-v0"


@pytest.fixture
def single() -> SingleEnv:
    return SingleEnv(LORENZ, render_mode="rgb_array")


def rollout(env: SingleEnv, steps: int = 3) -> list[np.ndarray]:
    return [env.step(np.array([0.5], np.float32))[0] for _ in range(steps)]


def test_step_returns_plain_python_numbers(single: SingleEnv) -> None:
    observation, info = single.reset(seed=0)
    assert type(observation) is np.ndarray and observation.dtype == np.float32 and info == {}
    observation, reward, terminated, truncated, info = single.step(np.zeros(1, np.float32))
    assert type(observation) is np.ndarray and observation.shape == (3,)
    assert type(reward) is float and terminated is False and truncated is False
    assert {name: type(value) for name, value in info.items()} == {
        "distance": float,
        "on_target": float,
        "energy": float,
        "diverged": bool,
    }


def test_follows_the_pure_environment(single: SingleEnv) -> None:
    environment = make_environment(LORENZ)
    state, expected = environment.reset(8)
    observation, _ = single.reset(seed=8)
    assert np.array_equal(observation, expected[0])
    for action in (-1.0, 0.25, 1.0):
        state, expected, reward, *_ = environment.step(state, torch.tensor([[action]]))
        observation, got, *_ = single.step(np.array([action], np.float32))
        assert np.array_equal(observation, expected[0]) and got == float(reward)


def test_seed_fixes_all_episodes_that_follow(single: SingleEnv) -> None:
    def episodes() -> list[np.ndarray]:
        return [single.reset(seed=4)[0], *rollout(single), single.reset()[0], *rollout(single)]

    first, again = episodes(), episodes()
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[4]), "the second episode starts like the first"
    assert not np.array_equal(single.reset(seed=5)[0], first[0])


def test_without_a_seed_every_environment_is_another() -> None:
    starts = [SingleEnv(LORENZ).reset()[0].tolist() for _ in range(4)]
    assert len({tuple(start) for start in starts}) > 1


def test_time_limit_truncates() -> None:
    env = gym.make(LORENZ, max_episode_steps=3)
    assert isinstance(env, TimeLimit)
    env.reset(seed=0)
    flags = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    assert gym.make(LORENZ).spec.max_episode_steps == 400  # type: ignore[union-attr]


def test_what_is_handed_out_is_not_the_state(single: SingleEnv) -> None:
    twin = SingleEnv(LORENZ)
    twin.reset(seed=1)
    single.reset(seed=1)[0][:] = 99.0
    action = np.array([0.5], np.float32)
    for expected in rollout(twin):
        observation = single.step(action)[0]
        assert np.array_equal(observation, expected)
        observation[:] = 99.0
    assert action[0] == 0.5


@pytest.mark.parametrize(
    ("action", "same_as"),
    [
        (np.array([7.0], np.float32), 1.0),
        (np.array([-np.inf], np.float32), -1.0),
        ([0.25], 0.25),
        (np.array([0.25], np.float64), 0.25),
        (np.array([0.5, 0.25, 0.125])[1:2], 0.25),
        (torch.tensor([0.25]), 0.25),
        (torch.tensor([0.25], requires_grad=True), 0.25),
        (np.array([1], np.int64), 1.0),
    ],
)
def test_actions_are_read_and_clipped(action: Any, same_as: float, single: SingleEnv) -> None:
    single.reset(seed=2)
    got = single.step(action)
    single.reset(seed=2)
    expected = single.step(np.array([same_as], np.float32))
    assert np.array_equal(got[0], expected[0]) and got[1:] == expected[1:]


def test_read_only_actions_are_taken(single: SingleEnv) -> None:
    single.reset(seed=2)
    action = np.array([0.5], np.float32)
    action.setflags(write=False)
    assert np.isfinite(single.step(action)[0]).all()


def test_actions_keep_the_precision_of_the_environment() -> None:
    env = SingleEnv(LORENZ, dtype="float64")
    action = 1 / 3  # not a float32
    found = []
    for value in (np.float64(action), np.float64(np.float32(action))):
        env.reset(seed=0)
        found.append(env.step(np.array([value]))[0])
    assert found[0].dtype == np.float64 and not np.array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.array([np.nan]), r"actions: got \[nan\]; NaN is not allowed"),
        (np.zeros(2), r"actions: got shape \(2,\); allowed: \(1,\)"),
        (np.zeros((1, 1)), r"actions: got shape \(1, 1\); allowed: \(1,\)"),
        (0.0, r"actions: got shape \(\); allowed: \(1,\)"),
        (["push"], r"actions: got \['push'\]; allowed: real numbers"),
        (None, "actions: got None; allowed: real numbers"),
        (np.zeros(1, complex), r"actions: got array\(\[0.\+0.j\]\); allowed: real numbers"),
        (torch.zeros(1, dtype=torch.complex64), r"actions: got tensor\(.*; allowed: real"),
    ],
)
def test_bad_actions_raise_and_change_nothing(action: Any, message: str, single: SingleEnv) -> None:
    single.reset(seed=2)
    with pytest.raises(ValueError, match=message):
        single.step(action)
    after = rollout(single)
    single.reset(seed=2)
    assert np.array_equal(after, rollout(single))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_bad_seeds_raise(seed: int, single: SingleEnv) -> None:
    with pytest.raises(ValueError, match=f"seed: got {seed} .*; allowed: integers from 0 to 2.63"):
        single.reset(seed=seed)


def test_options_of_reset_raise(single: SingleEnv) -> None:
    with pytest.raises(ValueError, match=r"reset options: got \['speed'\]; .* has none"):
        single.reset(options={"speed": 3})


def test_order_of_calls_is_told(single: SingleEnv) -> None:
    with pytest.raises(RuntimeError, match=r"step\(\) before the first reset\(\)"):
        single.step(np.zeros(1))
    with pytest.raises(RuntimeError, match=r"render\(\) before the first reset\(\)"):
        single.render()


def test_frames(single: SingleEnv) -> None:
    single.reset(seed=0)
    frame = single.render()
    assert frame is not None and frame.dtype == np.uint8 and frame.ndim == 3
    assert frame.shape[2] == 3 and len(np.unique(frame)) > 2
    rollout(single)
    later = single.render()
    assert later is not None and not np.array_equal(later, frame), "the picture stands still"


def test_render_without_a_mode_warns() -> None:
    env = SingleEnv(LORENZ)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert env.render() is None

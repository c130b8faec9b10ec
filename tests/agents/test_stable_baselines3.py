"""The adapter against a hand-written batch whose every number is known, and against Gymnasium."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from torch import Tensor

from separatrix.agents.common.stable_baselines3.vec_env import BatchedVecEnv


class CountingEnv(VectorEnv):
    """Environment i counts its steps and ends its episodes after i + 2 of them.

    Observation: environment, steps of this episode, its seed. Reward: the steps. Environment 0
    terminates, environment 1 is truncated, environment 2 does both at once. Every tensor handed out
    is a buffer that the next step overwrites, which the adapter must survive.
    """

    num_envs = 3
    single_observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    single_action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    render_mode = "rgb_array"
    horizon = 7

    def __init__(self, autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.metadata = {"autoreset_mode": autoreset_mode}
        self.index = torch.arange(3)
        self.seeds = torch.full((3,), -1)
        self.count = torch.zeros(3, dtype=torch.int64)
        self.returns = torch.zeros(3)
        self.actions: list[Tensor] = []
        self.options: list[dict[str, Any] | None] = []
        self.observation = torch.zeros(3, 3)
        self.reward = torch.zeros(3)
        self.final_observation = torch.zeros(3, 3)

    def _observe(self) -> Tensor:
        return torch.stack([self.index, self.count, self.seeds], 1).float()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        if seed is not None:
            self.seeds = self.index + seed
        self.options.append(options)
        self.count.zero_()
        return self.observation.copy_(self._observe()), {}

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        self.actions.append(actions)
        self.count += 1
        self.returns += self.count
        self.reward.copy_(self.count)
        done = self.count == self.index + 2
        info: dict[str, Any] = {"height": self.count.float(), "_height": torch.ones(3).bool()}
        info["diverged"] = done & (self.index == 0)
        if done.any():
            info["final_obs"] = self.final_observation.copy_(self._observe())
            info["_final_obs"] = info["_final_info"] = done
            info["final_info"] = {
                "height": self.count.float(),
                "diverged": info["diverged"],
                "episode_return": self.returns.clone(),
                "episode_length": self.count.clone(),
                "_height": done,
            }
            info["height"] = torch.where(done, torch.nan, info["height"])
            self.count, self.returns = self.count * ~done, self.returns * ~done
        self.observation.copy_(self._observe())
        terminated, truncated = done & (self.index != 1), done & (self.index != 0)
        return self.observation, self.reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...]:
        return tuple(np.full((2, 2, 3), i, np.uint8) for i in range(3))

    def double(self, number: int) -> int:
        return 2 * number


ACTIONS = np.zeros((3, 2), np.float32)


def step_counting(adapter: BatchedVecEnv) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict]]:
    observations, rewards, dones, infos = adapter.step(ACTIONS)
    assert isinstance(observations, np.ndarray)
    return observations, rewards, dones, infos


def counting_vec_env() -> tuple[BatchedVecEnv, CountingEnv]:
    env = CountingEnv()
    adapter = BatchedVecEnv(env)
    adapter.seed(10)
    adapter.reset()
    return adapter, env


def test_ends_of_episodes_are_described_and_nothing_else() -> None:
    adapter, _ = counting_vec_env()
    observations, rewards, dones, infos = step_counting(adapter)
    assert observations.tolist() == [[0, 1, 10], [1, 1, 11], [2, 1, 12]]
    assert rewards.tolist() == [1, 1, 1] and rewards.dtype == np.float32
    assert dones.tolist() == [False] * 3 and dones.dtype == bool
    assert infos == [{}, {}, {}]

    observations, rewards, dones, infos = step_counting(adapter)
    assert observations.tolist() == [[0, 0, 10], [1, 2, 11], [2, 2, 12]]
    assert dones.tolist() == [True, False, False]
    assert infos[1:] == [{}, {}]
    end = infos[0]
    assert end.keys() == {
        "terminal_observation", "TimeLimit.truncated", "episode", "height", "diverged"
    }  # fmt: skip
    assert end["terminal_observation"].tolist() == [0, 2, 10]
    assert end["terminal_observation"].dtype == np.float32
    assert end["TimeLimit.truncated"] is False
    assert end["height"] == 2 and end["diverged"] == 1
    assert end["episode"]["r"] == 3 and end["episode"]["l"] == 2 and end["episode"]["t"] >= 0


def test_only_time_alone_counts_as_truncation() -> None:
    adapter, _ = counting_vec_env()
    ends: list[list[bool]] = [[], [], []]
    for _ in range(12):
        _, _, dones, infos = step_counting(adapter)
        for row in np.flatnonzero(dones):
            ends[row].append(infos[row]["TimeLimit.truncated"])
            assert infos[row]["terminal_observation"][1] == row + 2
    assert ends == [[False] * 6, [True] * 4, [False] * 3]


def test_returned_arrays_are_fresh_and_writable() -> None:
    """stable-baselines3 adds to the rewards in place and keeps observations across steps."""
    adapter, env = counting_vec_env()
    reference, _ = counting_vec_env()
    kept = [adapter.reset()]
    copies = [kept[0].copy()]
    for _ in range(8):
        observations, rewards, dones, infos = step_counting(adapter)
        expected = reference.step(ACTIONS)
        ends = [info["terminal_observation"] for info in infos if info]
        expected_ends = [info["terminal_observation"] for info in expected[3] if info]
        for got, wanted in zip([*ends, observations, rewards, dones],
                               [*expected_ends, *expected[:3]], strict=True):  # fmt: skip
            np.testing.assert_array_equal(got, wanted)
            assert not any(np.shares_memory(got, earlier) for earlier in kept)
            kept.append(got)
            got[...] = 1  # must change neither the environment nor what comes next
            copies.append(got.copy())
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert env.count.tolist() == [0, 2, 0]


def test_actions_are_copied() -> None:
    adapter, env = counting_vec_env()
    actions = np.full((3, 2), 0.5, np.float32)
    actions.flags.writeable = False
    adapter.step(actions)
    actions.flags.writeable = True
    actions[...] = -1
    assert env.actions[0].tolist() == [[0.5, 0.5]] * 3


def test_seeds_and_options_reach_the_next_reset_only() -> None:
    adapter, env = counting_vec_env()
    assert adapter.seed(5) == [5, 6, 7]
    adapter.set_options({"start": 1})
    assert adapter.reset()[:, 2].tolist() == [5, 6, 7]
    assert adapter.reset()[:, 2].tolist() == [5, 6, 7]
    assert env.seeds.tolist() == [5, 6, 7]
    assert env.options == [None, {"start": 1}, None]


def test_metrics_are_averaged_over_all_steps_ends_included() -> None:
    adapter, _ = counting_vec_env()
    assert adapter.pop_metrics() == {}
    for _ in range(2):
        adapter.step(ACTIONS)
    assert adapter.pop_metrics() == {"height": 1.5, "diverged": pytest.approx(1 / 6)}
    adapter.step(ACTIONS)
    assert adapter.pop_metrics() == {"height": pytest.approx(7 / 3), "diverged": 0}


def test_attributes_and_methods_of_the_batch() -> None:
    adapter, env = counting_vec_env()
    assert adapter.render_mode == "rgb_array"
    assert adapter.get_attr("horizon", [0, 2]) == [7, 7]
    assert not adapter.has_attr("depth")
    adapter.set_attr("horizon", 9)
    assert env.horizon == 9
    assert adapter.env_method("double", 4) == [8, 8, 8]
    assert adapter.env_is_wrapped(Monitor, 1) == [False]
    with pytest.raises(ValueError, match="allowed are all 3 environments"):
        adapter.set_attr("horizon", 9, indices=[0])
    with pytest.raises(ValueError, match="allowed are all 3 environments"):
        adapter.env_method("double", 4, indices=0)


def test_render_tiles_the_images() -> None:
    adapter, _ = counting_vec_env()
    image = adapter.render("rgb_array")
    assert image is not None and image.shape == (4, 4, 3)
    assert [image[0, 0, 0], image[0, 2, 0], image[2, 0, 0]] == [0, 1, 2]


def test_other_autoreset_modes_and_numpy_are_refused() -> None:
    with pytest.raises(ValueError, match="SAME_STEP"):
        BatchedVecEnv(CountingEnv(AutoresetMode.NEXT_STEP))
    env = CountingEnv()
    env.observation = np.zeros((3, 3))  # type: ignore[assignment]
    env.reset = lambda **_: (env.observation, {})  # type: ignore[method-assign]
    with pytest.raises(TypeError, match='output="torch"'):
        BatchedVecEnv(env).reset()


def test_the_adapter_follows_the_batch_it_wraps() -> None:
    """Seeded alike, the adapter and Gymnasium's own interface give the same numbers."""
    arguments: dict[str, Any] = {"num_envs": 3, "max_episode_steps": 4}
    reference = gym.make_vec("separatrix/Lorenz-v0", output="numpy", **arguments)
    adapter = BatchedVecEnv(gym.make_vec("separatrix/Lorenz-v0", output="torch", **arguments))
    adapter.seed(5)
    expected, _ = reference.reset(seed=5)
    np.testing.assert_array_equal(adapter.reset(), expected)
    generator = np.random.default_rng(0)
    returns = np.zeros(3)
    for step in range(1, 13):
        action = generator.uniform(-1, 1, (3, 1)).astype(np.float32)
        observation, reward, terminated, truncated, info = reference.step(action)
        got = adapter.step(action)
        np.testing.assert_array_equal(got[0], observation)
        np.testing.assert_array_equal(got[1], reward)
        np.testing.assert_array_equal(got[2], terminated | truncated)
        returns += reward
        if step % 4:
            assert got[3] == [{}, {}, {}]
            continue
        for row, end in enumerate(got[3]):
            np.testing.assert_array_equal(end["terminal_observation"], info["final_obs"][row])
            assert end["TimeLimit.truncated"] is True
            assert end["episode"]["l"] == 4
            assert end["episode"]["r"] == pytest.approx(returns[row], rel=1e-6)
            assert end["distance"] == info["final_info"]["distance"][row]
        returns[:] = 0

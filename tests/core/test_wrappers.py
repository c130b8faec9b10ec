"""Gymnasium's own vector wrappers over our batches; warnings are errors."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import (
    ClipReward,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    RecordVideo,
)

import separatrix  # noqa: F401

LORENZ = "separatrix/Lorenz-v0"
NEXT_STEP, SAME_STEP = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP


def make(mode: AutoresetMode = SAME_STEP, **options: Any) -> VectorEnv:
    """Three environments whose episodes of 6 steps end apart."""
    return gym.make_vec(LORENZ, num_envs=3, max_episode_steps=6, autoreset_mode=mode, **options)


def start_apart(envs: VectorEnv) -> None:
    """Resets the environments one, two and three steps after each other."""
    envs.action_space.seed(0)
    envs.reset(seed=0)
    for row in range(3):
        envs.step(envs.action_space.sample())
        envs.unwrapped.reset(options={"reset_mask": np.arange(3) == row})


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_statistics_of_gymnasium_are_ours(mode: AutoresetMode) -> None:
    envs = RecordEpisodeStatistics(make(mode))
    envs.action_space.seed(0)
    envs.reset(seed=0)
    for row in range(3):
        envs.step(envs.action_space.sample())
        envs.reset(options={"reset_mask": np.arange(3) == row})
    finished = 0
    for _ in range(20):
        *_, infos = envs.step(envs.action_space.sample())
        if "episode" in infos:
            ended = infos["_episode"]
            ours = infos["final_info"] if mode is SAME_STEP else infos
            assert np.array_equal(ended, ours["_episode_return"])
            assert np.array_equal(infos["episode"]["l"][ended], ours["episode_length"][ended])
            returns = infos["episode"]["r"][ended]
            assert np.allclose(returns, ours["episode_return"][ended], rtol=1e-5)
            finished += ended.sum()
    assert finished >= 6 and set(envs.length_queue) == {6}


def test_normalized_observations() -> None:
    envs = NormalizeObservation(make(NEXT_STEP))
    envs.action_space.seed(0)
    envs.reset(seed=0)
    found = [envs.step(envs.action_space.sample())[0] for _ in range(300)]
    assert np.allclose(np.mean(found, axis=(0, 1)), 0.0, atol=0.3)
    assert np.allclose(np.std(found, axis=(0, 1)), 1.0, atol=0.3)


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_normalized_and_clipped_rewards(mode: AutoresetMode) -> None:
    envs = ClipReward(NormalizeReward(make(mode)), max_reward=0.5)
    start_apart(envs)
    rewards = np.stack([envs.step(envs.action_space.sample())[1] for _ in range(30)])
    assert np.isfinite(rewards).all() and 0 <= rewards.min() < rewards.max() == 0.5


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
@pytest.mark.parametrize("wrapper", ["NumpyToTorch", "ArrayConversion"])
def test_conversion_to_torch_equals_our_own(wrapper: str, mode: AutoresetMode) -> None:
    pytest.importorskip("array_api_compat")  # gymnasium[array-api]
    from gymnasium.wrappers.vector import ArrayConversion, NumpyToTorch

    ours = make(mode, output="torch")
    if wrapper == "NumpyToTorch":
        theirs: VectorEnv = NumpyToTorch(make(mode))
    else:
        theirs = ArrayConversion(make(mode), env_xp=np, target_xp=torch)
    start_apart(ours)
    start_apart(theirs.env)  # type: ignore[attr-defined]
    for _ in range(15):
        actions = torch.from_numpy(ours.action_space.sample())
        (*found, infos), (*expected, dense) = theirs.step(actions), ours.step(actions)
        for got, own in zip(found, expected, strict=True):
            assert isinstance(got, torch.Tensor) and torch.equal(got, own)
        assert infos.keys() == dense.keys()
        assert torch.equal(infos["distance"], dense["distance"])
        if "final_info" in dense:
            final = dense["final_info"]["episode_return"]
            assert torch.equal(infos["final_info"]["episode_return"], final)


def test_our_torch_output_converts_to_numpy() -> None:
    """As the statistics of Gymnasium need it, over tensors."""
    pytest.importorskip("array_api_compat")
    from gymnasium.wrappers.vector import ArrayConversion

    converted = ArrayConversion(make(output="torch"), env_xp=torch, target_xp=np)
    envs = RecordEpisodeStatistics(converted)
    envs.reset(seed=0)
    for _ in range(6):
        observation, *_, infos = envs.step(np.zeros((3, 1), np.float32))
    assert isinstance(observation, np.ndarray) and infos["episode"]["l"].tolist() == [6, 6, 6]


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_video_frames(output: str, tmp_path: Path) -> None:
    """In the mode that has an episode's last frame; of another, the wrapper warns."""
    pytest.importorskip("moviepy")  # gymnasium[other]
    made = make(NEXT_STEP, render_mode="rgb_array", output=output)
    envs = RecordVideo(made, str(tmp_path / "videos"))
    envs.reset(seed=0)
    for _ in range(3):
        envs.step(envs.action_space.sample())
    assert len(envs.recorded_frames) == 4
    assert not np.array_equal(envs.recorded_frames[0], envs.recorded_frames[3])
    envs.close()
    assert len(list(tmp_path.glob("videos/*.mp4"))) == 1


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_sync_vectorization_of_singles_equals_the_batch(mode: AutoresetMode) -> None:
    """Gymnasium's own vectorisation of single environments, with the same seeds and resets."""
    singles = gym.make_vec(
        LORENZ,
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        max_episode_steps=6,
    )
    batch = make(mode)
    assert np.array_equal(singles.reset(seed=4)[0], batch.reset(seed=4)[0])
    for _ in range(14):
        actions = batch.action_space.sample()
        found, expected = singles.step(actions), batch.step(actions)
        for got, own in zip(found[:4], expected[:4], strict=True):
            assert np.array_equal(got, own)
        for key in found[4].keys() - {"final_obs", "_final_obs", "final_info", "_final_info"}:
            valid = found[4][f"_{key}"] if not key.startswith("_") else slice(None)
            assert np.array_equal(found[4][key][valid], expected[4][key][valid])
        if "final_obs" in found[4]:
            assert np.array_equal(np.stack(found[4]["final_obs"]), expected[4]["final_obs"])
        ended = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            options = {"reset_mask": ended}
            assert np.array_equal(
                singles.reset(options=options)[0], batch.reset(options=options)[0]
            )
    singles.close()

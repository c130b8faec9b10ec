"""Running normalisation over batches: the moments, the modes, arrays and tensors, checkpoints."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import vector as theirs

import separatrix  # noqa: F401
from separatrix.envs.core.normalization import (
    NormalizeObservation,
    NormalizeReward,
    RunningMoments,
)

LORENZ = "separatrix/Lorenz-v0"
NEXT_STEP, SAME_STEP, DISABLED = (
    AutoresetMode.NEXT_STEP,
    AutoresetMode.SAME_STEP,
    AutoresetMode.DISABLED,
)
START = 1e-4  # of a value of mean 0 and variance 1 that stands at the start
EVERY_MODE = pytest.mark.parametrize("mode", list(AutoresetMode))


def make(mode: AutoresetMode = SAME_STEP, output: str = "torch", **options: Any) -> VectorEnv:
    return gym.make_vec(
        LORENZ, num_envs=3, max_episode_steps=6, autoreset_mode=mode, output=output, **options
    )


def advance(envs: VectorEnv, steps: int, seed: int | None = 0) -> list[Any]:
    """Steps that end apart, with resets where the mode asks for them."""
    if seed is not None:
        envs.action_space.seed(seed)
        envs.reset(seed=seed)
        envs.step(envs.action_space.sample())
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    found = []
    for _ in range(steps):
        found.append(envs.step(envs.action_space.sample()))
        ended = np.asarray(found[-1][2]) | np.asarray(found[-1][3])
        if envs.metadata["autoreset_mode"] is DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended})
    return found


def test_moments_are_those_of_all_values() -> None:
    values = torch.randn(50, 7, 3, generator=torch.Generator().manual_seed(0)) * 3 + 100
    rows = torch.rand(50, 7, generator=torch.Generator().manual_seed(1)) < 0.4
    rows[3] = False  # a batch without any
    moments = RunningMoments((3,))
    for batch, counted in zip(values, rows, strict=True):
        moments.update(batch, counted)
    chosen = values[rows].double()
    total = len(chosen) + START
    mean = chosen.sum(0) / total
    squares = chosen.square().sum(0) + START
    assert torch.allclose(moments.mean, mean)
    assert torch.allclose(moments.variance, squares / total - mean**2)
    assert moments.count.item() == pytest.approx(total)


@EVERY_MODE
def test_arrays_and_tensors_are_normalized_alike(mode: AutoresetMode) -> None:
    in_torch, in_numpy = (
        NormalizeReward(NormalizeObservation(make(mode, output))) for output in ("torch", "numpy")
    )
    for found, expected in zip(advance(in_torch, 20), advance(in_numpy, 20), strict=True):
        for one, other in zip(found[:4], expected[:4], strict=True):
            assert isinstance(one, torch.Tensor) and isinstance(other, np.ndarray)
            assert np.array_equal(one.numpy(), other) and one.numpy().dtype == other.dtype


def test_observations_equal_those_of_gymnasium() -> None:
    ours = NormalizeObservation(make(NEXT_STEP, "numpy"), clip=np.inf)
    other = theirs.NormalizeObservation(make(NEXT_STEP, "numpy"))
    for envs in (ours, other):
        envs.action_space.seed(0)
    assert np.allclose(ours.reset(seed=0)[0], other.reset(seed=0)[0], atol=1e-4)
    for _ in range(20):
        got, expected = (envs.step(envs.action_space.sample())[0] for envs in (ours, other))
        assert np.allclose(got, expected, rtol=1e-3, atol=1e-4)  # theirs are moments in float32


def test_rewards_equal_those_of_gymnasium() -> None:
    """Where time ends all episodes; at a termination Gymnasium forgets the return a step early."""
    ours = NormalizeReward(make(SAME_STEP, "numpy"), gamma=0.9, clip=np.inf)
    other = theirs.NormalizeReward(make(SAME_STEP, "numpy"), gamma=0.9)
    for envs in (ours, other):
        envs.action_space.seed(0)
        envs.reset(seed=0)
    for _ in range(20):
        got, expected = (envs.step(envs.action_space.sample())[1] for envs in (ours, other))
        assert np.allclose(got, expected, rtol=1e-5)


@EVERY_MODE
def test_returns_start_anew_with_every_episode(mode: AutoresetMode) -> None:
    """The moments are those of the discounted returns within each episode, and of nothing else."""
    envs = NormalizeReward(make(mode, "numpy"), gamma=0.5)
    plain = make(mode, "numpy")
    envs.action_space.seed(0), plain.action_space.seed(0)
    values: list[float] = []
    running, waiting = np.zeros(3), np.zeros(3, bool)
    advance(envs, 20)
    plain.reset(seed=0)
    for step in range(21):
        _, rewards, terminated, truncated, _ = plain.step(plain.action_space.sample())
        running = 0.5 * running + rewards
        values += running[~waiting].tolist()
        ended = terminated | truncated
        running[ended | waiting] = 0
        waiting = ended if mode is NEXT_STEP else waiting
        if step == 0:
            first = np.array([True, False, False])
            plain.reset(options={"reset_mask": first})
            running[first] = 0
        elif mode is DISABLED and ended.any():
            plain.reset(options={"reset_mask": ended})
    count = len(values) + START
    mean = sum(values) / count
    assert envs.moments.count.item() == pytest.approx(count)
    assert envs.moments.mean.item() == pytest.approx(mean)
    variance = (np.square(values).sum() + START) / count - mean**2
    assert envs.moments.variance.item() == pytest.approx(variance)


def test_the_last_observation_is_normalized_with_the_same_moments() -> None:
    envs, plain = NormalizeObservation(make(), clip=50.0), make()
    infos, expected = (advance(each, 6)[-1][4] for each in (envs, plain))
    assert expected["_final_obs"].tolist() == [True, False, False]
    deviation = (envs.moments.variance + 1e-8).sqrt()
    scaled = (expected["final_obs"] - envs.moments.mean) / deviation
    assert torch.allclose(infos["final_obs"].double(), scaled, rtol=1e-5, atol=1e-6)


def test_normalized_observations_have_mean_0_and_variance_1() -> None:
    envs = NormalizeObservation(
        gym.make_vec(LORENZ, num_envs=64, output="torch", autoreset_mode=SAME_STEP)
    )
    envs.reset(seed=0)
    seen = torch.stack([envs.step(torch.zeros(64, 1))[0] for _ in range(300)])[100:]
    assert seen.dtype is torch.float32
    assert seen.mean((0, 1)).abs().max() < 0.1 and (seen.std((0, 1)) - 1).abs().max() < 0.1
    assert envs.single_observation_space.contains(seen[-1, 0].numpy())


def test_only_new_observations_of_a_partial_reset_count() -> None:
    envs = NormalizeObservation(make())
    envs.reset(seed=0)
    envs.reset(options={"reset_mask": torch.tensor([False, True, False])})
    assert envs.moments.count.item() == pytest.approx(4, abs=1e-3)


def test_frozen_moments_stay_and_limits_hold() -> None:
    envs = NormalizeReward(NormalizeObservation(make(), clip=0.5), clip=0.25)
    advance(envs, 5)
    normalizing: Any = envs.env
    envs.update_running_mean = normalizing.update_running_mean = False
    before = envs.moments.state_dict(), normalizing.state_dict()
    found = advance(envs, 5, seed=None)
    for kept, moments in zip(before, (envs.moments, normalizing.moments), strict=True):
        assert all(torch.equal(kept[name], value) for name, value in moments.state_dict().items())
    assert max(step[0].abs().max() for step in found) == 0.5
    assert max(step[1].abs().max() for step in found) == 0.25


@EVERY_MODE
def test_it_goes_on_from_a_checkpoint(mode: AutoresetMode) -> None:
    first, second = (NormalizeReward(NormalizeObservation(make(mode))) for _ in range(2))
    advance(first, 5)  # an environment has just ended, which NEXT_STEP remembers
    parts: Any = zip(*((each, each.env, each.unwrapped) for each in (first, second)), strict=True)
    for saved, loaded in parts:
        loaded.load_state_dict(saved.state_dict())
    for envs in (first, second):
        envs.action_space.seed(1)
    for found, expected in zip(
        advance(second, 12, seed=None), advance(first, 12, seed=None), strict=True
    ):
        for one, other in zip(found[:4], expected[:4], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("wrapper", "options", "message"),
    [
        (NormalizeObservation, {"epsilon": 0.0}, "epsilon: got 0.0; allowed: a number > 0"),
        (NormalizeReward, {"clip": -1.0}, "clip: got -1.0; allowed: a number > 0"),
        (NormalizeReward, {"gamma": 1.5}, "gamma: got 1.5; allowed: a number from 0 to 1"),
    ],
)
def test_bad_numbers_raise(wrapper: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrapper(make(), **options)

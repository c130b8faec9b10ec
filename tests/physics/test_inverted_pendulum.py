"""The inverted pendulum against Gymnasium's: trajectories, rewards, and when it falls."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch

from separatrix.envs.core.registration import make_environment
from separatrix.envs.mechanics.mujoco_system import KEPT, MujocoState

NAME = "InvertedPendulum-v0"
SOURCE = f"InvertedPendulum-v5 of Gymnasium {gym.__version__}, MuJoCo {mujoco.__version__}"
STEPS = 1000
Policy = Callable[[int, np.random.Generator, np.ndarray], Any]
GAIN = np.array((0.1, 2.5, 0.2, 0.35))
"""Of a linear feedback that holds the pole, found by hand; action = GAIN @ observation."""

POLICIES: dict[str, Policy] = {
    "random": lambda step, generator, seen: generator.uniform(-1.0, 1.0, 1),
    "balancing": lambda step, generator, seen: [np.clip(GAIN @ seen, -1.0, 1.0)],
    "to and fro": lambda step, generator, seen: [np.sign(np.sin(0.2 * step))],
}
FALLEN = {"random": (100, 1000), "balancing": (0, 0), "to and fro": (100, 1000)}


@pytest.fixture(autouse=True)
def _log_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo would write what it warns of to the working directory."""
    monkeypatch.chdir(tmp_path)


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **options)


def theirs(seed: int, **options: Any) -> tuple[Any, MujocoState]:
    """Gymnasium's environment after a reset, and its state as ours."""
    env: Any = gym.make("InvertedPendulum-v5", **options).unwrapped
    env.reset(seed=seed)
    state, _ = make(dtype="float64").reset(0)
    found = np.empty((1, state.physics.shape[1]))
    mujoco.mj_getState(env.model, env.data, found[0], KEPT)
    return env, replace(state, physics=torch.from_numpy(found))


@pytest.mark.parametrize("name", POLICIES)
def test_trajectories_are_those_of_gymnasium(name: str, gate: Callable[..., None]) -> None:
    """Observations, rewards and ends, in float64, of a whole episode's time, past the fall."""
    env, state = theirs(seed=1)
    environment, generator = make(dtype="float64"), np.random.default_rng(2)
    worst, falls, observation = 0.0, 0, environment.observe(state)
    for step in range(STEPS):
        chosen = POLICIES[name](step, generator, observation[0].numpy())
        action = np.asarray(chosen, np.float64)
        before = observation
        state, observation, reward, terminated, info = environment.step(
            state, torch.from_numpy(action[None])
        )
        expected, gain, ended, _, _ = env.step(3.0 * action)
        worst = max(worst, np.abs(observation[0].numpy() - expected).max())
        worst = max(worst, abs(reward.item() - gain))
        assert terminated.item() == ended and not info["diverged"]
        known = environment.known_outcome(before, torch.from_numpy(action[None]), observation)
        assert torch.equal(known[0], reward) and torch.equal(known[1], terminated)
        assert torch.equal(environment.known_termination(observation), terminated)
        falls += ended
    low, high = FALLEN[name]
    assert low <= falls <= high
    gate(
        NAME,
        f"largest difference from Gymnasium in 1000 steps, {name}",
        worst,
        0.0,
        tolerance=0.0,
        source=SOURCE,
    )


def test_single_precision_rounds_the_same_numbers() -> None:
    env, state = theirs(seed=3)
    environment, generator = make(), np.random.default_rng(4)
    for _ in range(100):
        action = generator.uniform(-1.0, 1.0, 1).astype(np.float32)
        state, observation, reward, *_ = environment.step(state, torch.from_numpy(action[None]))
        expected, gain, *_ = env.step(3.0 * action.astype(np.float64))
        assert observation.dtype == reward.dtype == torch.float32
        assert np.array_equal(observation[0].numpy(), expected.astype(np.float32))
        assert reward.item() == gain


@pytest.mark.parametrize(("angle", "reward"), [(0.199, 1.0), (-0.199, 1.0), (0.21, 0.0)])
def test_the_step_of_the_fall_is_worth_nothing(angle: float, reward: float) -> None:
    environment = make(dtype="float64", reset_noise_scale=0)
    state, _ = environment.reset(0)
    physics = state.physics.clone()
    physics[0, 2] = angle
    still = environment.system.coordinates(physics.numpy())
    assert environment.task.terminated(still).tolist() == [reward == 0.0]
    # Held upright by nothing, it falls on.
    found = environment.step(replace(state, physics=physics), torch.zeros(1, 1).double())
    fallen = abs(found.observation[0, 1].item()) > 0.2
    assert (found.reward.item(), found.terminated.item()) == (float(not fallen), fallen)
    assert environment.reward_range == (0.0, 1.0)


def test_the_angle_of_a_fall_is_an_option() -> None:
    environment = make(dtype="float64", healthy_angle=0.5)
    coordinates = np.array([[0.0, 0.4, 0.0, 0.0], [0.0, -0.6, 0.0, 0.0]])
    assert environment.task.terminated(coordinates).tolist() == [False, True]


def test_actions_are_clipped_and_three_of_gymnasium() -> None:
    environment = make(3, dtype="float64", reset_noise_scale=0)
    state, _ = environment.reset(0)
    actions = torch.tensor([[1.0], [1.7], [-1.0]], dtype=torch.float64)
    velocity = environment.step(state, actions).observation[:, 2]
    assert velocity[0] == velocity[1]
    # The pole's end is 1 mm off its axis.
    assert velocity[2].item() == pytest.approx(-velocity[0].item(), rel=1e-3)
    # 300 N on the cart, 10.47 kg, which the pole, 5.02 kg, holds back but little: between the
    # accelerations of all the mass and of the cart alone.
    assert 300 / 15.49 * 0.04 < velocity[0] < 300 / 10.47 * 0.04


def test_a_diverged_row_keeps_to_itself() -> None:
    environment = make(3)
    state, _ = environment.reset(0)
    action = torch.full((3, 1), 0.2)
    sound, physics = environment.step(state, action), state.physics.clone()
    physics[0, 3], physics[1, 1] = 51.0, torch.nan  # too fast; no number
    found = environment.step(replace(state, physics=physics), action)
    assert found.info["diverged"].tolist() == found.terminated.tolist() == [True, True, False]
    assert found.reward.tolist() == [0.0, 0.0, 1.0]
    assert torch.equal(found.state.physics[2], sound.state.physics[2])


def test_starts_are_uniform_around_rest() -> None:
    scale = 0.1
    state, observation = make(4000, reset_noise_scale=scale, dtype="float64").reset(0)
    assert torch.equal(observation, state.physics[:, 1:5])
    assert (observation.abs() <= scale).all()
    assert observation.std(0).tolist() == pytest.approx([scale / 3**0.5] * 4, rel=0.05)
    assert observation.mean(0).tolist() == pytest.approx([0.0] * 4, abs=0.006)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"healthy_angle": 0.0}, "healthy_angle: got 0.0; allowed: a number from 0.01 to 1.5"),
        ({"reset_noise_scale": None}, "reset_noise_scale: got None; allowed: a number from 0"),
        ({"backend": "numba"}, "unknown backend 'numba'; .*allowed: auto, mujoco"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(2, **options)


def test_pictures_show_what_moves() -> None:
    environment = make()
    state, _ = environment.reset(0)
    frame = environment.render(state)
    assert frame.shape == (240, 400, 3) and frame.dtype == np.uint8
    for coordinate in (1, 2):
        physics = state.physics.clone()
        physics[0, coordinate] += 0.3
        assert not np.array_equal(environment.render(replace(state, physics=physics)), frame)

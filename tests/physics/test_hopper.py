"""The hopper against Gymnasium's: trajectories, rewards, and when it falls."""

import warnings
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
from separatrix.envs.core.state import take
from separatrix.envs.mechanics.mujoco_system import KEPT, MujocoState

NAME = "Hopper-v0"
SOURCE = f"Hopper-v5 of Gymnasium {gym.__version__}, MuJoCo {mujoco.__version__}"
STEPS = 1000
Policy = Callable[[int, np.random.Generator], Any]
PHASES = np.array((0.0, 2.0, 4.0))

POLICIES: dict[str, Policy] = {
    "random": lambda step, generator: generator.uniform(-1.0, 1.0, 3),
    "hops": lambda step, generator: np.sign(np.sin(0.15 * step + PHASES)),
    # The joints hold on to their stops.
    "against the stops": lambda step, generator: (1.0, 1.0, -1.0),
    "still": lambda step, generator: (0.0, 0.0, 0.0),
}


@pytest.fixture(autouse=True)
def _log_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo would write what it warns of to the working directory."""
    monkeypatch.chdir(tmp_path)


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **options)


def theirs(seed: int, **options: Any) -> tuple[Any, MujocoState]:
    """Gymnasium's environment after a reset, and its state as ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env: Any = gym.make("Hopper-v5", **options).unwrapped
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
    worst, contacts, falls = 0.0, 0, 0
    for step in range(STEPS):
        action = np.asarray(POLICIES[name](step, generator), np.float64)
        seen = environment.observe(state)
        state, observation, reward, terminated, info = environment.step(
            state, torch.from_numpy(action[None])
        )
        expected, gain, ended, _, details = env.step(action)
        differences = (
            observation[0].numpy() - expected,
            reward.item() - gain,
            info["forward_velocity"].item() - details["x_velocity"],
            info["energy"].item() - np.mean(action**2),
        )
        worst = max(worst, *(np.abs(difference).max() for difference in differences))
        contacts += env.data.ncon > 0
        falls += ended
        assert terminated.item() == ended == environment.known_termination(observation).item()
        assert not info["diverged"]
        assert not torch.equal(seen, observation)
    assert contacts > 100 and 100 < falls < STEPS, "an episode that shows little"
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
    for _ in range(200):
        action = generator.uniform(-1.0, 1.0, 3).astype(np.float32)
        state, observation, reward, *_ = environment.step(state, torch.from_numpy(action[None]))
        expected, gain, *_ = env.step(action)
        assert observation.dtype == reward.dtype == torch.float32
        assert np.array_equal(observation[0].numpy(), expected.astype(np.float32))
        assert reward.item() == pytest.approx(gain, rel=1e-6, abs=1e-6)


def test_options_are_those_of_gymnasium() -> None:
    weights: dict[str, Any] = {"forward_reward_weight": -0.7, "ctrl_cost_weight": 0.3}
    weights["healthy_reward"] = 2.5
    ranges = {"healthy_z_range": (1.2, np.inf), "healthy_angle_range": (-0.05, 0.05)}
    env, state = theirs(seed=0, **weights, **ranges)
    environment = make(dtype="float64", **weights, healthy_height=1.2, healthy_angle=0.05)
    ends = []
    for step in range(100):
        action = np.array([0.4, -0.9, 0.1]) * np.sin(step)
        state, _, reward, terminated, _ = environment.step(state, torch.from_numpy(action[None]))
        _, gain, ended, *_ = env.step(action)
        assert reward.item() == gain and terminated.item() == ended
        ends.append(ended)
    assert 5 < sum(ends) < 95, "both kinds of steps"
    assert environment.reward_range == pytest.approx((-42.9, 44.5))


def at(environment: Any, **changed: float) -> MujocoState:
    """A start, with some coordinates set: positions q0 to q5, velocities v0 to v5."""
    state, _ = environment.reset(0)
    physics = state.physics.clone()
    for name, value in changed.items():
        physics[0, 1 + int(name[1]) + 6 * (name[0] == "v")] = value
    return replace(state, physics=physics)


@pytest.mark.parametrize(
    ("changed", "ended"),
    [
        ({}, False),
        ({"q1": 0.71}, False),
        ({"q1": 0.69}, True),
        ({"q2": 0.19}, False),
        ({"q2": 0.21}, True),
        ({"q2": -0.21}, True),
        ({"v2": 99.0}, False),
        ({"v2": -101.0}, True),
    ],
)
def test_health_is_judged_as_by_gymnasium(changed: dict[str, float], ended: bool) -> None:
    environment = make(dtype="float64", reset_noise_scale=0)
    state = at(environment, **changed)
    env, _ = theirs(seed=0)
    coordinates = environment.system.coordinates(state.physics.numpy())
    env.set_state(*np.split(coordinates[0], 2))
    assert environment.task.terminated(coordinates).tolist() == [ended]
    assert env.is_healthy == (not ended)
    fast = "v2" in changed  # above 10 it is not seen
    seen = environment.known_termination(environment.observe(state)).item()
    assert seen == (ended and not fast)


def test_a_terminated_step_goes_without_the_healthy_reward() -> None:
    environment = make(dtype="float64", ctrl_cost_weight=0.0, forward_reward_weight=0.0)
    action = torch.zeros(1, 3, dtype=torch.float64)
    for height, reward in ((1.2, 1.0), (0.5, 0.0)):
        found = environment.step(at(environment, q1=height), action)
        assert (found.reward.item(), found.terminated.item()) == (reward, reward == 0.0)
        assert not found.info["diverged"].item()


def test_rewards_of_the_safe_box_are_in_their_range() -> None:
    """From anywhere in it, at its corners for a part, though no motor gets there."""
    environment, generator = make(dtype="float64"), np.random.default_rng(0)
    rows = 4000
    start = environment.reset(0)[0].physics.numpy()
    physics = np.repeat(start, rows, 0)
    limits = environment.system.limits
    coordinates = generator.uniform(-1.0, 1.0, (rows, 12)) * limits
    corner = generator.random((rows, 12)) < 0.3
    coordinates = np.where(corner, np.sign(coordinates) * limits, coordinates)
    coordinates[:, 1] = generator.uniform(0.0, 2.0, rows)
    environment.system.coordinates(physics)[:] = coordinates
    found = environment.step_arrays(physics, generator.choice([-1.0, 1.0], (rows, 3)))
    low, high = environment.reward_range
    assert (low, high) == pytest.approx((-60.003, 61.0))
    assert ((low <= found.reward) & (found.reward <= high)).all()
    diverged = found.info["diverged"]
    assert diverged.any() and (~diverged).sum() > 100
    assert found.terminated[diverged].all() and (found.reward[diverged] == low).all()


def test_hard_driving_stays_inside_the_safe_box() -> None:
    """Fallen or not."""
    rows, generator = 12, np.random.default_rng(0)
    environment = make(rows, dtype="float64", reset_noise_scale=0.1)
    state, _ = environment.reset(0)
    physics = state.physics.numpy()
    period, phase = generator.uniform(2, 120, (rows, 3)), generator.uniform(0, 6, (rows, 3))
    largest = np.zeros(12)
    for step in range(400):
        velocities = environment.system.coordinates(physics)[:, 9:]
        action = np.sign(np.sin(2 * np.pi * step / period + phase))
        action[::3] = np.sign(velocities[::3] + 1e-9)
        found = environment.step_arrays(physics, action)
        physics = found.physics
        assert not found.info["diverged"].any()
        largest = np.maximum(largest, np.abs(environment.system.coordinates(physics)).max(0))
    assert (largest / environment.system.limits).max() < 0.75


def test_starts_are_uniform_around_rest() -> None:
    scale = 0.05
    state, observation = make(4000, reset_noise_scale=scale, dtype="float64").reset(0)
    moved = state.physics[:, 1:13]
    assert torch.equal(observation, moved[:, 1:])
    off = moved - torch.tensor([0.0, 1.25, *[0.0] * 10], dtype=torch.float64)
    assert (off.abs() <= scale * (1 + 1e-12)).all()
    assert off.std(0).tolist() == pytest.approx([scale / 3**0.5] * 12, rel=0.05)
    assert off.mean(0).tolist() == pytest.approx([0.0] * 12, abs=0.003)


def test_a_row_is_the_single_run_and_steps_are_pure() -> None:
    environment, alone = make(5, dtype="float64"), make(dtype="float64")
    generator = np.random.default_rng(1)
    state, _ = environment.reset(7)
    single, _ = alone.reset(9)
    for _ in range(150):  # one after the other falls
        action = torch.from_numpy(generator.uniform(-1.3, 1.3, (5, 3)))
        kept = state.physics.clone()
        found = environment.step(state, action)
        one = alone.step(single, action[2:3])
        assert torch.equal(state.physics, kept)
        assert torch.equal(found.state.physics[2], one.state.physics[0])
        assert found.reward[2] == one.reward[0] and found.terminated[2] == one.terminated[0]
        state, single = found.state, one.state
    assert found.terminated.any()
    again = environment.step(take(state, torch.tensor([4, 0])), action[[4, 0]])
    expected = environment.step(state, action)
    assert torch.equal(again.reward, expected.reward[[4, 0]])


def test_episodes_end_by_a_fall() -> None:
    env = gym.make("separatrix/Hopper-v0")
    env.reset(seed=0)
    length, terminated = 0, False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(np.zeros(3, np.float32))
        length += 1
        assert not truncated
    assert 20 < length < 200
    assert float(reward) < 1.0 and not info["diverged"]


def test_the_reward_is_not_known() -> None:
    environment = make(2)
    _, seen = environment.reset(0)
    with pytest.raises(ValueError, match="observation of this MujocoEnvironment does not"):
        environment.known_outcome(seen, torch.zeros(2, 3), seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"healthy_height": 1.3}, "healthy_height: got 1.3; allowed: a number from 0 to 1.25"),
        ({"healthy_angle": "wide"}, "healthy_angle: got 'wide'; allowed: a number from 0.01"),
        ({"reset_noise_scale": 0.2}, "reset_noise_scale: got 0.2; allowed: a number from 0 to 0.1"),
        ({"healthy_z_range": (0.7, 2.0)}, "unknown option 'healthy_z_range'"),
        ({"backend": "numba"}, "unknown backend 'numba'; .*allowed: auto, mujoco"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(2, **options)


def test_pictures_show_what_moves() -> None:
    environment = make(1)
    frame = environment.render(at(environment))
    assert frame.shape == (240, 400, 3) and frame.dtype == np.uint8
    for moved in ({"q1": 1.4}, {"q2": 0.3}, {"q3": -0.5}, {"q4": -0.5}, {"q5": 0.5}):
        assert not np.array_equal(environment.render(at(environment, **moved)), frame)

"""The swimmer against Gymnasium's, and what MuJoCo's steps must be: pure, and alike in a batch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.controllers.planning.gradient_mpc import GradientMPC
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take
from separatrix.envs.mechanics.mujoco_system import KEPT, MujocoState

NAME = "Swimmer-v0"
SOURCE = f"Swimmer-v5 of Gymnasium {gym.__version__}, MuJoCo {mujoco.__version__}"
STEPS = 1000
Policy = Callable[[int, np.random.Generator], Any]

POLICIES: dict[str, Policy] = {
    "random": lambda step, generator: generator.uniform(-1.0, 1.0, 2),
    "fast strokes": lambda step, generator: np.sign(np.sin(0.24 * step + np.array((0.1, 1.6)))),
    # Both joints hold on to their stops, where MuJoCo solves for the forces of constraints.
    "against the stops": lambda step, generator: (1.0, -1.0),
}


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **options)


def theirs(seed: int) -> tuple[Any, MujocoState]:
    """Gymnasium's environment after a reset, and its state as ours."""
    env: Any = gym.make("Swimmer-v5").unwrapped
    env.reset(seed=seed)
    state, _ = make(dtype="float64").reset(0)
    found = np.empty((1, state.physics.shape[1]))
    mujoco.mj_getState(env.model, env.data, found[0], KEPT)
    return env, replace(state, physics=torch.from_numpy(found))


@pytest.mark.parametrize("name", POLICIES)
def test_trajectories_are_those_of_gymnasium(name: str, gate: Callable[..., None]) -> None:
    """Observations and rewards of a whole episode, in float64."""
    env, state = theirs(seed=1)
    environment, generator = make(dtype="float64"), np.random.default_rng(2)
    worst, at_stops, total = 0.0, 0, 0.0
    for step in range(STEPS):
        action = np.asarray(POLICIES[name](step, generator), np.float64)
        state, observation, reward, terminated, info = environment.step(
            state, torch.from_numpy(action[None])
        )
        expected, gain, _, _, details = env.step(action)
        differences = (
            observation[0].numpy() - expected,
            reward.item() - gain,
            info["forward_velocity"].item() - details["x_velocity"],
            info["energy"].item() - np.mean(action**2),
        )
        worst = max(worst, *(np.abs(difference).max() for difference in differences))
        at_stops += np.abs(expected[1:3]).max() > np.deg2rad(100)
        total += abs(gain)
        assert not terminated
    assert total > 1.0 and at_stops > 20, "an episode that shows little"
    gate(
        NAME,
        f"largest difference from Gymnasium in an episode, {name}",
        worst,
        0.0,
        tolerance=0.0,
        source=SOURCE,
    )


def test_single_precision_rounds_the_same_numbers() -> None:
    env, state = theirs(seed=3)
    environment = make()
    generator = np.random.default_rng(4)
    for _ in range(200):
        action = generator.uniform(-1.0, 1.0, 2).astype(np.float32)
        state, observation, reward, *_ = environment.step(state, torch.from_numpy(action[None]))
        expected, gain, *_ = env.step(action)
        assert observation.dtype == reward.dtype == torch.float32
        assert np.array_equal(observation[0].numpy(), expected.astype(np.float32))
        assert reward.item() == pytest.approx(gain, rel=1e-6, abs=1e-9)


def test_weights_are_those_of_gymnasium() -> None:
    weights: dict[str, Any] = {"forward_reward_weight": -0.7, "ctrl_cost_weight": 0.3}
    env: Any = gym.make("Swimmer-v5", **weights).unwrapped
    env.reset(seed=0)
    environment = make(dtype="float64", **weights)
    state = theirs(seed=0)[1]
    action = np.array([0.4, -0.9])
    reward = environment.step(state, torch.from_numpy(action[None])).reward
    assert reward.item() == env.step(action)[1]
    assert environment.reward_range == pytest.approx((-14.6, 14.0))


def test_starts_are_uniform_around_rest() -> None:
    scale = 0.3
    state, observation = make(4000, reset_noise_scale=scale, dtype="float64").reset(0)
    moved = state.physics[:, 1:11]
    assert torch.equal(observation, moved[:, 2:])
    assert (moved.abs() <= scale).all() and not state.physics[:, [0, *range(11, 16)]].any()
    # A uniform number has the standard deviation scale / sqrt(3); 4000 tell it to 1 % or so.
    assert moved.std(0).tolist() == pytest.approx([scale / 3**0.5] * 10, rel=0.05)
    assert moved.mean(0).tolist() == pytest.approx([0.0] * 10, abs=0.015)
    still = make(reset_noise_scale=0).reset(0)[0]
    assert not still.physics.any()


def strokes(environment: Any, steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (steps, environment.num_envs, 2)
    return (4 * torch.rand(size, generator=generator) - 2).to(environment.dtype)  # some clipped


def course(environment: Any, state: Any, actions: Tensor) -> list[Tensor]:
    """All that the steps return, and the states, in order."""
    found = []
    for action in actions:
        state, observation, reward, terminated, info = environment.step(state, action)
        found += [state.physics, observation, reward, terminated, *info.values()]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [7, 300])
def test_a_row_of_a_batch_is_the_single_run(batch: int, dtype: str) -> None:
    environment, alone = make(batch, dtype=dtype), make(dtype=dtype)
    actions = strokes(environment, 5 if batch == 300 else 60)
    together = course(environment, environment.reset(11)[0], actions)
    for row in range(0, batch, 1 if batch == 7 else 37):
        single = course(alone, alone.reset(11 + row)[0], actions[:, row : row + 1])
        assert all(torch.equal(a[row], b[0]) for a, b in zip(together, single, strict=True))


def test_a_step_is_a_pure_function() -> None:
    """What was stepped before, in which order, and by which object does not matter."""
    environment = make(6, dtype="float64")
    state, _ = environment.reset(0)
    for action in strokes(environment, 40):  # until joints have met their stops
        state = environment.step(state, action).state
    assert (state.physics[:, 11:] != 0).all(), "no warm start to keep"
    kept, action = state.physics.clone(), strokes(environment, 1, seed=5)
    first = course(environment, state, action)
    assert torch.equal(state.physics, kept)
    course(environment, environment.reset(9)[0], strokes(environment, 3))
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    again = course(environment, take(state, order), action[:, order])
    other = course(make(6, dtype="float64"), state, action)
    for expected, shuffled, elsewhere in zip(first, again, other, strict=True):
        assert torch.equal(expected[order], shuffled) and torch.equal(expected, elsewhere)


def test_the_warm_start_is_part_of_the_state() -> None:
    """At a joint's stop the solver's result depends on it; without it steps would differ."""
    environment = make(dtype="float64")
    state, _ = environment.reset(0)
    cold = state
    push = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    for _ in range(200):
        state = environment.step(state, push).state
        cold = environment.step(cold, push).state
        cold = replace(cold, physics=torch.cat((cold.physics[:, :11], torch.zeros(1, 5)), 1))
    difference = (state.physics - cold.physics)[:, 1:11].abs().max()
    assert 0 < difference < 1e-5


def test_a_diverged_row_keeps_to_itself() -> None:
    environment = make(4)
    state, _ = environment.reset(0)
    action = strokes(environment, 1)[0]
    sound = environment.step(state, action)
    physics = state.physics.clone()
    physics[0, 6], physics[1, 3] = 25.0, torch.nan  # too fast; no number
    spoilt = action.clone()
    spoilt[2] = torch.nan
    found = environment.step(replace(state, physics=physics), spoilt)
    assert found.info["diverged"].tolist() == found.terminated.tolist() == [True, True, True, False]
    assert (found.reward[:3] == environment.reward_range[0]).all()
    assert torch.equal(found.state.physics[2], physics[2]), "not held where it was"
    assert torch.equal(found.state.physics[3], sound.state.physics[3])
    assert found.reward[3] == sound.reward[3]


def test_gradients_are_refused() -> None:
    environment = make(2)
    state, _ = environment.reset(0)
    action = torch.zeros((2, 2), requires_grad=True)
    moving = replace(state, physics=state.physics.clone().requires_grad_())
    for start, push in ((state, action), (moving, action.detach())):
        with pytest.raises(ValueError, match=r"no derivatives: got .*; allowed: .*no_grad"):
            environment.step(start, push)
        with torch.no_grad():
            assert not environment.step(start, push).reward.requires_grad
    with pytest.raises(ValueError, match=r"model: got a MujocoSystem, which has no derivatives"):
        GradientMPC(environment)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "torch"}, "unknown backend 'torch'; allowed: auto, mujoco"),
        ({"device": "cuda"}, "device"),
        ({"dtype": "float16"}, "dtype: got 'float16'; allowed: float32, float64"),
        ({"reset_noise_scale": -0.1}, "reset_noise_scale: got -0.1; allowed: a number from 0 to 1"),
        ({"reset_noise_scale": 2}, "reset_noise_scale: got 2; allowed"),
        ({"ctrl_cost_weight": float("nan")}, "ctrl_cost_weight: got nan; allowed: a number from 0"),
        ({"forward_reward_weight": "1"}, "forward_reward_weight: got '1'; allowed: a number from"),
        ({"forward_reward_weight": [1.0]}, r"forward_reward_weight: got \[1.0\]; allowed"),
        ({"frame_skip": 2}, "unknown option 'frame_skip'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_only_the_cpu_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, too."""
    monkeypatch.setattr(
        "separatrix.envs.core.registration._device", lambda device: torch.device("cuda")
    )
    with pytest.raises(ValueError, match=r"device: got 'cuda'; MuJoCo runs .*; allowed: 'cpu'"):
        make(device="cuda")


def test_the_picture_moves_along() -> None:
    environment = make(2)
    state, _ = environment.reset(0)
    frame = environment.render(state, 1)
    assert frame.shape == (320, 320, 3) and frame.dtype == np.uint8
    far = state.physics.clone()
    far[:, 1:3] += torch.tensor([40.0, -30.0])  # whole metres: the lines stay where they are
    moved = environment.render(replace(state, physics=far), 1).astype(int)
    # But for the bold lines through the origin, the same picture.
    assert (np.abs(moved - frame).max(-1) > 8).mean() < 0.05
    bent = state.physics.clone()
    bent[:, 4] += 1.0
    assert not np.array_equal(environment.render(replace(state, physics=bent), 1), frame)

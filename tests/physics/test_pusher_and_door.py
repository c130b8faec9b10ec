"""What pusher and doors share: known rewards, pure steps, hard driving, and pictures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take

IDS = ["Pusher-v0", "Door-v0"]
VARIED: dict[str, dict[str, Any]] = {
    "Pusher-v0": {
        "density_1": [50.0, 2000.0, 50.0, 500.0, 2000.0, 50.0],
        "density_2": [50.0, 2000.0, 2000.0, 100.0, 50.0, 50.0],
        "friction": [0.1, 0.1, 1.0, 0.4, 1.0, 1.0],
        "reset_noise_scale": 0.02,
    },
    "Door-v0": {
        "handle": [
            *("pull_right", "pull_left", "round_left"),
            *("lever_left", "round_right", "lever_right"),
        ],
        "reset_noise_scale": 0.1,
    },
}
BATCH, STEPS = 6, 40


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("environment_id", IDS)
def test_outcome_of_observations_is_that_of_the_step(
    environment_id: str, dtype: str, tolerance: float
) -> None:
    environment = make_environment(environment_id, BATCH, dtype=dtype)
    state, observation = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    size, rewards = environment.action_shape[0], []
    for _ in range(STEPS):
        action = 2.6 * torch.rand(BATCH, size, generator=generator) - 1.3  # a part is clipped
        action[:, 0] = action[:, 0].abs()  # towards the block, or the door
        action = action.to(environment.dtype)
        found = environment.step(state, action)
        reward, ended = environment.known_outcome(observation, action, found.observation)
        assert reward.dtype == environment.dtype
        assert reward.tolist() == pytest.approx(found.reward.tolist(), abs=tolerance)
        assert not ended.any()
        state, observation = found.state, found.observation
        rewards.append(reward)
    assert torch.stack(rewards).std() > 0.01


@pytest.mark.parametrize("environment_id", IDS)
def test_gradients_are_right_and_finite(environment_id: str) -> None:
    """By central differences near starts; finite where a model may stray, and at zero."""
    environment = make_environment(environment_id, 4, dtype="float64")
    _, seen = environment.reset(0)
    size = environment.action_shape[0]
    action = torch.full((4, size), 0.3, dtype=torch.float64, requires_grad=True)
    goal = torch.zeros_like(seen)
    if environment_id == "Pusher-v0":
        goal[:, 4] = 1.0  # the cosine: all corners where they are to be
    for point in (seen, 3 * seen, 0 * seen, goal):
        inputs = point.clone().requires_grad_()
        effort = action if point is seen else 0 * action
        reward, _ = environment.known_outcome(seen, effort, inputs)
        low, high = environment.reward_range
        assert ((low <= reward) & (reward <= high)).all()
        gradients = torch.autograd.grad(reward.sum(), (inputs, action), allow_unused=True)
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    inputs = (1.1 * seen + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda after, push: environment.known_outcome(seen, push, after)[0], (inputs, action)
    )


@pytest.mark.parametrize("environment_id", IDS)
def test_hard_driving_stays_far_inside_the_safe_box(environment_id: str) -> None:
    """Bang-bang signals of random periods, half of the time at the block or the handle."""
    repeats, options = 8, dict(VARIED[environment_id])
    options = {k: v * repeats if isinstance(v, list) else v for k, v in options.items()}
    rows = BATCH * repeats
    environment: Any = make_environment(environment_id, rows, dtype="float64", **options)
    state, observation = environment.reset(0)
    generator = np.random.default_rng(0)
    size = environment.action_shape[0]
    period, phase = generator.uniform(2, 30, (rows, size)), generator.uniform(0, 6, (rows, size))
    largest = np.zeros(len(environment.system.limits))
    for step in range(environment.horizon):
        action = np.sign(np.sin(2 * np.pi * step / period + phase))
        hunting = (generator.random(rows) < 0.5)[:, None]
        seen = observation.numpy()
        if size == 2:
            action = np.where(hunting, np.sign(seen[:, 2:4] - seen[:, :2]), action)
        else:
            action[:, :3] = np.where(hunting, np.sign(-seen[:, :3]), action[:, :3])
            action[::2, 4] = 1.0
        found = environment.step(state, torch.from_numpy(action))
        state, observation = found.state, found.observation
        assert not found.terminated.any()
        reached = np.abs(environment.system.coordinates(state.physics.numpy())).max(0)
        largest = np.maximum(largest, reached)
    inside = largest / environment.system.limits
    assert inside[:-1].max() < 0.75 and inside[-1] <= 1.0, "the last of the door is its grip"


@pytest.mark.parametrize("environment_id", IDS)
def test_a_step_is_a_pure_function(environment_id: str) -> None:
    """In contact, whatever was stepped before and by which object."""
    environment = make_environment(environment_id, 6, dtype="float64", **VARIED[environment_id])
    state, observation = environment.reset(0)
    size = environment.action_shape[0]
    action = torch.ones(6, size, dtype=torch.float64)
    for _ in range(15):
        seen = observation[:, 2:4] - observation[:, :2] if size == 2 else -observation[:, :3]
        action[:, : seen.shape[1]] = seen.sign()
        state, observation, *_ = environment.step(state, action)
    kept = state.physics.clone()
    first = environment.step(state, action)
    assert torch.equal(state.physics, kept)
    environment.step(environment.reset(5)[0], action)
    other = make_environment(environment_id, 6, dtype="float64", **VARIED[environment_id])
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    part = other.select(order)
    assert torch.equal(other.step(state, action).state.physics, first.state.physics)
    shuffled = part.step(take(state, order), action[order])
    assert torch.equal(shuffled.state.physics, first.state.physics[order])


@pytest.mark.parametrize(
    ("environment_id", "shape"), list(zip(IDS, ((320, 320, 3), (320, 640, 3)), strict=True))
)
def test_pictures_show_what_moves(environment_id: str, shape: tuple[int, ...]) -> None:
    environment = make_environment(environment_id, 2, dtype="float64")
    state, _ = environment.reset(0)
    frame = environment.render(state, 1)
    assert frame.shape == shape and frame.dtype == np.uint8
    for coordinate in (0, 1, 2, 3, 5) if environment_id == "Pusher-v0" else (0, 1, 2, 3, 4):
        moved = state.physics.clone()
        moved[1, 1 + coordinate] += 0.3
        assert not np.array_equal(environment.render(replace(state, physics=moved), 1), frame)

"""The pusher: its block against formulas, and what different halves do to a push."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take

NAME = "Pusher-v0"
WIDTH, HEIGHT, GRAVITY = 0.12, 0.06, 9.81
X, Y, YAW = 2, 3, 5  # coordinates of the block; velocities stand 8 behind
PAIRS = [(500.0, 500.0), (100.0, 500.0), (800.0, 300.0)]


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **{"dtype": "float64", **options})


def placed(environment: Any, values: dict[int, Any]) -> Any:
    """A start without deviations but for some coordinates."""
    state, _ = environment.reset(0)
    physics = state.physics.clone()
    for coordinate, value in values.items():
        physics[:, 1 + coordinate] = torch.as_tensor(value, dtype=torch.float64)
    return replace(state, physics=physics)


def coordinates(environment: Any, state: Any) -> np.ndarray:
    found: np.ndarray = environment.system.coordinates(state.physics.numpy())
    return found


def masses(density_1: float, density_2: float) -> tuple[float, float, float]:
    """Masses of the right and the left half, and y of the centre of mass."""
    volume = WIDTH * WIDTH / 2 * HEIGHT
    right, left = density_1 * volume, density_2 * volume
    return right, left, WIDTH / 4 * (left - right) / (left + right)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_block_is_two_cuboids(pair: tuple[float, float], gate: Callable[..., None]) -> None:
    right, left, centre = masses(*pair)
    (model,) = make(density_1=pair[0], density_2=pair[1]).system.models
    block = model.body("block")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia = np.empty((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    # Each half about its own centre, and Steiner's term about the block's middle.
    middle = sum(m * ((WIDTH**2 + WIDTH**2 / 4) / 12 + (WIDTH / 4) ** 2) for m in (right, left))
    about_centre = middle - (right + left) * centre**2
    # In the frame of the principal axes, whose order MuJoCo chooses.
    turned = block.inertia @ np.square(rotation(block.iquat)[2])
    for quantity, ours, exact in (
        ("mass, kg", block.mass.item(), right + left),
        ("centre of mass, m", block.ipos[1], centre),
        ("inertia about the centre of mass, kg m^2", turned, about_centre),
        ("inertia of yaw, kg m^2", inertia[YAW, YAW], middle),
    ):
        gate(
            NAME,
            f"{quantity}, densities {pair[0]:g} and {pair[1]:g}",
            float(ours),
            exact,
            tolerance=1e-12,
            source="two cuboids",
        )
    assert block.ipos[[0, 2]] == pytest.approx([0, 0], abs=1e-12)


def rotation(quaternion: np.ndarray) -> np.ndarray:
    found = np.empty(9)
    mujoco.mju_quat2Mat(found, quaternion)
    return found.reshape(3, 3)


@pytest.mark.parametrize("friction", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("angle", [0.0, 0.6])
def test_a_sliding_block_slows_by_friction(
    friction: float, angle: float, gate: Callable[..., None]
) -> None:
    """Both halves alike; without turning all feet slide the same way, in whichever direction.

    The contacts are soft, so that the block rocks a little when friction sets in: 2 % are allowed.
    """
    environment = make(friction=friction, reset_noise_scale=0)
    speed = 0.15 * friction * GRAVITY  # stops after 0.15 s, more than one control interval
    state = placed(environment, {})
    state = environment.step(state, torch.zeros(1, 2)).state  # settles on its feet
    velocity = {X + 8: speed * math.cos(angle), Y + 8: speed * math.sin(angle)}
    physics = state.physics.clone()
    for coordinate, value in velocity.items():
        physics[:, 1 + coordinate] = value
    after = environment.step(replace(state, physics=physics), torch.zeros(1, 2)).state
    found = coordinates(environment, after)[0]
    slower = (speed - np.hypot(found[X + 8], found[Y + 8])) / 0.1
    assert np.arctan2(found[Y + 8], found[X + 8]) == pytest.approx(angle, abs=0.01)
    gate(
        NAME,
        f"deceleration, m/s^2, friction {friction:g}, heading {angle:g} rad",
        slower,
        friction * GRAVITY,
        tolerance=0.02 * friction * GRAVITY,
        source="mu g",
    )


def push(pair: tuple[float, float], height: float, steps: int = 10) -> np.ndarray:
    """Pushes along x at a height y of the tool; returns the block's x, y and yaw."""
    environment = make(density_1=pair[0], density_2=pair[1], reset_noise_scale=0)
    state = placed(environment, {1: height})
    for _ in range(steps):
        state = environment.step(state, torch.tensor([[1.0, 0.0]])).state
    return coordinates(environment, state)[0, [X, Y, YAW]]


@pytest.mark.parametrize(("pair", "turn"), [((100.0, 500.0), 1), ((500.0, 100.0), -1)])
def test_a_push_through_the_middle_turns_towards_the_lighter_half(
    pair: tuple[float, float], turn: int
) -> None:
    """Pushed along the line through the centre of mass of the formula, it does not turn."""
    equal, through_middle = push((500.0, 500.0), 0.0), push(pair, 0.0)
    assert equal[1:] == pytest.approx([0, 0], abs=1e-6)
    # The lighter half runs ahead: with the lighter one right (y < 0), it turns to the left.
    assert turn * through_middle[2] > 0.5
    assert turn * through_middle[1] > 0.03
    centre = masses(*pair)[2]
    along_centre = push(pair, centre)
    assert np.abs(along_centre[1:]) == pytest.approx([0, 0], abs=0.003)
    # On the other side of the centre of mass it turns the other way.
    assert turn * push(pair, 1.5 * centre)[2] < -0.3


def test_different_blocks_move_differently_under_the_same_actions() -> None:
    """In one batch, each row as a single one with its parameters, bit for bit."""
    options = {
        "density_1": [500.0, 100.0, 500.0, 500.0],
        "density_2": [500.0, 500.0, 250.0, 500.0],
        "friction": [0.4, 0.4, 0.4, 0.2],
    }
    environment = make(4, **options)
    seeds, actions = torch.full((4,), 3), torch.tensor([[0.9, 0.1]], dtype=torch.float64)
    state, _ = environment.reset(seeds)
    together = actions.expand(4, 2)
    for _ in range(12):
        found = environment.step(state, together)
        state = found.state
    ends = found.observation[:, X : X + 4]
    assert (torch.pdist(ends) > 0.03).all()
    for row in range(4):
        alone = make(1, **{name: values[row] for name, values in options.items()})
        one, _ = alone.reset(seeds[:1])
        for _ in range(12):
            single = alone.step(one, actions)
            one = single.state
        assert torch.equal(single.observation[0], found.observation[row])
        # What stays of a batch when rows are selected keeps its blocks.
        part, rows = environment.select(torch.tensor([row])), torch.tensor([row])
        again = part.step(take(state, rows), actions).observation
        assert torch.equal(again, environment.step(state, together).observation[rows])


def test_reward_is_that_of_the_corners() -> None:
    """Against distances computed from rotated corners; 1 at the goal."""
    environment = make(3, reset_noise_scale=0)
    pose = {X: [0.0, 0.03, -0.2], Y: [0.0, -0.05, 0.1], YAW: [0.0, 0.4, 2.5]}
    state = placed(environment, {0: -0.35, 1: -0.35, **pose})
    action = torch.tensor([[0.0, 0.0], [0.3, -0.4], [-1.0, 3.0]], dtype=torch.float64)
    transition = environment.step(state, action)
    after = coordinates(environment, transition.state)
    for row, effort in enumerate((0.0, 0.5, 2**0.5)):
        x, y, yaw = after[row, [X, Y, YAW]]
        goals = 0.06 * np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j])
        distances = np.abs(goals * np.exp(1j * yaw) + x + 1j * y - goals)
        expected = (np.sum(1 - np.tanh(10 * distances)) - 0.25 * effort) / 4
        assert transition.reward[row].item() == pytest.approx(expected, abs=1e-8)
        assert transition.info["distance"][row].item() == pytest.approx(distances.mean(), abs=1e-8)
    assert transition.reward[0] > 0.9999 and environment.reward_range[1] == 1.0


def test_planning_with_the_true_model_reaches_the_goal() -> None:
    environment = make(density_1=500.0, density_2=100.0, horizon=16, dtype="float32")
    planner = ICEM(environment, horizon=12, population=24, elites=6, iterations=3)
    *_, last = rollout(environment, planner, torch.tensor([1]))
    assert last.transition.reward.item() > 0.85, "a fresh block gets 0.09"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density_1": 20.0}, "density_1: got 20; allowed: a number from 50 to 2000, or one"),
        ({"density_2": [500.0, 1e5]}, "density_2: got 100000; allowed: a number from 50 to 2000"),
        ({"friction": 0}, "friction: got 0; allowed: a number from 0.1 to 1"),
        ({"friction": [0.4]}, r"parameter 'friction': got shape \(1,\); allowed: one number"),
        ({"friction": float("nan")}, "parameter 'friction': got nan; allowed: finite"),
        ({"density_1": "heavy"}, "parameter 'density_1': got 'heavy'; allowed: real numbers"),
        ({"reset_noise_scale": 0.5}, "reset_noise_scale: got 0.5; allowed: a number from 0 to"),
        ({"control_weight": -1}, "control_weight: got -1; allowed: a number from 0 to 100"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(2, **options)

"""The doors: each opens to a simple controller, latches hold, hinges turn as formulas say."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take
from separatrix.envs.mechanics.cart_pole import hinge_inertia
from separatrix.envs.mechanics.door import HANDLES, Handle
from separatrix.envs.mechanics.door_model import door_model

NAME = "Door-v0"
NAMES = list(HANDLES)
LATCHED = [name for name in NAMES if HANDLES[name].turn]
DOOR, TURN = 4, 5  # coordinates; velocities stand 6 behind


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **{"dtype": "float64", **options})


class Opener(Controller):
    """Knows the handles: touches, turns what is latched, pulls along the circle of the door.

    Args:
        names: The handle of each environment.
        turning: Whether it turns handles.
    """

    def __init__(self, names: list[str], turning: bool = True) -> None:
        self.handles, self.turning = [HANDLES[name] for name in names], turning

    def act(self, observation: Float[Tensor, "batch _"], state: Any) -> Float[Tensor, "batch 5"]:
        rows = zip(observation.double().numpy(), self.handles, strict=True)
        actions = np.array([self._row(row, handle) for row, handle in rows])
        return torch.from_numpy(actions).to(observation)

    def _row(self, seen: np.ndarray, handle: Handle) -> list[float]:
        side, reach, turn = handle
        hand, door, angle, wrist = 0.2 * seen[:3], seen[10], seen[11], 0.0
        out = -np.array((math.cos(door), math.sin(door), 0.0))  # towards the hand
        velocity = (0.05 * out - hand) / 0.1
        if np.linalg.norm(hand) < 0.06:  # touches: holds on to it, and
            velocity = out * (out @ velocity)
            if turn and self.turning and abs(angle) < 0.6 and abs(door) < 0.05:
                wrist = 0.0 if reach else turn
                arc = np.array((0.0, -math.sin(angle), math.cos(angle)))
                velocity += 2.0 * turn * reach * arc
            else:
                beside = np.array((-math.sin(door), math.cos(door), 0.0))
                arm = (reach * math.cos(angle) - 0.4 * side) * beside + 0.06 * out
                velocity -= 0.5 * side * np.array((-arm[1], arm[0], 0.0))
                wrist = 0.0 if reach else 0.2 * turn
        return [*np.clip(velocity / 0.3, -1, 1).tolist(), wrist, 1.0]


def opened(controller: Controller, environment: Any) -> tuple[np.ndarray, np.ndarray]:
    """Angles of doors and handles over an episode."""
    seeds = torch.arange(environment.num_envs)
    steps = [step.transition.observation for step in rollout(environment, controller, seeds)]
    angles = torch.stack(steps)[..., 10:12].numpy()
    return angles[..., 0], angles[..., 1]


def test_every_door_can_be_opened() -> None:
    environment = make(6, handle=NAMES, horizon=60)
    doors, handles = opened(Opener(NAMES), environment)
    wanted = [-HANDLES[name].side * math.pi / 2 for name in NAMES]
    assert doors[-1] == pytest.approx(wanted, abs=0.02)
    for name, turned in zip(NAMES, handles.T, strict=True):
        turn = HANDLES[name].turn
        assert (turn * turned).max() > 0.45 if turn else np.abs(turned).max() < 0.05


def test_a_latched_door_stays_closed_until_the_handle_is_turned() -> None:
    doors, _ = opened(Opener(LATCHED, turning=False), make(4, handle=LATCHED, horizon=40))
    assert np.abs(doors).max() < 0.02


@pytest.mark.parametrize("name", LATCHED)
@pytest.mark.parametrize(("angle", "opens"), [(0.0, False), (0.38, False), (0.48, True)])
def test_the_latch_lets_go_at_an_angle(name: str, angle: float, opens: bool) -> None:
    """The bolt, 8 mm in radius, clears the corner of the frame, (60, 20) mm, at 0.449 rad.

    That is where 60 sin(h) - 20 cos(h) = 8; a soft contact gives a little earlier.
    """
    corner = math.hypot(60, 20)
    assert math.asin(8 / corner) + math.atan2(20, 60) == pytest.approx(0.4485, abs=1e-3)
    handle = HANDLES[name]
    model = door_model(handle)
    model.jnt_stiffness[TURN], model.qpos_spring[TURN] = 200.0, handle.turn * angle  # held there
    data = mujoco.MjData(model)
    data.qpos[TURN] = handle.turn * angle
    data.qfrc_applied[DOOR] = -16.0 * handle.side  # the hand's 40 N on an arm of 0.4 m
    mujoco.mj_step(model, data, 200)
    assert abs(data.qpos[DOOR]) > 1.0 if opens else abs(data.qpos[DOOR]) < 0.02


@pytest.mark.parametrize("name", ["pull_right", "pull_left"])
def test_a_free_door_slows_down_by_its_damping(name: str, gate: Callable[..., None]) -> None:
    """I D'' = -c D', with the inertia of a plate about its hinge, and handle, bolt and ball."""
    environment = make(handle=name, reset_noise_scale=0)
    state, _ = environment.reset(0)
    physics = state.physics.clone()
    sign = -HANDLES[name].side
    physics[:, 1 + DOOR], physics[:, 1 + DOOR + 6] = 0.2 * sign, 1.0 * sign
    after = replace(state, physics=physics)
    for _ in range(5):
        after = environment.step(after, torch.zeros(1, 5)).state
    # Plate, 0.5 m x 0.03 m, at its edge; ball; and bolt, a capsule 0.08 m long about its middle.
    plate = 4.0 * ((0.5**2 + 0.03**2) / 12 + 0.25**2)
    ball = 0.1 * (2 / 5 * 0.025**2 + 0.06**2 + 0.4**2)
    bolt = hinge_inertia(0.1, 0.08, 0.008) + 0.1 * (0.05**2 + 0.44**2 - 0.04**2)
    expected = math.exp(-0.5 * 0.5 / (plate + ball + bolt))
    gate(
        NAME,
        f"speed of a free door after 0.5 s, {name}",
        after.physics[0, 1 + DOOR + 6].item() * sign,
        expected,
        tolerance=2e-3,
        source="exponential decay",
    )


def test_handles_differ_to_the_same_actions() -> None:
    """In one batch, each row as a single one with its handle, bit for bit."""
    environment = make(6, handle=NAMES)
    seeds = torch.full((6,), 4)
    together, alone = environment.reset(seeds), [make(handle=name) for name in NAMES]
    states = [each.reset(seeds[:1])[0] for each in alone]
    state, opener = together[0], Opener(["round_left"] * 6)
    observation = together[1]
    for _ in range(25):
        action = opener.act(observation[2:3].expand(6, -1), state)  # what suits one of them
        found = environment.step(state, action)
        for row, each in enumerate(alone):
            single = each.step(states[row], action[row : row + 1])
            states[row] = single.state
            assert torch.equal(single.observation[0], found.observation[row])
            assert single.reward[0] == found.reward[row]
        state, observation = found.state, found.observation
    assert (torch.pdist(observation) > 0.1).all()
    rows = torch.tensor([5, 1])
    part = environment.select(rows)
    assert part.num_envs == 2 and part.select(torch.tensor([1])).task.handles == [
        HANDLES["pull_left"]
    ]
    again = part.step(take(state, rows), action[rows])
    assert torch.equal(again.observation, environment.step(state, action).observation[rows])


def test_the_hand_is_seen_from_the_end_of_the_handle() -> None:
    """The position of the ball that MuJoCo computes, in any pose of door and handle."""
    environment = make(6, handle=NAMES)
    state, _ = environment.reset(0)
    generator = np.random.default_rng(0)
    physics = state.physics.clone()
    physics[:, 1:7] = torch.from_numpy(generator.uniform(-1.5, 1.5, (6, 6)))
    observation = environment.observe(replace(state, physics=physics)).numpy()
    for row, model in enumerate(environment.system.models):
        data = mujoco.MjData(model)
        data.qpos[:] = physics[row, 1:7].numpy()
        mujoco.mj_kinematics(model, data)
        expected = data.geom("hand").xpos - data.geom("ball").xpos
        assert 0.2 * observation[row, :3] == pytest.approx(expected, abs=1e-12)
        assert observation[row, 10:12] == pytest.approx(data.qpos[[DOOR, TURN]], abs=1e-15)


def test_reward_is_that_of_the_formula() -> None:
    environment = make(6, handle=NAMES, horizon=45)
    for step in rollout(environment, Opener(NAMES), torch.arange(6)):
        seen, clipped = step.transition.observation.numpy(), step.action.numpy().clip(-1, 1)
        gap = np.maximum(0.2 * np.linalg.norm(seen[:, :3], axis=1) - 0.055, 0)
        door, handle = np.abs(seen[:, 10]) / (math.pi / 2), np.abs(seen[:, 11])
        expected = 0.2 * (1 - np.tanh(5 * gap)) + 0.2 * np.minimum(handle, 1)
        expected += 0.6 * np.minimum(door, 1) - 0.01 * np.linalg.norm(clipped, axis=1)
        assert step.transition.reward.numpy() == pytest.approx(expected, abs=1e-12)
        assert step.transition.info["door"].numpy() == pytest.approx(np.abs(seen[:, 10]))
    assert step.transition.reward.min() > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pull_left", "round_right", "lever_left"])
def test_planning_with_the_true_model_opens_the_door(name: str) -> None:
    """Without being told how."""
    environment = make(handle=name, horizon=60, dtype="float32")
    planner = ICEM(environment, horizon=15, population=64, elites=8, iterations=4)
    doors, _ = opened(planner, environment)
    assert np.abs(doors).max() > 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"handle": "knob"}, "unknown handle 'knob'; .*allowed: pull_right, pull_left, round_left"),
        ({"handle": ["pull_left"]}, r"handle: got \['pull_left'\]; allowed: a name, or one for"),
        ({"handle": ["pull_left", 3]}, "unknown handle 3; .*allowed: pull_right"),
        ({"handle": 0}, "handle: got 0; allowed: a name, or one for each of the 2"),
        ({"reset_noise_scale": 0.5}, "reset_noise_scale: got 0.5; allowed: a number from 0 to 0.1"),
        ({"control_weight": "1"}, "control_weight: got '1'; allowed: a number from 0 to 100"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(2, **options)

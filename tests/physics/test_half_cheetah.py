"""The half-cheetah against Gymnasium's, its other bodies, and batches of several models."""

import copy
import math
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take
from separatrix.envs.mechanics.half_cheetah import BODIES
from separatrix.envs.mechanics.half_cheetah_model import MODEL, half_cheetah_model
from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment
from separatrix.envs.mechanics.mujoco_system import KEPT, MujocoState, MujocoSystem

NAME = "HalfCheetah-v0"
SOURCE = f"HalfCheetah-v5 of Gymnasium {gym.__version__}, MuJoCo {mujoco.__version__}"
STEPS = 1000
Policy = Callable[[int, np.random.Generator], Any]
PHASES = np.array((0.0, 1.1, 2.3, 3.0, 4.1, 5.5))

POLICIES: dict[str, Policy] = {
    "random": lambda step, generator: generator.uniform(-1.0, 1.0, 6),
    "strides": lambda step, generator: np.sign(np.sin(0.6 * step + PHASES)),
    # The joints hold on to their stops.
    "against the stops": lambda step, generator: (1.0, -1.0, 1.0, -1.0, 1.0, -1.0),
}
MIXED = ["feet", "normal", "torso", "feet", "shins", "thighs", "normal"]
SIZES = [1.25, 1.25, 1.5, 0.7, 0.8, 1.25, 2.0]


@pytest.fixture(autouse=True)
def _log_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes what it warns of when it compiles Gymnasium's file to the working directory."""
    monkeypatch.chdir(tmp_path)


def make(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, **options)


def theirs(seed: int, **options: Any) -> tuple[Any, MujocoState]:
    """Gymnasium's environment after a reset, and its state as ours."""
    with warnings.catch_warnings():  # of the total mass in the file of the model
        warnings.simplefilter("ignore")
        env: Any = gym.make("HalfCheetah-v5", **options).unwrapped
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
    worst, contacts, total = 0.0, 0, 0.0
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
        contacts += env.data.ncon > 0
        total += abs(gain)
        assert not terminated
    assert total > 50.0 and contacts > 300, "an episode that shows little"
    gate(
        NAME,
        f"largest difference from Gymnasium in an episode, {name}",
        worst,
        0.0,
        tolerance=0.0,
        source=SOURCE,
    )


def differing(one: Any, other: Any) -> list[str]:
    """Names of the arrays and numbers of two structures of MuJoCo that are not equal."""
    names = (name for name in dir(one) if not name.startswith("_"))
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in names)
    return [
        name
        for name, a, b in pairs
        if isinstance(a, np.ndarray | int | float) and not np.array_equal(a, b)
    ]


def compiled_from_file(body: str, scale: float) -> mujoco.MjModel:
    """A model compiled from the changed text of the file, as Gymnasium compiles it."""
    tree = ET.parse(MODEL)
    for geometry in tree.iter("geom"):
        if geometry.get("name") in BODIES[body]:
            sizes = [repr(scale * float(size)) for size in geometry.get("size", "").split()]
            geometry.set("size", " ".join(sizes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mujoco.MjModel.from_xml_string(ET.tostring(tree.getroot(), "unicode"))


@pytest.mark.parametrize("scale", [1.25, 0.7])
@pytest.mark.parametrize("body", BODIES)
def test_models_are_those_of_the_changed_file(body: str, scale: float) -> None:
    """Every number of them, bit for bit."""
    model, expected = half_cheetah_model(body, scale), compiled_from_file(body, scale)
    assert not differing(model, expected)
    assert not differing(model.stat, expected.stat)
    flags = expected.opt.disableflags | mujoco.mjtDisableBit.mjDSBL_AUTORESET
    assert model.opt.disableflags in (expected.opt.disableflags, flags)
    model.opt.disableflags = expected.opt.disableflags = flags
    assert not differing(model.opt, expected.opt)


def capsule(radius: float, half: float) -> float:
    return math.pi * radius**2 * (2 * half + 4 / 3 * radius)


@pytest.mark.parametrize("body", BODIES)
def test_masses_are_those_of_the_volumes(body: str) -> None:
    """By hand, of capsules that are as dense as each other and weigh 14 kg together."""
    radius, halves = 0.046, {"torso": 0.5, "head": 0.15}
    halves |= {"bthigh": 0.145, "bshin": 0.15, "bfoot": 0.094}
    halves |= {"fthigh": 0.133, "fshin": 0.106, "ffoot": 0.07}
    volumes = {name: capsule(radius, half) for name, half in halves.items()}
    for name in BODIES[body]:
        length = 1.0 if name == "torso" else 1.25
        volumes[name] = capsule(1.25 * radius, length * halves[name])
    volumes["torso"] += volumes.pop("head")  # one rigid body
    total = sum(volumes.values())
    environment = make(body=body)
    (model,) = environment.system.models
    for name, volume in volumes.items():
        assert model.body(name).mass[0] == pytest.approx(14.0 * volume / total, rel=1e-12)


def test_single_precision_rounds_the_same_numbers() -> None:
    env, state = theirs(seed=3)
    environment, generator = make(), np.random.default_rng(4)
    for _ in range(100):
        action = generator.uniform(-1.0, 1.0, 6).astype(np.float32)
        state, observation, reward, *_ = environment.step(state, torch.from_numpy(action[None]))
        expected, gain, *_ = env.step(action)
        assert observation.dtype == reward.dtype == torch.float32
        assert np.array_equal(observation[0].numpy(), expected.astype(np.float32))
        assert reward.item() == pytest.approx(gain, rel=1e-6, abs=1e-6)


def test_weights_are_those_of_gymnasium() -> None:
    weights: dict[str, Any] = {"forward_reward_weight": -0.7, "ctrl_cost_weight": 0.3}
    env, state = theirs(seed=0, **weights)
    environment = make(dtype="float64", **weights)
    action = np.array([0.4, -0.9, 0.1, 0.3, -0.5, 1.0])
    reward = environment.step(state, torch.from_numpy(action[None])).reward
    assert reward.item() == env.step(action)[1]
    assert environment.reward_range == pytest.approx((-36.8, 35.0))


def test_starts_are_uniform_and_normal_around_rest() -> None:
    scale = 0.3
    state, observation = make(4000, reset_noise_scale=scale, dtype="float64").reset(0)
    moved = state.physics[:, 1:19]
    assert torch.equal(observation, moved[:, 1:])
    assert not state.physics[:, [0, *range(19, 28)]].any()
    positions, velocities = moved[:, :9], moved[:, 9:]
    assert (positions.abs() <= scale).all()
    # 4000 numbers tell a standard deviation to 1 % or so.
    assert positions.std(0).tolist() == pytest.approx([scale / 3**0.5] * 9, rel=0.05)
    assert velocities.std(0).tolist() == pytest.approx([scale] * 9, rel=0.05)
    assert ((velocities.abs() > 2 * scale).double().mean(0) - 0.0455).abs().max() < 0.015
    assert moved.mean(0).tolist() == pytest.approx([0.0] * 18, abs=0.02)
    still = make(reset_noise_scale=0).reset(0)[0]
    assert not still.physics.any()


def strides(environment: Any, steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (steps, environment.num_envs, 6)
    return (4 * torch.rand(size, generator=generator) - 2).to(environment.dtype)  # some clipped


def course(environment: Any, state: Any, actions: Tensor) -> list[Tensor]:
    """All that the steps return, and the states, in order."""
    found = []
    for action in actions:
        state, observation, reward, terminated, info = environment.step(state, action)
        found += [state.physics, observation, reward, terminated, *info.values()]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_row_of_mixed_bodies_is_the_single_run(dtype: str) -> None:
    environment = make(len(MIXED), dtype=dtype, body=MIXED, body_scale=SIZES)
    actions = strides(environment, 60)
    together = course(environment, environment.reset(11)[0], actions)
    for row, (body, scale) in enumerate(zip(MIXED, SIZES, strict=True)):
        alone = make(dtype=dtype, body=body, body_scale=scale)
        single = course(alone, alone.reset(11 + row)[0], actions[:, row : row + 1])
        assert all(torch.equal(a[row], b[0]) for a, b in zip(together, single, strict=True))


def test_selected_rows_go_on_as_in_the_batch() -> None:
    environment = make(len(MIXED), dtype="float64", body=MIXED, body_scale=SIZES)
    state, _ = environment.reset(0)
    for action in strides(environment, 40):  # until they touch the ground
        state = environment.step(state, action).state
    assert (state.physics[:, 19:] != 0).any(1).all(), "no warm start to keep"
    actions, rows = strides(environment, 5, seed=5), torch.tensor([4, 0, 0, 2])
    selected = environment.select(rows)
    assert selected.num_envs == 4 and environment.num_envs == len(MIXED)
    expected = course(environment, state, actions)
    found = course(selected, take(state, rows), actions[:, rows])
    assert all(torch.equal(a[rows], b) for a, b in zip(expected, found, strict=True))
    for row, origin in enumerate(rows.tolist()):
        model = selected.system.model_of(row)
        assert model is environment.system.model_of(origin)
        picture = selected.render(take(state, rows), row)
        assert np.array_equal(picture, environment.render(state, origin))


def test_equal_bodies_share_a_model() -> None:
    environment = make(64, body=["normal", "feet"] * 32, body_scale=torch.linspace(1.0, 1.0, 64))
    assert len({id(model) for model in environment.system.models}) == 2
    alike = make(3, body="shins")
    assert alike.select(torch.tensor([1])) is alike
    state, _ = alike.reset(0)
    assert alike.step(take(state, torch.tensor([2])), strides(make(), 1)[0]).reward.shape == (1,)
    with pytest.raises(ValueError, match="batch: got 2 rows; allowed: 64 rows"):
        environment.observe(environment.reset(torch.tensor([0, 1]))[0])


def test_vector_environments_of_bodies_keep_the_contract() -> None:
    parameters = {"body": ["feet", "normal", "torso"], "body_scale": [1.25, 1.0, 0.8]}
    check_vector_env(f"separatrix/{NAME}", num_envs=3, parameters=parameters)


def test_a_diverged_row_keeps_to_itself() -> None:
    environment = make(3, body=["feet", "torso", "normal"])
    state, _ = environment.reset(0)
    action = strides(environment, 1)[0]
    sound, physics = environment.step(state, action), state.physics.clone()
    physics[0, 10], physics[1, 3] = 51.0, torch.nan  # too fast; no number
    found = environment.step(replace(state, physics=physics), action)
    assert found.info["diverged"].tolist() == found.terminated.tolist() == [True, True, False]
    assert (found.reward[:2] == environment.reward_range[0]).all()
    assert torch.equal(found.state.physics[2], sound.state.physics[2])
    assert found.reward[2] == sound.reward[2]


def test_models_of_other_kinds_are_refused() -> None:
    faster = copy.copy(half_cheetah_model("normal", 1.0))
    faster.opt.timestep = 0.005
    environment = make(2)

    def system(*models: mujoco.MjModel) -> MujocoSystem:
        return MujocoSystem(
            models,
            environment.system.limits.tolist(),
            lambda stream: (torch.zeros(2, 18, dtype=torch.float64), stream),
            frame_skip=5,
            num_envs=2,
            device=torch.device("cpu"),
            dtype=torch.float64,
        )

    normal = half_cheetah_model("normal", 1.0)
    assert system(normal, normal).models == [normal, normal]
    with pytest.raises(ValueError, match=r"models: got different .*0\.005"):
        system(normal, faster)
    for models in ((), (normal,) * 3):
        with pytest.raises(ValueError, match=r"models: got [03]; allowed: 1 or 2"):
            system(*models)


def test_a_reward_of_observations_is_known() -> None:
    """And one that they do not determine is not."""
    environment = make(2, dtype="float64")
    before, after = environment.reset(0)[1], environment.reset(5)[1]
    action = strides(environment, 1)[0]
    with pytest.raises(ValueError, match="observation of this MujocoEnvironment does not"):
        environment.known_outcome(before, action, after)

    class Rise(type(environment.task)):  # type: ignore[misc]
        def known_reward(self, observation: Tensor, action: Tensor, after: Tensor) -> Tensor:
            return after[:, 0] - observation[:, 0] - action.abs().sum(1)

    task = environment.task
    rise = Rise(1.0, 0.1, task.control_interval, task.hidden)
    known = MujocoEnvironment(environment.system, rise, 10, lambda *_: np.zeros((1, 1, 3)))
    after.requires_grad_()
    reward, terminated = known.known_outcome(before, action, after)
    assert torch.equal(reward, after[:, 0] - before[:, 0] - action.clamp(-1, 1).abs().sum(1))
    assert not terminated.any()
    (slope,) = torch.autograd.grad(reward.sum(), after)
    assert slope[:, 0].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="observation, action and next_observation: got shapes"):
        known.known_outcome(before, action[:, :5], after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"body": "tail"}, "body: got 'tail'; .*allowed: normal, torso, thighs, shins, feet"),
        ({"body": "thigh"}, "did you mean 'thighs'"),
        ({"body": 3}, "body: got 3; allowed"),
        ({"body": ["feet"]}, "body: got 1; allowed: a name, or 2 of them"),
        ({"body": ["feet", None]}, "body: got None; allowed"),
        ({"body": np.array(["feet"] * 3)}, "body: got 3; allowed: a name, or 2 of them"),
        ({"body": range(2)}, r"body: got range\(0, 2\); allowed"),
        ({"body_scale": 3.0}, "body_scale: got 3.0; allowed: a number from 0.5 to 2, or 2 of them"),
        ({"body_scale": [1.0, float("nan")]}, "body_scale: got .*nan.*; allowed: a number"),
        ({"body_scale": [1.0] * 3}, "body_scale: got .*; allowed: a number from 0.5 to 2, or 2"),
        ({"body_scale": "large"}, "body_scale: got 'large'; allowed: real numbers"),
        ({"reset_noise_scale": 0.6}, "reset_noise_scale: got 0.6; allowed: a number from 0 to 0.5"),
        ({"ctrl_cost_weight": -1}, "ctrl_cost_weight: got -1; allowed: a number from 0"),
        ({"backend": "numba"}, "unknown backend 'numba'; .*allowed: auto, mujoco"),
        ({"xml_file": "ant.xml"}, "unknown option 'xml_file'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(2, **options)


def test_pictures_show_the_body_and_move_along() -> None:
    environment = make(4, body=["normal", "torso", "thighs", "feet"])
    state, _ = environment.reset(torch.zeros(4, dtype=torch.int64))
    frames = [environment.render(state, row) for row in range(4)]
    assert all(frame.shape == (240, 400, 3) and frame.dtype == np.uint8 for frame in frames)
    dark = [(frame.astype(int).sum(-1) < 250).sum() for frame in frames]
    assert dark[1] > 1.1 * dark[0], "the larger torso does not show"
    assert not any(np.array_equal(frames[0], frame) for frame in frames[1:])
    far = state.physics.clone()
    far[:, 1] += 300.0  # whole metres: the marks stay where they are
    moved = environment.render(replace(state, physics=far), 0).astype(int)
    assert (np.abs(moved - frames[0]).max(-1) > 8).mean() < 0.02  # but for the bold mark

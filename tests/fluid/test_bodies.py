"""Bodies in a stream as environments: what they see, pay, start from and refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separatrix.controllers.catalog import make_controller
from separatrix.controllers.recording import record_frames, record_trajectories
from separatrix.envs.core.registration import make_environment
from separatrix.envs.fluid import cylinder, pinball
from separatrix.envs.fluid.body_task import BodyTask
from separatrix.envs.fluid.vorticity_pictures import vorticity
from separatrix.envs.steppers import lattice
from separatrix.envs.steppers.lattice import Actuator


def stepped(environment: Any, steps: int, action: float = 0.3) -> Any:
    """The last transition under a held action."""
    state, _ = environment.reset(3)
    actions = torch.full((environment.num_envs, *environment.action_shape), action)
    for _ in range(steps):
        transition = environment.step(state, actions.to(environment.dtype))
        state = transition.state
    return transition


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_reward_is_drag_saved_less_lift(weight: float) -> None:
    environment: Any = make_environment("RotaryCylinder-v0", 3, lift_weight=weight)
    found = stepped(environment, 3)
    drag, lift = found.info["drag"], found.info["lift"]
    expected = environment.task.drag - drag - weight * lift.abs()
    torch.testing.assert_close(found.reward, expected)
    assert drag.min() > 2 and lift.abs().min() > 0
    torch.testing.assert_close(found.info["energy"], torch.full((3,), 0.09))


def test_forces_of_all_bodies_are_seen() -> None:
    environment: Any = make_environment("Pinball-v0", 2, start="impulsive")
    before = stepped(environment, 4)
    found = environment.step(before.state, torch.tensor([[0.5, -0.2, 0.1]] * 2))
    drag, lift, change, control = found.observation.unflatten(1, (4, 3)).unbind(1)
    force = found.state.flow.force
    torch.testing.assert_close(drag + environment.task.drag / 3, force[..., 0])
    torch.testing.assert_close(lift, force[..., 1])
    rate = (force - before.state.flow.force)[..., 1] / 0.25
    torch.testing.assert_close(change, rate / 2)
    torch.testing.assert_close(control, found.state.control)
    torch.testing.assert_close(found.info["drag"], force[..., 0].sum(1))


def test_outcome_follows_from_the_forces_seen() -> None:
    environment: Any = make_environment("RotaryCylinder-v0", 3)
    state, before = environment.reset(0)
    action = torch.tensor([[0.1], [-0.4], [2.0]])
    found = environment.step(state, action)
    reward, terminated = environment.known_outcome(before, action, found.observation)
    torch.testing.assert_close(reward, found.reward, rtol=1e-5, atol=1e-6)
    assert torch.equal(terminated, found.terminated)
    with pytest.raises(ValueError, match="observed='forces'"):
        seeing: Any = make_environment("RotaryCylinder-v0", observed="probes")
        seeing.known_outcome(*(torch.zeros(1, 453), torch.zeros(1, 1), torch.zeros(1, 453)))


def test_probes_see_what_is_there() -> None:
    """A field that is linear in space, which interpolation between sites does not change."""
    environment: Any = make_environment("JetCylinder-v0", dtype="float64", start="impulsive")
    system, task = environment.system, environment.task
    assert isinstance(task, BodyTask)
    state, _ = environment.reset(0)
    shape = state.flow.populations.shape[-2:]
    row, column = torch.meshgrid(*(torch.arange(n) - 0.5 for n in shape), indexing="ij")
    x, y = column.double() / 10, row.double() / 10
    u, v, p = 0.3 + 0.1 * x - 0.2 * y, 0.05 * y - 0.1, 0.2 - 0.03 * x
    speed = system.program.speed
    weights = torch.from_numpy(lattice.WEIGHTS)[:, None, None]
    cx, cy = (torch.from_numpy(c).double()[:, None, None] for c in lattice.VELOCITIES.T)
    state.flow.populations[0] = weights * (3 * speed**2 * p + 3 * speed * (cx * u + cy * v))
    found = environment.observe(state)[0].view(3, 151)
    places = torch.from_numpy(cylinder.probes(system.domain))
    for seen, (a, b, c) in zip(
        found, ((0.3, 0.1, -0.2), (-0.1, 0, 0.05), (0.2, -0.03, 0)), strict=True
    ):
        torch.testing.assert_close(seen, a + b * places[:, 0] + c * places[:, 1])
    distance = np.linalg.norm(places.numpy() - [2.0, 2.0], axis=1)
    assert distance.min() > 0.6 and len(places) == 151
    assert pinball.probes(pinball.DOMAIN).shape == (35, 2)


def test_flows_start_developed_in_many_phases() -> None:
    environment: Any = make_environment("RotaryCylinder-v0", 16)
    state, _ = environment.reset(0)
    lift = state.flow.force[:, 0, 1]
    assert lift.min() < -0.3 and lift.max() > 0.3
    # A mixture keeps the flow through the inflow, and nearly the mean drag.
    u, _, _ = environment.system.fields(state.flow.populations)
    assert u[:, 1:-1, 1].mean(1).sub(1).abs().max() < 0.02
    drag = state.flow.force[:, 0, 0].mean()
    assert drag == pytest.approx(environment.task.drag.item(), rel=0.02)
    after = environment.step(state, torch.zeros(16, 1)).state.flow.force
    assert (after - state.flow.force).abs().max() < 0.5  # no jolt


def test_reynolds_numbers_of_each_environment_have_their_own_flow() -> None:
    numbers = torch.tensor([90.0, 100.0, 110.0])
    environment: Any = make_environment("RotaryCylinder-v0", 3, reynolds_number=numbers)
    assert environment.task.drag.shape == (3,)
    assert len(environment.task.drag.unique()) == 3
    alone: Any = make_environment("RotaryCylinder-v0", 1, reynolds_number=110.0)
    batch, single = (e.reset(torch.full((e.num_envs,), 7))[0] for e in (environment, alone))
    assert torch.equal(batch.flow.populations[2], single.flow.populations[0])


def test_surfaces_follow_what_is_asked_for() -> None:
    environment: Any = make_environment(
        "RotaryCylinder-v0", start="impulsive", smoothing_time=0.25, authority=0.5
    )
    found = stepped(environment, 1, 1.0)
    assert found.state.control.item() == pytest.approx(0.5 * (1 - np.exp(-1)), rel=1e-5)
    at_once: Any = make_environment("RotaryCylinder-v0", start="impulsive", smoothing_time=0.0)
    assert stepped(at_once, 1, 0.25).state.control.item() == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 0.2}, r"speed: got 0\.2.*allowed: up to 0\.15 links"),
        ({"authority": 4.0}, r"speed: got 0\.05, with surfaces that move up to 4 times"),
        ({"reynolds_number": 500.0}, r"reynolds_number: got \[500\.0\].*<= 400.*finer resolution"),
        ({"speed": 0.01, "reynolds_number": 401.0}, r"<= 400"),
        ({"reynolds_number": 0.0}, r"reynolds_number: got \[0\.0\].*numbers > 0"),
        ({"resolution": 12}, r"resolution: got 12; .*height of the box, 4\.1"),
        ({"resolution": 10.0}, "resolution: got 10.0; allowed: an integer"),
        ({"domain": "channels"}, "domain: got 'channels'; did you mean 'channel'"),
        ({"observed": "all"}, "observed: got 'all'; .*forces, probes"),
        ({"start": 3}, "start: got 3; "),
        ({"authority": 0.0}, "authority: got 0.0"),
        ({"lift_weight": -1.0}, "lift_weight: got -1.0"),
        ({"smoothing_time": -1.0}, "smoothing_time: got -1.0"),
        ({"control_interval": 0.0}, "control_interval: got 0.0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_environment("RotaryCylinder-v0", **options)


def test_jets_let_no_net_mass_in() -> None:
    angles = np.linspace(0, 2 * np.pi, 20_001)[:-1]
    offset = 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1)
    upper = Actuator(0, 0, "jet", 90.0, 10.0, 1.0).velocity(offset)
    lower = Actuator(0, 0, "jet", -90.0, 10.0, -1.0).velocity(offset)
    normal = 2 * ((upper + lower) * offset).sum(1)
    assert abs(normal.mean()) < 1e-12
    blowing = 2 * (upper * offset).sum(1)
    width = np.radians(10.0)
    assert blowing.mean() * 2 * np.pi / width == pytest.approx(1.0, rel=1e-3)
    assert blowing.min() >= 0


def test_feedback_of_the_lift_lowers_it() -> None:
    environment: Any = make_environment("RotaryCylinder-v0", 4, authority=0.3, horizon=60)
    lifts = {}
    gains: dict[str, Any] = {"gain": -0.5, "damping": -0.5}
    for name, settings in (("zero", {}), ("lift_feedback", gains)):
        controller = make_controller(name, environment, **settings)
        recorded = record_trajectories(environment, controller, torch.arange(4))
        assert recorded.names == ("drag 1", "lift 1", "control 1")
        lifts[name] = np.abs(recorded.values[30:, :, 1]).mean()
    assert lifts["lift_feedback"] < 0.6 * lifts["zero"]
    with pytest.raises(ValueError, match="allowed: RotaryCylinder-v0"):
        make_controller("lift_feedback", make_environment("Lorenz-v0"))


def test_vorticity_of_a_shear_and_its_picture() -> None:
    environment: Any = make_environment("RotaryCylinder-v0", dtype="float64", start="impulsive")
    state, _ = environment.reset(0)
    rows = state.flow.populations.shape[2]
    speed = environment.system.program.speed
    u = (torch.arange(rows).double() - 0.5) / 10  # u = y
    weights = torch.from_numpy(lattice.WEIGHTS)[:, None, None]
    cx = torch.from_numpy(lattice.VELOCITIES[:, 0]).double()[:, None, None]
    state.flow.populations[0] = weights * 3 * speed * cx * u[:, None]
    found = vorticity(state, environment.system)
    assert found.shape == (41, 220)
    assert np.allclose(found[found != 0], -1.0)
    assert (found == 0).sum() < 1200  # the body, and what lies beside it and the sides
    controller = make_controller("zero", environment)
    frames = record_frames(environment, controller, 0, limit=4)
    assert frames.shape[1:] == (134, 720, 3)
    assert frames.std() > 1


def test_command_develops_flows(tmp_path: Path) -> None:
    command = ["-m", "separatrix.envs.fluid.developed", "RotaryCylinder-v0", "speed=0.1"]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "SEPARATRIX_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "computing developed flows" in done.stderr
    (path,) = tmp_path.glob("flow_*.npz")
    with np.load(path) as data:
        assert data["populations"].shape == (8, 9, 43, 222)
        assert 3 < data["mean_force"][0, 0] < 4

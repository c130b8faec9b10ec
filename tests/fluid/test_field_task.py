"""Sensors, actuators, objectives and pictures of fields."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from separatrix.envs.core.registration import make_environment
from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.pictures import SIZE, colours
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.steppers.spectral_grid import Grid

KS = "KuramotoSivashinsky-v0"
LINE, PLANE = Grid(60, 1), Grid(20, 2)


def make(name: str = KS, num_envs: int = 3, **options: Any) -> Any:
    return make_environment(name, num_envs, dtype="float64", backend="torch", **options)


def test_point_sensors_read_the_nearest_point_in_units_of_the_scale() -> None:
    environment = make(sensors=[0.0, 0.26, 0.99])
    state, observation = environment.reset(0)
    field = state.field[:, 0]
    torch.testing.assert_close(observation, field[:, [0, 17, 63]] / 1.2)


def test_wide_sensors_read_means_around_them() -> None:
    environment = make(sensors=4, sensor_width=0.1)
    state, observation = environment.reset(0)
    field = state.field[:, 0].roll(3, 1)  # so that no window crosses the end
    means = [field[:, 16 * i : 16 * i + 7].mean(1) / 1.2 for i in range(4)]
    torch.testing.assert_close(observation, torch.stack(means, 1))


def test_sensors_on_a_plane_are_a_lattice() -> None:
    assert Sensors(2).windows(PLANE).tolist() == [[0], [10], [200], [210]]
    assert Sensors([(0.5, 0.1)]).windows(PLANE).tolist() == [[202]]


def test_modes_are_fourier_coefficients() -> None:
    environment = make(sensor_shape="mode", sensors=4)
    state, observation = environment.reset(0)
    spectrum = torch.fft.rfft(state.field[:, 0], norm="forward")[:, 1:3]
    expected = torch.stack((2 * spectrum.real, -2 * spectrum.imag), 2).flatten(1) / 1.2
    torch.testing.assert_close(observation, expected)


@pytest.mark.parametrize(("sensors", "error"), [(42, 1e-12), (12, 5e-3)])
def test_modes_determine_reward_and_end(sensors: int, error: float) -> None:
    environment = make(num_envs=64, sensor_shape="mode", sensors=sensors)
    state, observation = environment.reset(0)
    action = torch.rand(64, 4, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    transition = environment.step(state, action)
    reward, ended = environment.known_outcome(observation, action, transition.observation)
    torch.testing.assert_close(reward, transition.reward, rtol=0, atol=error)
    assert not ended.any()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (KS, {}),
        (KS, {"sensor_shape": "mode", "sensors": 8}),
        ("Burgers-v0", {"sensor_shape": "mode", "sensors": 40}),  # whose mean is not conserved
    ],
)
def test_sensors_that_miss_something_do_not_determine_the_reward(
    name: str, options: dict[str, Any]
) -> None:
    environment = make(name, **options)
    observation = environment.reset(0)[1]
    action = torch.zeros(3, *environment.action_shape).double()
    with pytest.raises(ValueError, match="do not determine its reward; allowed for that"):
        environment.known_outcome(observation, action, observation)


def test_gaussian_actuators_are_periodic_and_equally_spaced() -> None:
    first, second, third = Actuators(3, "gaussian", 0.1).shapes(LINE)
    torch.testing.assert_close(second, first.roll(20))
    torch.testing.assert_close(third, first.roll(40))
    assert first[0] == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(first[1:], first[1:].flip(0))


@pytest.mark.parametrize("count", [1, 3, 8])
def test_top_hats_have_the_width_that_is_asked_for(count: int) -> None:
    shapes = Actuators(count, "top_hat", 0.1).shapes(Grid(240, 1))
    assert shapes.unique().tolist() == [0.0, 1.0]
    assert shapes.sum(1).tolist() == [24.0] * count


def test_modes_of_actuators_are_the_longest_waves() -> None:
    shapes = Actuators(5, "mode").shapes(LINE)
    x = torch.arange(60).double() * (2 * torch.pi / 60)
    expected = [x.cos(), x.sin(), (2 * x).cos(), (2 * x).sin(), (3 * x).cos()]
    torch.testing.assert_close(shapes, torch.stack(expected))
    assert Actuators(9, "mode").shapes(PLANE).shape == (9, 20, 20)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("actuators", 0, "actuators: got 0; allowed: how many along each axis"),
        ("actuators", [0.1, 1.0], "each a number >= 0 and < 1"),
        ("actuators", [(0.1, 0.2)], "each a number >= 0 and < 1"),
        ("actuators", "four", "allowed: how many along each axis"),
        ("actuator_shape", "square", "did you mean|allowed: gaussian, top_hat, mode"),
        ("actuator_width", 0.0, "actuator_width: got 0.0; allowed: a number > 0 and <= 1"),
        ("authority", -1.0, "authority: got -1.0; allowed: a number > 0"),
        ("sensors", True, "sensors: got True; allowed"),
        ("sensors", np.zeros(3), r"sensors: got array\(.*; allowed"),
        ("sensors", [], "allowed: how many along each axis"),
        ("sensor_shape", "dot", "allowed: point, mode"),
        ("sensor_width", -0.1, "sensor_width: got -0.1; allowed: a number from 0 to 1"),
        ("target_name", "E4", "did you mean 'E1'|allowed: E1, E2, E3, zero"),
        ("width", 0.0, "width: got 0.0; allowed: a number > 0"),
        ("reward_shape", "flat", "allowed: gaussian, quadratic"),
        ("task", "reech", "did you mean 'reach'"),
        ("scale", 2.0, "task 'reach' has no option 'scale'"),
        ("points", 62, "allowed: even integers from 6 to 4096 whose prime factors are 2, 3 and 5"),
        ("length", 0.0, "parameter 'length': got 0.0; allowed: numbers > 0"),
        ("length", 40.0, "target_name: got 'E1', which Newton's method does not find"),
    ],
)
def test_bad_options_are_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{option: value})


def test_quadratic_reward_and_gaussian_one_see_the_same_distance() -> None:
    rewards = []
    for shape in ("gaussian", "quadratic"):
        environment = make(width=2.0, reward_shape=shape)
        state, _ = environment.reset(0)
        transition = environment.step(state, torch.zeros(3, 4).double())
        rewards.append((transition.reward, transition.info["distance"]))
    (gaussian, distance), (quadratic, same) = rewards
    assert torch.equal(distance, same)
    torch.testing.assert_close(gaussian, torch.exp(-(distance**2) / 8))
    torch.testing.assert_close(quadratic, (1 - distance**2 / 4).clamp(min=0))


def test_power_is_dissipation_and_what_is_put_in() -> None:
    environment = make(task="reduce_power")
    state, _ = environment.reset(0)
    action = torch.tensor([[0.5, -1.0, 0.2, 0.0]]).double().expand(3, -1)
    transition = environment.step(state, action)
    u = transition.state.field[:, 0].numpy()
    k = 2 * np.pi * np.fft.rfftfreq(64, 22 / 64)
    first, second = (np.fft.irfft(np.fft.rfft(u) * m) for m in (1j * k, -(k**2)))
    force = (action[0, :, None] * environment.system.actuators[:, 0]).sum(0).numpy()
    power = (second**2).mean(1) + np.abs((first**2).mean(1) + (u * force).mean(1))
    np.testing.assert_allclose(transition.info["power"], power, rtol=1e-10)
    np.testing.assert_allclose(transition.reward, np.exp(-power / 1.85), rtol=1e-10)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_regulation_has_a_quadratic_cost(weight: float) -> None:
    environment = make(task="regulate", level=0.3, authority=2.0, control_weight=weight)
    state, _ = environment.reset(0)
    transition = environment.step(state, torch.full((3, 4), 0.5).double())
    cost = (transition.state.field - 0.3).square().sum((1, 2)) + weight * 4 * 1.0**2
    torch.testing.assert_close(transition.reward, -cost)
    low, high = environment.reward_range
    assert high == 0.0 and low == -(64 * 15.3**2 + weight * 16)


def test_targets_that_move_start_anywhere_and_are_seen() -> None:
    environment = make("Burgers-v0", points=128)
    state, observation = environment.reset(0)
    place = []
    for _ in range(2):
        target = environment.task.target(state)
        torch.testing.assert_close(observation[:, 10], target[:, 0, 0] / 0.5)
        spectrum = torch.fft.rfft(target[:, 0])[:, 1]
        place.append(-torch.angle(spectrum * 1j) / (2 * torch.pi))
        transition = environment.step(state, torch.zeros(3, 8).double())
        state, observation = transition.state, transition.observation
    assert len(place[0].unique()) == 3
    moved = (place[1] - place[0]) % 1.0
    torch.testing.assert_close(moved, torch.full((3,), 0.5 * 0.05).double())
    later = environment.task.target(environment.reset(0, episode=1)[0])
    assert not torch.allclose(later, environment.task.target(environment.reset(0)[0]))
    alone = environment.task.target(environment.reset(torch.tensor([2]))[0])
    first = environment.task.target(environment.reset(0)[0])
    torch.testing.assert_close(alone[0], first[2], rtol=0, atol=1e-14)


def test_pictures_show_lines_and_planes() -> None:
    environment = make(num_envs=2, length=[21.5, 22.5])
    state, _ = environment.reset(0)
    first, second = (environment.render(state, row) for row in range(2))
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8
    assert not np.array_equal(first, second)
    still = replace(state, field=torch.zeros_like(state.field))
    assert not np.array_equal(environment.render(still, 0), first)
    field = np.array([[-1.0, 0.0], [1.0, np.nan]])  # x down, y to the right
    image = colours(field)
    assert image.shape == (2, 2, 3)
    assert image[1, 0].tolist() == [12, 44, 110] and image[1, 1].tolist() == [110, 16, 28]
    assert image[0].tolist() == [[247, 247, 245]] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("environment_id", "options"),
    [("KortewegDeVries-v0", {"speed": 0}), ("AllenCahn-v0", {"task": "regulate", "level": 0})],
)
def test_numbers_of_either_sign_are_checked(
    environment_id: str, options: dict[str, Any], value: float
) -> None:
    *_, name = options
    with pytest.raises(ValueError, match=f"{name}: got .*; allowed: a finite number"):
        make_environment(environment_id, **options | {name: value})
    make_environment(environment_id, **options | {name: -0.1})

"""Two-dimensional turbulence and a scalar in it: exact solutions, conservation, mixing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.fluid.scalar_mixing import mix_norm
from separatrix.envs.fluid.vorticity import velocity
from separatrix.envs.steppers.spectral_grid import Grid
from separatrix.envs.steppers.spectral_program import derivatives

Gate = Callable[..., None]
NAME = "ScalarMixing-v0"
IDEAL: dict[str, Any] = {"viscosity": 0.0, "drag": 0.0}


def environment_of(members: int = 1, **options: Any) -> Any:
    options = {"dtype": "float64", "backend": "torch", "points": 32, **options}
    return make_environment(NAME, members, **options)


def start_of(system: Any, members: int = 3) -> Tensor:
    """Fields at the start without the modes that are not kept."""
    field = system.initial_state(Stream.start(torch.arange(members))).field
    found: Tensor = system.grid.synthesize(system.grid.transform(field) * system.program.kept)
    return found


def multiplied(system: Any, multiplier: Tensor, field: Tensor) -> Tensor:
    found: Tensor = system.grid.synthesize(multiplier[0] * system.grid.transform(field))
    return found


def energy(system: Any, omega: Tensor) -> Tensor:
    components = velocity(derivatives(system.grid, system.length))
    squares = [multiplied(system, each, omega).square().mean((1, 2)) for each in components]
    return (squares[0] + squares[1]) / 2


def slope(system: Any, field: Tensor) -> Tensor:
    """Time derivative of fields without control."""
    control = field.new_zeros((len(field), len(system.actuators)))
    spectrum = system.grid.transform(field) * system.program.kept
    found: Tensor = system.grid.synthesize(system.reference.vector_field(spectrum, control))
    return found


def angles(points: int) -> tuple[Tensor, Tensor]:
    angle = torch.arange(points).double() * (2 * torch.pi / points)
    return angle[:, None], angle


# --- vorticity -----------------------------------------------------------------------------------


def test_taylor_green_vortices_decay_exactly(gate: Gate) -> None:
    system = environment_of(viscosity=0.02, drag=0.0).system
    x, y = angles(32)
    omega = 2 * torch.cos(2 * x) * torch.cos(2 * y)
    field = torch.stack((omega, torch.zeros_like(omega)))[None]
    later = system.free_flow(field, 5.0, 50)
    decay = later[:, 0].square().mean().sqrt() / field[:, 0].square().mean().sqrt()
    quantity, expected = "Taylor-Green decay after 5 time units", math.exp(-8 * 0.02 * 5)
    gate(NAME, quantity, decay, expected, tolerance=1e-13, source="exact: exp(-2 nu k^2 t)")
    assert torch.allclose(later[0, 0], omega * expected, rtol=0, atol=1e-13)


def test_flow_without_friction_keeps_energy_and_enstrophy(gate: Gate) -> None:
    system = environment_of(**IDEAL).system
    field = start_of(system)
    before = energy(system, field[:, 0]), field[:, 0].square().mean((1, 2))
    errors = []
    for steps in (25, 50, 200):
        omega = system.free_flow(field, 4.0, steps)[:, 0]
        after = energy(system, omega), omega.square().mean((1, 2))
        errors.append([float((b / a - 1).abs().max()) for a, b in zip(before, after, strict=True)])
    for i, name in enumerate(("energy", "enstrophy")):
        quantity = f"{name} after 4 time units without friction, relative change"
        gate(NAME, quantity, errors[2][i], 0.0, tolerance=1e-7, source="conservation")
        # All of it is the error of the time steps, which without friction is of order 5.
        assert errors[1][i] < errors[0][i] / 20
    moved = slope(system, field)[:, 0]
    assert (field[:, 0] * moved).mean((1, 2)).abs().max() < 1e-13


def test_drag_alone_slows_the_flow_at_its_rate(gate: Gate) -> None:
    system = environment_of(viscosity=0.0, drag=0.3).system
    field = start_of(system)
    later = system.free_flow(field, 2.0, 100)
    ratio = (energy(system, later[:, 0]) / energy(system, field[:, 0])).mean()
    expected = math.exp(-2 * 0.3 * 2)
    gate(NAME, "energy after 2 time units of drag 0.3", ratio, expected, tolerance=1e-6,
         source="exact: exp(-2 drag t)")  # fmt: skip


def test_cells_of_the_steady_force_are_a_stationary_flow() -> None:
    options: dict[str, Any] = {"viscosity": 0.1, "drag": 0.2, "forcing": 0.7}
    system = environment_of(**options).system
    x, y = angles(32)
    omega = 0.7 * 4 / (0.1 * 16 + 0.2) * (torch.cos(4 * x) + torch.cos(4 * y))
    field = torch.stack((omega, torch.zeros_like(omega)))[None]
    assert slope(system, field).abs().max() < 1e-13


def test_force_keeps_turbulence_alive() -> None:
    ends = []
    for forcing in (0.0, 1.0):
        system = environment_of(2, forcing=forcing).system
        field = system.initial_state(Stream.start(torch.arange(2))).field
        omega = system.free_flow(field, 20.0, 500)[:, 0]
        ends.append(float(omega.square().mean().sqrt()))
    assert ends[0] < 0.5 < 2.0 < ends[1]


# --- scalar --------------------------------------------------------------------------------------


def test_scalar_is_carried_by_the_velocity() -> None:
    system = environment_of(diffusivity=0.0).system
    # Products of waves that are all kept: the transform of the whole product is exact.
    field = start_of(system)
    spectrum = system.grid.transform(field)
    low = (system.grid.numbers[0].abs() <= 5) & (system.grid.numbers[1].abs() <= 5)
    field = system.grid.synthesize(spectrum * low)
    d = derivatives(system.grid, system.length)
    u, v = (multiplied(system, each, field[:, 0]) for each in velocity(d))
    theta_x, theta_y = (multiplied(system, each, field[:, 1]) for each in d)
    expected = -u * theta_x - v * theta_y
    assert torch.allclose(slope(system, field)[:, 1], expected, rtol=0, atol=1e-13)


def test_scalar_keeps_its_mean_and_loses_variance_by_diffusion_alone(gate: Gate) -> None:
    kappa = 0.02
    system = environment_of(diffusivity=kappa, forcing=0.5).system
    field = start_of(system) + torch.tensor([0.0, 0.3]).double().view(2, 1, 1)
    means = [
        system.free_flow(field, t, max(1, round(50 * t)))[:, 1].mean((1, 2)) for t in (0.01, 3.0)
    ]
    assert torch.allclose(means[0], means[1], rtol=0, atol=1e-14)
    # Simpson's rule of the loss over one time unit.
    steps, h = 200, 1 / 200
    losses, now = [], field
    d = derivatives(system.grid, system.length)
    for i in range(steps + 1):
        gradients = [multiplied(system, each, now[:, 1]).square() for each in d]
        gradient = (gradients[0] + gradients[1]).mean((1, 2))
        weight = 1 if i in (0, steps) else 4 if i % 2 else 2
        losses.append(2 * kappa * gradient * (weight * h / 3))
        if i < steps:
            now = system.free_flow(now, h, 1)
    lost = field[:, 1].square().mean((1, 2)) - now[:, 1].square().mean((1, 2))
    ratio = (lost / torch.stack(losses).sum(0)).mean()
    source = "exact: d<theta^2>/dt = -2 kappa <|grad theta|^2>"
    gate(NAME, "loss of variance by its integral", ratio, 1.0, tolerance=1e-7, source=source)


@pytest.mark.parametrize("k", [(1, 0), (0, 3), (2, -5)])
def test_mix_norm_of_a_wave(k: tuple[int, int]) -> None:
    x, y = angles(32)
    wave = torch.cos(k[0] * x + k[1] * y + 0.4).expand(1, 32, 32) + 0.7
    size = math.hypot(*k)
    assert float(mix_norm(wave, Grid(32, 2))) == pytest.approx(math.sqrt(1 / (2 * size)), rel=1e-12)


def test_task_starts_unmixed_and_rewards_stirring() -> None:
    environment = environment_of(4, dtype="float32")
    returns = []
    for stirring in (0.0, 1.0):
        generator = torch.Generator().manual_seed(0)
        state, _ = environment.reset(0)
        total = torch.zeros(4)
        for step in range(60):
            if step % 10 == 0:
                action = stirring * (torch.rand((4, 16), generator=generator) - 0.5).sign()
            state, _, reward, _, info = environment.step(state, action)
            if step == 0:
                assert (info["mix_norm"] > 0.97).all() and (info["variance"] > 0.97).all()
            total += reward
        returns.append(total.mean())
    assert returns[1] > 1.4 * returns[0]


def test_starts_differ_in_direction_and_place_and_not_by_the_batch() -> None:
    environment = environment_of()
    field = environment.reset(torch.arange(12))[0].field
    along = field[:, 1, :, 0].diff(dim=1).abs().sum(1) > 0
    assert 0 < along.sum() < 12
    assert len(field[:, 1].unique(dim=0)) > 8  # of 64
    assert len(field[:, 0].unique(dim=0)) == 12
    for seed in (0, 7):
        assert torch.equal(environment.reset(torch.tensor([seed]))[0].field[0], field[seed])


def test_gradient_of_a_rollout_is_that_of_finite_differences() -> None:
    environment = environment_of(points=16)
    state, _ = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    action = torch.rand((4, 1, 16), generator=generator, dtype=torch.float64) - 0.5
    direction = torch.randn((4, 1, 16), generator=generator, dtype=torch.float64)

    def total(action: Tensor) -> Tensor:
        now, reward = state, torch.zeros(1, dtype=torch.float64)
        for each in action:
            now, _, gained, _, _ = environment.step(now, each)
            reward = reward + gained
        return reward.sum()

    leaf = action.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf), leaf)
    with torch.no_grad():
        h = 1e-4
        difference = (total(action + h * direction) - total(action - h * direction)) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-6)

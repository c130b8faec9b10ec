"""Kolmogorov flow: laminar state and its instability, turbulence, symmetries, accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.fluid.kolmogorov_flow import laminar, snapshots
from separatrix.envs.fluid.starts import random_waves
from separatrix.envs.fluid.vorticity import velocity
from separatrix.envs.steppers.spectral_program import derivatives

Gate = Callable[..., None]
NAME = "KolmogorovFlow-v0"
CHANDLER = "exact; G. J. Chandler, R. R. Kerswell, J. Fluid Mech. 722 (2013) 554"
INDEPENDENT = "another computation of ours, in numpy: 64 x 64 points, 1500 time units"


def environment_of(members: int = 1, **options: Any) -> Any:
    return make_environment(NAME, members, **{"dtype": "float64", "backend": "torch", **options})


def velocities(system: Any, omega: Tensor) -> tuple[Tensor, Tensor]:
    """Velocities of fields (batch, points, points) in a box of one size."""
    u, v = (
        system.grid.synthesize(multiplier[0] * system.grid.transform(omega))
        for multiplier in velocity(derivatives(system.grid, system.length))
    )
    return u, v


def budget(system: Any, omega: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Dissipation, power put in and energy of fields (batch, 1, points, points)."""
    omega = omega.double()[:, 0]
    u, v = velocities(system, omega)
    y = torch.arange(system.grid.points).double() * (2 * torch.pi / system.grid.points)
    p = {name: float(value) for name, value in system.parameters.items()}
    power = (u * torch.sin(p["waves"] * y)).mean((1, 2))
    energy = (u.square() + v.square()).mean((1, 2)) / 2
    return omega.square().mean((1, 2)) / p["reynolds"], power, energy


def slope(system: Any, omega: Tensor) -> Tensor:
    """omega_t of fields without control."""
    control = omega.new_zeros((len(omega), len(system.actuators)))
    grid = system.grid
    spectrum = grid.transform(omega) * system.program.kept
    found: Tensor = grid.synthesize(system.reference.vector_field(spectrum, control))
    return found


# --- the equations -------------------------------------------------------------------------------


def test_products_of_velocities_are_the_advection_of_vorticity() -> None:
    system = environment_of(points=32).system
    omega, _ = random_waves(Stream.start(torch.arange(3)), system, waves=4, rms=2.0)
    grid = system.grid
    u, v = velocities(system, omega[:, 0])
    spectrum = grid.transform(omega[:, 0])
    dx, dy = derivatives(grid, system.length)
    slope_x, slope_y = grid.synthesize(dx[0] * spectrum), grid.synthesize(dy[0] * spectrum)
    viscous = grid.synthesize((dx[0] ** 2 + dy[0] ** 2) * spectrum) / 40
    y = torch.arange(32).double() * (2 * torch.pi / 32)
    expected = -u * slope_x - v * slope_y + viscous - 4 * torch.cos(4 * y)
    assert torch.allclose(slope(system, omega)[:, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("reynolds", "waves", "length"), [(40.0, 4, 2 * math.pi), (7.0, 2, 5.0)])
def test_laminar_flow_is_stationary(reynolds: float, waves: int, length: float) -> None:
    options: dict[str, Any] = {"reynolds": reynolds, "waves": float(waves), "length": length}
    system = environment_of(points=32, **options).system
    field = laminar(system)
    assert slope(system, field).abs().max() < 1e-12 * field.abs().max()


def test_laminar_flow_dissipates_and_moves_as_it_should(gate: Gate) -> None:
    system = environment_of(points=32).system
    found, power, energy = budget(system, laminar(system))
    gate(NAME, "laminar D = Re / (2 n^2)", found, 1.25, tolerance=1e-12, source=CHANDLER)
    gate(NAME, "laminar power put in", power, 1.25, tolerance=1e-12, source=CHANDLER)
    gate(NAME, "laminar E = Re^2 / (4 n^4)", energy, 1.5625, tolerance=1e-12, source=CHANDLER)


def theory(reynolds: float, k: int) -> np.ndarray:
    """Growth of waves of number k along x on the laminar flow of n = 4, rates in falling order.

    They obey omega_t = -U omega_x + U'' v + laplacian omega / Re, mode by mode along y.
    """
    numbers, waves = np.arange(-21, 22), 4
    sine = (np.eye(43, k=-waves) - np.eye(43, k=waves)) / 2j
    square = k**2 + numbers**2
    speed = reynolds / waves**2
    matrix = -1j * k * speed * sine @ np.diag(1 - waves**2 / square) - np.diag(square / reynolds)
    return np.sort(np.linalg.eigvals(matrix).real)[::-1]


def growth(system: Any, k: int) -> np.ndarray:
    """The same of the system: its slope is quadratic, so that differences are exact."""
    base, numbers = laminar(system), torch.arange(-21, 22)
    x, y = (angle[0] for angle in system.grid.positions(system.length.view(-1, 1, 1)))
    phase = k * x + numbers.view(-1, 1, 1) * y

    def linearized(wave: Tensor) -> Tensor:
        moved = slope(system, base + wave[:, None]) - slope(system, base - wave[:, None])
        return moved[:, 0] / 2

    columns = torch.fft.fft2(torch.complex(linearized(phase.cos()), linearized(phase.sin())))
    matrix = columns[:, k, numbers % 64].T.numpy() / 64**2
    return np.sort(np.linalg.eigvals(matrix).real)[::-1]


def test_disturbances_of_the_laminar_flow_grow_as_linear_theory_says(gate: Gate) -> None:
    source = "linearization for each wave number apart, in numpy"
    for reynolds, k in ((40.0, 1), (40.0, 2), (40.0, 3), (20.0, 2), (9.96, 1), (9.97, 1)):
        found, expected = growth(environment_of(reynolds=reynolds).system, k), theory(reynolds, k)
        assert np.allclose(found, expected, rtol=0, atol=1e-7)  # nearly defective
        quantity = f"growth on the laminar flow, Re = {reynolds:g}, {k} waves along x"
        gate(NAME, quantity, found[0], expected[0], tolerance=1e-9, source=source)


def test_laminar_flow_has_as_many_growing_disturbances_as_stated() -> None:
    def growing(reynolds: float) -> int:
        system = environment_of(reynolds=reynolds).system
        return sum(2 * int((growth(system, k) > 1e-6).sum()) for k in range(1, 5))

    assert [growing(reynolds) for reynolds in (40.0, 20.0, 9.9)] == [38, 10, 0]


# --- turbulence ----------------------------------------------------------------------------------


def gate_turbulence(gate: Gate, kind: str, found: Sequence[Tensor]) -> None:
    dissipation, power, energy = (value.mean() for value in found)
    # From 0.08 to 0.10 lies what runs of 1500 time units give; the standard deviation is 0.03.
    quantity = f"D / D_laminar of turbulence, {kind}"
    gate(NAME, quantity, dissipation / 1.25, 0.09, tolerance=0.01, source=INDEPENDENT)
    quantity = f"E / E_laminar of turbulence, {kind}"
    gate(NAME, quantity, energy / 1.5625, 0.442, tolerance=0.01, source=INDEPENDENT)
    if kind != "shipped fields":
        quantity = f"power put in / D, {kind}"
        gate(NAME, quantity, power / dissipation, 1.0, tolerance=0.02, source="conservation")


def test_statistics_of_the_shipped_turbulence(gate: Gate) -> None:
    system = environment_of().system
    gate_turbulence(gate, "shipped fields", budget(system, snapshots(64)[:, None]))


@pytest.mark.slow
def test_statistics_of_turbulence(gate: Gate) -> None:
    system = environment_of(32, dtype="float32", backend="auto", control_interval=1.0, substeps=40)
    system = system.system
    state = system.initial_state(Stream.start(torch.arange(32)))
    control = torch.zeros((32, 64))
    found = []
    for _ in range(150):
        state = system.advance(state, control)
        found.append(torch.stack(budget(system, state.field)))
    gate_turbulence(gate, "32 runs of 150 time units", torch.stack(found, -1).unbind(0))


def test_starts_are_snapshots_seen_through_symmetries_of_the_flow() -> None:
    system = environment_of().system

    def invariants(field: Tensor) -> Tensor:
        moved = slope(system, field)
        moments = [field.square(), field * moved, moved.square(), moved**4]
        return torch.stack([moment.mean((1, 2, 3)) for moment in moments], 1)

    known = invariants(snapshots(64)[:, None])
    field = system.initial_state(Stream.start(torch.arange(24))).field
    away = (invariants(field)[:, None] / known - 1).abs().amax(2)
    assert (away.min(1).values < 1e-9).all()
    assert len(away.min(1).indices.unique()) > 8
    coarse = environment_of(points=36).system
    field = coarse.initial_state(Stream.start(torch.arange(24))).field
    assert (slope(coarse, field).square().mean((1, 2, 3)).sqrt() < 30).all()


def test_starts_do_not_depend_on_the_batch() -> None:
    environment = environment_of()
    many = environment.reset(torch.arange(5))[0].field
    for seed in range(5):
        assert torch.equal(environment.reset(torch.tensor([seed]))[0].field[0], many[seed])


# --- accuracy ------------------------------------------------------------------------------------


def test_time_steps_are_of_fourth_order(gate: Gate) -> None:
    system = environment_of().system
    field = snapshots(64)[:3, None]
    exact = system.free_flow(field, 0.5, 320)
    errors = [
        float((system.free_flow(field, 0.5, steps) - exact).square().mean().sqrt())
        for steps in (10, 20, 40)
    ]
    assert errors[1] < 1e-5  # the step of the environment
    order = math.log2(errors[1] / errors[2])
    gate(NAME, "order of ETDRK4 in time", order, 4.0, tolerance=0.15, source="theory")


def test_grids_converge_faster_than_any_power() -> None:
    fields, grids = [], (32, 48, 72, 96)
    for points in grids:
        system = environment_of(points=points).system
        field, _ = random_waves(Stream.start(torch.arange(2)), system, waves=4, rms=1.0)
        step = points // 8
        fields.append(system.free_flow(field, 0.5, 20)[..., ::step, ::step])
    errors = [float((field - fields[-1]).square().mean().sqrt()) for field in fields[:-1]]
    # From grid to grid an error of order p falls by 1.5^p.
    first, second = (math.log(errors[i] / errors[i + 1], 1.5) for i in range(2))
    assert first > 6 and second > first + 4


def test_gradient_of_a_rollout_is_that_of_finite_differences() -> None:
    environment = environment_of(points=24, control_interval=0.2)
    state, _ = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    action = torch.rand((3, 1, 64), generator=generator, dtype=torch.float64) - 0.5
    direction = torch.randn((3, 1, 64), generator=generator, dtype=torch.float64)

    def total(action: Tensor) -> Tensor:
        now, distance = state, torch.zeros(1, dtype=torch.float64)
        for each in action:
            now, _, _, _, info = environment.step(now, each)
            distance = distance + info["distance"]
        return distance.sum()

    leaf = action.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf), leaf)
    with torch.no_grad():
        h = 1e-4
        difference = (total(action + h * direction) - total(action - h * direction)) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-6)


# --- forces and options --------------------------------------------------------------------------


def test_a_swirl_turns_counterclockwise_with_a_largest_force_of_one() -> None:
    system = environment_of().system
    force_x, force_y = velocities(system, system.actuators[:1, 0])
    strength = (force_x.square() + force_y.square()).sqrt()
    assert float(strength.max()) == pytest.approx(1.0, abs=0.01)
    assert force_y[0, 5, 0] > 0.9 and force_x[0, 0, 5] < -0.9  # 5 / 64 is nearly the width


def test_a_shear_force_is_a_sine_along_x() -> None:
    options: dict[str, Any] = {"actuator_shape": "shear", "actuators": (4, 7), "authority": 0.5}
    system = environment_of(reynolds=200.0, **options).system
    force_x, force_y = velocities(system, system.actuators[:, 0])
    y = torch.arange(64).double() * (2 * torch.pi / 64)
    expected = torch.stack([torch.sin(k * y).expand(64, 64) for k in (4, 7)])
    assert torch.allclose(force_x, expected, rtol=0, atol=1e-12)
    assert force_y.abs().max() < 1e-12


def test_linear_damping_of_vorticity_lowers_the_dissipation() -> None:
    environment = environment_of(4, task="reduce_dissipation", dtype="float32")
    means = []
    for gain in (0.0, 0.5):
        state, observation = environment.reset(0)
        found = []
        for _ in range(60):
            action = (-gain * observation).clamp(-1, 1)
            state, observation, _, _, info = environment.step(state, action)
            found.append(info["dissipation"])
        means.append(torch.stack(found[20:]).mean())
    assert means[1] < 0.9 * means[0]


def test_waves_and_reynolds_may_differ_between_environments() -> None:
    options: dict[str, Any] = {"waves": [2.0, 4.0], "reynolds": [20.0, 40.0]}
    environment = environment_of(2, **options)
    state, _ = environment.reset(0)
    state = replace(state, field=laminar(environment.system))
    _, _, _, _, info = environment.step(state, torch.zeros((2, 64), dtype=torch.float64))
    assert (info["distance"] < 1e-10).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"waves": 2.5}, "parameter 'waves': got .2.5.; allowed: whole numbers from 1 to 21"),
        ({"waves": 22.0}, "whole numbers from 1 to 21"),
        ({"reynolds": 0.0}, "parameter 'reynolds': got .0.0.; allowed: numbers > 0"),
        ({"actuator_shape": "gaussian"}, "actuator_shape: got 'gaussian'; allowed: swirl, shear"),
        ({"actuator_shape": "shear", "actuators": 22}, "actuators: got 22; allowed for shear: how"),
        ({"actuator_shape": "shear", "actuators": (4, 22)}, "integers from 1 to 21"),
        ({"actuator_width": 0.0}, "actuator_width: got 0.0; allowed: a number > 0"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        environment_of(**options)

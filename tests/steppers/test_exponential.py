"""The functions phi to the last digits, and what the schemes made of them do exactly."""

from __future__ import annotations

import math
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.steppers.exponential import phi_functions
from tests.steppers.spectral_cases import HEAT, KLEIN_GORDON, smooth_field, system_of

DIRECTIONS = {"real": -1.0, "imaginary": 1j, "complex": -0.6 + 0.8j, "growing": 1.0}
SIZES = [1.2345 * 10.0**power for power in range(-8, 6)]
NUMBERS = [
    pytest.param(direction * size, id=f"{name} {size:g}")
    for name, direction in DIRECTIONS.items()
    for size in SIZES
    if name != "growing" or size < 200
]
V = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.complex128)
INVERSE = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.complex128)


def matrix(diagonal: complex, above: complex) -> Tensor:
    return torch.tensor([[diagonal, above], [0.0, diagonal]], dtype=torch.complex128)


def exact(z: complex) -> tuple[list[Any], list[Any]]:
    """exp, phi_1, phi_2, phi_3 and their derivatives, with digits to spare for the quotients."""
    z = mpmath.mpc(z)
    values = [mpmath.exp(z)]
    for n in range(1, 4):
        values.append((values[-1] - 1 / mpmath.factorial(n - 1)) / z)
    slopes = [values[0]]
    for n in range(1, 4):  # the derivative of z phi_n = phi_(n-1) - 1 / (n-1)!
        slopes.append((slopes[-1] - values[n]) / z)
    return values, slopes


def tolerance(z: complex) -> float:
    """Rounding errors; that of z alone changes exp(z) by |z| times as much."""
    return 2e-15 * (5 + abs(z))


@pytest.mark.parametrize("z", NUMBERS)
def test_phi_functions_of_numbers(z: complex) -> None:
    found = phi_functions(torch.tensor([[z]], dtype=torch.complex128))
    with mpmath.workdps(80):
        for ours, value in zip(found, exact(z)[0], strict=True):
            expected = complex(value)
            # exp(-1000) is no number that anybody adds.
            assert abs(ours.item() - expected) <= max(tolerance(z) * abs(expected), 1e-50)


@pytest.mark.parametrize("z", NUMBERS)
def test_phi_functions_of_a_defective_matrix(z: complex) -> None:
    """Of V [[z, 1], [0, z]] V^-1, which has one eigenvector, they hold derivatives, too."""
    found = phi_functions(V @ matrix(z, 1.0) @ INVERSE)
    with mpmath.workdps(80):
        for ours, value, slope in zip(found, *exact(z), strict=True):
            expected = V @ matrix(complex(value), complex(slope)) @ INVERSE
            error, size = (ours - expected).abs().max(), expected.abs().max()
            assert error <= max(tolerance(z) * float(size), 1e-50)


def test_phi_functions_are_the_contour_integrals_of_kassam_and_trefethen() -> None:
    """The mean over 64 points of a circle of radius 2, on which the quotients are harmless."""
    z = -np.geomspace(1e-6, 50, 40)
    circle = z[:, None] + 2 * np.exp(2j * math.pi * (np.arange(64) + 0.5) / 64)
    quotients = [np.exp(circle)]
    for n in range(1, 4):
        quotients.append((quotients[-1] - 1 / math.factorial(n - 1)) / circle)
    found = phi_functions(torch.from_numpy(z).to(torch.complex128)[:, None, None])
    for ours, quotient in zip(found, quotients, strict=True):
        expected = quotient.mean(1)
        np.testing.assert_allclose(ours[:, 0, 0].numpy(), expected, rtol=1e-13, atol=3e-16)


def test_linear_equations_under_a_held_force_are_solved_exactly() -> None:
    """In one step of any length: u_k' = -k^2 u_k + f_k."""
    system = system_of(HEAT, 24, control_interval=0.7, substeps=1)
    field, control = smooth_field(system), torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    grid = system.grid
    x = 2 * math.pi * torch.arange(24).double() / 24
    force = grid.transform(x.cos() + 0.5 + 0.3 * x.cos() - 0.8 * (2 * x).sin())
    k = 2 * math.pi / 3.0 * grid.numbers[0]
    decay, gain = torch.exp(-(k**2) * 0.7), torch.where(k == 0, 0.7, -torch.expm1(-(k**2) * 0.7))
    gain = gain / torch.where(k == 0, 1.0, k**2)
    expected = grid.synthesize(grid.transform(field[0, 0]) * decay + force * gain)
    torch.testing.assert_close(system.reference(field, control)[0, 0], expected)


def test_coupled_linear_equations_are_solved_exactly() -> None:
    """Waves so small that nothing else counts: u'' = -k^2 u - 0.1 u', underdamped."""
    system = system_of(KLEIN_GORDON, 24, control_interval=0.7, substeps=1)
    x = 2 * math.pi * torch.arange(24).double() / 24
    wave, size = (3 * x).sin(), 1e-8
    field = size * torch.stack((wave, 0 * wave))[None]
    found = system.reference(field, torch.zeros((1, 2), dtype=torch.float64))[0] / size
    omega, decay = math.sqrt(9 - 0.05**2), math.exp(-0.05 * 0.7)
    cos, sin = math.cos(omega * 0.7), math.sin(omega * 0.7)
    u, v = decay * (cos + 0.05 / omega * sin), -decay * 9 / omega * sin
    torch.testing.assert_close(found, torch.stack((u * wave, v * wave)), rtol=0, atol=1e-14)

"""The spectral stepper against convolutions, other precisions, single rows and bad arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers.spectral import SpectralDefinition
from tests.steppers.spectral_cases import (
    BURGERS,
    KLEIN_GORDON,
    PLANE,
    SOLITON,
    smooth_field,
    system_of,
)


def random_field(system: Any, rows: int = 1) -> Tensor:
    """Fields (rows, field, *grid) of all the modes that are kept, and of no other."""
    generator = torch.Generator().manual_seed(2)
    shape = (rows, len(system.definition.fields), *system.grid.shape)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return system.grid.synthesize(system.grid.transform(noise) * system.program.kept)


@pytest.mark.parametrize("definition", [BURGERS, KLEIN_GORDON], ids=lambda d: d.name)
def test_products_are_exact_convolutions(definition: SpectralDefinition) -> None:
    """Of every mode that is kept: aliases would add what belongs to others."""
    system = system_of(definition, 20)
    highest = system.grid.highest(definition.degree)
    spectrum = system.grid.transform(random_field(system))
    waves = [
        np.concatenate((each[1 : highest + 1].conj().flip(0).numpy(), each[: highest + 1].numpy()))
        for each in spectrum[0]
    ]
    u = waves[0]
    if definition is BURGERS:
        convolved, factor = np.convolve(u, u), -0.5j * np.arange(highest + 1)
    else:
        v, factor = waves[1], np.array(-1.0)
        convolved = np.convolve(np.convolve(u, u), u) + np.convolve(np.convolve(u, v), v)
    middle = len(convolved) // 2
    expected = torch.from_numpy(factor * convolved[middle : middle + highest + 1])
    found = system.reference.slope(spectrum, torch.zeros_like(spectrum))[0, -1]
    torch.testing.assert_close(found[: highest + 1], expected, rtol=1e-13, atol=1e-13)
    assert not found[highest + 1 :].any()


def test_products_in_the_plane_are_those_of_a_finer_grid() -> None:
    small, large = system_of(PLANE, 12), system_of(PLANE, 24)
    spectrum = small.grid.transform(random_field(small))
    wide = torch.zeros((1, 1, *large.grid.modes), dtype=torch.complex128)
    rows = [*range(4), *range(-3, 0)]
    wide[..., rows, :4] = spectrum[..., rows, :4]
    expected = large.reference.slope(wide, torch.zeros_like(wide))[..., rows, :4]
    found = small.reference.slope(spectrum, torch.zeros_like(spectrum))
    torch.testing.assert_close(found[..., rows, :4], expected, rtol=1e-13, atol=1e-13)
    assert not found[..., ~small.program.kept].any()


@pytest.mark.parametrize("integrator", ["etdrk4", "ifrk4", "imexrk3"])
@pytest.mark.parametrize(
    "definition", [BURGERS, SOLITON, KLEIN_GORDON, PLANE], ids=lambda d: d.name
)
def test_single_precision(definition: SpectralDefinition, integrator: str) -> None:
    """Twenty steps at rounding of 6e-8."""
    single, double = (
        system_of(definition, 24, integrator=integrator, dtype=dtype)
        for dtype in (torch.float32, torch.float64)
    )
    field = smooth_field(double)
    found, expected = (system.free_flow(field, 0.2, 20) for system in (single, double))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


def test_forces_act_as_declared() -> None:
    """A short step adds them; modes that are not kept are left out."""
    system = system_of(BURGERS, 24, control_interval=1e-6, substeps=1)
    x = 2 * math.pi * torch.arange(24).double() / 24
    field = torch.zeros((1, 1, 24), dtype=torch.float64)
    found = system.reference(field, torch.tensor([[2.0, -3.0]]).double()) / 1e-6
    torch.testing.assert_close(found[0, 0], 2 * x.cos() - 3 * (2 * x).sin(), rtol=0, atol=1e-5)


def test_the_mean_is_conserved_under_any_action() -> None:
    environment: Any = make_environment(
        "KuramotoSivashinsky-v0", 8, dtype="float64", backend="torch", task="regulate"
    )
    state, _ = environment.reset(0)
    state.field[:] += 0.7
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        action = 2 * torch.rand((8, 4), generator=generator, dtype=torch.float64) - 1
        state = environment.step(state, action).state
    assert (state.field.mean(2) - 0.7).abs().max() < 1e-13


def test_rows_of_parameters_are_single_systems() -> None:
    lengths, viscosities = [5.0, 6.0, 7.0], [0.1, 0.3, 0.2]
    system = system_of(BURGERS, num_envs=3, length=lengths, viscosity=viscosities)
    field, control = random_field(system, 3), torch.tensor([[0.5, -1.0]] * 3).double()
    found = system.reference(field, control)
    for row in range(3):
        single = system_of(BURGERS, length=lengths[row], viscosity=viscosities[row])
        expected = single.reference(field[row, None], control[row, None])[0]
        torch.testing.assert_close(found[row], expected, rtol=1e-13, atol=1e-13)
        selected = system.select(torch.tensor([row]))
        assert selected.num_envs == 1 and float(selected.length) == lengths[row]
        again = selected.reference(field[row, None], control[row, None])[0]
        torch.testing.assert_close(again, expected, rtol=1e-13, atol=1e-13)
        free = selected.free_flow(field[row, None], 0.3, 4)
        torch.testing.assert_close(free, single.free_flow(field[row, None], 0.3, 4))


def test_rows_do_not_disturb_each_other() -> None:
    system = system_of(BURGERS)
    field, control = random_field(system, 3), torch.zeros((3, 2)).double()
    expected = system.reference(field, control)
    field[1] = torch.nan
    found = system.reference(field, control)
    assert found[1].isnan().all() and torch.equal(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 31}, "points: got 31"),
        ({"points": 4}, "points: got 4; allowed: even integers from 6 to 4096"),
        ({"points": 14}, "points: got 14"),
        ({"points": 8192}, "points: got 8192"),
        ({"points": 32.0}, "points: got 32.0"),
        ({"points": True}, "points: got True"),
        ({"integrator": "etdrk3"}, "integrator: got 'etdrk3'.*etdrk4"),
        ({"integrator": None}, "integrator: got None"),
        ({"backend": "triton"}, "unknown backend 'triton'; allowed: auto, numba, torch"),
        ({"backend": "numba", "device": torch.device("cuda")}, "runs on device 'cpu', got 'cuda'"),
        ({"length": 0.0}, "parameter 'length': got 0.0; allowed: numbers > 0"),
        ({"length": [1.0, -1.0], "num_envs": 2}, "parameter 'length'"),
        ({"length": [1.0, 2.0]}, "length"),
        ({"viscosity": math.nan}, "viscosity"),
        ({"substeps": 0}, "substeps"),
        ({"control_interval": -0.1}, "control_interval: got -0.1; allowed: a number > 0"),
    ],
    ids=str,
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    # A regular expression, of which no message uses a special character on purpose but ".".
    with pytest.raises(ValueError, match=message):
        system_of(BURGERS, **options)

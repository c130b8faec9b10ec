"""Equilibria of PDEs: known ones, forced ones, one for each row, and none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.optimize import brentq
from scipy.special import ellipk
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.analysis.newton_krylov import field_equilibrium
from separatrix.envs.core.registration import make_environment
from separatrix.envs.fluid.kuramoto_sivashinsky import NEAR
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian
from separatrix.envs.steppers.spectral_system import SpectralSystem
from tests.steppers.spectral_cases import smooth_field, system_of

ALLEN_CAHN = SpectralDefinition(
    name="AllenCahn",
    fields=("u",),
    dimensions=2,
    parameters={"length": 10.0, "growth": 1.0},
    linear=lambda d, p: [[p["growth"] + laplacian(d)]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u**3,),
    outputs=lambda d, p: [[-1]],
    degree=3,
    bound=(10.0,),
)


def system_at(length: Any = 22.0, num_envs: int = 1) -> SpectralSystem:
    environment: Any = make_environment(
        "KuramotoSivashinsky-v0", num_envs, dtype="float64", backend="torch",
        task="regulate", length=length,
    )  # fmt: skip
    system: SpectralSystem = environment.system
    return system


def guess(name: str) -> Tensor:
    x = 2 * torch.pi * torch.arange(64).double() / 64
    return torch.stack([b * (n * x).sin() for n, b in NEAR[name].items()]).sum(0)[None, None]


def speed(system: SpectralSystem, field: Tensor, control: Tensor) -> Tensor:
    """Root mean square of du/dt, of each row."""
    spectrum = system.grid.transform(field) * system.program.kept
    change = system.grid.synthesize(system.reference.vector_field(spectrum, control))
    return change.square().flatten(1).mean(1).sqrt()


@pytest.mark.parametrize(("name", "energy"), [("E1", 0.2609), ("E2", 0.4382), ("E3", 1.5876)])
def test_the_three_equilibria_at_length_22(name: str, energy: float) -> None:
    """Their energies <u^2> / 2 are those of Cvitanovic et al. (2010), as recalled."""
    system, rest = system_at(), torch.zeros((1, 4), dtype=torch.float64)
    found = field_equilibrium(system, guess(name))
    assert found.square().mean() / 2 == pytest.approx(energy, abs=5e-5)
    assert speed(system, found, rest) < 1e-10
    flowed = system.reference(found, rest)
    torch.testing.assert_close(flowed, found, rtol=0, atol=1e-9)
    odd = found[0, 0] + found[0, 0].flip(0).roll(1)
    assert odd.abs().max() < 1e-9  # the member of the family that the guess is


def test_a_held_control_moves_the_equilibrium() -> None:
    """Forces odd about x = 0, like the guess: others push it along its family, without end."""
    system = system_at()
    control = torch.tensor([[0.0, 0.05, 0.0, -0.05]], dtype=torch.float64)
    free, held = (field_equilibrium(system, guess("E2"), each) for each in (None, control))
    assert (speed(system, held, control) < 1e-10).all()
    assert (speed(system, held, torch.zeros_like(control)) > 1e-3).all()
    assert (held - free).abs().max() > 1e-3


def test_each_row_of_parameters_has_its_own() -> None:
    lengths = [21.0, 22.0, 23.0]
    system = system_at(lengths, 3)
    found = field_equilibrium(system, guess("E2"))
    assert found.shape == (3, 1, 64)
    assert (speed(system, found, torch.zeros((3, 4)).double()) < 1e-10).all()
    for row, length in enumerate(lengths):
        torch.testing.assert_close(
            found[row, None], field_equilibrium(system_at(length), guess("E2"))
        )


def test_cubic_products_in_the_plane() -> None:
    """Allen and Cahn's equation, u_t = u + lap u - u^3, rests at 1, and at patterns."""
    system = system_of(ALLEN_CAHN, 48)
    uniform = torch.full((1, 1, 48, 48), 0.9, dtype=torch.float64)
    torch.testing.assert_close(field_equilibrium(system, uniform), torch.ones_like(uniform))
    stripes = torch.sin(2 * torch.pi * torch.arange(48) / 48).double().expand(1, 1, 48, 48)
    found = field_equilibrium(system, stripes)
    assert speed(system, found, torch.zeros((1, 2), dtype=torch.float64)) < 1e-10
    # u = a sn(x (1 - a^2 / 2)^(1/2)) of parameter a^2 / (2 - a^2), whose period is the box.
    height = brentq(lambda a: 4 * ellipk(a**2 / (2 - a**2)) / (1 - a**2 / 2) ** 0.5 - 10, 0.1, 0.99)
    assert found[0, 0, 5, 12] == pytest.approx(height, rel=1e-6)


def test_none_near_the_guess() -> None:
    """A mean force drives the mean of u, which nothing holds back."""
    system = system_of(NO_REST, 16)
    with pytest.raises(
        ValueError, match=r"no equilibrium found near the guess: .*; allowed: a guess"
    ):
        field_equilibrium(system, smooth_field(system))


NO_REST = SpectralDefinition(
    name="NoRest",
    fields=("u",),
    dimensions=1,
    parameters={"length": 1.0},
    linear=lambda d, p: [[laplacian(d)]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-d[0] / 2]],
    degree=2,
    bound=(10.0,),
    forcing=lambda x, p: [1.0],
)

"""Deviations carried by the stepper are the derivatives of its steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.analysis.coordinates import flatten
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.analysis.tangent import advance_tangents, step_jacobian
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers.spectral import SpectralDefinition
from tests.steppers.spectral_cases import (
    BURGERS,
    HEAT,
    KLEIN_GORDON,
    PLANE,
    SOLITON,
    smooth_field,
    system_of,
)

CASES = [BURGERS, SOLITON, KLEIN_GORDON, HEAT, PLANE]


def environment_of(num_envs: int, **options: Any) -> Any:
    options = {"dtype": "float64", "backend": "torch", "points": 16, "task": "regulate", **options}
    return make_environment("KuramotoSivashinsky-v0", num_envs, **options)


@pytest.mark.parametrize("integrator", ["etdrk4", "ifrk4", "imexrk3"])
@pytest.mark.parametrize("definition", CASES, ids=lambda each: each.name)
def test_deviations_are_derivatives(definition: SpectralDefinition, integrator: str) -> None:
    """By automatic differentiation along random directions, of states and controls."""
    system = system_of(definition, 12, integrator=integrator)
    generator = torch.Generator().manual_seed(3)
    field, control = smooth_field(system), torch.tensor([[0.5, -0.3]], dtype=torch.float64)
    direction = torch.randn(field.shape, generator=generator, dtype=torch.float64)
    change = torch.randn(control.shape, generator=generator, dtype=torch.float64)
    expected = torch.autograd.functional.jvp(
        system.reference, (field, control), (direction, change)
    )
    both = system.tangent_stepper(1)(
        torch.cat((field, direction), 1), torch.cat((control, change), 1)
    )
    for found, exact in zip(both.split(field.shape[1], 1), expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [22.0, [20.0, 22.0, 24.0]], ids=["shared", "rows"])
def test_tangents_of_an_environment_are_its_automatic_derivatives(length: Any) -> None:
    """Of actions, too, where they are not clipped."""
    environment = environment_of(3, length=length)
    state, _ = environment.reset(0)
    action = torch.tensor([[0.3, -0.2, 1.5, 0.0]] * 3, dtype=torch.float64)
    directions = torch.eye(20).double().repeat(3, 1, 1)
    following, carried = advance_tangents(
        environment, state, action, directions[:, :16], directions[:, 16:]
    )
    other, inside, by_state, by_action = step_jacobian(environment, state, action)
    assert inside.all() and torch.equal(following.interval, other.interval)
    torch.testing.assert_close(following.field, other.field, rtol=1e-13, atol=1e-13)
    expected = torch.cat((by_state, by_action), 2)
    torch.testing.assert_close(carried, expected, rtol=1e-11, atol=1e-12)
    assert not carried[:, :, 18].any() and carried[:, :, 16].any()
    _, held = advance_tangents(environment, state, action, directions[:, :16, :16])
    torch.testing.assert_close(held, carried[..., :16])


def test_a_diverging_row_is_nan_and_disturbs_no_other() -> None:
    environment = environment_of(3)
    state, _ = environment.reset(0)
    action, tangents = torch.zeros((3, 4)).double(), torch.eye(16).double().repeat(3, 1, 1)
    sound, expected = advance_tangents(environment, state, action, tangents)
    state.field[1] = 1e3 * torch.sin(torch.arange(16).double())
    following, carried = advance_tangents(environment, state, action, tangents)
    assert carried[1].isnan().all() and torch.equal(following.field[1], state.field[1])
    assert torch.equal(carried[[0, 2]], expected[[0, 2]])
    assert torch.equal(following.field[[0, 2]], sound.field[[0, 2]])


def test_linearized_at_rest_waves_grow_as_the_dispersion_relation_says() -> None:
    """At u = 0: k^2 - k^4 for sines and cosines alike."""
    environment = environment_of(1, points=32)
    model = linearize(environment, torch.zeros((1, 32), dtype=torch.float64))
    growth = model.eigenvalues()[0].abs()[:21].log() / environment.control_interval
    k = 2 * torch.pi / 22 * torch.arange(1, 11).double()
    expected = torch.cat((torch.zeros(1).double(), (k**2 - k**4).repeat(2)))
    torch.testing.assert_close(growth, expected.sort(descending=True).values, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_the_fused_kernel_carries_tangents_alike() -> None:
    found = []
    for backend in ("torch", "numba"):
        environment = environment_of(4, backend=backend)
        state, _ = make_environment(
            "KuramotoSivashinsky-v0", 4, dtype="float64", backend="torch", points=16,
            task="regulate",
        ).reset(0)  # fmt: skip
        action = torch.full((4, 4), 0.2, dtype=torch.float64)
        directions = torch.eye(20).double().repeat(4, 1, 1)
        following, carried = advance_tangents(
            environment, state, action, directions[:, :16], directions[:, 16:]
        )
        found.append((flatten(following), carried))
    for reference, fused in zip(*found, strict=True):
        assert isinstance(fused, Tensor)
        torch.testing.assert_close(fused, reference, rtol=1e-11, atol=1e-11)

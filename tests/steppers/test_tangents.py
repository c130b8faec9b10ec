"""Gradients from the kernel that integrates derivatives beside the state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.steppers.adjoint_stepper import AdjointStepper
from separatrix.envs.steppers.tangent_stepper import TangentStepper

SYSTEMS = [
    name
    for name, entry in REGISTRY.items()
    if isinstance(entry.options.get("task"), str) and "points" not in entry.options
]
SMALL = [name for name in SYSTEMS if name != "separatrix/Lorenz96-v0"]
STEPS, BATCH = 5, 7


def inputs(name: str, dtype: str) -> tuple[Any, Tensor, Tensor]:
    """An environment, states off the attractor and actions, some of them clipped."""
    environment: Any = make_environment(name, BATCH, dtype=dtype, backend="numba")
    generator = torch.Generator().manual_seed(3)
    state, _ = environment.reset(5)
    values = state.values + 0.1 * torch.randn(state.values.shape, generator=generator)
    shape = (STEPS, BATCH, *environment.action_shape)
    return environment, values, 3 * torch.rand(shape, generator=generator).to(values) - 1.5


def gradients(step: Any, environment: Any, values: Tensor, actions: Tensor) -> list[Tensor]:
    """Of a mixture of everything that steps return, by the first state and the actions."""
    values, actions = values.clone().requires_grad_(), actions.clone().requires_grad_()
    x, total = values, values.new_zeros(())
    for action in actions:
        result = step(x, action, environment._parameters)
        x = result.next_values
        total = total + result.reward.sum() + result.observation.square().sum()
    return list(torch.autograd.grad(total + x.sin().sum(), (values, actions)))


@pytest.mark.parametrize("name", SMALL)
def test_they_are_those_of_automatic_differentiation(name: str) -> None:
    environment, values, actions = inputs(name, "float64")
    stepper = environment._stepper
    assert isinstance(stepper.differentiable, TangentStepper)
    ours = gradients(stepper, environment, values, actions)
    theirs = gradients(stepper.reference, environment, values, actions)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= 1e-10 * other.abs().max()


def test_a_large_system_goes_back() -> None:
    environment = make_environment("Lorenz96-v0", backend="numba")
    stepper = environment._stepper  # type: ignore[attr-defined]
    assert type(stepper.differentiable) is AdjointStepper


def test_single_precision_loses_no_more_than_its_rounding() -> None:
    environment, values, actions = inputs("Lorenz-v0", "float32")
    precise, *_ = inputs("Lorenz-v0", "float64")
    ours = gradients(environment._stepper, environment, values, actions)
    theirs = gradients(precise._stepper, precise, values.double(), actions.double())
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_a_diverged_row_spoils_no_neighbour() -> None:
    environment, values, actions = inputs("Lorenz-v0", "float64")
    alone = gradients(environment._stepper, environment, values, actions)
    broken = values.clone()
    broken[2] = 1e200
    spoiled = gradients(environment._stepper, environment, broken, actions)
    others = [0, 1, 3, 4, 5, 6]
    assert torch.equal(alone[0][others], spoiled[0][others])
    assert torch.equal(alone[1][:, others], spoiled[1][:, others])
    assert (spoiled[1][:, 2] == 0).all()


def test_parameters_of_each_environment_are_used() -> None:
    rho = torch.linspace(20.0, 40.0, BATCH)
    environment: Any = make_environment("Lorenz-v0", BATCH, dtype="float64", rho=rho)
    _, values, actions = inputs("Lorenz-v0", "float64")
    ours = gradients(environment._stepper, environment, values, actions)
    theirs = gradients(environment._stepper.reference, environment, values, actions)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

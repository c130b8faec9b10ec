"""Equilibria rest, all of them are found, and each environment has its own."""

import math
from typing import Any

import pytest
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.analysis.equilibria import equilibria, fixed_point, newton
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.wrappers import ActionDelay

NONE_FROM_THE_ATTRACTOR = {  # the flow of the drive's phase never rests; far from rest; a line
    "separatrix/Duffing-v0",
    "separatrix/Lorenz96-v0",
    "separatrix/CartPoleSwingUp-v0",
}


ODES = {
    name
    for name, entry in REGISTRY.items()
    if isinstance(entry.options.get("task"), str) and "points" not in entry.options
}


@pytest.mark.parametrize("name", sorted(ODES - NONE_FROM_THE_ATTRACTOR))
def test_equilibria_stay_where_they_are(name: str) -> None:
    environment: Any = make_environment(name, dtype="float64", backend="torch")
    starts = environment.reset(torch.arange(16))[0].values
    (found,) = equilibria(environment, starts)
    state, _ = environment.reset(torch.zeros(len(found), dtype=torch.int64))
    state.values[:] = found
    action = torch.zeros((len(found), *environment.action_shape), dtype=torch.float64)
    after = environment.step(state, action).state.values
    inside = environment.system.inside(state)
    assert inside.any()
    size = found.abs().amax().clamp(min=1.0)
    assert (after - found)[inside].abs().max() < 1e-10 * size


def test_all_three_of_lorenz_and_only_the_origin_below_one() -> None:
    rho = [28.0, 0.5]
    environment: Any = make_environment("Lorenz-v0", 2, dtype="float64", rho=rho)
    starts = make_environment("Lorenz-v0", dtype="float64").reset(torch.arange(32))[0].values
    chaotic, damped = equilibria(environment, starts)
    q = math.sqrt(8 / 3 * 27)
    expected = torch.tensor([[-q, -q, 27.0], [0, 0, 0], [q, q, 27.0]], dtype=torch.float64)
    torch.testing.assert_close(chaotic, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(damped, torch.zeros((1, 3)).double(), rtol=0, atol=1e-9)


def test_a_held_action_moves_the_equilibrium() -> None:
    environment: Any = make_environment("VanDerPol-v0", dtype="float64")
    (found,) = equilibria(environment, torch.zeros((1, 2)).double(), action=[0.5])
    control = environment.control(torch.tensor([[0.5]]).double())
    assert environment.system.vector_field(found, control).abs().max() < 1e-12
    assert found.abs().max() > 0.1


def test_angles_a_turn_apart_are_one_equilibrium() -> None:
    environment: Any = make_environment("DampedPendulum-v0", dtype="float64")
    turns = 2 * math.pi * torch.arange(-2, 3)
    starts = torch.stack((turns + 0.1, torch.zeros(5)), 1).double()
    (found,) = equilibria(environment, torch.cat((starts, starts + math.pi)))
    assert len(found) == 2
    assert found[:, 0].abs().sort().values == pytest.approx([0, math.pi], abs=1e-9)


def test_of_any_environment_by_the_derivative_of_its_step() -> None:
    environment: Any = make_environment("Lorenz-v0", dtype="float64", wrap=[ActionDelay(1)])
    physics = environment.reset(torch.arange(8))[0].inner.values
    starts = torch.cat((physics, torch.zeros((8, 1)).double()), 1)
    (found,) = equilibria(environment, starts)
    (expected,) = equilibria(environment.unwrapped, physics)
    assert all(
        (expected - row[:3]).abs().amax(1).min() < 1e-7 and row[3].abs() < 1e-9 for row in found
    )


def test_none_is_an_error() -> None:
    environment: Any = make_environment("Lorenz-v0", 2, dtype="float64", rho=[28.0, 20.0])
    with pytest.raises(ValueError, match=r"environment 0: Newton's method found no equilibrium"):
        equilibria(environment, torch.full((1, 3), torch.nan).double())
    with pytest.raises(ValueError, match=r"action: got shape \(2,\); allowed: 1 numbers"):
        equilibria(environment, torch.zeros((1, 3)).double(), action=[0.0, 0.0])


def test_a_row_that_fails_disturbs_no_other() -> None:
    def residual(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x**2 - 2, 2 * x[..., None]

    start = torch.tensor([[1.0], [0.0], [torch.nan], [-1.0]]).double()
    values, found = newton(residual, start, 1e-12)
    assert found.tolist() == [True, False, False, True]
    assert values[[0, 3], 0].tolist() == pytest.approx([math.sqrt(2), -math.sqrt(2)], abs=1e-12)


def test_fixed_point_of_a_map() -> None:
    environment: Any = make_environment("Henon-v0", dtype="float64")
    found = fixed_point(environment.system, (0.5, 0.2))
    x = (0.3 - 1 + math.sqrt((0.3 - 1) ** 2 + 4 * 1.4)) / (2 * 1.4)
    assert found[0].tolist() == pytest.approx([x, 0.3 * x], abs=1e-12)

"""Gradients from the kernel that goes back through the control interval."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers import numba_backend
from separatrix.envs.steppers.adjoint_stepper import AdjointStepper
from separatrix.envs.steppers.functions import maximum, sin, where
from separatrix.envs.steppers.integrators import tableau
from separatrix.envs.steppers.ode import difference_equation, ode
from separatrix.envs.steppers.symbolic import trace
from separatrix.envs.steppers.torch_backend import Interval, TorchStepper
from separatrix.envs.twin.glucose.model import glucose

BATCH = 37  # more than a block, and not a multiple of one


class Anywhere:
    """Tests set the states themselves."""

    def sample(self, stream: Any) -> Any:
        raise TypeError("no start")


def _kick(x, y, u, v, *, rate, unused, gift):  # type: ignore[no-untyped-def]
    """Mixes states, controls and parameters, on either side of a threshold."""
    return x + 0.1 * v * y + where(x < y, gift * x**2, 0), maximum(y, gift) - 0.2 * u * x


@ode("x y", "u v", start=Anywhere(), box=(-1e3, 1e3), jump=_kick)
def kicked(x, y, u, v, *, rate=-0.5, unused=1.0, gift=0.25):  # type: ignore[no-untyped-def]
    return rate * y + sin(x) * u, x * y * rate - v * gift


@difference_equation("x y", "u", start=Anywhere(), box=(-1e3, 1e3))
def henon(x, y, u, *, a=1.1, b=0.3):  # type: ignore[no-untyped-def]
    return 1 - a * x**2 + y + u, b * x


DEFINITIONS = {"kicked": kicked, "henon": henon, "glucose": glucose}
SCHEMES = [
    *(("kicked", scheme) for scheme in ("euler", "heun", "rk4", "tsit5")),
    ("henon", "map"),
    ("glucose", "rk4"),
    ("Lorenz-v0", "rk4"),
    ("CartPoleSwingUp-v0", "rk4"),
    pytest.param("Lorenz96-v0", "rk4", marks=pytest.mark.slow),
]


@cache
def stepper(name: str, scheme: str = "rk4", dtype: str = "float64") -> AdjointStepper:
    """Goes back through three sub-steps."""
    if name in DEFINITIONS:
        program, duration = trace(DEFINITIONS[name]), {"kicked": 0.3}.get(name, 3.0)
    else:
        environment: Any = make_environment(name, backend="torch")
        program, duration = environment._program, environment.control_interval
    endless = np.full(len(program.state), np.inf)
    interval = Interval(duration, 3, -endless, endless)
    return AdjointStepper(TorchStepper(program, tableau(scheme), interval), np.dtype(dtype))


def inputs(name: str, own: bool, batch: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
    """States, controls, and parameters near their defaults; component-major."""
    program = stepper(name).program
    generator = torch.Generator().manual_seed(4)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    if name in DEFINITIONS:
        defaults = torch.tensor(list(DEFINITIONS[name].parameters.values()))
    else:
        environment: Any = make_environment(name, backend="torch", dtype="float64")
        defaults = environment._parameters[:, 0]
    spread = 0.98 + 0.04 * uniform(len(defaults), batch if own else 1)
    x = uniform(len(program.state), batch) - 0.3
    if name == "glucose":
        x = 300 * (x + 0.3)  # compartments are full, some stomachs are empty, some eat
        x[:3] *= (uniform(1, batch) > 0.3).double()
        x[13:17] *= 0.1 * (uniform(4, batch) > 0.3)
        x[17] = 5.0
    u = uniform(len(program.control), batch)
    if name == "glucose":
        u[1:] = torch.tensor([[40.0], [6.0]])
    return x, u, defaults.double()[:, None] * spread


def gradients(
    step: TorchStepper, values: tuple[Tensor, ...], weights: Tensor | None = None
) -> tuple[Tensor, ...]:
    """The end of the interval, and the gradients of a mixture of it by all inputs."""
    leaves = [tensor.clone().requires_grad_() for tensor in values]
    end = step.integrate(*leaves)
    if weights is None:
        weights = torch.cos(torch.arange(end.numel(), dtype=end.dtype)).view(end.shape)
    found = torch.autograd.grad(end, leaves, weights, allow_unused=True, materialize_grads=True)
    return (end.detach(), *found)


def reference(step: AdjointStepper) -> TorchStepper:
    return TorchStepper(step.program, step.scheme, step.interval)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize(("name", "scheme"), SCHEMES)
def test_they_are_those_of_automatic_differentiation(name: str, scheme: str, own: bool) -> None:
    step, values = stepper(name, scheme), inputs(name, own)
    ours, theirs = gradients(step, values), gradients(reference(step), values)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert other.isfinite().all()
        # Every component has a unit of its own: each must agree by itself.
        size = other.abs().amax(1, keepdim=True)
        assert ((one - other).abs() <= 1e-10 * size).all()
    assert all((gradient != 0).any() for gradient in theirs[1:])


@pytest.mark.parametrize("name", ["kicked", "henon"])
def test_they_are_central_differences(name: str) -> None:
    step, values = stepper(name, "map" if name == "henon" else "rk4"), inputs(name, True, 5)
    _, *found = gradients(step, values, torch.ones(2, 5, dtype=torch.float64))
    for k, gradient in enumerate(found):
        for i in range(len(gradient)):
            moved = [[tensor.clone() for tensor in values] for _ in range(2)]
            moved[0][k][i] += 1e-6
            moved[1][k][i] -= 1e-6
            plus, minus = (step.integrate(*tensors).sum(0) for tensors in moved)
            torch.testing.assert_close(gradient[i], (plus - minus) / 2e-6, rtol=1e-7, atol=1e-8)


def test_single_precision_loses_no_more_than_its_rounding() -> None:
    values = inputs("kicked", True)
    ours = gradients(stepper("kicked", dtype="float32"), tuple(v.float() for v in values))
    theirs = gradients(stepper("kicked"), tuple(v.float().double() for v in values))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        size = other.abs().amax(1, keepdim=True)
        assert ((one - other).abs() <= 1e-4 * size).all()


def test_a_row_that_is_not_a_number_spoils_no_neighbour() -> None:
    step, values = stepper("kicked"), inputs("kicked", True)
    broken = values[0].clone()
    broken[:, 3] = torch.nan
    alone, spoiled = gradients(step, values), gradients(step, (broken, *values[1:]))
    others = torch.arange(BATCH) != 3
    for one, other in zip(alone, spoiled, strict=True):
        assert torch.equal(one[:, others], other[:, others])
        assert other[:, 3].isnan().any()


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_an_environment_does_not_depend_on_its_neighbours(
    own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, (x, u, p) = stepper("kicked", dtype="float32"), inputs("kicked", own, 700)
    x, u, p = x.float(), u.float(), p.float()
    weights = torch.cos(torch.arange(1400.0)).view(2, 700)

    def found(columns: slice) -> tuple[Tensor, ...]:
        rows = p[:, columns] if own else p
        end, *back = gradients(step, (x[:, columns], u[:, columns], rows), weights[:, columns])
        return (end, *back) if own else (end, *back[:2])

    everybody = found(slice(0, 700))
    for columns in (slice(0, 1), slice(5, 38), slice(31, 33), slice(699, 700)):
        for one, other in zip(found(columns), everybody, strict=True):
            assert torch.equal(one, other[:, columns])
    # As many chunks as on a machine with that many threads, whatever this one has.
    monkeypatch.setattr(numba_backend, "THREADED_FROM", 0)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 3)
    for one, other in zip(found(slice(0, 700)), everybody, strict=True):
        assert torch.equal(one, other)


def test_numbers_of_another_kind() -> None:
    x, u, p = inputs("kicked", False)
    with pytest.raises(ValueError, match="got float32; allowed: float64"):
        stepper("kicked").integrate(x, u.float(), p)

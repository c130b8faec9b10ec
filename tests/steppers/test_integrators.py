"""Order of convergence of every scheme on both backends, and its tableau's order conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.functions import Expression, exp
from separatrix.envs.steppers.integrators import INTEGRATORS, Tableau, tableau
from separatrix.envs.steppers.ode import OdeDefinition, ode
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem

# A rooted tree is the sorted tuple of its root's subtrees (Hairer, Norsett, Wanner, sec. II.2).
Tree = tuple[Any, ...]

DURATION = 1.0
# Numbers of steps for which the error is in the asymptotic range and far above rounding.
STEPS = {
    "euler": (512, 1024, 2048, 4096),
    "heun": (64, 128, 256, 512),
    "rk4": (32, 64, 128, 256),
    "tsit5": (64, 96, 128, 192),
}


class Nowhere:
    """These systems are only advanced from given states."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        raise NotImplementedError


def everywhere(states: str, controls: str) -> Any:
    return ode(states=states, controls=controls, start=Nowhere(), box=(-np.inf, np.inf))


@everywhere("x y", "")
def twist(x: Expression, y: Expression, *, rate: Expression = 3.1) -> tuple[Expression, ...]:
    """Every circle turns at an angular velocity that is its radius squared times the rate."""
    speed = rate * (x**2 + y**2)
    return -speed * y, speed * x


@everywhere("prey predator", "growth")
def predation(
    prey: Expression, predator: Expression, growth: Expression, *, rate: Expression = 3.3
) -> tuple[Expression, ...]:
    """Lotka and Volterra's equations in the logarithms of the populations: no polynomial."""
    return rate * (1 - exp(predator)) + growth, rate * (exp(prey) - 1)


STATES = torch.tensor([[1.0, 0.3], [-0.4, 0.9], [0.2, -1.1], [0.7, 0.7]], dtype=torch.float64)
GROWTH = 0.4


@cache
def exact(name: str) -> Float[Tensor, "batch state"]:
    """The states after the interval: in closed form, or by scipy to 13 digits."""
    if name == "twist":
        position = torch.complex(STATES[:, 0], STATES[:, 1])
        turned = position * torch.exp(3.1j * position.abs() ** 2 * DURATION)
        return torch.stack((turned.real, turned.imag), 1)

    def field(_: float, state: np.ndarray) -> list[float]:
        prey, predator = np.exp(state)
        return [3.3 * (1 - predator) + GROWTH, 3.3 * (prey - 1)]

    ends = [
        solve_ivp(field, (0, DURATION), row, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]
        for row in STATES.numpy()
    ]
    return torch.tensor(np.array(ends))


def error(definition: OdeDefinition, integrator: str, backend: str, steps: int) -> float:
    """Root mean square error after `DURATION`."""
    system = OdeSystem(
        definition,
        {},
        num_envs=len(STATES),
        control_interval=DURATION,
        substeps=steps,
        integrator=integrator,
        device=torch.device("cpu"),
        dtype=torch.float64,
        backend=backend,
    )
    stream = Stream.start(torch.arange(len(STATES)))
    state = OdeState(stream, torch.zeros_like(stream.seed), STATES)
    control = torch.full((len(STATES), len(definition.control_names)), GROWTH, dtype=torch.float64)
    found = system.advance(state, control).values
    return float((found - exact(definition.name)).square().mean().sqrt())


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("definition", [twist, predation], ids=lambda definition: definition.name)
def test_error_falls_with_the_order_of_the_scheme(
    definition: OdeDefinition, integrator: str, backend: str, gate: Callable[..., None]
) -> None:
    steps = STEPS[integrator]
    errors = [error(definition, integrator, backend, n) for n in steps]
    assert min(errors) > 1e-12  # else rounding would be measured
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    gate(
        f"ODE steppers, {integrator}",
        f"order of convergence; {definition.name}, {backend}",
        slope,
        tableau(integrator).order,
        tolerance=0.1,
        source="order of the scheme",
    )


def trees(order: int) -> Iterator[Tree]:
    """All rooted trees of an order, each once."""

    def forests(size: int, largest: Tree | None) -> Iterator[Tree]:
        if size == 0:
            yield ()
        for first in range(1, size + 1):
            for subtree in trees(first):
                if largest is None or (first, subtree) <= (nodes(largest), largest):
                    for rest in forests(size - first, subtree):
                        yield (subtree, *rest)

    yield from forests(order - 1, None)


def nodes(tree: Tree) -> int:
    return 1 + sum(map(nodes, tree))


def density(tree: Tree) -> int:
    return nodes(tree) * math.prod(map(density, tree))


def stage_weights(scheme: Tableau, tree: Tree) -> list[Fraction]:
    """The product over the root's subtrees, one number a stage, in exact arithmetic."""
    product = [Fraction(1)] * len(scheme.b)
    for subtree in tree:
        inner = stage_weights(scheme, subtree)
        for i, row in enumerate(scheme.a):
            product[i] *= sum((Fraction(a) * inner[j] for j, a in enumerate(row)), Fraction(0))
    return product


def defect(scheme: Tableau, tree: Tree) -> float:
    """What is left of Butcher's condition sum_i b_i Phi_i(tree) = 1 / density(tree)."""
    stages = stage_weights(scheme, tree)
    weight = sum((Fraction(b) * s for b, s in zip(scheme.b, stages, strict=True)), Fraction(0))
    return abs(float(weight - Fraction(1, density(tree))))


def test_numbers_of_rooted_trees() -> None:
    """Sloane's A000081, so that no condition is forgotten below."""
    assert [len(list(trees(order))) for order in range(1, 7)] == [1, 1, 2, 4, 9, 20]
    assert len(set(trees(6))) == 20


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_order_conditions(integrator: str) -> None:
    """To 1.5e-14: rounding the 11.7 in Tsit5, by up to 0.9e-15, moves one condition by 1.1e-14."""
    scheme = tableau(integrator)
    for order in range(1, scheme.order + 1):
        for tree in trees(order):
            assert defect(scheme, tree) < 1.5e-14, tree
    assert max(defect(scheme, tree) for tree in trees(scheme.order + 1)) > 1e-4


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_tableau_is_explicit_and_complete(integrator: str) -> None:
    scheme = tableau(integrator)
    assert [len(row) for row in scheme.a] == list(range(len(scheme.b)))
    assert all(any(row) for row in scheme.a[1:])


def test_nodes_of_tsit5() -> None:
    """The row sums of the matrix are the nodes that table 1 of Tsitouras (2011) lists."""
    nodes_of_table = (0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0)
    sums = [sum(map(Fraction, row), Fraction(0)) for row in tableau("tsit5").a]
    assert [float(s) for s in sums] == pytest.approx(nodes_of_table, abs=1e-14)


def test_unknown_integrator() -> None:
    with pytest.raises(ValueError, match="unknown integrator 'rk5'; allowed: euler, heun, rk4"):
        tableau("rk5")

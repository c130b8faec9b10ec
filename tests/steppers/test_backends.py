"""The fused numba stepper computes what the torch reference defines, to rounding."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from jaxtyping import Float
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.environment import Transition
from separatrix.envs.core.registration import REGISTRY, find, make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.component_task import Components, ComponentTask, Parameters
from separatrix.envs.steppers.functions import Expression, exp
from separatrix.envs.steppers.integrators import INTEGRATORS, tableau
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem
from separatrix.envs.steppers.printing import Block

IDS = [name for name, entry in REGISTRY.items() if "integrator" in entry.options]
QUICK = ("separatrix/Lorenz-v0", "separatrix/Rossler-v0", "separatrix/CartPoleSwingUp-v0")
BATCH = 70  # two full blocks of lanes and a part of one


def cases() -> list[Any]:
    """Every system with every scheme and dtype; the fast tier compiles a sample of them."""
    found = []
    for name in IDS:
        for integrator in INTEGRATORS:
            for dtype in ("float32", "float64"):
                quick = name in QUICK and (
                    integrator == find(name).options["integrator"]
                    or (name == QUICK[0] and dtype == "float64")
                )
                found.append(
                    pytest.param(
                        name, integrator, dtype, marks=[] if quick else [pytest.mark.slow]
                    )
                )
    return found


def make(name: str, backend: str, dtype: str, **options: Any) -> Any:
    return make_environment(name, BATCH, backend=backend, dtype=dtype, **options)


def row_parameters(name: str) -> dict[str, np.ndarray]:
    """Parameters of its own for every environment, within five per cent of the defaults."""
    generator = np.random.default_rng(8)
    defaults = make(name, "torch", "float32").system.definition.parameters
    return {
        key: value * (1 + 0.05 * generator.uniform(-1, 1, BATCH)) for key, value in defaults.items()
    }


def scattered(environment: Any) -> tuple[OdeState, Tensor]:
    """States around those that episodes start from, and actions of which some must be clipped."""
    generator = np.random.default_rng(7)
    state, _ = environment.reset(0)
    noise = torch.from_numpy(generator.standard_normal(state.values.shape))
    action = generator.uniform(-1.5, 1.5, (BATCH, *environment.action_space.shape))
    values = (state.values + noise).to(environment.dtype)
    return replace(state, values=values), torch.from_numpy(action).to(environment.dtype)


def numbers(transition: Transition) -> Float[Tensor, "batch number"]:
    """All real numbers of a transition: state, observation, reward and metrics."""
    metrics = [value[:, None] for key, value in transition.info.items() if key != "diverged"]
    state, observation = transition.state.values, transition.observation
    return torch.cat([state, observation, transition.reward[:, None], *metrics], 1).double()


def operations(environment: Any) -> int:
    """Rounded operations between a state and a number that a control interval makes of it."""
    program, system = environment._program, environment.system
    scheme = tableau(system.integrator)
    deepest = max(int(sympy.count_ops(value)) for value in program.vector_field)
    field = min(deepest, Block(program.vector_field).operations)
    combination = 2 * sum(map(len, scheme.a)) + 2 * len(scheme.b)
    integration = system.interval.substeps * (len(scheme.b) * field + combination)
    return integration + Block((*program.law, *program.outputs)).operations


def rounding(
    environment: Any, state: OdeState, action: Tensor, epsilon: float
) -> Float[Tensor, "batch number"]:
    """A bound of the difference between two ways to round the same computation.

    Each operation of each way rounds by at most half an epsilon of the largest component (a stable
    step changes the state by no more than its size), and an error made on the way grows at most as
    the sensitivity tells that is measured here, in float64 and over random directions.

    Args:
        environment: A float64 environment on torch.
        state: States in float64.
        action: Actions in float64.
        epsilon: Spacing of the floats at 1.
    """
    generator = np.random.default_rng(9)
    result = environment.step(state, action)
    size = torch.maximum(state.values.abs(), result.state.values.abs()).amax(1, keepdim=True)
    # An error may be made at the start of the interval or at its end.
    instant = copy.copy(environment)
    instant._stepper = copy.copy(environment._stepper)
    instant._stepper.interval = replace(environment.system.interval, duration=1e-12, substeps=1)
    sensitivity = torch.zeros_like(numbers(result))
    for place, start in ((environment, state), (instant, result.state)):
        centre = numbers(place.step(start, action))
        for _ in range(16):
            direction = torch.from_numpy(generator.choice([-1.0, 1.0], start.values.shape))
            moved = replace(start, values=start.values + 1e-7 * size * direction)
            change = (numbers(place.step(moved, action)) - centre).abs()
            sensitivity = torch.maximum(sensitivity, change / (1e-7 * size))
    return epsilon * operations(environment) * (sensitivity * size + numbers(result).abs())


def in_float64(state: OdeState) -> OdeState:
    return replace(state, values=state.values.double())


@pytest.mark.parametrize(("name", "integrator", "dtype"), cases())
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_numba_equals_torch(name: str, integrator: str, dtype: str, shared: bool) -> None:
    options: dict[str, Any] = {"integrator": integrator, **({} if shared else row_parameters(name))}
    fused, reference = (make(name, backend, dtype, **options) for backend in ("numba", "torch"))
    state, action = scattered(fused)
    found, expected = fused.step(state, action), reference.step(state, action)
    exact = make(name, "torch", "float64", **options)
    epsilon = torch.finfo(fused.dtype).eps
    bound = rounding(exact, in_float64(state), action.double(), epsilon)
    difference = (numbers(found) - numbers(expected)).abs()
    assert (difference <= bound).all(), f"{(difference / bound).max():.3g} times the bound"
    assert torch.equal(found.terminated, expected.terminated)
    assert torch.equal(found.info["diverged"], expected.info["diverged"])
    assert torch.equal(found.state.interval, expected.state.interval)
    # The bound must be able to fail: it is well below what one interval changes.
    changed = (expected.state.values - state.values).abs().amax(0)
    assert (bound[:, : changed.shape[0]].amax(0) < 0.02 * changed).all()
    observations = fused.observe(found.state), reference.observe(found.state)
    torch.testing.assert_close(*observations, rtol=8 * epsilon, atol=8 * epsilon)

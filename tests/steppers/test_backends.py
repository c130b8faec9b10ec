"""The fused steppers compute what the torch reference defines, to rounding.

These tests are of the numba kernels, or with TRITON_INTERPRET=1 of the Triton kernels.
"""

from __future__ import annotations

import copy
import math
import os
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

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KERNEL = "triton" if INTERPRETED else "numba"
IDS = [
    name
    for name, entry in REGISTRY.items()
    if "integrator" in entry.options and "triton" in entry.backends
]
QUICK = ("separatrix/Lorenz-v0", "separatrix/Rossler-v0", "separatrix/CartPoleSwingUp-v0")
SLOW_VARIABLE = ("separatrix/HindmarshRose-v0",)  # its adaptation hardly moves in an interval
BATCH = 70  # two full blocks of lanes and a part of one


def cases() -> list[Any]:
    """Every system with every scheme and dtype; the fast tier compiles a sample of them."""
    found = []
    for name in IDS:
        for integrator in INTEGRATORS:
            for dtype in ("float32", "float64"):
                quick = (name in QUICK or INTERPRETED) and (
                    integrator == find(name).options["integrator"]
                    or (name == QUICK[0] and dtype == "float64")
                )
                found.append(
                    pytest.param(name, integrator, dtype, marks=[] if quick else [pytest.mark.slow])
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
    action = generator.uniform(-1.5, 1.5, (BATCH, *environment.action_shape))
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
    step changes the state by no more than its size). These errors are independent and add up as a
    random walk, of which four standard deviations are allowed. One made on the way grows at most as
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
    walk = 4 * math.sqrt(operations(environment))
    return epsilon * walk * (sensitivity * size + numbers(result).abs())


def in_float64(state: OdeState) -> OdeState:
    return replace(state, values=state.values.double())


@pytest.mark.parametrize(("name", "integrator", "dtype"), cases())
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_kernel_equals_torch(name: str, integrator: str, dtype: str, shared: bool) -> None:
    options: dict[str, Any] = {"integrator": integrator, **({} if shared else row_parameters(name))}
    fused, reference = (make(name, backend, dtype, **options) for backend in (KERNEL, "torch"))
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
    share = 0.1 if name in SLOW_VARIABLE else 0.01
    assert (bound[:, : changed.shape[0]].amax(0) < share * changed).all()
    observations = fused.observe(found.state), reference.observe(found.state)
    torch.testing.assert_close(*observations, rtol=8 * epsilon, atol=8 * epsilon)


@dataclass(frozen=True)
class Near:
    """Starts between 0 and 1."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        return stream.uniform(2, torch.float64, 0)


@ode(states="x y", controls="u", start=Near(), box=((-5.0, -3.0), (5.0, 3.0)))
def explosion(
    x: Expression, y: Expression, u: Expression, *, rate: Expression = 1.0
) -> tuple[Expression, ...]:
    """Reaches infinity at time 1 / (rate x)."""
    return rate * x**2 + u, -y


@dataclass(frozen=True)
class Watch(ComponentTask):
    """Rewards from -2, so that the worst one is not the zero of an empty array."""

    reward_range = (-2.0, 1.0)

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        return np.full(2, 5.0)

    def equilibrium(self, system: OdeSystem) -> Tensor:
        return torch.zeros((1, 2), dtype=torch.float64)

    def control(self, action: Components, parameters: Parameters) -> Components:
        return action

    def observe(self, state: Components, parameters: Parameters) -> Components:
        return [2 * state[0], state[1]]

    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        return exp(-(next_state[0] ** 2))

    def terminated(self, state: Components, parameters: Parameters) -> Expression:
        return state[0] > 4

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        return {"step": next_state[0] - state[0]}


def exploding(backend: str, dtype: torch.dtype, rate: Any = 1.0) -> tuple[OdeEnvironment, OdeState]:
    system = OdeSystem(
        explosion,
        {"rate": rate},
        num_envs=BATCH,
        control_interval=1.0,
        substeps=20,
        device=torch.device("cpu"),
        dtype=dtype,
        backend=backend,
    )
    environment = OdeEnvironment(system, Watch(), 10, lambda values, _: np.zeros(0))
    state, _ = environment.reset(0)
    return environment, replace(state, values=0.5 * state.values)


# How a state is lost, by its first component: the box is left, the numbers overflow, or there is
# nothing sound to begin with.
LOST = {3: 0.9, 20: 4.99, 33: 1e30, 69: float("nan")}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["torch", KERNEL])
def test_diverged_state_is_held_and_neighbours_are_undisturbed(
    backend: str, dtype: torch.dtype
) -> None:
    environment, state = exploding(backend, dtype)
    lost = torch.zeros(BATCH, dtype=torch.bool)
    lost[list(LOST)] = True
    values = state.values.clone()
    values[list(LOST), 0] = torch.tensor(list(LOST.values()), dtype=dtype)
    action = torch.full((BATCH, 1), 0.1, dtype=dtype)
    sound = environment.step(state, action)
    assert not sound.info["diverged"].any()

    result = environment.step(replace(state, values=values), action)
    assert torch.equal(result.info["diverged"], lost)
    assert torch.equal(result.terminated, lost)
    assert (result.reward[lost] == -2.0).all()
    held = result.state.values[lost]
    torch.testing.assert_close(held, values[lost], rtol=0, atol=0, equal_nan=True)
    seen = held * torch.tensor([2.0, 1.0], dtype=dtype)
    torch.testing.assert_close(result.observation[lost], seen, rtol=0, atol=0, equal_nan=True)
    for key, number in {"reward": result.reward, **result.info}.items():
        assert not (lost & number.isnan())[:60].any(), key  # all but the NaN in the last row
    for found, expected in zip(result[:4], sound[:4], strict=True):
        pair = (t.values if isinstance(t, OdeState) else t for t in (found, expected))
        assert torch.equal(*(tensor[~lost] for tensor in pair))
    assert torch.equal(result.info["step"][~lost], sound.info["step"][~lost])


@pytest.mark.parametrize("backend", ["torch", KERNEL])
def test_divergence_by_an_own_parameter(backend: str) -> None:
    rate = torch.ones(BATCH, dtype=torch.float64)
    rate[5] = 1e300
    environment, state = exploding(backend, torch.float64, rate)
    plain, _ = exploding(backend, torch.float64)
    action = torch.zeros((BATCH, 1), dtype=torch.float64)
    result, expected = environment.step(state, action), plain.step(state, action)
    assert result.info["diverged"].nonzero().flatten().tolist() == [5]
    assert torch.equal(result.state.values[5], state.values[5])
    others = torch.arange(BATCH) != 5
    assert torch.equal(result.state.values[others], expected.state.values[others])


@pytest.mark.parametrize("backend", ["torch", KERNEL])
def test_termination_by_the_task(backend: str) -> None:
    environment, state = exploding(backend, torch.float64)
    values = state.values.clone()
    values[1, 0] = 0.81  # grows to 0.81 / (1 - 0.81) = 4.26 in the interval
    action = torch.zeros((BATCH, 1), dtype=torch.float64)
    result = environment.step(replace(state, values=values), action)
    assert result.state.values[1, 0].item() == pytest.approx(0.81 / 0.19, rel=1e-3)
    assert result.terminated.nonzero().flatten().tolist() == [1]
    assert not result.info["diverged"].any()
    assert result.reward[1] > -2.0


@pytest.mark.parametrize("backend", ["torch", KERNEL])
@pytest.mark.parametrize("bad", [1.0000001, -7.0, 1e30])
def test_actions_are_clipped(backend: str, bad: float) -> None:
    environment, state = exploding(backend, torch.float32)
    limit = math.copysign(1.0, bad)
    clipped, plain = (
        environment.step(state, torch.full((BATCH, 1), action)) for action in (bad, limit)
    )
    assert torch.equal(numbers(clipped), numbers(plain))


def test_kernel_refuses_tensors_that_its_kernel_would_misread() -> None:
    environment, state = exploding(KERNEL, torch.float64)
    action = torch.zeros((BATCH, 1), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"action: got .* shape \(3, 1\); allowed: .* \(70, 1\)"):
        environment.step(state, action[:3])
    with pytest.raises(ValueError, match=r"state: got .*float32 .* allowed: .*float64"):
        environment.step(replace(state, values=state.values.float()), action)
    own, _ = exploding(KERNEL, torch.float64, torch.ones(BATCH))
    with pytest.raises(ValueError, match=r"parameters: got .* \(1, 70\); allowed: .* \(1, 3\)"):
        own.step(replace(state, values=state.values[:3]), action[:3])

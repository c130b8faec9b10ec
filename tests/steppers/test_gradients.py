"""Gradients through control steps: against central differences, past divergence, free of charge."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.component_task import Components, ComponentTask, Parameters
from separatrix.envs.steppers.functions import Expression, sqrt
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeSystem
from separatrix.envs.steppers.torch_backend import StepResult

SYSTEMS = [
    name
    for name, entry in REGISTRY.items()
    if "integrator" in entry.options
    and "triton" in entry.backends
    and name != "separatrix/Lorenz96-v0"
]
STEPS = 20
KERNEL = "triton" if os.environ.get("TRITON_INTERPRET") == "1" else "numba"
backends = pytest.mark.parametrize("backend", ["torch", KERNEL])

Step = Callable[[Tensor, Tensor, Tensor], StepResult]


def return_of(
    step: Step,
    values: Float[Tensor, "batch state"],
    actions: Float[Tensor, "step batch action"],
    parameters: Float[Tensor, "parameter rows"],
) -> Float[Tensor, " batch"]:
    """Sum of the rewards of a run."""
    total = values.new_zeros(values.shape[0])
    for action in actions:
        result = step(values, action, parameters)
        values, total = result.next_values, total + result.reward
    return total


def start(name: str, backend: str) -> tuple[Any, Tensor, Tensor, Tensor]:
    """An environment in float64, a state off the beaten track, actions and parameters."""
    environment: Any = make_environment(name, backend=backend, dtype="float64")
    generator = np.random.default_rng(11)
    state, _ = environment.reset(5)
    values = state.values + 0.3 * torch.from_numpy(generator.standard_normal(state.values.shape))
    shape = (STEPS, 1, *environment.action_shape)
    actions = torch.from_numpy(generator.uniform(-0.8, 0.8, shape))  # away from the clipping
    return environment, values, actions, environment._parameters


def central_differences(step: Step, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives of the return by every input, all runs being rows of one batch.

    Richardson's extrapolation of two central differences, whose error is of fourth order.
    """
    sizes = [tensor.numel() for tensor in inputs]
    flat = torch.cat([tensor.flatten() for tensor in inputs])
    step_sizes = 1e-3 * torch.maximum(flat.abs(), torch.tensor(0.1))

    def slopes(factor: float) -> Tensor:
        move = factor * torch.diag(step_sizes)
        rows = torch.cat([flat + move, flat - move])
        values, actions, parameters = (
            part.reshape(len(rows), *tensor.shape)
            for part, tensor in zip(rows.split(sizes, 1), inputs, strict=True)
        )
        returns = return_of(
            step, values[:, 0], actions[:, :, 0].movedim(1, 0), parameters[..., 0].T
        )
        plus, minus = returns.chunk(2)
        return (plus - minus) / (2 * factor * step_sizes)

    extrapolated = (4 * slopes(0.5) - slopes(1.0)) / 3
    return [
        part.reshape(tensor.shape)
        for part, tensor in zip(extrapolated.split(sizes), inputs, strict=True)
    ]


@backends
@pytest.mark.parametrize("name", SYSTEMS)
def test_gradient_of_the_return_equals_central_differences(name: str, backend: str) -> None:
    environment, *inputs = start(name, backend)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    total = return_of(environment._stepper, *leaves)
    assert total.item() > 1e-3
    found = torch.autograd.grad(total.sum(), leaves)
    expected = central_differences(environment._stepper, inputs)
    for group, gradient, difference in zip(
        ("state", "actions", "parameters"), found, expected, strict=True
    ):
        scale = difference.abs().amax()
        assert scale > 1e-4, group
        # Parameters have units of their own: each must agree by itself.
        size = difference.abs() if group == "parameters" else scale
        assert ((gradient - difference).abs() <= 1e-6 * size + 1e-11).all(), group


@pytest.mark.parametrize("name", SYSTEMS)
def test_asking_for_a_gradient_changes_no_number(name: str) -> None:
    environment, values, actions, parameters = start(name, KERNEL)
    plain, tracked = values, values
    for action in actions:
        without = environment._stepper(plain, action, parameters)
        inputs = (tensor.detach().clone().requires_grad_() for tensor in (action, parameters))
        with_gradient = environment._stepper(tracked.clone().requires_grad_(), *inputs)
        assert with_gradient.reward.requires_grad and not without.reward.requires_grad
        for one, other in zip(without, with_gradient, strict=True):
            assert torch.equal(one, other)
        plain, tracked = without.next_values, with_gradient.next_values
    seen = environment._stepper.observe(tracked, parameters)
    assert seen.requires_grad
    assert torch.equal(seen, environment._stepper.observe(plain, parameters))


@pytest.mark.parametrize("name", SYSTEMS)
def test_gradients_of_both_backends_agree(name: str) -> None:
    """Of all four differentiable outputs of a step, and of the observation of a state."""
    found = []
    for backend in ("torch", KERNEL):
        environment, *inputs = start(name, backend)
        values, actions, parameters = (tensor.clone().requires_grad_() for tensor in inputs)
        result = environment._stepper(values, actions[0], parameters)
        seen = environment._stepper.observe(values, parameters)
        outputs = (*result[:4], seen)
        weighted = sum((output * (1 + output.detach())).sum() for output in outputs)
        found.append(torch.autograd.grad(weighted, (values, actions, parameters)))
    for torch_gradient, kernel_gradient in zip(*found, strict=True):
        torch.testing.assert_close(kernel_gradient, torch_gradient, rtol=1e-11, atol=1e-11)


@backends
def test_policy_gradient_through_the_environment(backend: str) -> None:
    """The public way: states carry the graph from step to step."""
    environment: Any = make_environment("Lorenz-v0", 8, backend=backend, dtype="float64")
    gain = torch.tensor([0.1, -0.2, 0.05], dtype=torch.float64, requires_grad=True)

    def objective(weights: Tensor) -> Tensor:
        state, observation = environment.reset(0)
        total = weights.new_zeros(8)
        for _ in range(10):
            transition = environment.step(state, (observation @ weights)[:, None])
            state, observation = transition.state, transition.observation
            total = total + transition.reward
        return total.mean()

    (gradient,) = torch.autograd.grad(objective(gain), gain)
    for i in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[i] = 1e-5
        difference = (objective(gain.detach() + shift) - objective(gain.detach() - shift)) / 2e-5
        assert gradient[i].item() == pytest.approx(difference.item(), rel=1e-6)


@dataclass(frozen=True)
class Zero:
    """Starts at the origin."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        return torch.zeros((len(stream.seed), 1), dtype=torch.float64), stream


@ode(states="x", controls="u", start=Zero(), box=(-50.0, 50.0))
def blowup(x: Expression, u: Expression, *, rate: Expression = 1.0) -> tuple[Expression, ...]:
    """Overflows in a few steps from any x well above 1, and is smooth below."""
    return (rate * x**3 + u,)


@dataclass(frozen=True)
class Distance(ComponentTask):
    """Its metric has an infinite slope at the origin."""

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        return np.full(1, 50.0)

    def equilibrium(self, system: OdeSystem) -> Tensor:
        return torch.zeros((1, 1), dtype=torch.float64)

    def control(self, action: Components, parameters: Parameters) -> Components:
        return action

    def observe(self, state: Components, parameters: Parameters) -> Components:
        return state

    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        return 1 / (1 + next_state[0] ** 2)

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        return {"distance": sqrt(next_state[0] ** 2 + control[0] ** 2)}


def overflowing(backend: str, num_envs: int) -> OdeEnvironment:
    system = OdeSystem(
        blowup,
        {},
        num_envs=num_envs,
        control_interval=1.0,
        substeps=10,
        device=torch.device("cpu"),
        dtype=torch.float64,
        backend=backend,
    )
    return OdeEnvironment(system, Distance(), 10, lambda values, _: np.zeros(0))


@backends
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_diverged_environment_has_zero_gradient(backend: str, shared: bool) -> None:
    values = torch.tensor([[0.1], [30.0], [-0.3], [0.2]], dtype=torch.float64)
    action = torch.full((4, 1), 0.2, dtype=torch.float64)
    parameters = torch.ones((1, 1 if shared else 4), dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (values, action, parameters)]
    stepper = overflowing(backend, 4)._stepper
    result = stepper(*leaves)
    assert result.diverged.tolist() == [False, True, False, False]
    outputs = result.next_values.sum() + result.reward.sum() + result.observation.sum()
    by_values, by_action, by_parameters = torch.autograd.grad(outputs, leaves)
    assert by_values[1] == 0.0
    assert by_action[1] == 0.0

    others = [tensor.detach()[[0, 2, 3]].requires_grad_() for tensor in (values, action)]
    rows = parameters.detach() if shared else parameters.detach()[:, [0, 2, 3]]
    others.append(rows.requires_grad_())
    alone = stepper(*others)
    outputs = alone.next_values.sum() + alone.reward.sum() + alone.observation.sum()
    expected = torch.autograd.grad(outputs, others)
    torch.testing.assert_close(by_values[[0, 2, 3]], expected[0])
    torch.testing.assert_close(by_action[[0, 2, 3]], expected[1])
    found = by_parameters if shared else by_parameters[:, [0, 2, 3]]
    torch.testing.assert_close(found, expected[2])
    assert by_parameters.isfinite().all()


@backends
def test_reward_has_a_gradient_where_a_metric_has_none(backend: str) -> None:
    """At the origin the distance has an infinite slope, which must not spoil the reward's."""
    stepper = overflowing(backend, 1)._stepper
    values = torch.zeros((1, 1), dtype=torch.float64, requires_grad=True)
    still = torch.zeros((1, 1), dtype=torch.float64)
    result = stepper(values, still, still + 1)
    assert result.next_values.item() == 0.0
    (gradient,) = torch.autograd.grad(result.next_values.sum() + result.reward.sum(), values)
    assert gradient.item() == 1.0

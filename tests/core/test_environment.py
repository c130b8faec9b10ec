"""The pure environment: any system with any torch task, and what happens to those that diverge."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Self

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.actions import action_box
from separatrix.envs.core.checks import check_vector_env
from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.core.registration import REGISTRY, make_environment, register
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import INITIAL_STATE, PROCESS_NOISE, Stream
from separatrix.envs.core.system import System
from separatrix.envs.core.task import Task
from separatrix.envs.steppers.ode_system import OdeSystem

NOISY = "separatrix/TestNoisyOscillator-v0"


@dataclass(frozen=True)
class PlaneState(State):
    """State of a plane linear system."""

    values: Float[Tensor, "batch 2"]


class NoisyOscillator(System):
    """x' = growth R x + (0, u) + noise, in discrete time, with R a rotation by 0.3 rad."""

    control_interval = 0.5

    def __init__(
        self, growth: Any, noise: float, num_envs: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.num_envs, self.device, self.dtype, self.noise = num_envs, device, dtype, noise
        self.growth = torch.as_tensor(growth, dtype=dtype, device=device).reshape(-1, 1)

    def initial_state(self, stream: Stream) -> PlaneState:
        values, stream = stream.uniform(2, self.dtype, INITIAL_STATE)
        return PlaneState(stream, torch.zeros_like(stream.seed), 2 * values - 1)

    def advance(self, state: PlaneState, control: Float[Tensor, "batch 1"]) -> PlaneState:
        noise, stream = state.stream.normal(2, self.dtype, PROCESS_NOISE)
        cosine, sine = np.cos(0.3), np.sin(0.3)
        x, y = state.values.unbind(-1)
        turned = torch.stack((cosine * x - sine * y, sine * x + cosine * y), -1)
        force = torch.cat((torch.zeros_like(control), control), -1)
        values = self.growth * turned + force + self.noise * noise
        return PlaneState(stream, state.interval + 1, values)

    def inside(self, state: PlaneState) -> Bool[Tensor, " batch"]:
        return (state.values.abs() <= 4.0).all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        if len(self.growth) == 1:
            return self
        selected = copy.copy(self)
        selected.growth, selected.num_envs = self.growth[rows], len(rows)
        return selected


class StayNearTheOrigin(Task):
    """Reward -|x| (so that the range is not [0, 1]); ends beyond 3.5; observes the state itself."""

    observation_space = Box(-4.0, 4.0, (2,), np.float32)
    action_space = action_box(1)
    reward_range = (-8.0, 0.0)
    metric_names = ("height",)

    def control(self, action: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
        return 0.5 * action

    def observe(self, state: Any) -> Float[Tensor, "batch 2"]:
        return state.values

    def reward(
        self, state: Any, control: Float[Tensor, "batch 1"], next_state: Any
    ) -> Float[Tensor, " batch"]:
        return -next_state.values.abs().sum(-1)

    def terminated(self, state: Any) -> Bool[Tensor, " batch"]:
        return state.values[:, 1] > 3.5

    def metrics(
        self, state: Any, control: Float[Tensor, "batch 1"], next_state: Any
    ) -> dict[str, Float[Tensor, " batch"]]:
        return {"height": next_state.values[:, 1]}


def noisy(
    growth: Any = 1.0, noise: float = 0.0, num_envs: int = 2, **options: Any
) -> ComposedEnvironment:
    settings: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32} | options
    system = NoisyOscillator(growth, noise, num_envs, settings["device"], settings["dtype"])
    return ComposedEnvironment(system, StayNearTheOrigin(), settings.get("horizon", 50))


def build(*, options: dict[str, Any], backend: str, **arguments: Any) -> ComposedEnvironment:
    return noisy(**{"growth": 1.15, "noise": 0.1, **options}, **arguments)


@pytest.fixture
def registered() -> Any:
    """The noisy oscillator, as an id that everything else knows."""
    options = {"growth": 1.15, "noise": 0.1}
    register(
        NOISY.split("/")[1],
        build,
        horizon=50,
        summary="A noisy oscillator",
        options=options,
        documented=NoisyOscillator,
        states=2,
        controls=1,
    )
    yield
    del REGISTRY[NOISY], gym.registry[NOISY]


@pytest.mark.parametrize(
    ("output", "modes"), [("numpy", list(AutoresetMode)), ("torch", [AutoresetMode.SAME_STEP])]
)
def test_noisy_system_with_a_torch_task_passes_the_checker(
    registered: None, output: str, modes: list[AutoresetMode]
) -> None:
    """Process noise, termination, divergence, and an observation that is the state itself."""
    growth = torch.tensor([1.0, 1.5, 2.0])
    check_vector_env(
        NOISY, num_envs=3, output=output, autoreset_modes=modes, parameters={"growth": growth}
    )


def test_all_ends_of_an_episode_occur(registered: None) -> None:
    """So that the test above is about what it says."""
    envs = gym.make_vec(
        NOISY,
        num_envs=50,
        max_episode_steps=9,
        autoreset_mode=AutoresetMode.SAME_STEP,
        growth=torch.linspace(0.5, 2.0, 50),
    )
    envs.reset(seed=0)
    ends = {"truncated": 0, "diverged": 0, "terminated": 0}
    for _ in range(20):
        *_, terminated, truncated, infos = envs.step(np.ones((50, 1), np.float32))
        if "final_info" in infos:
            diverged = infos["final_info"]["diverged"] & infos["_final_info"]
            ends["diverged"] += diverged.sum()
            ends["terminated"] += (terminated & ~diverged).sum()
            ends["truncated"] += (truncated & ~terminated).sum()
    assert min(ends.values()) > 0, ends


def test_noise_is_a_function_of_the_state() -> None:
    environment = noisy(noise=0.3, num_envs=3)
    state, _ = environment.reset(0)
    action = torch.zeros(3, 1)
    first, again = environment.step(state, action), environment.step(state, action)
    assert torch.equal(first.observation, again.observation)
    assert torch.equal(first.state.stream.draw, state.stream.draw + 1)
    later = environment.step(replace(state, stream=first.state.stream), action)
    assert not torch.equal(first.observation, later.observation)
    neighbour = environment.step(environment.reset(torch.tensor([9, 9, 2]))[0], action)
    assert torch.equal(first.observation[2], neighbour.observation[2])


def at(environment: ComposedEnvironment, values: list[list[float]]) -> PlaneState:
    """States with these values."""
    state, _ = environment.reset(0)
    return replace(state, values=torch.tensor(values))


@pytest.mark.parametrize("far", [3.9, 3e38])  # leaves the box; overflows
def test_diverged_environment_is_held_and_gets_the_lowest_reward(far: float) -> None:
    environment = noisy(growth=[1.0, 1.5, 1.0], num_envs=3, noise=0.01)
    start = at(environment, [[0.5, 0.5], [far, 0.0], [0.1, -0.2]])
    found = environment.step(start, torch.zeros(3, 1))
    assert found.info["diverged"].tolist() == found.terminated.tolist() == [False, True, False]
    assert found.reward[1] == -8.0 == environment.reward_range[0]
    assert torch.equal(found.state.values[1], start.values[1])
    assert found.state.interval.tolist() == [1, 1, 1]
    alone = noisy(growth=[1.0, 0.5, 1.0], num_envs=3, noise=0.01)
    calm = at(alone, [[0.5, 0.5], [0.0, 0.0], [0.1, -0.2]])
    expected = alone.step(calm, torch.zeros(3, 1))
    for row in (0, 2):
        assert torch.equal(found.observation[row], expected.observation[row])
        assert found.reward[row] == expected.reward[row]


def test_gradients_of_diverged_environments_are_zero_and_finite_elsewhere() -> None:
    environment = noisy(growth=torch.tensor([1.0, 1e30, 1.0]), num_envs=3)
    state = at(environment, [[0.5, 0.5], [1e20, 1.0], [0.1, -0.2]])
    values = state.values.requires_grad_()
    action = torch.zeros(3, 1, requires_grad=True)
    found = environment.step(replace(state, values=values), action)
    assert found.info["diverged"].tolist() == [False, True, False]
    assert found.observation.requires_grad and found.reward.requires_grad
    (found.reward.sum() + found.observation.sum() + found.info["height"].sum()).backward()
    for gradient in (values.grad, action.grad):
        assert gradient is not None and gradient.isfinite().all()
        assert (gradient[1] == 0).all() and (gradient[[0, 2]] != 0).any(1).all()


def test_gradient_of_many_steps_is_that_of_finite_differences() -> None:
    environment = noisy(growth=0.95, noise=0.05, dtype=torch.float64)
    state, _ = environment.reset(0)

    def total(action: Tensor) -> Tensor:
        reward = torch.zeros((), dtype=torch.float64)
        now = state
        for step in action:
            now, _, earned, *_ = environment.step(now, step)
            reward = reward + earned.sum()
        return reward

    action = torch.linspace(-0.9, 0.9, 10, dtype=torch.float64).reshape(5, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(total, (action,))


def test_actions_are_clipped() -> None:
    environment = noisy()
    state, _ = environment.reset(0)
    outside, limit = torch.tensor([[3.0], [-torch.inf]]), torch.tensor([[1.0], [-1.0]])
    found, expected = environment.step(state, outside), environment.step(state, limit)
    assert torch.equal(found.observation, expected.observation)


def test_outputs_are_not_the_state() -> None:
    environment = noisy()
    state, observation = environment.reset(0)
    before = state.values.clone()
    found = environment.step(state, torch.zeros(2, 1))
    after = found.state.values.clone()
    for tensor in (observation, found.observation, found.info["height"]):
        tensor.fill_(99.0)
    assert torch.equal(state.values, before) and torch.equal(found.state.values, after)


def test_selected_rows_are_those_of_the_batch() -> None:
    environment = noisy(growth=[0.5, 0.9, 1.1, 1.3], noise=0.2, num_envs=4)
    rows = torch.tensor([3, 1])
    part = environment.select(rows)
    assert part.num_envs == 2 and environment.num_envs == 4
    state, observation = environment.reset(7)
    few, seen = part.reset(7 + rows)
    for _ in range(4):
        assert torch.equal(observation[rows], seen)
        state, observation, *_ = environment.step(state, torch.full((4, 1), 0.3))
        few, seen, *_ = part.step(few, torch.full((2, 1), 0.3))
    shared = noisy(growth=1.1, num_envs=4)
    assert shared.select(rows).system is shared.system


def test_environment_without_a_drawing_says_so() -> None:
    environment = noisy()
    with pytest.raises(NotImplementedError, match="NoisyOscillator has no drawing"):
        environment.render(environment.reset(0)[0])


class Quiet(Task):
    """Torch task on the Lorenz system: keep x small."""

    observation_space = Box(-10.0, 10.0, (3,), np.float32)
    action_space = action_box(1)

    def control(self, action: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
        return 20.0 * action

    def observe(self, state: Any) -> Float[Tensor, "batch 3"]:
        return state.values / 20.0

    def reward(
        self, state: Any, control: Float[Tensor, "batch 1"], next_state: Any
    ) -> Float[Tensor, " batch"]:
        return torch.exp(-(next_state.values[:, 0] ** 2) / 50.0)

    def terminated(self, state: Any) -> Bool[Tensor, " batch"]:
        return torch.zeros(len(state.values), dtype=torch.bool)


def picture(one: Any, drawn: ComposedEnvironment) -> np.ndarray:
    """A row of grey pixels, one a component."""
    assert drawn.num_envs == 1
    return one.values.abs().to(torch.uint8)[..., None].expand(-1, -1, 3).numpy()


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_torch_task_on_an_ode_system(backend: str) -> None:
    """The composed environment moves the state as the fused one does, and drives like it."""
    fused = make_environment("Lorenz-v0", 3, backend=backend, rho=[20.0, 28.0, 35.0], sigma=9.0)
    assert isinstance(fused.system, OdeSystem)
    composed = ComposedEnvironment(fused.system, Quiet(), 100, picture)
    start, observation = composed.reset(5)
    assert torch.equal(observation, start.values / 20.0)
    state, other = start, fused.reset(5)[0]
    assert torch.equal(state.values, other.values)
    for _ in range(5):
        state, observation, reward, terminated, info = composed.step(state, torch.zeros(3, 1))
        other = fused.step(other, torch.zeros(3, 1)).state
        assert torch.allclose(state.values, other.values, rtol=1e-4, atol=1e-4)
        assert torch.equal(reward, torch.exp(-(state.values[:, 0] ** 2) / 50.0))
        assert not terminated.any() and list(info) == ["diverged"]
    last = composed.select(torch.tensor([2]))
    assert np.array_equal(
        composed.render(state, 2), picture(replace(state, values=state.values[2:]), last)
    )
    part, _ = composed.select(torch.tensor([2, 0])).reset(torch.tensor([7, 5]))
    assert torch.equal(part.values, start.values[[2, 0]])


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_gradient_through_a_torch_task_on_an_ode_system(backend: str) -> None:
    fused = make_environment("Lorenz-v0", 2, backend=backend, dtype="float64")
    composed = ComposedEnvironment(fused.system, Quiet(), 100)
    state, _ = composed.reset(0)

    def reward(action: Tensor) -> Tensor:
        return composed.step(state, action).reward

    action = torch.tensor([[0.3], [-0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(reward, (action,))


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_diverged_ode_environment_spoils_no_gradient(backend: str) -> None:
    """One environment overflows within the step; a policy shared by both still learns."""
    options: dict[str, Any] = {"control_interval": 0.4, "substeps": 2, "integrator": "euler"}
    environment = make_environment("Lorenz-v0", 2, backend=backend, **options)
    state, _ = environment.reset(0)
    far = torch.tensor([[1e30, 1e30, 1e30], [1.0, 1.0, 1.0]])
    weight = torch.tensor(0.1, requires_grad=True)
    found = environment.step(replace(state, values=far), weight * torch.ones(2, 1))
    assert found.info["diverged"].tolist() == found.terminated.tolist() == [True, False]
    assert found.reward[0] == 0.0 and found.state.values[0].tolist() == far[0].tolist()
    found.state.values[1].sum().backward(retain_graph=True)
    alone = weight.grad.clone()  # type: ignore[union-attr]
    weight.grad = None
    found.state.values.sum().backward()
    assert torch.equal(weight.grad, alone) and alone.isfinite() and alone != 0  # type: ignore[arg-type]

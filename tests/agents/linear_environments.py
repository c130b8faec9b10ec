"""Small linear environments, and learners for them, for the tests of analytic gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.analytic_policy.learner import (
    AnalyticPolicyLearner,
)
from separatrix.agents.common.analytic_policy.window import (
    Episodes,
)
from separatrix.envs.core.actions import action_box
from separatrix.envs.core.environment import ComposedEnvironment, Environment, Transition
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.core.system import System
from separatrix.envs.core.task import Task

GAMMA = 0.9


@dataclass(frozen=True)
class Point(State):
    values: Tensor


class Linear(System):
    """x' = A x + B u, from normal starts; outside |x| <= 10 it has diverged."""

    device, control_interval = torch.device("cpu"), 1.0

    def __init__(
        self, a: list[list[float]], b: list[list[float]], num_envs: int, dtype: torch.dtype
    ):
        self.a, self.b = torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype)
        self.num_envs, self.dtype = num_envs, dtype
        self.started: list[tuple[int, int]] = []

    def initial_state(self, stream: Stream) -> Point:
        self.started += zip(stream.seed.tolist(), stream.episode.tolist(), strict=True)
        values, stream = stream.normal(len(self.a), self.dtype, INITIAL_STATE)
        return Point(stream, torch.zeros_like(stream.seed), 0.3 * values)

    def advance(self, state: Point, control: Tensor) -> Point:
        values = state.values @ self.a.T + control @ self.b.T
        return replace(state, values=values, interval=state.interval + 1)

    def inside(self, state: Point) -> Tensor:
        return (state.values.abs() <= 10).all(1)

    def select(self, rows: Tensor) -> Self:
        return self


class Quadratic(Task):
    """The reward -(|x|^2 + 0.1 |u|^2) before the step."""

    reward_range = (-400.0, 0.0)

    def __init__(self, states: int, actions: int) -> None:
        self.observation_space = Box(-10.0, 10.0, (states,), np.float32)
        self.action_space = action_box(actions)

    def control(self, action: Tensor) -> Tensor:
        return action

    def observe(self, state: Point) -> Tensor:
        return state.values

    def reward(self, state: Point, control: Tensor, next_state: Point) -> Tensor:
        return -state.values.square().sum(1) - 0.1 * control.square().sum(1)

    def terminated(self, state: Point) -> Tensor:
        return torch.zeros_like(state.values[:, 0], dtype=torch.bool)


class Sum(Quadratic):
    """The reward is the action; rows of which the sum of actions passes 1 terminate."""

    def reward(self, state: Point, control: Tensor, next_state: Point) -> Tensor:
        return control[:, 0]

    def terminated(self, state: Point) -> Tensor:
        return state.values[:, 0] > 1


class Trap(Quadratic):
    """States above 0.5 are rewarded with NaN."""

    def reward(self, state: Point, control: Tensor, next_state: Point) -> Tensor:
        caught = state.values[:, 0] > 0.5
        return torch.where(caught, torch.nan, super().reward(state, control, next_state))


class Overflow(Quadratic):
    """Where the state is above 0.5 the reward is finite, its derivative is not."""

    def reward(self, state: Point, control: Tensor, next_state: Point) -> Tensor:
        excess = (state.values[:, 0] - 0.5).clamp_min(0)
        steep = torch.where(excess > 0, 0 * excess, 1 + 0 * excess).sqrt()
        slope = (next_state.values[:, 0] * 0 + steep.detach()).sqrt()
        return super().reward(state, control, next_state) + slope


class Unguarded(ComposedEnvironment):
    """Steps without a thought of divergence, and without what its checks cost in tests."""

    def step(self, state: Point, action: Tensor) -> Transition:
        following = self.system.advance(state, action)
        reward = self.task.reward(state, action, following)
        over = self.task.terminated(following)
        return Transition(following, following.values, reward, over, {"diverged": over})


def double_integrator(
    num_envs: int,
    dtype: torch.dtype = torch.float32,
    task: Quadratic | None = None,
    horizon: int = 40,
) -> ComposedEnvironment:
    system = Linear([[1.0, 0.2], [0.0, 1.0]], [[0.02], [0.2]], num_envs, dtype)
    return ComposedEnvironment(system, task or Quadratic(2, 1), horizon)


def integrator(num_envs: int, task: Quadratic) -> ComposedEnvironment:
    """The system x' = x + u in float64."""
    return ComposedEnvironment(Linear([[1.0]], [[1.0]], num_envs, torch.float64), task, 1000)


def episodes_of(environment: Environment, limit: int | None = None) -> Episodes:
    stream = Stream.start(torch.arange(environment.num_envs))
    episodes = Episodes(environment, stream, torch.Generator().manual_seed(0))
    if limit is not None:
        episodes._limit.fill_(limit)
    return episodes


def learner_of(seed: int = 0, total_steps: int = 10**6, **options: Any) -> AnalyticPolicyLearner:
    small: dict[str, Any] = {"window": 8, "policy_layers": (16,), "critic_layers": (16,)}
    config = AnalyticPolicyConfig(**(small | options))
    return AnalyticPolicyLearner(2, 1, config, seed, "cpu", total_steps)

"""Small models whose best plans are known, and all planners, for the tests of planning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from separatrix.controllers.planning.cem import CEM
from separatrix.controllers.planning.gradient_mpc import GradientMPC
from separatrix.controllers.planning.icem import ICEM
from separatrix.controllers.planning.mppi import MPPI
from separatrix.controllers.planning.planner import Planner
from separatrix.controllers.planning.random_shooting import RandomShooting
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.stream import Stream


@dataclass(frozen=True)
class Point:
    """A state: one row of values an environment."""

    values: Tensor

    @property
    def unwrapped(self) -> Self:
        return self


class Toy(Environment):
    """A model of `size` states, all of them observed, and `actions` actions; 20 steps."""

    device = torch.device("cpu")
    differentiable = True
    reward_range = (-np.inf, np.inf)
    metric_names = ()
    horizon = 20

    def __init__(self, size: int = 1, actions: int = 1, dtype: torch.dtype = torch.float64) -> None:
        self._size, self._dtype = size, dtype
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (actions,), np.float32)

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def num_envs(self) -> int:
        return 1

    def restart(self, stream: Stream) -> tuple[Point, Tensor]:
        values, _ = stream.normal(self._size, torch.float64, 0)
        state = Point(values.to(self.dtype))
        return state, self.observe(state)

    def observe(self, state: Point) -> Tensor:
        return state.values

    def transition(
        self, values: Tensor, reward: Tensor, terminated: Tensor | None = None
    ) -> Transition:
        ended = torch.zeros_like(reward, dtype=torch.bool)
        info = {"diverged": ended}
        over = ended if terminated is None else terminated
        return Transition(Point(values), values, reward, over, info)

    def select(self, rows: Tensor) -> Self:
        return self

    def render(self, state: Any, row: int = 0) -> np.ndarray:
        raise NotImplementedError


class DoubleIntegrator(Toy):
    """x'' = a, exactly discretized; the reward is -(x^2 + 0.1 v^2 + 0.1 a^2) before the step."""

    INTERVAL = 0.2
    STATE_WEIGHT = (1.0, 0.1)
    ACTION_WEIGHT = 0.1

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(2, 1, dtype)

    @classmethod
    def matrices(cls) -> tuple[np.ndarray, np.ndarray]:
        h = cls.INTERVAL
        return np.array([[1.0, h], [0.0, 1.0]]), np.array([[h * h / 2], [h]])

    def step(self, state: Point, action: Tensor) -> Transition:
        a, b = (torch.from_numpy(matrix).to(self.dtype) for matrix in self.matrices())
        weight = torch.tensor(self.STATE_WEIGHT, dtype=self.dtype)
        cost = (weight * state.values**2).sum(1) + self.ACTION_WEIGHT * (action**2).sum(1)
        return self.transition(state.values @ a.T + action @ b.T, -cost)


class Spy:
    """A method that also keeps what it is given last, and what it returns."""

    def __init__(self, method: Callable[..., Tensor]) -> None:
        self.method = method
        self.given: list[Tensor] = []
        self.returned: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        self.given.append(arguments[-1])
        self.returned.append(self.method(*arguments))
        return self.returned[-1]


class Trap(Toy):
    """Rewards the action until it exceeds 0.5 once: from then on rewards are as bad as asked.

    Args:
        bad: The reward of the trap, NaN or inf, or "state": the state turns NaN, and with it the
            rewards of all later steps.
    """

    def __init__(self, bad: float | str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(1, 1, dtype)
        self._bad = bad

    def step(self, state: Point, action: Tensor) -> Transition:
        caught = action[:, 0] > 0.5
        reward = action[:, 0] + 0 * state.values[:, 0]
        if isinstance(self._bad, str):
            return self.transition(
                torch.where(caught[:, None], torch.nan, state.values),
                torch.where(caught, torch.nan, reward),
            )
        return self.transition(state.values, torch.where(caught, self._bad, reward))


class Fuel(Toy):
    """Rewards 1, 2, 3, ... a step; terminates in the step in which the sum of actions passes 1.

    After its end it rewards NaN, as nothing should depend on it.
    """

    def __init__(self) -> None:
        super().__init__(2, 1)

    def step(self, state: Point, action: Tensor) -> Transition:
        used, steps = state.values.unbind(1)
        values = torch.stack((used + action[:, 0], steps + 1), 1)
        return self.transition(
            values, torch.where(used > 1, torch.nan, steps + 1), values[:, 0] > 1
        )


class TaskNetworks(Toy):
    """A linear model for each task, for several environments of each task, stepped in one pass.

    A step is x' = x + W a with the W of the row's task, the reward -|x'|^2.

    Args:
        weights: W of each task, (task, state, action).
        environments: Environments of each task; the rows are those of the first task, and so on.
    """

    def __init__(self, weights: Tensor, environments: int) -> None:
        super().__init__(weights.shape[1], weights.shape[2], weights.dtype)
        self.weights = weights
        self.task = torch.arange(len(weights)).repeat_interleave(environments)

    @property
    def num_envs(self) -> int:
        return len(self.task)

    def select(self, rows: Tensor) -> Self:
        selected = copy.copy(self)
        selected.task = self.task[rows]
        tasks, counts = selected.task.unique_consecutive(return_counts=True)
        assert (counts == counts[0]).all()
        selected.weights = self.weights[tasks - self.task[0]]
        return selected

    def step(self, state: Point, action: Tensor) -> Transition:
        assert len(action) == self.num_envs
        tasks = len(self.weights)
        x, u = (tensor.reshape(tasks, -1, tensor.shape[1]) for tensor in (state.values, action))
        values = torch.baddbmm(x, u, self.weights.transpose(1, 2)).flatten(0, 1)
        return self.transition(values, -values.square().sum(1))


# Small budgets; every planner but GradientMPC with `execute` in both ways where it has one.
PLANNERS: dict[str, tuple[type[Planner], dict[str, Any]]] = {
    "random": (RandomShooting, {"population": 64}),
    "cem mean": (CEM, {"population": 32, "elites": 6, "iterations": 3}),
    "cem best": (CEM, {"population": 32, "elites": 6, "iterations": 3, "execute": "best"}),
    "icem best": (ICEM, {"population": 32, "elites": 6}),
    "icem mean": (ICEM, {"population": 32, "elites": 6, "execute": "mean"}),
    "mppi mean": (MPPI, {"population": 32, "iterations": 2}),
    "mppi best": (MPPI, {"population": 32, "iterations": 2, "execute": "best"}),
    "gradient": (GradientMPC, {"starts": 4, "iterations": 5, "learning_rate": 0.1}),
}
every_planner = pytest.mark.parametrize("name", PLANNERS)


def make(name: str, model: Environment, **options: Any) -> Any:
    kind, defaults = PLANNERS[name]
    return kind(model, **({"horizon": 6} | defaults | options))


def points(*rows: list[float], dtype: torch.dtype = torch.float64) -> Point:
    return Point(torch.tensor(rows, dtype=dtype))


def tasks() -> TaskNetworks:
    weights = torch.tensor(
        [[[0.5, 0.2], [0.0, 0.5]], [[-0.5, 0.0], [0.3, 1.0]], [[0.0, 1.0], [1.0, 0.0]]]
    )
    return TaskNetworks(weights.double(), 2)

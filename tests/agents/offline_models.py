"""Made-up dynamics and filters, small environments and learners, for the tests of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from separatrix.agents.offline.config import (
    MethodConfig,
    OfflineConfig,
)
from separatrix.agents.offline.methods import make_learner
from separatrix.agents.offline.model.buffer import ModelBuffer, ModelTransitions
from separatrix.agents.offline.model.dynamics import Candidates, Dynamics
from separatrix.agents.offline.model_config import (
    FilterConfig,
    OnCut,
)
from separatrix.agents.offline.morec.transition_filter import Choice
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic
from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.core.stream import Stream
from tests.agents.linear_environments import Linear, Point, Quadratic

LOWEST = -50.0


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Seen(Quadratic):
    """The state is seen, so that rewards and ends are known; positions above 0.5 terminate."""

    def state_of(self, observation: Tensor) -> Point:
        zero = torch.zeros(len(observation), dtype=torch.int64)
        return Point(Stream(zero, zero, zero), zero, observation)

    def terminated(self, state: Point) -> Tensor:
        return state.values[:, 0] > 0.5


class Endless(Seen):
    """The state is seen, and nothing ends an episode."""

    def terminated(self, state: Any) -> Tensor:
        return torch.zeros(len(state.values), dtype=torch.bool)


def small_environment(num_envs: int = 10) -> ComposedEnvironment:
    """The system x' = x + u / 2 with the reward -(x^2 + u^2 / 10)."""
    system = Linear([[1.0]], [[0.5]], num_envs, torch.float32)
    return ComposedEnvironment(system, Endless(1, 1), 20)


class Adder(Dynamics):
    """Candidate c of next observation x + u + c, its reward -1 - c; above 10 episodes end."""

    notes = "made up"

    def prepare(self, generator: torch.Generator) -> dict[str, float]:
        return {}

    def propose(
        self, observation: Tensor, action: Tensor, samples: int, generator: torch.Generator
    ) -> Candidates:
        number = torch.arange(2 * samples).float()[:, None, None]
        following = observation + action + number
        return Candidates(
            following,
            -1 - number[..., 0].expand(-1, len(observation)),
            following[..., 0] > 10,
            observation[:, 0].abs(),
        )

    def members(
        self, observation: Tensor, action: Tensor, samples: int, generator: torch.Generator
    ) -> Tensor:
        noise = torch.randn(3, samples, *observation.shape, generator=generator)
        return observation + action + 0.3 * noise

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, tensors: Any) -> None:
        return None


class UpToThree:
    """Chooses the candidate 1, and believes next observations up to 3."""

    def __init__(self, on_cut: OnCut = "lowest_value") -> None:
        self.config = FilterConfig(samples=1, on_cut=on_cut)

    def choose(
        self, observation: Tensor, action: Tensor, candidates: Tensor, generator: torch.Generator
    ) -> Choice:
        index = torch.ones(len(observation), dtype=torch.int64)
        return Choice(index, candidates[1, :, 0] <= 3, 0.7 * torch.ones(len(observation)))


class BelievesNothing(UpToThree):
    """Chooses the candidate 1 and believes none."""

    def choose(self, *arguments: Any) -> Choice:
        choice = super().choose(*arguments)
        return replace(choice, believed=torch.zeros_like(choice.believed))


def ones(observation: Tensor) -> Tensor:
    return torch.ones(len(observation), 1)


def buffer_of(capacity: int = 100) -> ModelBuffer:
    return ModelBuffer(1, 1, capacity, "cpu")


def numbered(numbers: Sequence[int]) -> ModelTransitions:
    values = torch.tensor(numbers, dtype=torch.float32)
    odd = values % 2 == 1
    column = values[:, None]
    return ModelTransitions(column, -column, values, column + 1, odd, ~odd, values.long())


def configured(method: MethodConfig, **changes: Any) -> OfflineConfig:
    chosen: dict[str, Any] = {"layers": (16, 16), "batch_size": 20, "gamma": 0.9, **changes}
    return OfflineConfig("nowhere", method=method, **chosen)


def learner_of(method: MethodConfig, **changes: Any) -> SoftActorCritic:
    config = configured(method, **changes)
    learner = make_learner(config, 1, 1, 0, "cpu", 100, LOWEST, Adder())
    assert isinstance(learner, SoftActorCritic)
    return learner

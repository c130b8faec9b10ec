"""Tasks: what makes a decision process of a system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.system import System


class Task(ABC):
    """Actions, observations, rewards and ends of episodes, as pure functions of torch tensors.

    Attributes:
        observation_space: Observations of one environment, scaled to order one.
        action_space: Actions of one environment, in [-1, 1].
        reward_range: Lowest and highest reward of a step; a diverged environment gets the lowest.
        metric_names: Names of the quantities that `metrics` reports.
    """

    observation_space: Box
    action_space: Box
    reward_range: tuple[float, float] = (0.0, 1.0)
    metric_names: tuple[str, ...] = ()

    @abstractmethod
    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Turns actions in [-1, 1] into controls in the units of the system."""

    @abstractmethod
    def observe(self, state: Any) -> Float[Tensor, "batch observation"]:
        """Returns what the agent sees."""

    @abstractmethod
    def reward(
        self, state: Any, control: Float[Tensor, "batch control"], next_state: Any
    ) -> Float[Tensor, " batch"]:
        """Returns the reward of a step."""

    @abstractmethod
    def terminated(self, state: Any) -> Bool[Tensor, " batch"]:
        """Tells which states end their episode, by failure or success of the physics."""

    def metrics(
        self, state: Any, control: Float[Tensor, "batch control"], next_state: Any
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Returns named quantities of a step, for evaluation only."""
        return {}

    def state_of(self, observation: Float[Tensor, "batch observation"]) -> Any:
        """Returns a state that an observation determines, with what reward and termination need.

        Raises:
            ValueError: The observation does not determine it.
        """
        raise ValueError(f"the observation of {type(self).__name__} does not determine the state")

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the task of some environments only; itself unless it has a row for each."""
        return self

    def with_system(self, system: System) -> Self:
        """Returns the task on the same system with other parameters.

        By default it is itself. A task overrides this to read what it judges, such as a
        concentration, by the true parameters; its targets and units stay as they are.
        """
        return self

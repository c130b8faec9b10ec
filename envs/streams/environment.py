"""The environment of a stream: its base with the parameters of one task, or of one for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.environment import ArrayStepper, Environment
from separatrix.envs.core.wrappers.wrapped_environment import WrappedEnvironment
from separatrix.envs.streams.stream import TaskStream


class StreamEnvironment(WrappedEnvironment):
    """An environment that knows which tasks of a stream it is.

    Its states, observations and rewards are those of the base inside.

    Args:
        inner: The base with the parameters of the tasks.
        stream: The stream.
        tasks: Position of each environment in the stream.

    Attributes:
        tasks: As given, on the CPU.
    """

    def __init__(self, inner: Environment, stream: TaskStream, tasks: Sequence[int]) -> None:
        super().__init__(inner)
        self.stream = stream
        self.tasks: Int64[Tensor, " num_envs"] = torch.tensor(tasks, dtype=torch.int64)

    def state_from(self, observation: Float[Tensor, "batch observation"], state: Any) -> Any:
        """Returns the state of the base, whatever is wrapped around what is modelled."""
        return self.inner.state_from(observation, state)

    def known_outcome(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> tuple[Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Returns reward and termination of steps of which only the observations are known."""
        return self.inner.known_outcome(observation, action, next_observation)

    def array_stepper(self, state: Any) -> ArrayStepper | None:
        """Returns the base's faster way to step one environment; None if it has none."""
        return self.inner.array_stepper(state)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the environment of some rows and their tasks; itself if all have one task."""
        selected = super().select(rows)
        if selected is not self:
            selected.tasks = self.tasks[rows.cpu()]
        return selected

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the environment with other physics; the tasks stay those it was made with.

        Raises:
            ValueError: As for the base; or rows of different tasks are to become more or fewer.
        """
        different = len(self.tasks.unique()) > 1
        if different and num_envs != len(self.tasks):
            raise ValueError(f"num_envs: got {num_envs}; allowed: {len(self.tasks)}, as tasks")
        changed = super().with_parameters(parameters, num_envs)
        changed.tasks = self.tasks if different else self.tasks[:1].repeat(num_envs)
        return changed

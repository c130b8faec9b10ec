"""Dynamics networks of many tasks, as one module that gives the weights of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from separatrix.agents.hypercrl.target import TargetShape


class TaskNetworks(nn.Module, ABC):
    """A dynamics network, or a small ensemble of them, for each task that has begun.

    Args:
        shape: Shape of a network.
        members: Networks of a task.
        seed: Seed of initial weights; what a task adds is drawn from it and the task's number.

    Attributes:
        tasks: Number of tasks that have begun.
    """

    def __init__(self, shape: TargetShape, members: int, seed: int) -> None:
        super().__init__()
        self.shape, self.members, self.tasks, self._seed = shape, members, 0, seed

    def generator(self, number: int) -> torch.Generator:
        """Returns the source of what task `number` - 1 adds, and for 0 of what all share."""
        return torch.Generator().manual_seed(1_000_003 * self._seed + number)

    def add_task(self) -> None:
        """Makes what a new task needs."""
        self.tasks += 1

    @abstractmethod
    def forward(self, tasks: Sequence[int]) -> Float[Tensor, "tasks members parameters"]:
        """Returns the weights of the networks of some tasks."""

    @abstractmethod
    def common_parameters(self) -> list[nn.Parameter]:
        """Returns what all tasks share, and the learner protects."""

    def task_parameters(self, task: int) -> list[nn.Parameter]:
        """Returns what belongs to one task alone."""
        return []


class SeparateNetworks(TaskNetworks):
    """Networks that share nothing; each starts anew. See `TaskNetworks`."""

    def __init__(self, shape: TargetShape, members: int, seed: int) -> None:
        super().__init__(shape, members, seed)
        self.rows = nn.ParameterList()

    def add_task(self) -> None:
        """Adds a fresh network."""
        place = self.rows[0] if self.rows else torch.empty(0)
        rows = self.shape.initial(self.members, self.generator(self.tasks + 1))
        self.rows.append(nn.Parameter(rows.to(place)))
        super().add_task()

    def forward(self, tasks: Sequence[int]) -> Float[Tensor, "tasks members parameters"]:
        """Returns the weights of the networks of some tasks."""
        return torch.stack([self.rows[task] for task in tasks])

    def common_parameters(self) -> list[nn.Parameter]:
        """Returns nothing."""
        return []

    def task_parameters(self, task: int) -> list[nn.Parameter]:
        """Returns the weights of the task's networks."""
        return [self.rows[task]]


class SharedNetworks(TaskNetworks):
    """One network for all tasks, but perhaps for its last layer and for further inputs.

    Args:
        shape: See `TaskNetworks`.
        members: See `TaskNetworks`.
        seed: See `TaskNetworks`.
        heads: Whether each task has a last layer of its own.
        features: What the network is told about each task of the stream, as inputs that are the
            same at all times; None for nothing.
    """

    features: Tensor

    def __init__(
        self,
        shape: TargetShape,
        members: int,
        seed: int,
        *,
        heads: bool,
        features: Float[Tensor, "tasks features"] | None = None,
    ) -> None:
        super().__init__(shape, members, seed)
        generator = self.generator(0)
        rows = shape.initial(members, generator)
        self.trunk = nn.Parameter(rows[:, : -shape.head] if heads else rows)
        self.heads = nn.ParameterList() if heads else None
        told = torch.empty((0, 0)) if features is None else features.float()
        self.register_buffer("features", told)
        self.context: nn.Parameter | None = None
        if features is not None:
            wider = TargetShape((told.shape[1], *shape.sizes[1:2]))
            drawn = wider.initial(members, generator)
            self.context = nn.Parameter(wider.layers(drawn)[0][0].contiguous())

    def add_task(self) -> None:
        """Adds a fresh last layer if each task has one."""
        if self.heads is not None:
            rows = self.shape.initial(self.members, self.generator(self.tasks + 1))
            self.heads.append(nn.Parameter(rows[:, -self.shape.head :].to(self.trunk)))
        super().add_task()

    def forward(self, tasks: Sequence[int]) -> Float[Tensor, "tasks members parameters"]:
        """Returns the weights of the networks of some tasks."""
        rows = self.trunk.expand(len(tasks), -1, -1)
        if self.context is not None:
            # Inputs that do not change are a bias.
            weight, bias, *_ = self.shape.counts
            told = torch.einsum("tf,mfh->tmh", self.features[list(tasks)], self.context)
            first, middle, rest = rows.tensor_split((weight, weight + bias), 2)
            rows = torch.cat((first, middle + told, rest), 2)
        if self.heads is not None:
            rows = torch.cat((rows, torch.stack([self.heads[task] for task in tasks])), 2)
        return rows

    def common_parameters(self) -> list[nn.Parameter]:
        """Returns the weights that all tasks share."""
        return [self.trunk] if self.context is None else [self.trunk, self.context]

    def task_parameters(self, task: int) -> list[nn.Parameter]:
        """Returns the last layer of a task, if it has its own."""
        return [] if self.heads is None else [self.heads[task]]

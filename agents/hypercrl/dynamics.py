"""Predictions by the dynamics networks of many tasks at once, frozen until the next training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.agents.common.dynamics.model import Prediction
from separatrix.agents.common.dynamics.network import Normalizer, stacked_network
from separatrix.agents.hypercrl.target import Layer


class Normalizers(torch.nn.Module):
    """Shift and scale of the inputs and the targets of a task.

    Args:
        inputs: Components of observation and action.
        targets: Components of what is predicted.
    """

    def __init__(self, inputs: int, targets: int) -> None:
        super().__init__()
        self.inputs, self.targets = Normalizer(inputs), Normalizer(targets)


def in_units(layers: list[Layer], normalizers: list[Normalizers], members: int) -> list[Layer]:
    """Takes normalisers into networks, which then map inputs to targets in the units of the data.

    Args:
        layers: Of a stack of (tasks x members) networks, whose first outputs are the targets.
        normalizers: Of each task.
        members: Networks of a task.

    Returns:
        Layers of networks that have the targets as their only outputs.
    """

    def rows(name: str, kind: str) -> Tensor:
        found = torch.stack([getattr(getattr(n, kind), name) for n in normalizers])
        return found.repeat_interleave(members, 0)

    (weight, bias), *rest = layers
    weight = weight / rows("deviation", "inputs")[:, :, None]
    bias = bias - rows("mean", "inputs")[:, None] @ weight
    *hidden, (last_weight, last_bias) = [(weight, bias), *rest]
    mean, deviation = rows("mean", "targets")[:, None], rows("deviation", "targets")[:, None]
    size = mean.shape[-1]
    outputs = (last_weight[..., :size] * deviation, last_bias[..., :size] * deviation + mean)
    return [*hidden, outputs]


class Members(NamedTuple):
    """What of an ensemble's shape a learned environment asks for."""

    members: int
    reward_head: bool


class TaskDynamics:
    """Dynamics of a batch of environments, each of which has the networks of its own task.

    It stands in for a `separatrix.agents.common.dynamics.model.DynamicsEnsemble`.

    Args:
        layers: Layers in the units of the data, of (tasks x members) networks.
        members: Networks of a task.
        rows: Which of the tasks each environment has; a single one is that of all, of any number.
        observation_size: Components of an observation.
        reward: Whether the last target is the reward.

    Attributes:
        elites: All members.
    """

    def __init__(
        self,
        layers: list[Layer],
        members: int,
        rows: Int64[Tensor, " batch"],
        observation_size: int,
        reward: bool,
    ) -> None:
        self.layers, self.members, self.rows = layers, members, rows
        self.observation_size, self.config = observation_size, Members(members, reward)
        self.action_size = layers[0][0].shape[1] - observation_size
        self.elites = torch.arange(members, device=rows.device)
        self._groups = _groups(rows)

    def select(self, rows: Int64[Tensor, " rows"]) -> TaskDynamics:
        """Returns the dynamics of some of the environments; itself if all have one task."""
        return self if len(self.rows) == 1 else self.with_rows(self.rows[rows])

    def with_rows(self, rows: Int64[Tensor, " batch"]) -> TaskDynamics:
        """Returns the dynamics of environments of which these are the tasks."""
        return TaskDynamics(
            self.layers, self.members, rows, self.observation_size, self.config.reward_head
        )

    def predict(
        self,
        observation: Float[Tensor, "members rows observation"],
        action: Float[Tensor, "members rows action"],
        members: Tensor | None = None,
    ) -> Prediction:
        """Predicts one control interval; each member from observations of its own."""
        inputs = torch.cat((observation, action), -1)
        present, slots, places = self._groups
        layers = self.layers
        if len(present) * self.members != len(layers[0][0]):
            chosen = (present[:, None] * self.members + self.elites).flatten()
            layers = [(weight[chosen], bias[chosen]) for weight, bias in layers]
        # From (members, rows) to (tasks x members, rows of a task), and back.
        grouped = inputs.unflatten(1, (len(present), -1)) if slots is None else inputs[:, slots]
        found = stacked_network(layers, grouped.transpose(0, 1).flatten(0, 1))
        found = found.unflatten(0, (len(present), self.members)).transpose(0, 1).flatten(1, 2)
        target = found if places is None else found[:, places]
        zero = torch.zeros_like(target[..., 0])
        size = self.observation_size
        reward = target[..., size] if self.config.reward_head else zero
        return Prediction(
            observation + target[..., :size], torch.zeros_like(observation), reward, zero
        )


def _groups(
    rows: Int64[Tensor, " batch"],
) -> tuple[Tensor, Int64[Tensor, "tasks slots"] | None, Int64[Tensor, " batch"] | None]:
    """Sorts environments by task.

    Returns:
        The tasks that are present, in order; the environments of each, the last one repeated where
        there are fewer than in the largest group; and where each environment is then found. None
        for the last two if the environments are sorted and the groups equally large.
    """
    present, counts = rows.unique(return_counts=True)
    largest = int(counts.max())
    if largest * len(present) == len(rows) and bool((rows[1:] >= rows[:-1]).all()):
        return present, None, None
    order = rows.argsort(stable=True)
    ends = counts.cumsum(0)
    offsets = torch.arange(largest, device=rows.device)
    slots = order[torch.minimum((ends - counts)[:, None] + offsets, (ends - 1)[:, None])]
    group = torch.searchsorted(present, rows)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(rows), device=rows.device)
    return present, slots, group * largest + rank - (ends - counts)[group]

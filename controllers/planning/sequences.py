"""Sequences of actions: what they return in a model, and which ones are best."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.envs.core.environment import Environment
from separatrix.envs.core.state import take, tensors

ROWS_AT_ONCE = 4096
"""Rows that a model steps at once on a CPU, about: more fall out of the cache, fewer waste calls. A
network of two layers of 64 took a fourth longer for 8000 rows at once than for two times 4000."""


def batch_size(state: Any) -> int:
    """Returns the number of rows of a state, a dataclass of tensors."""
    return len(next(iter(tensors(state).values())))


def sequence_returns(
    model: Environment,
    state: Any,
    actions: Float[Tensor, "batch population horizon action"],
    discount: float = 1.0,
) -> Float[Tensor, "batch population"]:
    """Returns the sum of the discounted rewards of every sequence of actions.

    Rewards count until the model terminates, that step included. A sum that is not finite becomes
    -inf: it ranks worst, and no gradient flows through it.

    Args:
        model: Steps all sequences of all environments at once. Where it has parameters for each
            environment, every sequence is stepped with those of its own one.
        state: State of the model for each environment.
        actions: A population of sequences for each environment.
        discount: Factor by which the reward of each further step counts less.

    Raises:
        ValueError: The model has parameters for each environment, of another number of them.
    """
    batch, population = actions.shape[:2]
    device = actions.device
    if batch != model.num_envs and model.select(torch.arange(1, device=device)) is not model:
        raise ValueError(
            f"got {batch} states; allowed: {model.num_envs}, as the model has parameters for each "
            "environment"
        )
    count = max(1, ROWS_AT_ONCE // population) if device.type == "cpu" else batch
    parts = []
    for environments in torch.arange(batch, device=device).split(count):
        rows = environments.repeat_interleave(population)
        parts.append(_row_returns(model.select(rows), state, actions[environments], rows, discount))
    return torch.cat(parts)


def _row_returns(
    model: Environment,
    state: Any,
    actions: Float[Tensor, "batch population horizon action"],
    rows: Int64[Tensor, " rows"],
    discount: float,
) -> Float[Tensor, "batch population"]:
    state = take(state, rows)
    steps = actions.flatten(0, 1).transpose(0, 1).contiguous()
    total = actions.new_zeros(len(rows))
    alive = torch.ones_like(rows, dtype=torch.bool)
    for step, (reward, terminated) in enumerate(zip(*model.sequence(state, steps), strict=True)):
        # `where`, not a product: rows that have ended may hold NaN.
        total = torch.add(total, torch.where(alive, reward, 0.0), alpha=discount**step)
        alive = alive & ~terminated
    return torch.where(total.isfinite(), total, -math.inf).unflatten(0, actions.shape[:2])


def shifted(
    sequences: Float[Tensor, "*batch horizon action"],
) -> Float[Tensor, "*batch horizon action"]:
    """Returns sequences one step later: the first action is gone, the last is repeated."""
    return torch.cat((sequences[..., 1:, :], sequences[..., -1:, :]), -2)


class Best(NamedTuple):
    """The best sequence of each environment so far.

    Attributes:
        sequence: Its actions; what the search began with as long as every return was -inf.
        value: Its return.
    """

    sequence: Float[Tensor, "batch horizon action"]
    value: Float[Tensor, " batch"]

    @classmethod
    def before(cls, sequence: Float[Tensor, "batch horizon action"]) -> Best:
        """What there is before any return is known."""
        return cls(sequence, sequence.new_full(sequence.shape[:1], -math.inf))

    def update(
        self,
        candidates: Float[Tensor, "batch population horizon action"],
        returns: Float[Tensor, "batch population"],
    ) -> Best:
        """Takes the best of new candidates where it is better."""
        elites, values = best_of(candidates, returns, 1)
        value = values[:, 0]
        better = (value > self.value)[:, None, None]
        sequence = torch.where(better, elites[:, 0], self.sequence)
        return Best(sequence, torch.maximum(value, self.value))


def best_of(
    candidates: Float[Tensor, "batch population horizon action"],
    returns: Float[Tensor, "batch population"],
    count: int,
) -> tuple[Float[Tensor, "batch {count} horizon action"], Float[Tensor, "batch {count}"]]:
    """Returns the best candidates of each environment and their returns, in descending order."""
    values, index = returns.topk(count, 1)
    environments = torch.arange(len(index), device=index.device)[:, None]
    return candidates[environments, index], values

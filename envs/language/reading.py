"""What a language model says of a target: the numbers that the environments go by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

LOWEST = -100.0
"""Least logarithm of a probability that counts."""
FEATURES = ("log_probability", "log_rank", "entropy", "margin", "divergence")
"""Names of `Reading.features`."""
SCALES = (10.0, 5.0, 2.0, 10.0, 2.0)
"""What each is divided by in observations; logarithms are natural."""


@dataclass(frozen=True)
class Goal:
    """What texts are to be followed by: tokens, or a distribution of the next token.

    Tokens are read one by one, each after those before it.
    """

    target: Int64[Tensor, "batch count"]
    """The tokens; of a distribution its likeliest one."""
    wanted: Float[Tensor, "batch vocabulary"] | None = None
    """Logarithms of the probabilities of a distribution; None for tokens."""
    tolerance: float = 0.1
    """Kullback-Leibler divergence in nats up to which a distribution is reached."""

    def value(
        self, log_probabilities: Float[Tensor, "batch count vocabulary"]
    ) -> Float[Tensor, " batch"]:
        """Returns what is to grow, differentiably.

        It is the logarithm of the probability of the tokens, or the negative divergence of the
        wanted distribution from the model's.
        """
        if self.wanted is None:
            return log_probabilities.gather(2, self.target[..., None])[..., 0].sum(1)
        off = (self.wanted - log_probabilities[:, 0]).clamp(LOWEST, -LOWEST)
        return -(self.wanted.exp() * off).sum(1).clamp_min(0.0)

    def hit(
        self, log_probabilities: Float[Tensor, "batch count vocabulary"]
    ) -> Bool[Tensor, " batch"]:
        """Tells whether the model's likeliest tokens are those wanted, or the divergence small."""
        if self.wanted is None:
            return (log_probabilities.argmax(2) == self.target).all(1)
        return self.value(log_probabilities) >= -self.tolerance

    def __getitem__(self, rows: Tensor | slice) -> Goal:
        """Returns the goals of some rows."""
        wanted = None if self.wanted is None else self.wanted[rows]
        return Goal(self.target[rows], wanted, self.tolerance)


@dataclass(frozen=True)
class Reading:
    """What a model says of goals, one row a text."""

    log_probability: Float[Tensor, " batch"]
    """The value of the goal, at least `LOWEST`: of a target the logarithm of the probability of all
    its tokens."""

    rank: Float[Tensor, " batch"]
    """Tokens that are likelier than the target's, plus one; of several tokens the largest rank."""

    entropy: Float[Tensor, " batch"]
    """Of the first token, in nats."""

    margin: Float[Tensor, " batch"]
    """Least logarithm of the ratio of a target token's probability to the likeliest one's; 0 if
    each is the likeliest."""

    divergence: Float[Tensor, " batch"]
    """Kullback-Leibler divergence from the first token without any control, in nats."""

    hit: Bool[Tensor, " batch"]
    """Whether the goal is reached."""

    @property
    def features(self) -> Float[Tensor, "batch feature"]:
        """The numbers of `FEATURES`, not scaled."""
        log_rank = self.rank.log()
        parts = self.log_probability, log_rank, self.entropy, self.margin, self.divergence
        return torch.stack(parts, 1)


def read(
    log_probabilities: Float[Tensor, "batch count vocabulary"],
    goal: Goal,
    uncontrolled: Float[Tensor, "batch vocabulary"],
) -> Reading:
    """Reads what a model says of goals.

    Args:
        log_probabilities: Of each token of the target, given those before it.
        goal: The goals.
        uncontrolled: What the model says of the first one without control.
    """
    each = log_probabilities.gather(2, goal.target[..., None])[..., 0]
    best = log_probabilities.amax(2)
    rank = 1 + (log_probabilities > each[..., None]).sum(2)
    first = log_probabilities[:, 0]
    probability = first.exp()
    return Reading(
        goal.value(log_probabilities).clamp_min(LOWEST),
        rank.amax(1).to(each.dtype),
        -(probability * first.clamp_min(LOWEST)).sum(1),
        (each - best).amin(1).clamp_min(LOWEST),
        (probability * (first - uncontrolled).clamp(LOWEST, -LOWEST)).sum(1).clamp_min(0.0),
        goal.hit(log_probabilities),
    )


def limits(vocabulary: int, count: int) -> tuple[list[float], list[float]]:
    """Returns bounds of the scaled features.

    Args:
        vocabulary: Tokens.
        count: Tokens of a target.
    """
    logarithm = torch.tensor(float(vocabulary)).log().item() + 1e-3
    low = (LOWEST, 0.0, -1e-3, LOWEST, 0.0)
    high = (1e-3, logarithm, logarithm, 1e-3, -LOWEST)
    return tuple(  # type: ignore[return-value]
        [value / scale for value, scale in zip(bounds, SCALES, strict=True)]
        for bounds in (low, high)
    )

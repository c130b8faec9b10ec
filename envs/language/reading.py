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
class Reading:
    """What a model says of targets, one row a text.

    A target of several tokens is read token by token, each after those before it.
    """

    log_probability: Float[Tensor, " batch"]
    """Logarithm of the probability of the whole target, at least `LOWEST`."""

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
    """Whether the likeliest token is the target's, of each of them."""

    @property
    def features(self) -> Float[Tensor, "batch feature"]:
        """The numbers of `FEATURES`, not scaled."""
        log_rank = self.rank.log()
        parts = self.log_probability, log_rank, self.entropy, self.margin, self.divergence
        return torch.stack(parts, 1)


def read(
    log_probabilities: Float[Tensor, "batch count vocabulary"],
    target: Int64[Tensor, "batch count"],
    uncontrolled: Float[Tensor, "batch vocabulary"],
) -> Reading:
    """Reads what a model says of targets.

    Args:
        log_probabilities: Of each token of the target, given those before it.
        target: The tokens.
        uncontrolled: What the model says of the first one without control.
    """
    each = log_probabilities.gather(2, target[..., None])[..., 0]
    best = log_probabilities.amax(2)
    rank = 1 + (log_probabilities > each[..., None]).sum(2)
    first = log_probabilities[:, 0]
    probability = first.exp()
    hit = log_probabilities.argmax(2) == target
    return Reading(
        each.sum(1).clamp_min(LOWEST),
        rank.amax(1).to(each.dtype),
        -(probability * first.clamp_min(LOWEST)).sum(1),
        (each - best).amin(1).clamp_min(LOWEST),
        (probability * (first - uncontrolled).clamp(LOWEST, -LOWEST)).sum(1).clamp_min(0.0),
        hit.all(1),
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

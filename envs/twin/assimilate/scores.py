"""Scores of ensembles: are they near the truth, and is their spread what their error is?

An ensemble is (*batch, member, component), and what it is compared with (*batch, component).
Quantiles are at k / (N + 1) for the k-th of N members: that share of truths falls below it, if the
truth is one more draw from where the members come from.

T. Gneiting, A. E. Raftery, J. Am. Stat. Assoc. 102 (2007) 359. C. A. T. Ferro, Q. J. R. Meteorol.
Soc. 140 (2014) 1917. V. Fortin et al., J. Hydrometeorol. 15 (2014) 1708. T. M. Hamill, Mon. Weather
Rev. 129 (2001) 550.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def crps(
    ensemble: Float[Tensor, "*batch member component"], truth: Float[Tensor, "*batch component"]
) -> Float[Tensor, "*batch component"]:
    """Returns the continuous ranked probability score of the ensemble as a step distribution.

    E|X - y| - E|X - X'| / 2 over all pairs of members, each with itself too (Gneiting and Raftery
    2007, eq. 21), in the unit of y; 0 is perfect. It favours small spread: see `fair_crps`.
    """
    return _error(ensemble, truth) - _difference(ensemble) / (2 * ensemble.shape[-2] ** 2)


def fair_crps(
    ensemble: Float[Tensor, "*batch member component"], truth: Float[Tensor, "*batch component"]
) -> Float[Tensor, "*batch component"]:
    """Returns the score of the distribution that the members are drawn from, without bias.

    As `crps`, but over pairs of different members (Ferro 2014): ensembles of different size
    compare. It may be negative.

    Raises:
        ValueError: There is one member only.
    """
    members = ensemble.shape[-2]
    if members < 2:
        raise ValueError(f"ensemble: got {members} members; allowed: 2 or more")
    return _error(ensemble, truth) - _difference(ensemble) / (2 * members * (members - 1))


class SpreadSkill(NamedTuple):
    """How far the mean of an ensemble is off, and how far its spread says it should be.

    Attributes:
        error: Root mean square error of the ensemble mean over the batch.
        spread: Root mean variance of the ensemble, times (N + 1) / N: equal to the error, in
            expectation, if the truth is one more draw (Fortin et al. 2014, eq. 15).
    """

    error: Float[Tensor, " component"]
    spread: Float[Tensor, " component"]

    @property
    def ratio(self) -> Float[Tensor, " component"]:
        """Spread over error: below 1 the ensemble is too sure, above 1 not sure enough."""
        return self.spread / self.error


def spread_skill(
    ensemble: Float[Tensor, "*batch member component"], truth: Float[Tensor, "*batch component"]
) -> SpreadSkill:
    """Returns error and spread over all of the batch (times, or cases), for each component."""
    members, components = ensemble.shape[-2:]
    square = (ensemble.mean(-2) - truth).square().reshape(-1, components).mean(0)
    variance = ensemble.var(-2).reshape(-1, components).mean(0)
    return SpreadSkill(square.sqrt(), (variance * (members + 1) / members).sqrt())


def rank_histogram(
    ensemble: Float[Tensor, "*batch member component"],
    truth: Float[Tensor, "*batch component"],
    generator: torch.Generator,
) -> Int64[Tensor, "component rank"]:
    """Counts how many members lie below the truth, 0 to N, over all of the batch.

    Flat if the truth is one more draw; a valley tells of too little spread, a slope of a bias
    (Hamill 2001).

    Args:
        ensemble: The members.
        truth: What came true.
        generator: Gives the truth a random place among members equal to it.
    """
    members, components = ensemble.shape[-2:]
    below = (ensemble < truth[..., None, :]).sum(-2)
    equal = (ensemble == truth[..., None, :]).sum(-2)
    chance = torch.rand(
        equal.shape, generator=generator, device=generator.device, dtype=torch.float64
    )
    rank = below + (chance.to(equal.device) * (equal + 1)).long()
    ranks = torch.arange(members + 1, device=rank.device)
    return (rank.reshape(-1, components, 1) == ranks).sum(0)


def quantiles(
    ensemble: Float[Tensor, "*batch member component"], probability: float
) -> Float[Tensor, "*batch component"]:
    """Returns a quantile of each component, between the members and not beyond them.

    Raises:
        ValueError: The probability is not from 0 to 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: got {probability!r}; allowed: numbers from 0 to 1")
    members = ensemble.shape[-2]
    place = min(max(probability * (members + 1) - 1, 0.0), members - 1.0)
    below = int(place)
    ordered = ensemble.sort(-2).values
    above = ordered[..., min(below + 1, members - 1), :]
    return torch.lerp(ordered[..., below, :], above, place - below)


def coverage(
    ensemble: Float[Tensor, "*batch member component"],
    truth: Float[Tensor, "*batch component"],
    level: float,
) -> Float[Tensor, " component"]:
    """Returns the share of truths in the central interval of a level, such as 0.9.

    It is the level, in expectation, if the truth is one more draw and the level is at most that of
    the interval from the lowest to the highest member, (N - 1) / (N + 1).

    Raises:
        ValueError: The level is outside [0, (N - 1) / (N + 1)].
    """
    members = ensemble.shape[-2]
    highest = (members - 1) / (members + 1)
    if not 0 <= level <= highest:
        raise ValueError(
            f"level: got {level!r}; allowed with {members} members: 0 to {highest:.4f}"
        )
    low, high = (quantiles(ensemble, (1 + sign * level) / 2) for sign in (-1, 1))
    inside = (truth >= low) & (truth <= high)
    return inside.reshape(-1, inside.shape[-1]).to(ensemble.dtype).mean(0)


def _error(ensemble: Tensor, truth: Tensor) -> Tensor:
    return (ensemble - truth[..., None, :]).abs().mean(-2)


def _difference(ensemble: Tensor) -> Tensor:
    """Returns the sum of |x_i - x_j| over all pairs, each twice, from the ordered members."""
    members = ensemble.shape[-2]
    rank = torch.arange(1, members + 1, device=ensemble.device, dtype=ensemble.dtype)
    ordered = ensemble.sort(-2).values
    return 2 * ((2 * rank - members - 1)[:, None] * ordered).sum(-2)

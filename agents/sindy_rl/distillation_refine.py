"""Tuning of a sparse policy by its return, and what can be left out of it then.

Regression makes a policy act like its teacher; what counts is its return. The cross-entropy method
(R. Y. Rubinstein, Methodol. Comput. Appl. Probab. 1 (1999) 127) needs no gradient, which a thousand
steps of an unstable motion would spoil, and thousands of episodes run as one batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from separatrix.agents.common.sparse.library import Library
from separatrix.agents.sindy_rl.distillation_config import DistillationConfig
from separatrix.agents.sindy_rl.sparse_policy import returns_of
from separatrix.envs.core.environment import Environment

ELITE_SHARE = 0.25
"""Share of a population that the next one is drawn around."""

LEFT_OUT = 8
"""One of so many terms is left out before the rest are tuned again."""

PATIENCE = 2
"""Policies in a row that may fall short before no more terms are left out."""


def tune(
    judge: Environment,
    library: Library,
    coefficients: Float[Tensor, "action features"],
    config: DistillationConfig,
    generator: torch.Generator,
) -> Float[Tensor, "action features"]:
    """Raises the return by changing the coefficients that are not zero.

    Args:
        judge: Environment whose returns count.
        library: The features.
        coefficients: Where to start; the first population deviates from each in proportion.
        config: Hyper-parameters.
        generator: Draws the populations and the episodes, which are others for each population.
    """
    mean = coefficients
    deviation = config.refine_deviation * coefficients.abs()
    elites = max(2, int(ELITE_SHARE * config.refine_population))
    for _ in range(config.refine_iterations):
        shape = (config.refine_population, *mean.shape)
        noise = torch.randn(shape, generator=generator, dtype=torch.float64).to(mean.device)
        population = mean + deviation * noise
        population[0] = mean
        seeds = draw_seeds(config.refine_episodes, generator)
        best = returns_of(judge, library, population, seeds).topk(elites).indices
        chosen = population[best.to(mean.device)]
        mean, deviation = chosen.mean(0), chosen.std(0, correction=0)
    return mean


def without_one(
    coefficients: Float[Tensor, "action features"], gram: Float[Tensor, "features features"]
) -> Float[Tensor, "policies action features"]:
    """Leaves out each term in turn; the others change so that the action changes least.

    Args:
        coefficients: The policy, with two terms or more.
        gram: Products of the features, summed over samples.
    """
    policies = []
    for action, row in enumerate(coefficients):
        support = row.nonzero().flatten()
        inverse = torch.linalg.pinv(gram[support][:, support], hermitian=True)
        change = inverse * (row[support] / inverse.diagonal())[:, None]
        block = coefficients.repeat(len(support), 1, 1)
        block[:, action, support] -= change
        block[torch.arange(len(support)), action, support] = 0.0  # exactly
        policies.append(block)
    return torch.cat(policies)


def lowest_near(best: float, tolerance: float) -> float:
    """Returns the lowest return that misses the best by no more than a share of its magnitude."""
    return best - tolerance * abs(best)


def draw_seeds(count: int, generator: torch.Generator) -> Int[Tensor, " episodes"]:
    """Returns seeds of episodes, consecutive from a number drawn below 2^48."""
    first = torch.randint(2**48, (1,), generator=generator)
    return first + torch.arange(count)


def shorten(
    judge: Environment,
    library: Library,
    coefficients: Float[Tensor, "action features"],
    gram: Float[Tensor, "features features"],
    best: float,
    seeds: Int[Tensor, " episodes"],
    config: DistillationConfig,
    generator: torch.Generator,
) -> list[tuple[Float[Tensor, "action features"], float]]:
    """Tunes a policy, and leaves out term after term as long as its return stays high enough.

    Args:
        judge: Environment whose returns count.
        library: The features.
        coefficients: Where to start.
        gram: Products of the features, summed over samples.
        best: Highest return so far; policies are shortened while they come near the highest.
        seeds: Episodes that decide, the same for all.
        config: Hyper-parameters.
        generator: Draws populations and their episodes.

    Returns:
        Every tuned policy and its return, from the most terms to the fewest; the last ones may
        fall short.
    """
    found, short = [], 0
    while True:
        both = torch.stack([coefficients, tune(judge, library, coefficients, config, generator)])
        returns = returns_of(judge, library, both, seeds)
        better = int(returns.argmax())
        coefficients, value = both[better], returns[better].item()
        found.append((coefficients, value))
        best = max(best, value)
        short = short + 1 if value < lowest_near(best, config.tolerance) else 0
        if short == PATIENCE or int((coefficients != 0).sum()) == 1:
            return found
        for _ in range(max(1, int((coefficients != 0).sum()) // LEFT_OUT)):
            shorter = without_one(coefficients, gram)
            coefficients = shorter[int(returns_of(judge, library, shorter, seeds).argmax())]

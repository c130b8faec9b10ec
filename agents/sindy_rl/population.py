"""Population-based training: the worst policies become changed copies of the best.

M. Jaderberg et al., "Population based training of neural networks", arXiv:1711.09846 (2017).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from separatrix.agents.common.stable_baselines3.config import PPOConfig, SACConfig
from separatrix.agents.sindy_rl.config import PolicyConfig, PopulationConfig

FACTORS = (0.8, 1.2)
"""By which a hyper-parameter changes."""


def tunable(config: PopulationConfig, policy: PolicyConfig) -> dict[str, tuple[float, float]]:
    """Returns the ranges of the hyper-parameters that the population varies, by name.

    Raises:
        ValueError: The algorithm has no such hyper-parameters.
    """
    ranges = {"learning_rate": config.learning_rates, "gamma": config.discounts}
    if isinstance(policy, PPOConfig):
        return {**ranges, "gae_lambda": config.gae_lambdas}
    if isinstance(policy, SACConfig):
        return ranges
    raise ValueError(f"population: got policies of {policy.algorithm}; allowed: ppo, sac")


def draw(
    ranges: dict[str, tuple[float, float]], policy: PolicyConfig, generator: random.Random
) -> PolicyConfig:
    """Draws all hyper-parameters: on a logarithmic scale, those near 1 by their distance from 1."""
    values: dict[str, Any] = {
        name: _draw(name, *bounds, generator) for name, bounds in ranges.items()
    }
    return dataclasses.replace(policy, **values)


def perturb(
    ranges: dict[str, tuple[float, float]],
    policy: PolicyConfig,
    resample: float,
    generator: random.Random,
) -> PolicyConfig:
    """Changes every hyper-parameter by a fifth, or draws it anew with some probability."""
    values: dict[str, Any] = {}
    for name, (low, high) in ranges.items():
        if generator.random() < resample:
            values[name] = _draw(name, low, high, generator)
            continue
        value, factor = getattr(policy, name), generator.choice(FACTORS)
        # A discount is 1 - 1 / horizon: it is the distance from 1 that a factor makes sense for.
        value = value * factor if name == "learning_rate" else 1 - (1 - value) * factor
        values[name] = min(max(value, low), high)
    return dataclasses.replace(policy, **values)


def replacements(
    returns: Sequence[float], quantile: float, generator: random.Random
) -> dict[int, int]:
    """Tells which member is replaced by which: each of the worst by one of the best, at random."""
    count = int(quantile * len(returns))
    order = sorted(range(len(returns)), key=lambda member: returns[member])
    worst, best = order[:count], order[len(order) - count :]
    return {member: generator.choice(best) for member in worst if member not in best}


def _draw(name: str, low: float, high: float, generator: random.Random) -> float:
    if name == "learning_rate":
        return low * (high / low) ** generator.random()
    far, near = 1 - low, max(1 - high, 1e-6)
    return 1 - far * (near / far) ** generator.random()

"""How well a controller does: returns and metrics over many episodes, with intervals."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment


@dataclass(frozen=True)
class Evaluation:
    """Results of one episode for each seed, float64 on the CPU."""

    returns: Float[Tensor, " episodes"]
    """Sum of the rewards of each episode."""

    lengths: Int[Tensor, " episodes"]
    """Steps of each episode."""

    diverged: Bool[Tensor, " episodes"]
    """Whether the episode ended because its state left the safe box or turned non-finite."""

    metrics: dict[str, Float[Tensor, " episodes"]]
    """Mean of each metric of the task over the steps of each episode."""

    def columns(self) -> dict[str, Float[Tensor, " episodes"]]:
        """Everything measured, one value for each episode, by name: `return`, `length`, ..."""
        return {
            "return": self.returns,
            "length": self.lengths.double(),
            **self.metrics,
            "diverged": self.diverged.double(),
        }

    def means(self) -> dict[str, float]:
        """Mean over the episodes of every column."""
        return {name: values.mean().item() for name, values in self.columns().items()}


def evaluate(
    environment: Environment, controller: Controller, seeds: Int[Tensor, " episodes"]
) -> Evaluation:
    """Run one episode of at most `environment.horizon` steps for each seed, all in one batch.

    Args:
        environment: Pure environment, see `separatrix.controllers.rollout.rollout`.
        controller: Controller to evaluate.
        seeds: One seed for each episode, int64; at least one.

    Returns:
        Returns, lengths and the mean of each metric over the steps each episode lived.

    Raises:
        ValueError: If there are no seeds.
    """
    if len(seeds) == 0:
        raise ValueError("got no seeds; an evaluation needs at least one episode")
    zeros = torch.zeros(len(seeds), dtype=torch.float64)
    returns, lengths = zeros.clone(), zeros.long()
    diverged = lengths.bool()
    sums = {name: zeros.clone() for name in environment.metric_names}
    for step in rollout(environment, controller, seeds):
        alive, transition = step.alive.cpu(), step.transition
        # `where`, not a product: the rows of episodes that have ended may hold NaN.
        returns += torch.where(alive, transition.reward.double().cpu(), zeros)
        for name, total in sums.items():
            total += torch.where(alive, transition.info[name].double().cpu(), zeros)
        lengths += alive
        diverged |= alive & transition.info["diverged"].cpu()
    metrics = {name: total / lengths for name, total in sums.items()}
    return Evaluation(returns, lengths, diverged, metrics)


def bootstrap_interval(
    values: Num[Tensor, " episodes"], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron and Tibshirani 1993, section 13.3).

    Args:
        values: Independent values, at least one.
        level: Probability with which the interval is to hold the mean.
        resamples: Number of resampled means.
        seed: Seed of the resampling, so that the same values give the same interval.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If there are no values or the level is not in (0, 1).
    """
    if len(values) == 0:
        raise ValueError("got no values; a bootstrap interval needs at least one")
    if not 0 < level < 1:
        raise ValueError(f"got level {level}; allowed is a probability between 0 and 1")
    generator = torch.Generator().manual_seed(seed)
    values = values.double().cpu()
    rows = torch.randint(len(values), (resamples, len(values)), generator=generator)
    means = values[rows].mean(1)
    low, high = torch.quantile(means, torch.tensor([(1 - level) / 2, (1 + level) / 2]).double())
    return low.item(), high.item()

"""Ensembles of networks that predict the next observation, the reward and the end of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from separatrix.agents.common.dynamics.network import EnsembleNetwork, Normalizer
from separatrix.envs.core.registration import check_count

LOG_VARIANCE = (-10.0, 0.5)
"""Where the learned bounds of the log-variance of normalised targets start."""


@dataclass(frozen=True)
class EnsembleConfig:
    """Shape of an ensemble.

    The defaults are those of PETS (Chua et al., NeurIPS 2018) and MBPO (Janner et al., NeurIPS
    2019), but for three hidden layers instead of four.

    Attributes:
        members: Networks.
        elites: How many of them, the best on held-out data, make the predictions.
        hidden: Widths of the hidden layers.
        probabilistic: Predict normal distributions rather than points.
        reward_head: Predict the reward.
        termination_head: Predict whether the episode terminates.

    Raises:
        ValueError: A number is not a positive integer, or there are more elites than members.
    """

    members: int = 7
    elites: int = 5
    hidden: tuple[int, ...] = (200, 200, 200)
    probabilistic: bool = True
    reward_head: bool = True
    termination_head: bool = False

    def __post_init__(self) -> None:
        check_count("members", self.members)
        check_count("elites", self.elites)
        for width in self.hidden:
            check_count("hidden", width)
        if self.elites > self.members:
            raise ValueError(f"elites: got {self.elites}; allowed: 1 to {self.members} members")


class Prediction(NamedTuple):
    """What networks expect of one control interval, in the units of the data."""

    next_observation: Float[Tensor, "stack rows observation"]
    """Expected value."""

    observation_deviation: Float[Tensor, "stack rows observation"]
    """Standard deviation; zero for points."""

    reward: Float[Tensor, "stack rows"]
    """Expected value; zero without a reward head."""

    termination: Float[Tensor, "stack rows"]
    """Probability that the episode terminates; zero without a head."""


class DynamicsEnsemble(nn.Module):
    """An ensemble that predicts the change of the observation, as one batched network.

    Targets are the change of the observation and, with a reward head, the reward. Inputs and
    targets are normalised. Every parameter has a leading axis of members.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        config: Shape of the ensemble.
        seed: Seed of the initial weights.

    Attributes:
        elites: Indices of the members that make the predictions, int64.
    """

    elites: Tensor

    def __init__(
        self, observation_size: int, action_size: int, config: EnsembleConfig, seed: int
    ) -> None:
        super().__init__()
        self.config, self.observation_size = config, observation_size
        self.action_size = action_size
        inputs, targets = observation_size + action_size, observation_size + config.reward_head
        outputs = targets + observation_size * config.probabilistic + config.termination_head
        generator = torch.Generator().manual_seed(seed)
        self.network = EnsembleNetwork(config.members, inputs, config.hidden, outputs, generator)
        self.inputs, self.targets = Normalizer(inputs), Normalizer(targets)
        self.register_buffer("elites", torch.arange(config.elites))
        low, high = (
            torch.full((config.members, 1, observation_size), bound) for bound in LOG_VARIANCE
        )
        self.log_variance_low = nn.Parameter(low, requires_grad=config.probabilistic)
        self.log_variance_high = nn.Parameter(high, requires_grad=config.probabilistic)

    def outputs(
        self,
        observation: Float[Tensor, "stack rows observation"],
        action: Float[Tensor, "stack rows action"],
        members: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Evaluates networks.

        Args:
            observation: Rows for each network.
            action: Rows for each network.
            members: Indices of the networks; None for all.

        Returns:
            The mean of the normalised targets, (stack, rows, target); the log-variance of those of
            the observation, (stack, rows, observation), None for points; and the logit of
            termination, (stack, rows), None without a head.
        """
        raw = self.network(self.inputs(torch.cat((observation, action), -1)), members)
        size = self.targets.mean.shape[0]
        mean = raw[..., :size]
        log_variance: Tensor | None = None
        if self.config.probabilistic:
            every = slice(None) if members is None else members
            low, high = self.log_variance_low[every], self.log_variance_high[every]
            log_variance = raw[..., size : size + self.observation_size]
            # Softly between bounds that are learned, too.
            log_variance = high - nn.functional.softplus(high - log_variance)
            log_variance = low + nn.functional.softplus(log_variance - low)
        logit = raw[..., -1] if self.config.termination_head else None
        return mean, log_variance, logit

    def predict(
        self,
        observation: Float[Tensor, "stack rows observation"],
        action: Float[Tensor, "stack rows action"],
        members: Tensor | None = None,
    ) -> Prediction:
        """Predicts one control interval in the units of the data; arguments as for `outputs`."""
        mean, log_variance, logit = self.outputs(observation, action, members)
        target = self.targets.inverse(mean)
        size = self.observation_size
        zero = target[..., 0].detach() * 0
        deviation = torch.zeros_like(observation)
        if log_variance is not None:
            deviation = (0.5 * log_variance).exp() * self.targets.deviation[:size]
        return Prediction(
            observation + target[..., :size],
            deviation,
            target[..., size] if self.config.reward_head else zero,
            zero if logit is None else logit.sigmoid(),
        )

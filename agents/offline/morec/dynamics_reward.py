"""The reward of transitions that an environment's dynamics maximise, averaged over snapshots."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from separatrix.agents.common.dynamics.network import EnsembleNetwork, Normalizer
from separatrix.agents.offline.model_config import DynamicsRewardConfig

SMALL = 1e-9
"""Keeps the logarithm finite, as in the authors' code."""


def reward_of_logits(
    logit: Float[Tensor, " snapshots *rows"],
    recorded: Float[Tensor, " snapshots"],
    lowest: Float[Tensor, " snapshots"],
) -> Float[Tensor, "*rows"]:
    """Returns the dynamics reward -log(1 - p + 1e-9), p being a mean over snapshots.

    The logit of a snapshot is clamped to between the lowest that counts and its mean on recorded
    transitions and mapped from there to [-1, 1]; its p is the sigmoid of that. So no snapshot
    outweighs others, and rewards lie between 0.3133 and 1.3133. Two rules are ours: a snapshot
    whose mean on recorded transitions is not above the lowest tells nothing, and has p = 0.5
    everywhere; and a logit that is not finite counts as the lowest.

    Args:
        logit: Of each snapshot of the discriminator.
        recorded: Mean logit of each on recorded transitions.
        lowest: Lowest logit of each that counts, see `DynamicsRewardConfig.floor`.
    """
    shape = (-1, *(1 for _ in logit.shape[1:]))
    low, high = lowest.view(shape), recorded.view(shape)
    tells = high > low
    share = ((logit - low) / torch.where(tells, high - low, 1.0)).clamp(0, 1)
    share = torch.where(logit.isfinite(), share, 0.0)
    probability = torch.where(tells, 2 * share - 1, 0.0).sigmoid().mean(0)
    return -(1 - probability + SMALL).log()


class DynamicsReward(nn.Module):
    """Snapshots of a discriminator between recorded and generated transitions, as one network.

    See `separatrix.agents.offline.morec.training`, which learns them. Until then the reward is
    log 2 everywhere.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        config: Shape, number of snapshots, and what they see.

    Attributes:
        inputs: Normaliser of what a discriminator sees.
        snapshots: The networks.
        recorded: Mean logit of each snapshot on recorded transitions, when it was taken.
        generated: Mean logit of each on the transitions of the generator of that time.
        lowest: Lowest logit of each that counts, see `DynamicsRewardConfig.floor`.
    """

    recorded: Tensor
    generated: Tensor
    lowest: Tensor

    def __init__(
        self, observation_size: int, action_size: int, config: DynamicsRewardConfig
    ) -> None:
        super().__init__()
        self.config, size = config, 2 * observation_size + action_size
        self.inputs = Normalizer(size)
        unused = torch.Generator().manual_seed(0)  # weights are copied from the discriminator
        self.snapshots = EnsembleNetwork(config.snapshots, size, config.layers, 1, unused)
        self.snapshots.requires_grad_(False)
        for name in ("recorded", "generated", "lowest"):
            self.register_buffer(name, torch.zeros(config.snapshots))

    def seen(
        self,
        observation: Float[Tensor, "*rows observation"],
        action: Float[Tensor, "*rows action"],
        next_observation: Float[Tensor, "*rows observation"],
    ) -> Float[Tensor, "*rows inputs"]:
        """Returns what a discriminator sees of transitions, not normalised."""
        last = next_observation - observation if self.config.changes else next_observation
        return torch.cat((observation, action, last), -1)

    @torch.no_grad()
    def logit(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "candidates rows observation"],
    ) -> Float[Tensor, "snapshots candidates rows"]:
        """Returns what each snapshot makes of candidates for the next observation of each row."""
        shape = next_observation.shape[:2]
        observation, action = (part.expand(shape[0], -1, -1) for part in (observation, action))
        inputs = self.inputs(self.seen(observation, action, next_observation)).flatten(0, 1)
        logit = self.snapshots(inputs.expand(self.config.snapshots, -1, -1))
        return logit.view(-1, *shape)

    def reward(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "candidates rows observation"],
    ) -> Float[Tensor, "candidates rows"]:
        """Returns the dynamics reward of candidates for the next observation of each row."""
        logit = self.logit(observation, action, next_observation)
        return reward_of_logits(logit, self.recorded, self.lowest)

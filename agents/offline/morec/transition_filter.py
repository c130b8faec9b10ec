"""The filter that takes, of the next observations a model proposes, those that are likely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.agents.offline.model_config import FilterConfig
from separatrix.agents.offline.morec.dynamics_reward import DynamicsReward


@dataclass(frozen=True)
class Choice:
    """What the filter makes of the candidates of each row."""

    index: Int64[Tensor, " rows"]
    """The candidate that is chosen."""

    believed: Bool[Tensor, " rows"]
    """Whether it is believed."""

    reward: Float[Tensor, " rows"]
    """Its dynamics reward."""


class TransitionFilter:
    """Chooses among candidates by the dynamics reward (F. Luo et al., ICLR 2024, section 4).

    Args:
        reward: The dynamics reward, trained.
        config: How candidates are chosen, and what is believed.
    """

    def __init__(self, reward: DynamicsReward, config: FilterConfig) -> None:
        self.reward, self.config = reward, config

    def choose(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        candidates: Float[Tensor, "candidates rows observation"],
        generator: torch.Generator,
    ) -> Choice:
        """Chooses a candidate for each row; of several that are best, one is drawn.

        A random choice, which is for comparison, is always believed; another one where its reward
        reaches the threshold.

        Args:
            observation: Before the control interval.
            action: Held during the interval.
            candidates: Next observations that a model proposes.
            generator: Source of randomness, on the device of the rows.
        """
        reward = self.reward.reward(observation, action, candidates)
        count, rows = reward.shape
        if self.config.choice == "argmax":
            drawn = torch.rand(reward.shape, generator=generator, device=reward.device)
            index = ((1 - drawn) * (reward == reward.amax(0))).argmax(0)
        elif self.config.choice == "softmax":
            weight = (reward / self.config.temperature).softmax(0)
            index = torch.multinomial(weight.T, 1, generator=generator)[:, 0]
        else:
            index = torch.randint(count, (rows,), generator=generator, device=reward.device)
        chosen = reward.gather(0, index[None])[0]
        believed = (chosen >= self.config.threshold) | (self.config.choice == "random")
        return Choice(index, believed, chosen)

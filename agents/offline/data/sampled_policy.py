"""Policies of stable-baselines3 that act with the noise of their training."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from separatrix.agents.common.stable_baselines3.config import (
    ModelFreeConfig,
    SACConfig,
    TD3Config,
)
from separatrix.controllers.controller import Controller


class SampledPolicy(Controller):
    """Actions as a policy takes them in training, with its noise.

    Args:
        config: Hyper-parameters of the algorithm.
        policy: Its policy, whose parameters may go on changing.
        seed: Seed of the noise.
    """

    def __init__(self, config: ModelFreeConfig, policy: BasePolicy, seed: int) -> None:
        self._config, self._policy = config, policy
        self._generator = torch.Generator(policy.device).manual_seed(seed)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Draws an action for each environment, see `Controller.act`."""
        policy: Any = self._policy
        seen = observation.to(policy.device, torch.float32)
        if isinstance(self._config, SACConfig):
            mean, log_deviation, _ = policy.actor.get_action_dist_params(seen)
            return self._around(mean, log_deviation.exp()).tanh().to(observation)
        if isinstance(self._config, TD3Config):
            mean = policy._predict(seen, deterministic=True)
            action = self._around(mean, torch.full_like(mean, self._config.exploration_noise))
        else:
            normal = policy.get_distribution(seen).distribution
            action = self._around(normal.mean, normal.stddev)
        return action.clamp(-1, 1).to(observation)

    def _around(self, mean: Tensor, deviation: Tensor) -> Tensor:
        noise = torch.empty_like(mean).normal_(generator=self._generator)
        return mean + deviation * noise

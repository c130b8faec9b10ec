"""Acting in the real environment so that the data tell more than the policy's own path."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.agents.sindy_rl.forecast import Dynamics
from separatrix.controllers.controller import Controller


class Exploration(Controller):
    """A policy whose actions are disturbed by normal noise, held for some control intervals.

    With several candidates the disturbance of every environment is, of so many draws, the one whose
    action the members of the model disagree about most: a bonus for uncertainty in the real
    environment, where the surrogate has a penalty (Wang et al., "COPlanner", arXiv:2310.07220).

    Args:
        policy: The policy.
        dynamics: The model.
        noise: Standard deviation.
        hold: Control intervals for which a disturbance is held.
        candidates: Draws among which the most uncertain is taken.
        seed: Seed of the noise.
    """

    def __init__(
        self,
        policy: Controller,
        dynamics: Dynamics,
        *,
        noise: float,
        hold: int,
        candidates: int,
        seed: int,
    ) -> None:
        self._policy, self._dynamics = policy, dynamics
        self._noise, self._hold, self._candidates = noise, hold, candidates
        self._generator = torch.Generator().manual_seed(seed)
        self._age = 0

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the disturbed actions, in [-1, 1]."""
        action = self._policy.act(observation, state)
        if self._age % self._hold == 0:
            self._disturbance = self._draw(observation, action)
        self._age += 1
        return (action + self._disturbance).clamp(-1.0, 1.0)

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Tells the policy which episodes begin."""
        self._policy.reset(mask)

    def _draw(self, observation: Tensor, action: Tensor) -> Tensor:
        shape = (self._candidates, *action.shape)
        drawn = self._noise * torch.randn(shape, generator=self._generator).to(action)
        if self._candidates == 1:
            return drawn[0]
        candidates = (action + drawn).clamp(-1.0, 1.0).flatten(0, 1)
        forecast = self._dynamics.forecast(observation.repeat(self._candidates, 1), candidates)
        best = forecast.deviation.view(self._candidates, -1).argmax(0)
        return drawn[best, torch.arange(len(action), device=best.device)]

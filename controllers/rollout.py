"""One batch of episodes under a controller, step by step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.core.actions import Action
from separatrix.envs.core.environment import Environment, Transition


@dataclass(frozen=True)
class Step:
    """One control interval of all episodes of the batch."""

    state: Any
    """The state before the step."""

    observation: Float[Tensor, "batch observation"]
    """The observation before the step, which the controller saw."""

    action: Action
    """The action taken; zero in episodes that have ended."""

    transition: Transition
    """What the environment answered."""

    alive: Bool[Tensor, " batch"]
    """Whether the step belongs to an episode, that is, whether it had not ended before."""


def rollout(
    environment: Environment, controller: Controller, seeds: Int[Tensor, " batch"]
) -> Iterator[Step]:
    """Run one episode for each seed, at most `environment.horizon` steps, without gradients.

    Episodes end when they terminate and are not started again; their rows go on moving under zero
    action and must be masked with `alive`. The iterator stops when all episodes have ended.

    Args:
        environment: Pure environment whose parameters are shared by all seeds, or whose number of
            environments is the number of seeds.
        controller: Controller that acts; it is reset first.
        seeds: One seed for each episode, int64.

    Yields:
        The steps, in order.
    """
    with torch.no_grad():
        state, observation = environment.reset(seeds)
        alive = torch.ones(len(seeds), dtype=torch.bool, device=observation.device)
        controller.reset(alive)
    for _ in range(environment.horizon):
        # A generator must not hold the no_grad mode across a yield: it would leak to the caller.
        with torch.no_grad():
            action = controller.act(observation, state)
            # The rows of episodes that have ended may hold anything, and a NaN action is an error.
            rows = alive.view(-1, *[1] * (action.ndim - 1))
            action = torch.where(rows, action, torch.zeros_like(action))
            transition = environment.step(state, action)
        yield Step(state, observation, action, transition, alive)
        alive = alive & ~transition.terminated
        if not alive.any():
            return
        state, observation = transition.state, transition.observation

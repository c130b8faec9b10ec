"""Controllers that look at nothing: the floor against which feedback is measured."""

from typing import Any

import torch
from gymnasium.spaces import Box
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.core.actions import draw_actions
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import check_count


class ZeroController(Controller):
    """The action zero, always: the system left to itself where zero means no actuation.

    Of choices it is the first one.
    """

    def __init__(self, environment: Environment) -> None:
        """Read the number of actions from the environment."""
        self._shape = environment.action_shape
        self._chooses = not isinstance(environment.action_space, Box)

    def act(self, observation: Float[Tensor, "batch observation"], state: Any) -> Tensor:
        """Return zeros, see `Controller.act`."""
        zeros = observation.new_zeros((len(observation), *self._shape))
        return zeros.long() if self._chooses else zeros


class RandomController(Controller):
    """Actions drawn uniformly from [-1, 1], or choices, each held for some control intervals."""

    def __init__(self, environment: Environment, seed: int = 0, hold: int = 1) -> None:
        """Open a random stream of its own, which the environment's draws do not disturb.

        Args:
            environment: Where the actions go; gives their number and the device.
            seed: Seed of the stream.
            hold: Control intervals for which an action is held; more of them move a body further.

        Raises:
            ValueError: The hold is no positive integer.
        """
        check_count("hold", hold)
        self._environment = environment
        self._generator = torch.Generator(environment.device).manual_seed(seed)
        self._hold, self._age = hold, 0

    def act(self, observation: Float[Tensor, "batch observation"], state: Any) -> Tensor:
        """Draw or hold one action for each environment, see `Controller.act`."""
        if self._age % self._hold == 0:
            self._actions = draw_actions(self._environment, len(observation), self._generator)
        self._age += 1
        return self._actions

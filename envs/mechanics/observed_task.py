"""Tasks over MuJoCo whose rewards the observations determine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from separatrix.envs.mechanics.mujoco_task import MujocoTask


class ObservedTask(MujocoTask):
    """A task whose reward is written once, by operators that arrays and tensors share."""

    @abstractmethod
    def judge(self, observation: Any, action: Any, tanh: Callable[[Any], Any]) -> Any:
        """Returns rewards of steps, all arrays or all tensors.

        Args:
            observation: What is seen after the steps, one row a step.
            action: Clipped actions.
            tanh: The hyperbolic tangent of their kind.
        """

    def reward(
        self,
        before: Float64[np.ndarray, "batch coordinate"],
        after: Float64[np.ndarray, "batch coordinate"],
        action: Float64[np.ndarray, "batch action"],
    ) -> Float64[np.ndarray, " batch"]:
        """Returns the reward of a step."""
        found: np.ndarray = self.judge(self.observe(after), action, np.tanh)
        return found

    def known_reward(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> Float[Tensor, " rows"]:
        """Returns rewards of steps from observations alone, differentiably, of clipped actions."""
        found: Tensor = self.judge(next_observation, action, torch.tanh)
        return found


def length(*components: Any) -> Any:
    """Returns the length of vectors; at 0 it is 1e-15, so that its derivatives are finite."""
    return (sum(component * component for component in components) + 1e-30) ** 0.5

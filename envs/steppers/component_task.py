"""Tasks on ODE systems, written once as functions of components.

Because they are expressions, observation, reward and termination join the kernel of the step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from separatrix.envs.steppers.functions import Expression

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem

Components = Sequence[Expression]
Parameters = Mapping[str, Any]
"""The task's numbers as symbols, by name: one symbol, or a tuple of them for a vector."""


class ComponentTask(ABC):
    """Control, observation, reward and end of an episode as expressions of components.

    A task is a frozen dataclass; its fields are options of the environment.

    Attributes:
        reward_range: Lowest and highest reward of a step; a diverged environment gets the lowest.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns the numbers that enter the expressions.

        Args:
            system: The system the task is put on.

        Returns:
            By name: a number; or float64 of shape (num_envs,), one for each environment; or
            (1, k) or (num_envs, k), a vector shared by all or one for each.
        """
        return {}

    @abstractmethod
    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the largest magnitude of each observation within the safe box."""

    def equilibrium(self, system: OdeSystem) -> Tensor:
        """Returns the state that is to be held under zero control.

        Returns:
            float64 of shape (1 or num_envs, state).

        Raises:
            ValueError: The task has none; there is nothing to linearize at.
        """
        raise ValueError(
            f"task {type(self).__name__} of {system.definition.name} has no equilibrium; LQR and "
            "linearize need a task that holds a state at rest"
        )

    def target_points(self, system: OdeSystem) -> Float[np.ndarray, "points state"]:
        """Returns states that outline the target of the first environment, for drawing.

        One point is a state to hold, more are a curve; no point means that there is none to draw.
        By default it is the equilibrium.
        """
        return self.equilibrium(system)[:1].double().cpu().numpy()

    @abstractmethod
    def control(self, action: Components, parameters: Parameters) -> Components:
        """Turns an action in [-1, 1], one component a control, into a control."""

    @abstractmethod
    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns what the agent sees of a state, scaled to order one."""

    def state_of(self, observation: Components, parameters: Parameters) -> Components | None:
        """Returns a state with this observation that reward and termination tell from no other.

        The inverse of `observe`, for models of the observation. They may predict what no state
        shows, such as a cosine and a sine off the unit circle: give `angle_of` these.

        Returns:
            The components of the state; by default None: the observation does not determine
            reward and termination.
        """
        return None

    @abstractmethod
    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        """Returns the reward of a step, within `reward_range`."""

    def terminated(self, state: Components, parameters: Parameters) -> Expression:
        """Returns the condition under which a state ends the episode; by default none does."""
        return False

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        """Returns named quantities of a step, for evaluation only."""
        return {}

"""What all planners share: a model, a horizon, and memory of the last plan."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.controllers.planning.sequences import batch_size, sequence_returns, shifted
from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import check_count

EXECUTE = ("best", "mean")


class Planner(Controller):
    """Model-predictive control: plans some steps ahead, takes the first, and plans anew.

    A planner plans for a whole batch at once. At every step it begins with what the last plan left,
    one step later; an environment that starts a new episode begins with nothing of the last one.

    Args:
        model: The true environment or a learned one. A planner steps it from
            `model.state_from(observation, state)` on. With parameters for each environment it has
            as many as are planned for.
        horizon: Steps of a plan.
        discount: Factor by which the reward of each further step counts less, in (0, 1].
        warm_start: Whether a plan begins with the last one; else every plan begins with nothing.
        seed: Seed of the planner's random stream, which goes on from plan to plan.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        model: Environment,
        *,
        horizon: int,
        discount: float = 1.0,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        check_whole(horizon=horizon)
        check("discount", discount, 0 < discount <= 1, "a number in (0, 1]")
        self.model, self.horizon, self.discount = model, horizon, discount
        self.warm_start = warm_start
        require_continuous(model, type(self).__name__)
        self.num_actions = model.action_shape[0]
        self.generator = torch.Generator(model.device).manual_seed(seed)
        self._memory: Float[Tensor, "batch kept horizon action"] | None = None

    @abstractmethod
    def search(
        self, state: Any, memory: Float[Tensor, "batch kept horizon action"]
    ) -> tuple[Float[Tensor, "batch horizon action"], Float[Tensor, "batch kept horizon action"]]:
        """Searches for good sequences of actions.

        Args:
            state: State of the model for each environment.
            memory: Sequences to begin with: what the last search kept, one step later, or
                `initial_memory`.

        Returns:
            The sequence of each environment whose first action is to be taken, and the sequences
            to keep.
        """

    def initial_memory(self, batch: int) -> Float[Tensor, "batch kept horizon action"]:
        """Returns what the search begins with in a new episode: the zero action throughout."""
        shape = (batch, 1, self.horizon, self.num_actions)
        return torch.zeros(shape, dtype=self.model.dtype, device=self.model.device)

    @torch.no_grad()
    def plan(self, state: Any) -> Float[Tensor, "batch action"]:
        """Plans from states of the model and returns the first actions, in [-1, 1]."""
        batch = batch_size(state)
        if self._memory is None or len(self._memory) != batch or not self.warm_start:
            self._memory = self.initial_memory(batch)
        sequence, memory = self.search(state, self._memory)
        self._memory = shifted(memory)
        return sequence[:, 0].clamp(-1.0, 1.0)  # a mean of ones may round to more than 1

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Plans from a moment of the environment, see `Controller.act`."""
        return self.plan(self.model.state_from(observation, state))

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Forgets the plans of the environments that start a new episode."""
        fresh = self.initial_memory(len(mask))
        if self._memory is not None and len(self._memory) == len(mask):
            fresh = torch.where(mask[:, None, None, None], fresh, self._memory)
        self._memory = fresh

    def returns(
        self, state: Any, candidates: Float[Tensor, "batch population horizon action"]
    ) -> Float[Tensor, "batch population"]:
        """Returns what candidates earn in the model, -inf for what is not finite."""
        return sequence_returns(self.model, state, candidates, self.discount)


def check(name: str, value: object, allowed: bool, meaning: str) -> None:
    """Raises ValueError if a value is not allowed."""
    if not allowed:
        raise ValueError(f"{name}: got {value!r}; allowed: {meaning}")


def check_whole(**values: object) -> None:
    """Raises ValueError if one of the named values is not an integer >= 1."""
    for name, value in values.items():
        check_count(name, value)


def check_execute(execute: str) -> None:
    """Raises ValueError if this is not a way to choose what to execute."""
    check("execute", execute, execute in EXECUTE, " or ".join(map(repr, EXECUTE)))

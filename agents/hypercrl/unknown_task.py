"""Acting in environments whose task is not told: it is inferred from the errors of the models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.hypercrl.inference import TaskInference, standardised_errors
from separatrix.agents.hypercrl.model import TaskModel
from separatrix.agents.hypercrl.planning import make_planner
from separatrix.controllers.controller import Controller
from separatrix.controllers.planning.planner import Planner
from separatrix.envs.core.environment import Environment

if TYPE_CHECKING:
    from separatrix.agents.hypercrl.learner import Learner

LEAST_DEVIATION = 1e-6
"""Held-out errors below count as this: single precision does not resolve smaller changes of
observations of order one, and a component that never moves has the error 0."""


class TaskErrors:
    """Standardised one-step errors of the networks of every known task, step after step.

    The networks of all tasks predict in one pass. Any number of environments may be followed.

    Args:
        learner: Has the networks and their held-out errors.

    Attributes:
        deviations: Root mean square of the held-out errors of each task's networks.
    """

    def __init__(self, learner: Learner) -> None:
        self.deviations = torch.stack(learner.errors).clamp_min(LEAST_DEVIATION)
        self._tasks = torch.arange(len(self.deviations), device=self.deviations.device)
        self._dynamics = learner.dynamics(self._tasks)
        self._before: tuple[Tensor, Tensor] | None = None
        self._followed = torch.zeros(0, dtype=torch.bool)

    @torch.no_grad()
    def of(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> Float[Tensor, "rows tasks"]:
        """Returns the errors of steps."""
        rows, tasks = len(observation), len(self._tasks)
        if len(self._dynamics.rows) != rows * tasks:
            self._dynamics = self._dynamics.with_rows(self._tasks.repeat_interleave(rows))
        inputs = (
            tensor.repeat(tasks, 1).expand(self._dynamics.members, -1, -1)
            for tensor in (observation, action)
        )
        predicted = self._dynamics.predict(*inputs).next_observation.mean(0)
        residuals = predicted.unflatten(0, (tasks, rows)).transpose(0, 1)
        return standardised_errors(residuals - next_observation[:, None], self.deviations)

    def since(self, observation: Float[Tensor, "rows observation"]) -> Float[Tensor, "rows tasks"]:
        """Returns the errors of the step that led to an observation; NaN where it was the first."""
        if self._before is None or len(self._followed) != len(observation):
            return self.deviations.new_full((len(observation), len(self._tasks)), math.nan)
        errors = self.of(*self._before, observation)
        return errors.masked_fill(~self._followed[:, None], math.nan)

    def follow(
        self, observation: Float[Tensor, "rows observation"], action: Float[Tensor, "rows action"]
    ) -> None:
        """Remembers the step that is to come."""
        self._before = observation, action
        self._followed = torch.ones(len(action), dtype=torch.bool, device=action.device)

    def reset(self, mask: Bool[Tensor, " rows"]) -> None:
        """Forgets the last step of the environments that start a new episode."""
        if len(self._followed) == len(mask):
            self._followed = self._followed & ~mask


class InferringPlanner(Controller):
    """Plans for each environment with the networks of the task that is most likely its own.

    It reads no task from the environments. An episode begins with the task that the environment
    was taken for before, which is the first one at the beginning, and with no evidence; from its
    second step on the task is that with the most evidence, see `TaskInference`.

    The reward is the environment's own where it is known as a function of observations. Where the
    goal depends on the task, as the target of Lorenz's equations does, the planner is thus told
    the goal, though not the dynamics.

    Args:
        planner: Plans in a `TaskModel`.
        errors: Errors of the networks of all known tasks.
        memory: See `TaskInference`.

    Attributes:
        tasks: The task with which each environment was planned for at the last step.
    """

    def __init__(self, planner: Planner, errors: TaskErrors, *, memory: float = 20.0) -> None:
        self.tasks: Int64[Tensor, " rows"] = torch.zeros(0, dtype=torch.int64)
        self._planner, self._errors, self._memory = planner, errors, memory

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Infers the tasks and plans, see `Controller.act`."""
        if len(self.tasks) != len(observation):
            self._begin(len(observation))
        errors = self._errors.since(observation)
        self._inference.update(errors)
        known = errors.isfinite().all(1)
        self._plan_with(torch.where(known, self._inference.tasks, self.tasks))
        action: Tensor = self._planner.act(observation, state)
        self._errors.follow(observation, action)
        return action

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Forgets plans and evidence of the environments that start a new episode."""
        if len(self.tasks) != len(mask):
            self._begin(len(mask))
        self._inference.reset(mask)
        self._errors.reset(mask)
        self._planner.reset(mask)

    def _begin(self, rows: int) -> None:
        deviations = self._errors.deviations
        self._inference = TaskInference(deviations, rows, memory=self._memory)
        self.tasks = torch.full((rows,), -1, device=deviations.device)
        self._plan_with(torch.zeros_like(self.tasks))

    def _plan_with(self, tasks: Int64[Tensor, " rows"]) -> None:
        if not torch.equal(tasks, self.tasks):
            model = self._planner.model
            assert isinstance(model, TaskModel)
            self._planner.model, self.tasks = model.with_tasks(tasks), tasks


class TaskLog(Controller):
    """Keeps with which tasks an inferring planner planned.

    Args:
        planner: The planner.
    """

    def __init__(self, planner: InferringPlanner) -> None:
        self._planner, self._tasks = planner, list[Tensor]()

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Acts as the planner does."""
        action = self._planner.act(observation, state)
        self._tasks.append(self._planner.tasks)
        return action

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Resets the planner."""
        self._planner.reset(mask)

    def correct(self, tasks: Int64[Tensor, " rows"], lengths: Int64[Tensor, " rows"]) -> float:
        """Returns the share of steps at which the task was the true one.

        Args:
            tasks: The true one of each environment.
            lengths: Steps of each episode, of which there was one.
        """
        right = torch.stack(self._tasks).cpu() == tasks.cpu()
        lived = torch.arange(len(right))[:, None] < lengths
        return ((right & lived).sum() / lived.sum()).item()


def inferring_planner(
    config: HyperCRLConfig, learner: Learner, environment: Environment, seed: int
) -> InferringPlanner:
    """Makes a planner for environments of any of the known tasks, which it is not told.

    Args:
        config: The hyper-parameters.
        learner: Has the dynamics.
        environment: Where it is to act.
        seed: Seed of the planner's random stream.

    Raises:
        ValueError: The reward is to be known and is not.
    """
    dynamics = learner.dynamics(torch.zeros(1, dtype=torch.int64))
    model = TaskModel(dynamics, environment, known_reward=config.reward == "known")
    return InferringPlanner(make_planner(config.planner, model, seed), TaskErrors(learner))

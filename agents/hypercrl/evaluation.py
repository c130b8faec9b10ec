"""How well all tasks are known: returns under the planner, and errors of the dynamics alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.replay import ReplayBuffer, Transitions
from separatrix.agents.common.seeding import evaluation_seed
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.hypercrl.learner import Learner
from separatrix.agents.hypercrl.planning import learned_planner, learned_tasks
from separatrix.agents.hypercrl.unknown_task import TaskLog, inferring_planner
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment
from separatrix.envs.streams.stream import find_stream

TEST_EPISODES = 4
"""Episodes of each task, under random actions, on which errors of the dynamics are measured."""
TEST_HOLD = 3
"""Steps for which a random action is held in them."""
ROLLOUT = 10
"""Steps of the rollouts whose error is measured."""


@dataclass(frozen=True)
class TaskReturns:
    """What an evaluation of some tasks found."""

    returns: Float[Tensor, " tasks"]
    """Mean return of each task."""

    steps: int
    """Environment steps that it took."""

    inferred_correctly: float = math.nan
    """Share of the steps at which the inferred task was the true one; NaN where it is told."""


class StreamEvaluations:
    """Evaluates many tasks in one batch, always on the same episodes.

    Args:
        config: The experiment.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.agent, HyperCRLConfig)
        self._config, self._agent = config, config.agent
        self.stream = find_stream(config.environment.id)
        self.seed = evaluation_seed(config.evaluation.seed)
        self._test: Transitions | None = None

    def environment(self, tasks: list[int], episodes: int) -> Environment:
        """Makes environments of some tasks, a number of each side by side."""
        rows = [task for task in tasks for _ in range(episodes)]
        arguments: dict[str, Any] = {**self._config.environment.arguments(), "task": rows}
        return make_environment(self.stream.id, len(rows), **arguments)

    def run(
        self, learner: Learner, tasks: list[int], networks: Sequence[int] | None = None
    ) -> TaskReturns:
        """Runs episodes of some tasks, all in one batch; every task has the same seeds.

        Args:
            learner: Has the dynamics.
            tasks: Tasks of the stream.
            networks: See `learned_tasks`.
        """
        episodes = self._config.evaluation.episodes
        environment = self.environment(tasks, episodes)
        seeds = (torch.arange(episodes) + self.seed).repeat(len(tasks))
        seed, share = self._config.evaluation.seed, math.nan
        if self._agent.evaluation_tasks == "told":
            planner = learned_planner(self._agent, learner, environment, seed, networks)
            found = evaluate(environment, planner, seeds)
        else:
            log = TaskLog(inferring_planner(self._agent, learner, environment, seed))
            found = evaluate(environment, log, seeds)
            true = torch.tensor(tasks).repeat_interleave(episodes)
            share = log.correct(learned_tasks(true, networks), found.lengths)
        returns = found.returns.view(len(tasks), episodes).mean(1)
        return TaskReturns(returns, int(found.lengths.sum()), share)

    def test(self) -> Transitions:
        """Returns transitions of all tasks under random actions, (times, environments, ...).

        They are the same in every run. They are for the eyes of the evaluation alone.
        """
        if self._test is None:
            tasks = list(range(self._agent.tasks))
            environment = self.environment(tasks, TEST_EPISODES)
            seeds = self.seed + self._config.evaluation.episodes + torch.arange(TEST_EPISODES)
            controller = RandomController(environment, self._config.evaluation.seed, TEST_HOLD)
            rows = environment.num_envs
            buffer = ReplayBuffer(
                environment.observation_space.shape[0],
                environment.action_shape[0],
                capacity=environment.horizon * rows,
                num_envs=rows,
                device=environment.device,
                dtype=environment.dtype,
            )
            for step in rollout(environment, controller, seeds.repeat(len(tasks))):
                ended = step.transition.terminated | ~step.alive
                buffer.add(
                    Transitions(
                        step.observation,
                        step.action,
                        step.transition.reward,
                        step.transition.observation,
                        step.transition.terminated,
                        ended,
                    )
                )
            self._test = buffer.ordered()
        return self._test

    @torch.no_grad()
    def model_errors(
        self, learner: Learner, networks: Sequence[int] | None = None
    ) -> Float[Tensor, " tasks"]:
        """Measures how far rollouts of `ROLLOUT` steps under recorded actions end up.

        Args:
            learner: Has the dynamics.
            networks: See `learned_tasks`.

        Returns:
            For each task the median over windows of the error at the last step: the root mean
            square over components, each in units of its standard deviation in the task's test
            transitions. NaN for tasks that have not begun. The median, as a few windows with a
            collision would outweigh all others in a mean.
        """
        test = self.test()
        known = learner.task + 1 if networks is None else len(networks)
        rows = torch.arange(self._agent.tasks).repeat_interleave(TEST_EPISODES)
        errors = torch.full((self._agent.tasks,), torch.nan, dtype=torch.float64)
        times = len(test.observation) - ROLLOUT + 1
        starts = torch.arange(0, times, ROLLOUT // 2)
        dynamics = learner.dynamics(learned_tasks(rows, networks).repeat(len(starts)))
        members = self._agent.members
        columns = torch.arange(len(rows)).repeat(len(starts))
        lines = starts.repeat_interleave(len(rows))
        observation = test.observation[lines, columns].expand(members, -1, -1)
        sound = torch.ones_like(lines, dtype=torch.bool)
        for step in range(ROLLOUT):
            action = test.action[lines + step, columns].expand(members, -1, -1)
            observation = dynamics.predict(observation, action).next_observation
            if step < ROLLOUT - 1:
                sound &= ~test.last[lines + step, columns]
        truth = test.next_observation[lines + ROLLOUT - 1, columns]
        square = (observation.mean(0) - truth).double().square()
        for task in range(known):
            own = rows == task
            scale = test.observation[:, own].flatten(0, 1).double().var(0)
            scale = torch.where(scale > 1e-12, scale, 1.0)
            chosen = sound & (rows[columns] == task)
            errors[task] = (square[chosen] / scale).mean(1).sqrt().median()
        return errors

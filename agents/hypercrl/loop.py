"""The continual loop: task after task, train on its data and act by its model, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.collector import Collector
from separatrix.agents.common.replay import ReplayBuffer, Transitions
from separatrix.agents.common.seeding import training_seed
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.hypercrl.evaluation import ROLLOUT, StreamEvaluations
from separatrix.agents.hypercrl.learner import Learner
from separatrix.agents.hypercrl.memory import HELD_OUT
from separatrix.agents.hypercrl.model import check_known_outcome
from separatrix.agents.hypercrl.planning import learned_planner
from separatrix.agents.hypercrl.record import Record
from separatrix.controllers.controller import Controller
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment
from separatrix.envs.streams.stream import find_stream


class Loop:
    """A learner that is told where tasks begin, the environments of its task and their data.

    Args:
        config: The experiment, whose agent is a `HyperCRLConfig`.

    Attributes:
        learner: What learns.
        record: What was measured so far.
        steps: Environment steps taken.

    Raises:
        ValueError: The environment is no stream, has too few tasks, or its reward is not known; or
            the steps cannot be shared out.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.agent, HyperCRLConfig)
        self.config, self.agent = config, config.agent
        self.stream = find_stream(config.environment.id)
        if "task" in config.environment.options or config.environment.wrappers:
            raise ValueError(
                "environment: got options or wrappers beside a stream; allowed: its id alone, as "
                "the loop goes through its tasks"
            )
        if self.agent.tasks > len(self.stream):
            raise ValueError(
                f"agent.tasks: got {self.agent.tasks}; {self.stream.id} has {len(self.stream)}"
            )
        self._num_envs = config.environment.num_envs
        self.task_steps = config.total_steps // self.agent.tasks
        least = self._times(self.agent.random_steps) * self._num_envs
        if least < HELD_OUT * self._num_envs:
            raise ValueError(
                f"agent.random_steps: got {self.agent.random_steps} in {self._num_envs} "
                f"environments; allowed: at least {(HELD_OUT - 1) * self._num_envs + 1}, as one of "
                f"{HELD_OUT} steps is held out"
            )
        if self.task_steps < least:
            raise ValueError(
                f"total_steps: got {config.total_steps} for {self.agent.tasks} tasks; allowed: at "
                f"least {least * self.agent.tasks}, for the random steps of each"
            )
        self.evaluations = StreamEvaluations(config)
        self._environment = self._make_environment(0)
        if self._environment.dtype != torch.float32 or self._environment.horizon < ROLLOUT:
            raise ValueError(
                f"environment: got {self._environment.dtype} and episodes of "
                f"{self._environment.horizon} steps; allowed: torch.float32 and {ROLLOUT} or more"
            )
        if self.agent.reward == "known":
            check_known_outcome(self._environment)
        self.learner = Learner(
            self.agent,
            self._environment.observation_space.shape[0],
            self._environment.action_shape[0],
            self.stream.features()[: self.agent.tasks],
            config.seed,
            self._environment.device,
        )
        self.record = Record(self.agent.tasks)
        self.steps = 0
        self._sessions = 0

    @property
    def task(self) -> int:
        """The task that is learned, counted from 0; -1 before the first."""
        return self.learner.task

    @property
    def entered(self) -> int:
        """The task of the stream in which the environments are."""
        return self.task

    @property
    def done(self) -> bool:
        """Whether all tasks have ended."""
        return self.record.ended == self.agent.tasks

    def task_end(self, task: int) -> int:
        """Returns the environment steps after which a task has ended; 0 for task -1."""
        return (task + 1) * self._times(self.task_steps) * self._num_envs

    def _times(self, steps: int) -> int:
        """Returns the steps of each environment that make so many in all, at least."""
        return -(-steps // self._num_envs)

    def _make_environment(self, task: int) -> Environment:
        arguments: dict[str, Any] = {**self.config.environment.arguments(), "task": task}
        return make_environment(self.stream.id, self._num_envs, **arguments)

    def _enter(self, task: int) -> None:
        """Makes the environments of a task and the memory of its data."""
        self._environment = self._make_environment(task)
        self._buffer = self._make_buffer(self._times(self.task_steps))
        self._collector = self._make_collector(task)

    def _make_buffer(self, times: int) -> ReplayBuffer:
        environment = self._environment
        return ReplayBuffer(
            environment.observation_space.shape[0],
            environment.action_shape[0],
            capacity=times * self._num_envs,
            num_envs=self._num_envs,
            device=environment.device,
            dtype=environment.dtype,
        )

    def _make_collector(self, task: int) -> Collector:
        first = training_seed(self.config.seed) + task * self._num_envs
        return Collector(self._environment, self._buffer, first)

    def session(self) -> dict[str, float]:
        """Trains and acts once; begins a task before and ends it after, where it is time.

        Returns:
            Scalars for the log.
        """
        start = time.perf_counter()
        if self.task < 0 or self.record.ended == self.task + 1:
            self._begin()
        task, seed = self.task, self.config.seed * 1_000_003 + self._sessions
        scalars = self._train(self._buffer.ordered())
        left = self._times(self.task_steps) - self._buffer.added // self._num_envs
        steps = min(self._times(self.agent.session_steps), left)
        planner = learned_planner(self.agent, self.learner, self._environment, seed)
        returns = self._collect(planner, steps, cut=False)
        if len(returns):
            mean = returns.double().mean().item()
            self.record.add_return(task, self._buffer.added, mean)
            scalars |= {"collect/return": mean, f"task_{task}/collect_return": mean}
        self._sessions += 1
        if left == steps:
            scalars |= self._train(self._buffer.ordered())
            self.learner.end_task(self._buffer.ordered())
            self.record.ended += 1
        self.record.seconds[task] += time.perf_counter() - start
        return scalars | {"train/task": float(task)}

    def _begin(self) -> None:
        self.learner.begin_task()
        self._enter(self.task)
        self.record.networks.append(self.task)
        self._collect(self._random(), self._times(self.agent.random_steps), cut=True)

    def _random(self) -> RandomController:
        """Returns who acts first in a task."""
        seed = self.config.seed * 1_000_003 + self.learner.task
        return RandomController(self._environment, seed, self.agent.random_hold)

    def _collect(
        self,
        controller: Controller,
        steps: int,
        *,
        cut: bool,
        until: Callable[[], bool] | None = None,
    ) -> Tensor:
        before = self._buffer.added
        returns = self._collector.collect(controller, steps, cut=cut, until=until)
        self.steps += self._buffer.added - before
        return returns

    def _train(self, transitions: Transitions) -> dict[str, float]:
        start = time.perf_counter()
        scalars = self.learner.train(transitions, self.agent.gradient_steps)
        self.record.training_seconds[self.entered] += time.perf_counter() - start
        return scalars

    def evaluate(self, tasks: list[int]) -> dict[str, float]:
        """Evaluates some tasks, and the dynamics of all that have begun.

        Returns:
            Scalars for the log.
        """
        found = self.evaluations.run(self.learner, tasks, self.record.networks)
        self.record.evaluation_steps += found.steps
        trained = self.task
        errors = self.evaluations.model_errors(self.learner, self.record.networks)
        self.record.errors[trained] = errors
        self.record.returns[trained, tasks] = found.returns
        means = dict(zip(tasks, found.returns.tolist(), strict=True))
        scalars = {f"task_{task}/return": mean for task, mean in means.items()}
        for task, error in enumerate(errors.tolist()):
            if math.isfinite(error):
                scalars[f"task_{task}/model_error"] = error
        scalars["eval/return"] = found.returns.mean().item()
        if math.isfinite(found.inferred_correctly):
            scalars["eval/inferred_correctly"] = found.inferred_correctly
        scores = self.scores()
        if scores is not None:
            scalars |= {f"task_{task}/score": scores[trained, task].item() for task in tasks}
            scalars["eval/score"] = scores[trained, tasks].mean().item()
        return scalars

    def scores(self) -> Tensor | None:
        """Returns the matrix of scores, (trained, task).

        None if the stream has no references, or none for episodes of such a length.
        """
        if self._environment.horizon != self.stream.horizon:
            return None
        try:
            return self.stream.scores(self.record.returns, list(range(self.agent.tasks)))
        except ValueError:
            return None

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns everything that determines the loop from here on, on the CPU."""
        tensors, learner = self.learner.state_dict()
        tensors = prefixed("learner", tensors) | prefixed("record", self.record.tensors())
        state = {
            "learner": learner,
            "record": self.record.state(),
            "steps": self.steps,
            "sessions": self._sessions,
        }
        if self.learner.task >= 0:
            tensors |= prefixed("buffer", self._buffer.state_dict())
            tensors |= prefixed("collector", self._collector.state_dict())
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return copies, state

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned.

        Raises:
            RuntimeError: The networks are others.
            KeyError: Something is missing.
            ValueError: The environments or their numbers are others.
        """
        self.learner.load_state_dict(with_prefix("learner", tensors), state["learner"])
        self.record.load(with_prefix("record", tensors), state["record"])
        self.steps, self._sessions = state["steps"], state["sessions"]
        if self.learner.task >= 0:
            self._enter(self.entered)
            self._buffer.load_state_dict(with_prefix("buffer", tensors))
            self._collector.load_state_dict(with_prefix("collector", tensors))

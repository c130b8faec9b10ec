"""The continual loop of a learner that is not told where tasks begin."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any

from torch import Tensor

from separatrix.agents.common.replay import Transitions
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.hypercrl.config import HyperCRLConfig
from separatrix.agents.hypercrl.inference import Calibration
from separatrix.agents.hypercrl.loop import Loop
from separatrix.agents.hypercrl.memory import HELD_OUT
from separatrix.agents.hypercrl.planning import learned_planner
from separatrix.agents.hypercrl.unknown_task import TaskErrors
from separatrix.agents.hypercrl.watching import ChangePoint, Watcher, usual_errors
from separatrix.controllers.controller import Controller

TASKS_TO_FALSE_ALARM = 10
"""An environment is to raise one false alarm in the steps of so many tasks; a change is believed
where most environments detect it."""

FEWEST = 20
"""Steps of a session from which usual errors can be learned."""

PLACE = ("_acting", "_learns", "_new", "_settled", "_first", "_session")
"""Attributes that tell where the loop stands."""

MOST_DETECTIONS = 2
"""After so many detections for each task of the stream, no more are made."""


class DetectingLoop(Loop):
    """A learner that detects where tasks begin, by the errors of its networks.

    The environments change their task as they do for a learner that is told, in the middle of
    whatever the learner does. Which errors are usual is learned at each training, from what was
    held out of the last session, for there the planner goes. What it meets for the first time looks
    like a new task; so changes are detected only after a session in which none would have been, and
    one that comes earlier is missed: a network then learns two tasks at once.

    Where a change is detected, the learner's task ends with the last step before its estimated
    begin. What came after the alarm belongs to the data of the next task; what lies between is
    dropped, as it may be of either. If the next task is one that is known, its networks act and are
    not trained: its data are gone, and the weights that the regulariser holds would move. If it is
    new, it begins as when told, with random steps. So there are more tasks of the learner than of
    the stream after false alarms, and fewer after changes that were missed; `Record.networks` tells
    which belong together. The planner's reward is that of the task in which a session began.

    The memory of data holds as many steps as two tasks have; a task that seems to last longer loses
    its first ones.

    Args:
        config: The experiment, whose agent detects boundaries.

    Raises:
        ValueError: See `Loop`; or sessions are too short to learn from which errors are usual.
    """

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__(config)
        if self._times(self.agent.session_steps) < FEWEST:
            raise ValueError(
                f"agent.session_steps: got {self.agent.session_steps} for {self._num_envs} "
                f"environments; allowed where boundaries are detected: {FEWEST * self._num_envs} "
                "or more"
            )
        times = self._times(self.task_steps)
        self._last = self.agent.tasks * times  # steps of every environment in all
        self._run_length = float(max(100, TASKS_TO_FALSE_ALARM * times))
        self._buffer = self._make_buffer(2 * times)
        self._collector = self._make_collector(0)
        self.record.networks = [0]
        self._calibrations: list[Calibration | None] = []
        # The learner's task that acts, whether it is learned (else it was known before), whether
        # a new one is to begin first, and whether changes are detected.
        self._acting, self._learns, self._new, self._settled = 0, False, True, False
        # The times at which the data of the task, and its last session, begin.
        self._first, self._session = 0, 0

    @property
    def task(self) -> int:
        """The task of the stream that ended last; -1 before the first."""
        return self.record.ended - 1

    @property
    def entered(self) -> int:
        """The task of the stream in which the environments are."""
        return min(self.record.ended, self.agent.tasks - 1)

    @property
    def _now(self) -> int:
        """Steps that every environment has taken."""
        return self._buffer.added // self._num_envs

    def _enter(self, task: int) -> None:
        """Makes the environments of a task; the learner's data stay."""
        self._environment = self._make_environment(task)
        self._collector = self._make_collector(task)

    def session(self) -> dict[str, float]:
        """Trains and acts once; begins a task before and ends it after, where that was detected.

        Returns:
            Scalars for the log.
        """
        start, entered, scalars = time.perf_counter(), self.entered, dict[str, float]()
        if self._new:
            self._begin()
        if not self.done:
            scalars = self._act()
        if self.done and self._learns:
            scalars |= self._end(self._now)
        self.record.seconds[entered] += time.perf_counter() - start
        scalars["train/detections"] = float(len(self.record.detections))
        return scalars | {"train/task": float(self._acting)}

    def _begin(self) -> None:
        self.learner.begin_task()
        self._calibrations.append(None)
        self._settled = False
        self._go_on(self.learner.task, learns=True)
        self._advance(self._random(), self._times(self.agent.random_steps), cut=True)

    def _go_on(self, task: int, *, learns: bool) -> None:
        """Lets the networks of a task of the learner act."""
        self._acting, self._learns, self._new = task, learns, False
        self.record.networks[-1] = task

    def _act(self) -> dict[str, float]:
        """Trains, if the task is learned, and acts until the session is over."""
        scalars = self._train_until(self._now) if self._learns else {}
        seed = self.config.seed * 1_000_003 + self._sessions
        planner = learned_planner(self.agent, self.learner, self._environment, seed, [self._acting])
        errors, usual = TaskErrors(self.learner), self._usual()
        steps = self._times(self.agent.session_steps)
        watcher = Watcher(planner, errors, self._acting, usual, self._num_envs, steps)
        self._session = self._now
        if self._settled:
            self._advance(watcher, self._last, until=watcher.over)
        else:
            self._advance(watcher, steps)
        self._sessions += 1
        if not self._settled:
            self._settled = usual is not None and watcher.change is None
        elif watcher.change is not None and not self.done:
            scalars |= self._change(watcher.change)
        return scalars

    def _usual(self) -> list[Calibration] | None:
        """Returns what is usual in every task; None if one is not known, or too much happened."""
        if len(self.record.detections) >= MOST_DETECTIONS * self.agent.tasks:
            return None
        known = [calibration for calibration in self._calibrations if calibration is not None]
        return known if len(known) == len(self._calibrations) else None

    def _advance(
        self,
        controller: Controller,
        times: int,
        *,
        cut: bool = False,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Acts for some steps, or until told, across ends of tasks."""
        last = min(self._now + times, self._last)
        while self._now < last and not (until is not None and until()):
            end = self.task_end(self.entered) // self._num_envs
            taken = min(last, end) - self._now
            cuts = cut and self._now + taken == last
            returns = self._collect(controller, taken, cut=cuts, until=until)
            if len(returns):
                steps = self.steps - self.task_end(self.entered - 1)
                self.record.add_return(self.entered, steps, returns.double().mean().item())
            if self._now == end:
                self.record.ended += 1
                if not self.done:
                    self.record.networks.append(self._acting)
                    self._enter(self.entered)

    def _change(self, found: ChangePoint) -> dict[str, float]:
        """Ends the learner's task at a change that was detected in the last session."""
        change = self._session + found.began
        self.record.detections.append((self.steps, change * self._num_envs, found.task))
        scalars = self._end(change) if self._learns else {}
        self._first, self._new = self._session + found.certain, found.task < 0
        if not self._new:
            self._go_on(found.task, learns=False)
        if len(self.record.detections) == MOST_DETECTIONS * self.agent.tasks:
            warnings.warn(
                f"{len(self.record.detections)} changes were detected in {self.agent.tasks} tasks; "
                "no more will be, and the latest task goes on learning to the end",
                RuntimeWarning,
                stacklevel=2,
            )
        return scalars

    def _end(self, end: int) -> dict[str, float]:
        """Trains on all data before a time, and ends the learner's task."""
        scalars = self._train_until(end)
        self.learner.end_task(self._data(self._first, end))
        self._learns = False
        return scalars

    def _train_until(self, end: int) -> dict[str, float]:
        """Trains on all data before a time; learns which errors are usual after a session."""
        scalars = self._train(self._data(self._first, end))
        if self._session > self._first:
            begin = self._session + -(self._session - self._first) % HELD_OUT
            session = self._data(begin, end)
            if len(session.reward) >= FEWEST:
                self._calibrations[-1] = usual_errors(
                    TaskErrors(self.learner), self._acting, session, self._run_length
                )
        return scalars

    def _data(self, begin: int, end: int) -> Transitions:
        """Returns the transitions between two times, as far as they are still there."""
        stored = self._buffer.ordered()
        oldest = self._now - len(stored.reward)
        # By multiples, so that what was held out goes on being held out.
        begin += HELD_OUT * max(0, -(-(oldest - begin) // HELD_OUT))
        return stored[begin - oldest : end - oldest]

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns everything that determines the loop from here on, on the CPU."""
        tensors, state = super().state_dict()
        usual = [None if found is None else astuple(found) for found in self._calibrations]
        place = {name: getattr(self, name) for name in PLACE}
        return tensors, {**state, "calibrations": usual, "place": place}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned, see `Loop.load_state_dict`."""
        super().load_state_dict(tensors, state)
        usual = state["calibrations"]
        self._calibrations = [None if found is None else Calibration(*found) for found in usual]
        for name in PLACE:
            setattr(self, name, state["place"][name])


def make_loop(config: ExperimentConfig) -> Loop:
    """Makes the loop of an experiment, whose learner is told boundaries or detects them.

    Raises:
        ValueError: See `Loop` and `DetectingLoop`.
    """
    assert isinstance(config.agent, HyperCRLConfig)
    return Loop(config) if config.agent.boundaries == "told" else DetectingLoop(config)

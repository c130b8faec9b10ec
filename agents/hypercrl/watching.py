"""A controller that is watched while it acts: whether the errors of its model tell a new task."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.agents.common.replay import Transitions
from separatrix.agents.hypercrl.inference import BoundaryDetector, Calibration, calibrate
from separatrix.agents.hypercrl.memory import HELD_OUT
from separatrix.agents.hypercrl.unknown_task import TaskErrors
from separatrix.controllers.controller import Controller

BLOCK = 50
"""Most steps of the blocks of a calibration, see `calibrate`."""


class ChangePoint(NamedTuple):
    """A change of the task, in steps of the controller, counted from 0."""

    task: int
    """The known task that it is now; -1 for a new one."""

    began: int
    """The first step that is estimated to be of the other task."""

    certain: int
    """The first step that surely is: that after the alarm."""


class Watcher(Controller):
    """Acts as another controller does, and watches the errors of the known tasks' networks.

    All environments have the same task. It has changed when most of them have detected that, see
    `BoundaryDetector`; the times are medians over these, the task is what most of these say, a new
    one if there is no such majority.

    Args:
        controller: Who acts.
        errors: Errors of the networks of all known tasks.
        task: The task that the environments are thought to have.
        calibrations: What is usual in each known task; None where that is not known yet, and
            then nothing is detected.
        rows: Number of environments.
        steps: After so many a session is over if nothing is about to be detected.

    Attributes:
        change: What was detected, None before.
    """

    def __init__(
        self,
        controller: Controller,
        errors: TaskErrors,
        task: int,
        calibrations: list[Calibration] | None,
        rows: int,
        steps: int,
    ) -> None:
        self.change: ChangePoint | None = None
        self._controller, self._errors, self._steps = controller, errors, steps
        device = errors.deviations.device
        self._current = torch.full((rows,), task, device=device)
        self._taken = 0
        self._detector: BoundaryDetector | None = None
        if calibrations is not None:
            self._detector = BoundaryDetector(calibrations, errors.deviations, rows)
        # Of each environment: the last alarm, and the alarm and the task of the first detection.
        self._alarm: Int64[Tensor, "times rows"] = self._current.new_zeros((2, rows))
        self._times, self._tasks = self._alarm.clone(), torch.full_like(self._current, -1)
        self._detected = torch.zeros_like(self._current, dtype=torch.bool)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Looks at the last step, then acts, see `Controller.act`."""
        self._watch(self._errors.since(observation))
        action: Tensor = self._controller.act(observation, state)
        self._errors.follow(observation, action)
        return action

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Resets the controller; a task may last longer than an episode."""
        self._controller.reset(mask)
        self._errors.reset(mask)

    def over(self) -> bool:
        """Tells whether the session is over: something was detected, or nothing is about to be."""
        if self.change is not None or self._taken < self._steps:
            return self.change is not None
        return not (
            self._detector is not None and _most(self._detected | self._detector.confirming)
        )

    def _watch(self, errors: Float[Tensor, "rows tasks"]) -> None:
        now, self._taken = self._taken, self._taken + 1
        if self._detector is None or self.change is not None:
            return
        found = self._detector.update(errors, self._current)
        times = torch.stack((now - found.steps, torch.full_like(found.steps, now)))
        self._alarm = torch.where(found.alarm, times, self._alarm)
        first = found.detected & ~self._detected
        self._detected = self._detected | first
        self._times = torch.where(first, self._alarm, self._times)
        self._tasks = torch.where(first, found.task, self._tasks)
        if _most(self._detected):
            tasks = self._tasks[self._detected]
            named = int(tasks.mode().values)
            began, certain = self._times[:, self._detected].median(1).values.tolist()
            self.change = ChangePoint(named if _most(tasks == named) else -1, began, certain)


def usual_errors(
    errors: TaskErrors, task: int, transitions: Transitions, run_length: float
) -> Calibration:
    """Learns which errors are usual from a session that the networks of a task were trained on.

    Only steps that were held out count. Each stands for those since the one before, too, so that
    errors resemble their neighbours at least as much as those of all steps do.

    Args:
        errors: Errors of the networks.
        task: The task.
        transitions: (times, environments, ...), in the order of time, from a multiple of `HELD_OUT`
            steps after the first of the task on.
        run_length: Mean number of steps of an environment to a false alarm.
    """
    held_out = transitions[HELD_OUT - 1 :: HELD_OUT]  # see `samples`
    found = errors.of(
        held_out.observation.flatten(0, 1),
        held_out.action.flatten(0, 1),
        held_out.next_observation.flatten(0, 1),
    )
    own = found[:, task].unflatten(0, held_out.reward.shape).repeat_interleave(HELD_OUT, 0)
    return calibrate(own, run_length=run_length, block=min(BLOCK, len(own)))


def _most(rows: Bool[Tensor, " rows"]) -> bool:
    """Tells whether a majority is true."""
    return bool(2 * rows.sum() > len(rows))

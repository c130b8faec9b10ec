"""What is measured while a stream is learned, in a form that survives a kill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor


class Record:
    """Returns, errors and times of a run over a stream.

    Args:
        tasks: Number of tasks.

    Attributes:
        returns: Mean return of each task after training on tasks 0 to i, (i, task); NaN where it
            was not evaluated.
        errors: Error of the dynamics likewise, see `StreamEvaluations.model_errors`.
        curves: Of each task (steps in it, mean return of the episodes that ended in a session).
        networks: The learner's task of each task that has begun: its number where boundaries are
            told, else the one whose networks acted at its end, or act now.
        detections: Of each change that was detected the environment steps at the detection, those
            at which it is estimated to have happened, and the learner's task that it was to, -1
            for a new one.
        ended: Number of tasks that have ended.
        seconds: Wall time of each task, without evaluations.
        training_seconds: Its part that went into gradient steps.
        evaluation_steps: Environment steps of all evaluations.
    """

    def __init__(self, tasks: int) -> None:
        self.returns: Float64[Tensor, "trained tasks"] = torch.full(
            (tasks, tasks), torch.nan, dtype=torch.float64
        )
        self.errors: Float64[Tensor, "trained tasks"] = self.returns.clone()
        self.curves: list[list[tuple[int, float]]] = [[] for _ in range(tasks)]
        self.networks: list[int] = []
        self.detections: list[tuple[int, int, int]] = []
        self.ended, self.evaluation_steps = 0, 0
        self.seconds, self.training_seconds = [0.0] * tasks, [0.0] * tasks

    def add_return(self, task: int, steps: int, mean: float) -> None:
        """Adds a point to the learning curve of a task."""
        self.curves[task].append((steps, mean))

    def tensors(self) -> dict[str, Tensor]:
        """Returns the matrices."""
        return {"returns": self.returns, "errors": self.errors}

    def state(self) -> dict[str, Any]:
        """Returns the rest, as JSON values."""
        names = ("curves", "networks", "detections", "ended", "evaluation_steps")
        return {name: getattr(self, name) for name in (*names, "seconds", "training_seconds")}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `tensors` and `state` returned."""
        self.returns, self.errors = tensors["returns"].clone(), tensors["errors"].clone()
        self.curves = [[(int(a), float(b)) for a, b in curve] for curve in state["curves"]]
        self.networks = list(state["networks"])
        self.detections = [(steps, change, task) for steps, change, task in state["detections"]]
        self.ended, self.evaluation_steps = state["ended"], state["evaluation_steps"]
        self.seconds = list(state["seconds"])
        self.training_seconds = list(state["training_seconds"])

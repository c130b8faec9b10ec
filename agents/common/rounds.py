"""Training in rounds: the learner plays and learns, and after it is evaluated, logged and saved."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, Protocol

from torch import Tensor

from separatrix.agents.common.checkpoint import Checkpoint
from separatrix.agents.common.configuration import differences, experiment_data
from separatrix.agents.common.evaluations import Evaluations
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import (
    TrainingResult,
    described_misfit,
    hyper_parameters,
    progress_bar,
    warn_of_changes,
)
from separatrix.agents.experiment import ExperimentConfig
from separatrix.controllers.controller import Controller


class Learner(Protocol):
    """What learns in rounds."""

    steps: int
    """Environment steps taken."""


class RoundTraining(ABC):
    """A learner, and what is written about it.

    Args:
        config: The experiment.
        run: Where it is written down.

    Attributes:
        learner: The learner, made by the constructor of the subclass.
    """

    learner: Learner

    def __init__(self, config: ExperimentConfig, run: Run) -> None:
        self._config, self._run, self._evaluations = config, run, Evaluations(config)
        self._start, self._first_step = time.monotonic(), 0

    @abstractmethod
    def learn(self) -> dict[str, float]:
        """Plays and learns from a round; returns what is logged of it, by tag."""

    @abstractmethod
    def controller(self) -> Controller:
        """Returns the policy's deterministic actions."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns what has to be remembered of the learner: tensors, and JSON values."""

    @abstractmethod
    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Goes on from what `state` returned."""

    def texts(self) -> dict[str, str]:
        """Returns what is written down of a policy that has been evaluated, by tag."""
        return {}

    def train(self) -> TrainingResult:
        """Trains, or goes on training, until the round in which `total_steps` steps are reached."""
        checkpoint, config = self._run.latest_checkpoint(), self._config
        if checkpoint is not None:
            self._load(checkpoint)
        name = f"{config.agent.algorithm} on {config.environment.id}"
        with progress_bar() as progress:
            task = progress.add_task(name, total=config.total_steps, completed=self.learner.steps)
            while self.learner.steps < config.total_steps:
                self._round()
                progress.update(task, completed=self.learner.steps)
        evaluations = self._evaluations
        return TrainingResult(self.learner.steps, evaluations.steps, evaluations.last)

    def _load(self, checkpoint: Checkpoint) -> None:
        with described_misfit(self._config, checkpoint):
            state = checkpoint.state
            self.load_state(checkpoint.tensors, state["learner"])
            self._evaluations.load_state_dict(state["training"])
            changes = differences(state["training"]["config"], experiment_data(self._config))
        warn_of_changes(changes, checkpoint)
        self._first_step = self.learner.steps

    def _round(self) -> None:
        before = self.learner.steps
        scalars = self.learn()
        step, config = self.learner.steps, self._config
        final = step >= config.total_steps
        every = config.evaluation.every
        if final or (every and step // every > before // every):
            self._evaluations.run(self.controller())
            for tag, text in self.texts().items():
                self._run.log_text(tag, text, step)
            if not final:  # the hyper-parameters bring the last one
                scalars |= self._evaluations.last
        elapsed = time.monotonic() - self._start
        times = {"fps": (step - self._first_step) / elapsed, "time_elapsed": elapsed}
        self._run.log(scalars | {f"time/{name}": value for name, value in times.items()}, step)
        if final:
            self._run.log_hparams(hyper_parameters(config), self._evaluations.last)
        if final or step // config.checkpoint_every > before // config.checkpoint_every:
            self._save(step)

    def _save(self, step: int) -> None:
        tensors, state = self.state()
        training = self._evaluations.state_dict() | {"config": experiment_data(self._config)}
        self._run.save_checkpoint(step, tensors, {"learner": state, "training": training})

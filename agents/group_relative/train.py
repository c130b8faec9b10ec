"""Training by group-relative policy gradients: a round of episodes is the unit.

Tags of the log, at the number of environment steps taken: see docs/agents/prompt_control.md.
"""

from __future__ import annotations

import time

from gymnasium.spaces import Box

from separatrix.agents.common.checkpoint import Checkpoint
from separatrix.agents.common.configuration import (
    ConfigurationError,
    differences,
    experiment_data,
)
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
from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.agents.group_relative.learner import GroupRelativeLearner
from separatrix.envs.core.registration import make_environment
from separatrix.envs.language.language_environment import LanguageEnvironment


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    The run ends after the round in which `total_steps` steps are reached.
    """
    training = _Training(config, run)
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        training.load(checkpoint)
    learner = training.learner
    name = f"{config.agent.algorithm} on {config.environment.id}"
    with progress_bar() as progress:
        task = progress.add_task(name, total=config.total_steps, completed=learner.steps)
        while learner.steps < config.total_steps:
            training.round()
            progress.update(task, completed=learner.steps)
    return TrainingResult(learner.steps, training.evaluations.steps, training.evaluations.last)


class _Training:
    """A learner, and what is written about it."""

    def __init__(self, config: ExperimentConfig, run: Run) -> None:
        assert isinstance(config.agent, GroupRelativeConfig)
        self.config, self.run, made = config, run, config.environment
        size = config.agent.group_size
        if made.num_envs % size:
            raise ConfigurationError(
                f"environment.num_envs: got {made.num_envs}; allowed: multiples of {size}, the "
                "agent.group_size"
            )
        environment = make_environment(made.id, made.num_envs, **made.arguments())
        if isinstance(environment.action_space, Box):
            raise ConfigurationError(
                f"agent.algorithm: got group_relative, but actions of {made.id} are continuous; "
                "allowed: environments whose actions are choices"
            )
        self.learner = GroupRelativeLearner(environment, config.agent, config.seed)
        self.evaluations = Evaluations(config)
        self._start, self._first_step = time.monotonic(), 0

    def load(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint."""
        with described_misfit(self.config, checkpoint):
            state = checkpoint.state
            self.learner.load_state_dict(checkpoint.tensors, state["learner"])
            self.evaluations.load_state_dict(state["training"])
            changes = differences(state["training"]["config"], experiment_data(self.config))
        warn_of_changes(changes, checkpoint)
        self._first_step = self.learner.steps

    def round(self) -> None:
        """Plays and learns from a round, and evaluates, logs and saves after it."""
        before = self.learner.steps
        scalars = self.learner.round()
        step, config = self.learner.steps, self.config
        final = step >= config.total_steps
        every = config.evaluation.every
        if final or (every and step // every > before // every):
            environment = self.evaluations.environment
            self.evaluations.run(self.learner.controller(environment))
            self._show(step)
            if not final:  # the hyper-parameters bring the last one
                scalars |= self.evaluations.last
        elapsed = time.monotonic() - self._start
        times = {"fps": (step - self._first_step) / elapsed, "time_elapsed": elapsed}
        self.run.log(scalars | {f"time/{name}": value for name, value in times.items()}, step)
        if final:
            self.run.log_hparams(hyper_parameters(config), self.evaluations.last)
        if final or step // config.checkpoint_every > before // config.checkpoint_every:
            self._save(step)

    def _show(self, step: int) -> None:
        """Writes down what the policy writes in some episodes of the evaluation."""
        environment = self.evaluations.environment
        if isinstance(environment, LanguageEnvironment):
            from separatrix.agents.group_relative.transcripts import transcripts

            controller = self.learner.controller(environment)
            text = transcripts(environment, controller, self.config.evaluation.seed)
            self.run.log_text("eval/prompts", text, step)

    def _save(self, step: int) -> None:
        tensors, state = self.learner.state_dict()
        training = self.evaluations.state_dict() | {"config": experiment_data(self.config)}
        self.run.save_checkpoint(step, tensors, {"learner": state, "training": training})

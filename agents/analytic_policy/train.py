"""Training by analytic gradients: a window of all environments is the unit.

Tags of the log, at the number of environment steps taken: see docs/agents/analytic_policy.md.
"""

from __future__ import annotations

import time

import torch

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.analytic_policy.learner import AnalyticPolicyLearner
from separatrix.agents.common.analytic_policy.window import Episodes
from separatrix.agents.common.checkpoint import Checkpoint, prefixed, with_prefix
from separatrix.agents.common.configuration import (
    ConfigurationError,
    differences,
    experiment_data,
)
from separatrix.agents.common.evaluations import Evaluations
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import (
    TrainingResult,
    check_continuous,
    described_misfit,
    hyper_parameters,
    progress_bar,
    warn_of_changes,
)
from separatrix.agents.experiment import ExperimentConfig
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    The run ends after the window in which `total_steps` steps are reached.
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
    """A learner and the episodes that it learns from, and what is written about them."""

    def __init__(self, config: ExperimentConfig, run: Run) -> None:
        assert isinstance(config.agent, AnalyticPolicyConfig)
        self.config, self.run, made = config, run, config.environment
        environment = make_environment(made.id, made.num_envs, **made.arguments())
        check_continuous(config, environment)
        self.learner = AnalyticPolicyLearner(
            environment.observation_space.shape[0],
            environment.action_shape[0],
            config.agent,
            config.seed,
            environment.device,
            config.total_steps,
        )
        self.episodes = self.learner.begin(environment)
        _check_gradients(environment, self.episodes)
        self.evaluations = Evaluations(config)
        self._start, self._first_step = time.monotonic(), 0

    def load(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint."""
        with described_misfit(self.config, checkpoint):
            state = checkpoint.state
            self.learner.load_state_dict(checkpoint.tensors, state["learner"])
            self.episodes.load_state_dict(with_prefix("episodes", checkpoint.tensors))
            self.evaluations.load_state_dict(state["training"])
            changes = differences(state["training"]["config"], experiment_data(self.config))
        warn_of_changes(changes, checkpoint)
        self._first_step = self.learner.steps

    def round(self) -> None:
        """Trains on a window, and evaluates, logs and saves after it."""
        before = self.learner.steps
        scalars = self.learner.improve(self.episodes)
        step, config = self.learner.steps, self.config
        final = step >= config.total_steps
        every = config.evaluation.every
        if final or (every and step // every > before // every):
            self.evaluations.run(self.learner.controller())
            if not final:  # the hyper-parameters bring the last one
                scalars |= self.evaluations.last
        elapsed = time.monotonic() - self._start
        times = {"fps": (step - self._first_step) / elapsed, "time_elapsed": elapsed}
        self.run.log(scalars | {f"time/{name}": value for name, value in times.items()}, step)
        if final:
            self.run.log_hparams(hyper_parameters(config), self.evaluations.last)
        if final or step // config.checkpoint_every > before // config.checkpoint_every:
            self._save(step)

    def _save(self, step: int) -> None:
        tensors, state = self.learner.state_dict()
        training = self.evaluations.state_dict() | {"config": experiment_data(self.config)}
        self.run.save_checkpoint(
            step,
            tensors | prefixed("episodes", self.episodes.state_dict()),
            {"learner": state, "training": training},
        )


def _check_gradients(environment: Environment, episodes: Episodes) -> None:
    """Refuses an environment through which no gradient flows."""
    action = torch.zeros(
        (environment.num_envs, *environment.action_shape),
        dtype=environment.dtype,
        device=environment.device,
        requires_grad=True,
    )
    try:
        transition = environment.step(episodes.state, action)
        if not (transition.reward.requires_grad or transition.observation.requires_grad):
            raise ValueError("nothing that a step returns depends on the action differentiably")
    except ValueError as error:
        raise ConfigurationError(
            f"environment.id: analytic gradients need an environment that has them: {error}"
        ) from error

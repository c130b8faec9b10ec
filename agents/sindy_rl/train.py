"""Training of SINDy-RL: the rounds of the loop, each logged, evaluated and saved.

Tags of the log, at the number of real steps taken: see docs/agents/sindy_rl.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from rich.progress import Progress, TaskID

from separatrix.agents.common.checkpoint import prefixed
from separatrix.agents.common.configuration import (
    ConfigurationError,
    differences,
    experiment_data,
)
from separatrix.agents.common.evaluations import Evaluations
from separatrix.agents.common.files import write_whole
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import (
    TrainingResult,
    described_misfit,
    hyper_parameters,
    progress_bar,
    warn_of_changes,
)
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.sindy_rl.figures import surrogate_figure
from separatrix.agents.sindy_rl.loop import Loop
from separatrix.agents.sindy_rl.policy import policy_of
from separatrix.agents.sindy_rl.sparse_dynamics import SparseDynamics


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    A round is the unit: the run ends after the round in which `total_steps` real steps are reached.
    """
    try:
        loop = Loop(config)
    except ValueError as error:
        raise ConfigurationError(f"the experiment: {error}") from error
    evaluations = Evaluations(config)
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        loop.begin()
    else:
        with described_misfit(config, checkpoint):
            loop.load_state_dict(checkpoint.tensors, checkpoint.state["loop"])
            saved = checkpoint.state["training"]
            changes = differences(saved["config"], experiment_data(config))
            evaluations.load_state_dict(saved)
        warn_of_changes(changes, checkpoint)
    with progress_bar() as progress:
        task = progress.add_task(
            f"sindy_rl on {config.environment.id}", total=config.total_steps, completed=loop.steps
        )
        training = _Training(config, run, loop, evaluations)
        while loop.steps < config.total_steps:
            training.round(progress, task)
    return TrainingResult(loop.steps, evaluations.steps, evaluations.last)


class _Training:
    """A loop, and what is written about it."""

    def __init__(
        self, config: ExperimentConfig, run: Run, loop: Loop, evaluations: Evaluations
    ) -> None:
        self.config, self.run, self.loop, self.evaluations = config, run, loop, evaluations

    def round(self, progress: Progress, task: TaskID) -> None:
        """Runs a round of the loop, and evaluates, logs and saves after it."""
        before = self.loop.steps
        scalars = self.loop.round()
        step = self.loop.steps
        progress.update(task, completed=step)
        final = step >= self.config.total_steps
        every = self.config.evaluation.every
        number, snapshot = self.loop.deployed()
        if final or (every and step // every > before // every):
            policy = self.loop.policies[number]
            self.evaluations.run(policy_of(policy, snapshot[0], self.evaluations.environment))
            scalars |= self.evaluations.last
        self.run.log(scalars, step)
        self._describe(step)
        if final:
            self.run.log_hparams(hyper_parameters(self.config), self.evaluations.last)
        if final or step // self.config.checkpoint_every > before // self.config.checkpoint_every:
            self._save(step, snapshot[0])

    def _describe(self, step: int) -> None:
        """Writes the equations, the model, and a figure of surrogate against real rollouts."""
        dynamics = self.loop.modelling.dynamics
        if isinstance(dynamics, SparseDynamics):
            self.run.log_text("model/equations", dynamics.equations(), step)
            write_whole(self.run.folder / "model.json", dynamics.to_json().encode())
        interval = self.loop.environment.control_interval
        names = self.loop.names
        figure = surrogate_figure(dynamics, self.loop.data(), names, interval)
        self.run.log_figure("surrogate/rollout", figure, step)

    def _save(self, step: int, deployed: Mapping[str, torch.Tensor]) -> None:
        tensors, state = self.loop.state_dict()
        policy = {name: tensor for name, tensor in deployed.items() if name.startswith("policy.")}
        training = self.evaluations.state_dict() | {"config": experiment_data(self.config)}
        self.run.save_checkpoint(
            step,
            {**tensors, **{k: v.clone() for k, v in prefixed("deployed", policy).items()}},
            {"loop": state, "training": training},
        )

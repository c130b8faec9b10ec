"""Training of SINDy-RL: the rounds of the loop, each logged, evaluated and saved.

Tags of the log, at the number of real steps taken: see docs/agents/sindy_rl.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from rich.progress import Progress, TaskID

from separatrix.agents.common.checkpoint import prefixed
from separatrix.agents.common.configuration import (
    ConfigurationError,
    differences,
    experiment_data,
)
from separatrix.agents.common.files import write_whole
from separatrix.agents.common.run import Run
from separatrix.agents.common.seeding import evaluation_seed
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
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import make_environment


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    A round is the unit: the run ends after the round in which `total_steps` real steps are reached.
    """
    try:
        loop = Loop(config)
    except ValueError as error:
        raise ConfigurationError(f"the experiment: {error}") from error
    evaluations: dict[str, Any] = {"evaluation": {}, "evaluation_steps": 0}
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        loop.begin()
    else:
        with described_misfit(config, checkpoint):
            loop.load_state_dict(checkpoint.tensors, checkpoint.state["loop"])
            saved = checkpoint.state["training"]
            changes = differences(saved["config"], experiment_data(config))
        evaluations = {name: saved[name] for name in evaluations}
        warn_of_changes(changes, checkpoint)
    with progress_bar() as progress:
        task = progress.add_task(
            f"sindy_rl on {config.environment.id}", total=config.total_steps, completed=loop.steps
        )
        training = _Training(config, run, loop, evaluations)
        while loop.steps < config.total_steps:
            training.round(progress, task)
    return TrainingResult(loop.steps, training.evaluation_steps, training.evaluation)


class _Training:
    """A loop, and what is written about it."""

    def __init__(
        self, config: ExperimentConfig, run: Run, loop: Loop, saved: Mapping[str, Any]
    ) -> None:
        self.config, self.run, self.loop = config, run, loop
        self.evaluation: dict[str, float] = dict(saved["evaluation"])
        self.evaluation_steps: int = saved["evaluation_steps"]
        environment, episodes = config.environment, config.evaluation.episodes
        self._evaluated = make_environment(environment.id, episodes, **environment.arguments())

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
            self._evaluate(number, snapshot[0])
            scalars |= self.evaluation
        self.run.log(scalars, step)
        self._describe(step)
        if final:
            self.run.log_hparams(hyper_parameters(self.config), self.evaluation)
        if final or step // self.config.checkpoint_every > before // self.config.checkpoint_every:
            self._save(step, snapshot[0])

    def _evaluate(self, number: int, tensors: Mapping[str, torch.Tensor]) -> None:
        settings = self.config.evaluation
        seeds = torch.arange(settings.episodes) + evaluation_seed(settings.seed)
        policy = policy_of(self.loop.policies[number], tensors, self._evaluated)
        found = evaluate(self._evaluated, policy, seeds)
        self.evaluation_steps += int(found.lengths.sum())
        self.evaluation = {f"eval/{name}": mean for name, mean in found.means().items()}
        self.evaluation["eval/steps"] = float(self.evaluation_steps)

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
        training = {
            "config": experiment_data(self.config),
            "evaluation": self.evaluation,
            "evaluation_steps": self.evaluation_steps,
        }
        self.run.save_checkpoint(
            step,
            {**tensors, **{k: v.clone() for k, v in prefixed("deployed", policy).items()}},
            {"loop": state, "training": training},
        )

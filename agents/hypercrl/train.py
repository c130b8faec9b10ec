"""Training over a stream of tasks: the sessions of the loop, each logged, evaluated and saved.

Tags of the log, at the number of environment steps taken: see docs/agents/hypercrl.md.
"""

from __future__ import annotations

import math

import numpy as np

from separatrix.agents.common.configuration import (
    ConfigurationError,
    differences,
    experiment_data,
)
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import (
    TrainingResult,
    described_misfit,
    hyper_parameters,
    progress_bar,
    warn_of_changes,
)
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.hypercrl.detecting_loop import make_loop
from separatrix.agents.hypercrl.figures import (
    embedding_map,
    embedding_order,
    score_matrix,
    task_curves,
)
from separatrix.agents.hypercrl.loop import Loop
from separatrix.agents.hypercrl.storage import count_storage


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    A session is the unit: the run ends after the last one of the last task.
    """
    try:
        loop = make_loop(config)
    except ValueError as error:
        raise ConfigurationError(f"the experiment: {error}") from error
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        with described_misfit(config, checkpoint):
            loop.load_state_dict(checkpoint.tensors, checkpoint.state["loop"])
            saved = checkpoint.state["training"]
            changes = differences(saved["config"], experiment_data(config))
        warn_of_changes(changes, checkpoint)
    training = _Training(config, run, loop, {} if checkpoint is None else saved["evaluation"])
    with progress_bar() as progress:
        task = progress.add_task(
            f"hypercrl on {config.environment.id}", total=config.total_steps, completed=loop.steps
        )
        while not loop.done:
            training.session()
            progress.update(task, completed=loop.steps)
    return TrainingResult(loop.steps, loop.record.evaluation_steps, training.last)


class _Training:
    """A loop, and what is written about it."""

    def __init__(
        self, config: ExperimentConfig, run: Run, loop: Loop, last: dict[str, float]
    ) -> None:
        self.config, self.run, self.loop, self.last = config, run, loop, last

    def session(self) -> None:
        """Runs a session; evaluates after a task, and logs and saves where it is time."""
        loop, before = self.loop, self.loop.steps
        ended = loop.record.ended
        scalars = loop.session()
        final, step = loop.done, loop.steps
        if loop.record.ended > ended:
            every = self.config.evaluation.every
            passed = every and step // every > loop.task_end(loop.task - 1) // every
            first = 0 if final or passed else ended
            tasks = list(range(first, loop.record.ended))
            scalars |= loop.evaluate(tasks)
            self.last = {
                **{tag: value for tag, value in scalars.items() if tag.startswith("eval/")},
                "eval/steps": float(loop.record.evaluation_steps),
            }
        self.run.log(scalars, step)
        if loop.record.ended > ended:
            self._describe(step)
        if final:
            self.run.log_hparams(hyper_parameters(self.config), self.last)
        if final or step // self.config.checkpoint_every > before // self.config.checkpoint_every:
            self._save(step)

    def _describe(self, step: int) -> None:
        """Draws what was measured so far, and lists what is stored."""
        loop, learner = self.loop, self.loop.learner
        labels, known = loop.stream.labels[: loop.agent.tasks], loop.task + 1
        scores = loop.scores()
        title, values = ("return", loop.record.returns) if scores is None else ("score", scores)
        matrix = values[:known].numpy()
        self.run.log_figure("tasks/matrix", score_matrix(matrix, labels, title), step)
        ends = np.array([loop.task_end(task) for task in range(known)], dtype=np.float64)
        starts = [loop.task_end(task - 1) for task in range(known)]
        self.run.log_figure("tasks/curves", task_curves(ends, matrix, starts, labels, title), step)
        embeddings = learner.embeddings()
        if embeddings is not None:
            features = loop.stream.features()[:known]
            embeddings = embeddings[loop.record.networks[:known]]
            figure = embedding_map(embeddings, features, labels[:known])
            self.run.log_figure("tasks/embeddings", figure, step)
            order = embedding_order(embeddings, features)
            if math.isfinite(order):
                self.run.log({"tasks/embedding_order": order}, step)
        self.run.log_text("tasks/storage", count_storage(learner.stored()).table(), step)

    def _save(self, step: int) -> None:
        tensors, state = self.loop.state_dict()
        training = {"evaluation": self.last, "config": experiment_data(self.config)}
        self.run.save_checkpoint(step, tensors, {"loop": state, "training": training})

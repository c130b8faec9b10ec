"""Training from recorded data: gradient updates, logged, evaluated and saved every so many.

Tags of the log, at the number of updates: see docs/agents/offline.md.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from separatrix.agents.common.checkpoint import Checkpoint, prefixed, with_prefix
from separatrix.agents.common.configuration import (
    ConfigurationError,
    differences,
    experiment_data,
)
from separatrix.agents.common.evaluations import Evaluations
from separatrix.agents.common.run import Run
from separatrix.agents.common.seeding import SEED_LIMIT
from separatrix.agents.common.training import (
    TrainingResult,
    check_continuous,
    described_misfit,
    hyper_parameters,
    progress_bar,
    warn_of_changes,
)
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.offline.config import OfflineConfig
from separatrix.agents.offline.data.config import dataset_names
from separatrix.agents.offline.data.dataset import Dataset, DatasetError
from separatrix.agents.offline.data.files import load_dataset
from separatrix.agents.offline.figures import return_histogram
from separatrix.agents.offline.methods import make_experience, make_learner
from separatrix.agents.offline.model.experience import ModelExperience
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import make_environment


def train(config: ExperimentConfig, run: Run) -> TrainingResult:
    """Trains, or goes on training, see `separatrix.agents.catalog.train`.

    Steps are gradient updates; the environment is stepped by evaluations alone, and by true
    dynamics where an experiment wants them.
    """
    training = _Training(config, run)
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        training.begin()
    else:
        training.load(checkpoint)
    learner, evaluations = training.learner, training.evaluations
    name = f"{training.agent.method.kind} on {config.environment.id}"
    with progress_bar() as progress:
        task = progress.add_task(name, total=config.total_steps, completed=learner.updates)
        while learner.updates < config.total_steps:
            training.update()
            progress.update(task, completed=learner.updates)
    return TrainingResult(learner.updates, evaluations.steps, evaluations.last)


class _Training:
    """A learner and its experience, and what is written about them."""

    def __init__(self, config: ExperimentConfig, run: Run) -> None:
        assert isinstance(config.agent, OfflineConfig)
        self.config, self.run, self.agent = config, run, config.agent
        made = config.environment
        environment = make_environment(made.id, made.num_envs, **made.arguments())
        check_continuous(config, environment)
        self.dataset = _load(config, environment)
        self._checksum = _checksum(self.dataset)
        lowest = self.agent.lowest_value
        if lowest is None:
            worst = min(self.dataset.reward.min().item(), 0.0)  # an end is worth 0
            lowest = worst / (1 - self.agent.gamma)
        # Seeds of runs lie below the limit: what the experience draws is of no learner's stream.
        seed = config.seed + SEED_LIMIT
        with _refused():
            self.experience = make_experience(self.dataset, environment, self.agent, seed)
        self.learner = make_learner(
            self.agent,
            environment.observation_space.shape[0],
            environment.action_shape[0],
            config.seed,
            environment.device,
            config.total_steps,
            lowest,
            self.experience.dynamics if isinstance(self.experience, ModelExperience) else None,
        )
        self.evaluations = Evaluations(config)
        self._row = _Row(0)

    def begin(self) -> None:
        """Learns what comes before the first update, and saves it if that took something."""
        if self.agent.normalise_observations:
            self.learner.normalizer.fit(self.dataset.observation)
        with _refused():
            scalars = self.experience.prepare()
        if isinstance(self.experience, ModelExperience):
            self.run.log_text("model/notes", self.experience.notes, 0)
        if scalars:
            self.run.log(scalars, 0)
            self._save()

    def load(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint."""
        with described_misfit(self.config, checkpoint):
            tensors, state = checkpoint.tensors, checkpoint.state
            saved = state["training"]
            if saved["data"] != self._checksum:
                raise ValueError(f"{self.agent.dataset} is not what it was")
            self.learner.load_state_dict(with_prefix("learner", tensors), state["learner"])
            experience = with_prefix("experience", tensors)
            self.experience.load_state_dict(experience, state["experience"])
            self.evaluations.load_state_dict(saved)
            changes = differences(saved["config"], experiment_data(self.config))
        warn_of_changes(changes, checkpoint)
        self._row = _Row(self.learner.updates)

    def update(self) -> None:
        """Takes an update, and evaluates, logs and saves after it where it is time."""
        batch, scalars = self.experience.batch(self.learner)
        self._row.add(scalars, "")
        self._row.add(self.learner.update(batch), "train/")
        config, step = self.config, self.learner.updates
        final = step == config.total_steps
        every = config.evaluation.every
        evaluates = final or (every > 0 and step % every == 0)
        # A row ends at each checkpoint, which thus needs not hold what a row is made of.
        saves = final or step % config.checkpoint_every == 0
        if not (evaluates or saves or step % self.agent.log_every == 0):
            return
        self.run.log(self._row.means(step), step)
        if evaluates:
            self._evaluate(step, final=final)
        if saves:
            self._save()
        self._row = _Row(step)

    def _evaluate(self, step: int, *, final: bool) -> None:
        self.evaluations.run(self.learner.controller())
        last, references = self.evaluations.last, self.dataset.metadata.references
        mean = last["eval/return"]
        if references is not None:
            last["eval/score"] = references.score(torch.tensor(mean)).item()
        if not final:  # the hyper-parameters bring the last one
            self.run.log(last, step)
            return
        self.run.log_hparams(hyper_parameters(self.config), last)
        figure = return_histogram(self.dataset.returns.cpu().numpy(), mean, references)
        self.run.log_figure("eval/returns", figure, step)

    def _save(self) -> None:
        learner, experience = self.learner.state_dict(), self.experience.state_dict()
        training = self.evaluations.state_dict()
        training |= {"data": self._checksum, "config": experiment_data(self.config)}
        self.run.save_checkpoint(
            self.learner.updates,
            prefixed("learner", learner[0]) | prefixed("experience", experience[0]),
            {"learner": learner[1], "experience": experience[1], "training": training},
        )


class _Row:
    """Means of scalars since a row of the log, taken without waiting for the device."""

    def __init__(self, step: int) -> None:
        self._step, self._start = step, time.perf_counter()
        self._sums: dict[str, Tensor | float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, scalars: Mapping[str, Tensor | float], group: str) -> None:
        """Adds one value of some scalars, each named after its group."""
        for name, value in scalars.items():
            self._sums[group + name] += value
            self._counts[group + name] += 1

    def means(self, step: int) -> dict[str, float]:
        """Returns the mean of each scalar, and the updates per second."""
        found = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        elapsed = time.perf_counter() - self._start
        return found | {"time/updates_per_second": (step - self._step) / elapsed}


@contextmanager
def _refused() -> Iterator[None]:
    """Says that configuration, environment and data do not suit each other."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(f"the experiment: {error}") from error


def _load(config: ExperimentConfig, environment: Environment) -> Dataset:
    """Reads the data, in single precision, and refuses those of another environment."""
    assert isinstance(config.agent, OfflineConfig)
    path, made = Path(config.agent.dataset), config.environment
    if not path.exists():
        name = path.parent.name
        hint = f"; `separatrix collect {name}` makes it" if name in dataset_names() else ""
        raise ConfigurationError(f"agent.dataset: there is nothing at {path}{hint}")
    try:
        dataset = load_dataset(path, environment.device)
        dataset.check_fits(environment)
    except (DatasetError, ImportError) as error:
        raise ConfigurationError(f"agent.dataset: {error}") from error
    metadata = dataset.metadata
    if metadata.environment not in ("", made.id):
        raise ConfigurationError(
            f"environment.id: got {made.id}; allowed: {metadata.environment}, where the data of "
            f"{path} were recorded"
        )
    acting = experiment_data(config)["environment"]
    options = acting["options"] | ({"wrap": acting["wrappers"]} if made.wrappers else {})
    if metadata.environment and (changes := differences(dict(metadata.options), options)):
        message = f"the policy is evaluated elsewhere than {path} was recorded"
        warnings.warn(f"{message}: {'; '.join(changes)}", RuntimeWarning, stacklevel=4)
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in dataset.tensors().items()
    }
    return Dataset(**tensors, metadata=metadata)


def _checksum(dataset: Dataset) -> str:
    """SHA-256 of all tensors, by which a run knows its data again."""
    digest = hashlib.sha256()
    for tensor in dataset.tensors().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()

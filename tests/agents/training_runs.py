"""Runs of training in tests: made, read, compared."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from separatrix.agents.catalog import train
from separatrix.agents.common.checkpoint import Checkpoint
from separatrix.agents.common.run import Run
from separatrix.agents.common.training import TrainingResult
from separatrix.agents.experiment import ExperimentConfig


class KilledError(Exception):
    """Stands for the death of the process."""


def train_in(root: Path, config: ExperimentConfig) -> tuple[TrainingResult, Run]:
    """Trains in a new run below a folder."""
    algorithm = config.agent.algorithm
    with Run.create(root, config.environment.id, algorithm, config.seed, config) as run:
        return train(config, run), run


def last_checkpoint(run: Run) -> Checkpoint:
    """Returns the last checkpoint, which there must be."""
    checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    return checkpoint


def rows(run: Run) -> list[tuple[int, str, str]]:
    """Returns everything logged but the wall-clock times."""
    with (run.folder / "metrics.csv").open() as file:
        return [
            (int(row["step"]), row["tag"], row["value"])
            for row in csv.DictReader(file)
            if not row["tag"].startswith("time/")
        ]


def assert_same(left: Run, right: Run) -> None:
    """Asserts that two runs ended with the same checkpoint and logged the same."""
    one, other = last_checkpoint(left), last_checkpoint(right)
    assert (one.step, one.state) == (other.step, other.state)
    assert one.tensors.keys() == other.tensors.keys()
    different = [n for n, t in one.tensors.items() if not torch.equal(t, other.tensors[n])]
    assert different == []
    assert rows(left) == rows(right)

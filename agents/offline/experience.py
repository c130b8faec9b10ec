"""Where the batches of an offline agent come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from separatrix.agents.offline.data.dataset import Dataset
from separatrix.agents.offline.learner import Batch, OfflineLearner


class Experience(ABC):
    """Draws the batch of every update."""

    def prepare(self) -> dict[str, float]:
        """Learns what batches need, once, before the first update.

        Returns:
            Scalars for the log, such as `model/error`.
        """
        return {}

    @abstractmethod
    def batch(self, learner: OfflineLearner) -> tuple[Batch, dict[str, float]]:
        """Draws a batch.

        Args:
            learner: Who is to learn from it; its policy may act in a model first.

        Returns:
            The batch, and scalars for the log of what was done for it, most often none.
        """

    @abstractmethod
    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns everything that determines the batches from here on, but for the data.

        Tensors are on the CPU and own their memory; the rest are JSON values.
        """

    @abstractmethod
    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned; `prepare` is then not called.

        Raises:
            KeyError: Something is missing.
            RuntimeError: Networks are others.
        """


class RecordedExperience(Experience):
    """Batches of recorded transitions, drawn uniformly with replacement.

    Args:
        dataset: The data, on the device of the learner.
        batch_size: Transitions of a batch.
        seed: Seed of what is drawn.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int) -> None:
        self._dataset, self._batch_size = dataset, batch_size
        self._generator = torch.Generator(dataset.reward.device).manual_seed(seed)

    def batch(self, learner: OfflineLearner) -> tuple[Batch, dict[str, float]]:
        """Draws a batch; the learner stays unread."""
        return draw(self._dataset, self._batch_size, self._generator), {}

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns the state of the random generator."""
        return {"generator": self._generator.get_state()}, {}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self._generator.set_state(tensors["generator"])


def draw(dataset: Dataset, rows: int, generator: torch.Generator) -> Batch:
    """Draws recorded transitions uniformly with replacement.

    Args:
        dataset: The data.
        rows: How many.
        generator: Source of randomness, on the device of the data.
    """
    device = dataset.reward.device
    index = torch.randint(len(dataset), (rows,), generator=generator, device=device)
    return Batch(
        dataset.observation[index],
        dataset.action[index],
        dataset.reward[index],
        dataset.next_observation[index],
        dataset.terminated[index],
        torch.zeros(rows, dtype=torch.bool, device=device),
        rows,
    )

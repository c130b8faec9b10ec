"""What trains a policy in environments that it is given, and goes on from a snapshot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment

Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
"""Named tensors and JSON values."""


class PolicyLearner(ABC):
    """Trains a policy in environments that may be others at every call."""

    @abstractmethod
    def train(self, environment: Environment, steps: int) -> dict[str, float]:
        """Trains for at least so many steps, summed over the batch; episodes start anew.

        Args:
            environment: Where; its spaces and the size of its batch are always the same.
            steps: Environment steps.

        Returns:
            Scalars for the log, such as `train/loss`.
        """

    @abstractmethod
    def controller(self) -> Controller:
        """Returns the deterministic policy, which goes on changing with the training."""

    def configure(self, config: Any) -> None:
        """Changes hyper-parameters, for population-based training.

        Raises:
            TypeError: The algorithm's cannot be changed.
        """
        raise TypeError(f"{type(self).__name__} keeps its hyper-parameters")

    @abstractmethod
    def take_policy(self, snapshot: Snapshot) -> None:
        """Takes over networks and optimisers of a snapshot, this learner's or another's.

        Counters, random generators and hyper-parameters are kept.
        """

    @abstractmethod
    def state_dict(self) -> Snapshot:
        """Returns everything that determines the training from here on."""

    @abstractmethod
    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""

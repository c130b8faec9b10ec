"""What dynamics of observations are to a policy that is rolled out in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Candidates(NamedTuple):
    """What dynamics propose for a control interval of each row."""

    next_observation: Float[Tensor, "candidates rows observation"]
    """After the interval."""

    reward: Float[Tensor, "candidates rows"]
    """Of the interval."""

    terminated: Bool[Tensor, "candidates rows"]
    """Whether the episode ends there."""

    doubt: Float[Tensor, " rows"]
    """How uncertain the next observation is; of true dynamics zero."""


class Dynamics(ABC):
    """What follows from observations and actions, for all rows at once and without gradients.

    Attributes:
        notes: Where steps, rewards and ends come from, in words.
    """

    notes: str

    @abstractmethod
    def prepare(self, generator: torch.Generator) -> dict[str, float]:
        """Learns what there is to learn; returns scalars for the log."""

    @abstractmethod
    def propose(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        samples: int,
        generator: torch.Generator,
    ) -> Candidates:
        """Proposes what may follow.

        Args:
            observation: Before the interval.
            action: Held during the interval, in [-1, 1].
            samples: Candidates of each elite of learned dynamics; true ones have one candidate.
            generator: Source of randomness.
        """

    @abstractmethod
    def members(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        samples: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "members samples rows observation"]:
        """Draws next observations of each elite.

        True dynamics are one member with one sample, so that nothing differs between members.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything that was learned."""

    @abstractmethod
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `state_dict` returned; `prepare` is then not called.

        Raises:
            RuntimeError: The networks are others.
        """

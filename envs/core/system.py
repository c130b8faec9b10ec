"""Systems: the physics, without rewards and without episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.state import State
from separatrix.envs.core.stream import Stream


class System(ABC):
    """A controlled dynamical system as pure, batched functions.

    A system is immutable. Its parameters are shared by all environments of a batch or have one
    row for each; in the latter case its functions take batches of exactly that size.

    Attributes:
        num_envs: Size of the batch that the system was made for.
        device: Where its tensors live.
        dtype: Type of its real numbers.
        control_interval: Time during which a control is held, in the system's unit of time.
        differentiable: Whether gradients flow through `advance`.
    """

    num_envs: int
    device: torch.device
    dtype: torch.dtype
    control_interval: float
    differentiable: bool = True

    @abstractmethod
    def initial_state(self, stream: Stream) -> Any:
        """Draws the states at the start of an episode, one a row of the stream."""

    @abstractmethod
    def advance(self, state: Any, control: Float[Tensor, "batch control"]) -> Any:
        """Advances all environments by one control interval under held controls."""

    @abstractmethod
    def inside(self, state: Any) -> Bool[Tensor, " batch"]:
        """Tells which states are finite and within the declared safe box."""

    @abstractmethod
    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if parameters are shared."""


__all__ = ["State", "System"]

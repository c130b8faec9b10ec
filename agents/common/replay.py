"""Replay: transitions of a batch of environments, in the order of time, on one device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.registration import check_count
from separatrix.envs.core.state import copied, tensors


@dataclass(frozen=True)
class Transitions:
    """What happened in control intervals; all tensors have the same leading axes."""

    observation: Float[Tensor, "*rows observation"]
    """Before the interval."""

    action: Float[Tensor, "*rows action"]
    """Held during the interval, in [-1, 1]."""

    reward: Float[Tensor, "*rows"]
    """Of the interval."""

    next_observation: Float[Tensor, "*rows observation"]
    """After the interval, before any reset."""

    terminated: Bool[Tensor, "*rows"]
    """Whether the episode ended here by failure or success of the physics."""

    last: Bool[Tensor, "*rows"]
    """Whether the episode ended here, terminated or truncated."""

    def __getitem__(self, index: tuple[Tensor, ...] | Tensor | slice) -> Self:
        """Returns the transitions at an index of the leading axes."""
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))


class ReplayBuffer:
    """The latest transitions of environments that step together.

    Rows are times and columns are environments, so that the transitions of an episode follow each
    other and windows of several steps can be cut. Memory is taken once.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        capacity: Transitions that are kept, a multiple of `num_envs`; older ones are overwritten.
        num_envs: Environments that step together.
        device: Where the tensors live.
        dtype: Type of the real numbers.

    Raises:
        ValueError: A number is not a positive integer, or the capacity is no multiple.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        capacity: int,
        num_envs: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        sizes = {"observation_size": observation_size, "action_size": action_size}
        for name, size in {**sizes, "capacity": capacity, "num_envs": num_envs}.items():
            check_count(name, size)
        if capacity % num_envs:
            raise ValueError(f"capacity: got {capacity}; allowed: multiples of {num_envs}")
        shape = (capacity // num_envs, num_envs)

        def zeros(*size: int) -> Tensor:
            return torch.zeros((*shape, *size), dtype=dtype, device=device)

        self._stored = Transitions(
            observation=zeros(observation_size),
            action=zeros(action_size),
            reward=zeros(),
            next_observation=zeros(observation_size),
            terminated=zeros().bool(),
            last=zeros().bool(),
        )
        self._times = 0  # ever added, so that the next one goes to this row modulo their number

    def __len__(self) -> int:
        """Number of transitions in the buffer."""
        rows, num_envs = self._stored.reward.shape
        return min(self._times, rows) * num_envs

    @property
    def added(self) -> int:
        """Number of transitions ever added."""
        return self._times * self._stored.reward.shape[1]

    def add(self, transitions: Transitions) -> None:
        """Adds one transition of every environment, all at the same time, (environments, ...).

        Raises:
            ValueError: A tensor has another shape.
        """
        row = self._times % self._stored.reward.shape[0]
        for field in fields(transitions):
            place, value = getattr(self._stored, field.name)[row], getattr(transitions, field.name)
            if value.shape != place.shape:
                raise ValueError(
                    f"{field.name}: got shape {tuple(value.shape)}; allowed: {tuple(place.shape)}"
                )
            place.copy_(value)
        self._times += 1

    def ordered(self) -> Transitions:
        """Returns all transitions, (times, environments, ...), the oldest first."""
        rows = self._stored.reward.shape[0]
        if self._times <= rows:
            return self._stored[: self._times]
        order = torch.arange(self._times - rows, self._times, device=self._stored.reward.device)
        return self._stored[order % rows]

    def sample(self, count: int, generator: torch.Generator) -> Transitions:
        """Draws transitions uniformly, with replacement.

        Args:
            count: Number of transitions.
            generator: Source of randomness, on the device of the buffer.

        Raises:
            ValueError: The buffer is empty.
        """
        if len(self) == 0:
            raise ValueError("the buffer is empty; add transitions first")
        device, num_envs = self._stored.reward.device, self._stored.reward.shape[1]
        drawn = torch.randint(len(self), (count,), generator=generator, device=device)
        return self._stored[drawn // num_envs, drawn % num_envs]

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything in the buffer, for a checkpoint."""
        return {**tensors(self._stored), "times": torch.tensor(self._times)}

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned, for a buffer of the same sizes.

        Raises:
            ValueError: A tensor is missing or has another shape.
        """
        stored = {name: copied(found, name, like) for name, like in tensors(self._stored).items()}
        self._times = int(copied(found, "times", torch.tensor(0)))
        self._stored = Transitions(**stored)


def windows(last: Bool[Tensor, "times environments"], length: int) -> Int64[Tensor, "windows 2"]:
    """Finds where transitions of one episode follow each other.

    Args:
        last: Where episodes end, see `Transitions`.
        length: Transitions in a window.

    Returns:
        Time and environment of the first transition of every window.
    """
    if last.shape[0] < length:
        return torch.empty((0, 2), dtype=torch.int64, device=last.device)
    ends = last.long().cumsum(0)
    # Ends among all transitions of a window but its own last one.
    among = ends[length - 1 :] - ends[: len(ends) - length + 1] - last[length - 1 :].long()
    whole = among + last[: len(ends) - length + 1].long() == 0
    return whole.nonzero()

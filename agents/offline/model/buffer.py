"""Transitions of rollouts in a model, of which the latest are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class ModelTransitions:
    """Transitions of rollouts; all tensors have the same leading axis."""

    observation: Float[Tensor, "rows observation"]
    """Before the control interval."""

    action: Float[Tensor, "rows action"]
    """Held during the interval, in [-1, 1]."""

    reward: Float[Tensor, " rows"]
    """Of the interval, less the penalty."""

    next_observation: Float[Tensor, "rows observation"]
    """After the interval."""

    terminated: Bool[Tensor, " rows"]
    """Whether the episode ended here."""

    cut: Bool[Tensor, " rows"]
    """Whether the next observation is not believed."""

    position: Int64[Tensor, " rows"]
    """Steps of the rollout before this one."""

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.reward)

    def __getitem__(self, index: Tensor | slice) -> ModelTransitions:
        """Returns the transitions at an index."""
        return ModelTransitions(*(getattr(self, f.name)[index] for f in fields(self)))


class ModelBuffer:
    """The latest transitions of rollouts, in memory that is taken once.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        capacity: Transitions that are kept; older ones are overwritten.
        device: Where the tensors live.
    """

    def __init__(
        self, observation_size: int, action_size: int, capacity: int, device: torch.device | str
    ) -> None:
        def zeros(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros((capacity, *size), dtype=dtype, device=device)

        self._stored = ModelTransitions(
            observation=zeros(observation_size),
            action=zeros(action_size),
            reward=zeros(),
            next_observation=zeros(observation_size),
            terminated=zeros(dtype=torch.bool),
            cut=zeros(dtype=torch.bool),
            position=zeros(dtype=torch.int64),
        )
        self._capacity, self._added = capacity, 0

    def __len__(self) -> int:
        """Number of transitions in the buffer."""
        return min(self._added, self._capacity)

    def add(self, transitions: ModelTransitions) -> None:
        """Adds transitions; of more than there is room for, the last ones."""
        surplus = max(len(transitions) - self._capacity, 0)
        kept = transitions[surplus:]
        place = torch.arange(len(kept), device=kept.reward.device) + self._added + surplus
        for field in fields(kept):
            stored: Tensor = getattr(self._stored, field.name)
            stored[place % self._capacity] = getattr(kept, field.name)
        self._added += len(transitions)

    def ordered(self) -> ModelTransitions:
        """Returns all transitions, the oldest first."""
        return self._at(torch.arange(len(self), device=self._stored.reward.device))

    def sample(self, rows: int, generator: torch.Generator) -> ModelTransitions:
        """Draws transitions uniformly with replacement.

        Raises:
            ValueError: The buffer is empty.
        """
        if len(self) == 0:
            raise ValueError("the buffer of model transitions is empty; roll out first")
        device = self._stored.reward.device
        return self._at(torch.randint(len(self), (rows,), generator=generator, device=device))

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the transitions, the oldest first."""
        stored = self.ordered()
        return {f.name: getattr(stored, f.name) for f in fields(stored)}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes what `state_dict` returned.

        Raises:
            KeyError: A tensor is missing.
        """
        device = self._stored.reward.device
        self._added = 0
        self.add(ModelTransitions(*(tensors[f.name].to(device) for f in fields(ModelTransitions))))

    def _at(self, age: Int64[Tensor, " rows"]) -> ModelTransitions:
        """Returns transitions by their places in the order of time, of which the oldest is 0."""
        return self._stored[(self._added - len(self) + age) % self._capacity]

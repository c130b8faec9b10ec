"""Transitions of tasks, as networks learn from them: what is trained on, held out, and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.agents.common.replay import Transitions

HELD_OUT = 4
"""Of so many transitions of an environment the last one is held out, as in the paper."""


@dataclass(frozen=True)
class Samples:
    """Inputs and targets of networks in the units of the data."""

    inputs: Float[Tensor, "*rows inputs"]
    """Observation and action."""

    targets: Float[Tensor, "*rows targets"]
    """Change of the observation, and the reward if it is learned."""

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.inputs)

    def __getitem__(self, rows: Int64[Tensor, "*rows"]) -> Self:
        """Returns some of the transitions."""
        return type(self)(self.inputs[rows], self.targets[rows])


def samples(transitions: Transitions, reward: bool) -> tuple[Samples, Samples]:
    """Turns transitions into samples to train on and held-out ones.

    Args:
        transitions: (times, environments, ...), in the order of time.
        reward: Whether the reward is a target.

    Raises:
        ValueError: A number is not finite.
    """
    observation = transitions.observation
    targets = transitions.next_observation - observation
    if reward:
        targets = torch.cat((targets, transitions.reward[..., None]), -1)
    inputs = torch.cat((observation, transitions.action), -1)
    if not (inputs.isfinite().all() and targets.isfinite().all()):
        raise ValueError("transitions: got NaN or infinite numbers; allowed: finite numbers")
    times = torch.arange(len(inputs), device=inputs.device)
    held_out = times % HELD_OUT == HELD_OUT - 1
    return (
        Samples(inputs[~held_out].flatten(0, 1), targets[~held_out].flatten(0, 1)),
        Samples(inputs[held_out].flatten(0, 1), targets[held_out].flatten(0, 1)),
    )


class Memory:
    """Transitions of earlier tasks that are kept.

    Args:
        transitions: Of each task, drawn at random without replacement; 0 keeps all, None none.
    """

    def __init__(self, transitions: int | None) -> None:
        self.transitions = transitions
        self.tasks: dict[int, Samples] = {}

    def keep(self, task: int, found: Samples, generator: torch.Generator) -> None:
        """Keeps transitions of a task that ends."""
        if self.transitions is None:
            return
        count = self.transitions or len(found)
        order = torch.randperm(len(found), generator=generator, device=generator.device)
        self.tasks[task] = found[order[:count]]

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what is kept."""
        found: dict[str, Tensor] = {}
        for task, kept in self.tasks.items():
            found |= {f"{task}.inputs": kept.inputs, f"{task}.targets": kept.targets}
        return found

    def load_state_dict(self, found: dict[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned."""
        numbers = sorted({int(name.partition(".")[0]) for name in found})
        self.tasks = {
            task: Samples(found[f"{task}.inputs"].clone(), found[f"{task}.targets"].clone())
            for task in numbers
        }

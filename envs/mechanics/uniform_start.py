"""Starts of episodes that are uniform around the one of a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.mechanics.mujoco_system import Deviation


def uniform_deviation(scales: Sequence[float]) -> Deviation:
    """Returns independent uniform deviations.

    Args:
        scales: The largest of each coordinate.
    """

    def deviation(stream: Stream) -> tuple[Tensor, Stream]:
        uniform, stream = stream.uniform(len(scales), torch.float64, INITIAL_STATE)
        return (2 * uniform - 1) * torch.tensor(scales, dtype=torch.float64), stream

    return deviation

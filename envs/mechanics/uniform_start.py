"""Starts of episodes that are uniform around the one of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mujoco
import torch
from torch import Tensor

from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.mechanics.mujoco_system import Deviation, MujocoSystem


def uniform_deviation(scales: Sequence[float]) -> Deviation:
    """Returns independent uniform deviations.

    Args:
        scales: The largest of each coordinate.
    """

    def deviation(stream: Stream) -> tuple[Tensor, Stream]:
        uniform, stream = stream.uniform(len(scales), torch.float64, INITIAL_STATE)
        return (2 * uniform - 1) * torch.tensor(scales, dtype=torch.float64), stream

    return deviation


def uniform_system(
    model: Path, limits: Sequence[float], scale: float, frame_skip: int, **arguments: Any
) -> MujocoSystem:
    """Makes the system of one model, which starts off uniformly in all coordinates.

    Args:
        model: File of the model.
        limits: See `MujocoSystem`.
        scale: Largest deviation of each coordinate.
        frame_skip: See `MujocoSystem`.
        arguments: The rest of its arguments: `num_envs`, `device`, `dtype`, `backend`.
    """
    deviation = uniform_deviation([scale] * len(limits))
    models = [mujoco.MjModel.from_xml_path(str(model))]
    return MujocoSystem(models, limits, deviation, frame_skip=frame_skip, **arguments)

"""The real numbers of a state as one vector: coordinates for Jacobians, whatever the dataclass."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.state import map_tensors


def flatten(state: Any) -> Float[Tensor, "batch coordinate"]:
    """Returns the floating-point tensors of a state, one after the other.

    Counters and positions in random streams are no coordinates. For an ODE system they are
    `state.values`.

    Args:
        state: A dataclass of tensors with a leading batch axis.

    Raises:
        ValueError: The state holds no real numbers.
    """
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            found.append(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None])
        return tensor

    map_tensors(collect, state)
    if not found:
        raise ValueError(f"{type(state).__name__} holds no real numbers; there is nothing to vary")
    return torch.cat(found, 1)


def unflatten(coordinates: Float[Tensor, "batch coordinate"], like: Any) -> Any:
    """Returns a state with given coordinates; the inverse of `flatten`.

    Args:
        coordinates: One row an environment.
        like: A state of the same batch, which gives everything else.
    """
    used = 0

    def place(tensor: Tensor) -> Tensor:
        nonlocal used
        if not tensor.is_floating_point():
            return tensor
        size = tensor[0].numel()
        part = coordinates[:, used : used + size].reshape(tensor.shape)
        used += size
        return part

    return map_tensors(place, like)

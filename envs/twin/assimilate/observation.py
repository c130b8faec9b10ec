"""Observation operators: what is seen of a state; and the numbers that users hand to twins."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from separatrix.envs.core.inputs import read_numbers
from separatrix.envs.core.system import System

Observe = Callable[[System, Any], Tensor]
"""Returns what states are observed as, (batch, observation)."""


def read_operator(operator: Any, components: int, device: torch.device) -> Observe | Tensor:
    """Returns a function, indices of components, or a matrix (observation, component).

    Args:
        operator: One of these, or None for all components.
        components: Number of components of `System.values`.
        device: Where the indices or the matrix are to live.

    Raises:
        ValueError: It is something else.
    """
    if callable(operator):
        return operator
    if operator is None:
        return torch.arange(components, device=device)
    found = read_numbers("observe", operator).to(device, copy=True)
    if found.ndim == 2 and found.shape[1] == components and found.isfinite().all():
        return found.double()
    whole = found.ndim == 1 and len(found) and not found.is_floating_point()
    if whole and ((found >= 0) & (found < components)).all():
        return found.long()
    raise ValueError(
        f"observe: got {reprlib.repr(operator)}; allowed: indices from 0 to {components - 1}, a "
        f"finite matrix (observation, {components}), or a function"
    )


def observe(
    operator: Observe | Tensor, system: System, state: Any
) -> Float[Tensor, "batch observation"]:
    """Returns what states are observed as, by an operator of `read_operator`."""
    if callable(operator):
        return operator(system, state)
    values = system.values(state)
    return values[:, operator] if operator.ndim == 1 else values @ operator.mT.to(values.dtype)


def read_shaped(
    name: str, value: Any, shape: tuple[int, ...], device: torch.device
) -> Float64[Tensor, ...]:
    """Returns numbers of a shape, or one number for all, without NaN.

    Raises:
        ValueError: They are something else; `name` tells of what.
    """
    found = read_numbers(name, value).to(device, torch.float64, copy=True)
    if found.shape not in ((), shape) or found.isnan().any():
        got = "NaN" if found.isnan().any() else f"shape {tuple(found.shape)}"
        raise ValueError(f"{name}: got {got}; allowed: one number, or shape {shape}")
    return found.expand(shape)

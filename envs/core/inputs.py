"""What users hand to the shells: actions, seeds and options, read or refused with a clear error."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

RENDER_MODES = ("rgb_array",)
SEED_LIMIT = 2**63


def check_render_mode(render_mode: str | None) -> None:
    """Raises ValueError if the render mode is unknown."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode: got {render_mode!r}; allowed: None, 'rgb_array'")


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ValueError if an option is one that a shell sets itself."""
    if "horizon" in options:
        raise ValueError("unknown option 'horizon'; allowed: max_episode_steps")
    if "num_envs" in options:
        raise ValueError("unknown option 'num_envs'; allowed: num_envs of gymnasium.make_vec")


def random_seed() -> int:
    """Draws a seed from the operating system."""
    return int(np.random.SeedSequence().entropy % 2**48)  # type: ignore[operator]


def read_seeds(seed: Any, num_envs: int) -> Int64[Tensor, " batch"]:
    """Returns a seed for each environment.

    Args:
        seed: s stands for s, s + 1, ...; a sequence gives one seed each.
        num_envs: Size of the batch.

    Raises:
        ValueError: A seed is not an integer from 0 to 2^63 - 1, or their number is wrong.
    """
    if isinstance(seed, int | np.integer):
        seeds = list(range(int(seed), int(seed) + num_envs))
    else:
        seeds = list(seed) if np.iterable(seed) else [seed]
    for i, value in enumerate(seeds):
        if not isinstance(value, int | np.integer) or not 0 <= value < SEED_LIMIT:
            raise ValueError(
                f"seed: got {value!r} for environment {i}; allowed: integers from 0 to 2^63 - 1"
            )
    if len(seeds) != num_envs:
        raise ValueError(
            f"seed: got {len(seeds)} seeds; allowed: one number, or {num_envs} of them"
        )
    return torch.tensor(seeds, dtype=torch.int64)


def read_mask(mask: Any, num_envs: int) -> Bool[Tensor, " batch"]:
    """Returns a mask of environments as a tensor.

    Raises:
        ValueError: The mask is not one boolean for each environment, or all of them are False.
    """
    if not isinstance(mask, Tensor):
        array = np.array(mask)
        mask = torch.from_numpy(array) if array.dtype == np.bool_ else array
    found = f"{mask.dtype} of shape {tuple(mask.shape)}"
    if found != f"torch.bool of shape ({num_envs},)" or not mask.any():
        raise ValueError(
            f"reset_mask: got {found}; allowed: booleans of shape ({num_envs},), one of them True"
        )
    return mask


def read_actions(
    actions: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None
) -> Float[Tensor, ...]:
    """Returns actions as a tensor without gradients.

    Args:
        actions: A tensor, or anything that numpy makes an array of.
        shape: The shape that they must have.
        dtype: Type of the environment's real numbers.
        device: Where they are to go; None where they are.

    Raises:
        ValueError: The actions are not real numbers, or have another shape.
    """
    actions = read_numbers("actions", actions)
    if actions.shape != shape:
        raise ValueError(f"actions: got shape {tuple(actions.shape)}; allowed: {shape}")
    return actions.to(device, dtype)


def read_numbers(name: str, value: Any) -> Tensor:
    """Returns real numbers as a tensor without gradients; a copy, unless they were a tensor.

    Raises:
        ValueError: They are something else; `name` tells of what.
    """
    found = value
    if not isinstance(value, Tensor):
        try:
            array = np.array(value)  # a copy: torch takes neither read-only nor reversed arrays
        except ValueError:  # lists of different lengths
            array = np.array(None)
        found = torch.from_numpy(array) if array.dtype.kind in "biuf" else None
    if found is None or found.is_complex():
        raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: real numbers")
    return found.detach()

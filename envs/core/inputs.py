"""What users hand to the shells: actions, seeds and options, read or refused with a clear error."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiDiscrete
from jaxtyping import Bool, Float, Int64
from torch import Tensor

RENDER_MODES = ("rgb_array",)
SEED_LIMIT = 2**63
TORCH_TYPES = "?bBhHiIlLqefd"  # as numpy abbreviates them: extended floats and others lack


def check_render_mode(render_mode: str | None) -> None:
    """Raises ValueError if the render mode is unknown."""
    known = isinstance(render_mode, str) and render_mode in RENDER_MODES
    if render_mode is not None and not known:
        got = reprlib.repr(render_mode)
        raise ValueError(f"render_mode: got {got}; allowed: None, 'rgb_array'")


def check_options(options: Mapping[str, Any]) -> None:
    """Raises ValueError if an option is one that a shell sets itself."""
    if "horizon" in options:
        raise ValueError("unknown option 'horizon'; allowed: max_episode_steps")
    if "num_envs" in options:
        raise ValueError("unknown option 'num_envs'; allowed: num_envs of gymnasium.make_vec")


def check_reset_options(options: Any, allowed: tuple[str, ...] = ()) -> None:
    """Raises ValueError unless the options of a reset are none, or a mapping of allowed names."""
    names = "; ".join(allowed) or "None, for this environment has none"
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"reset options: got {reprlib.repr(options)}; allowed: {names}")
    unknown = [name for name in options or () if name not in allowed]
    if unknown:
        raise ValueError(f"reset options: got {reprlib.repr(unknown)}; allowed: {names}")


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
    if _is_integer(seed):
        seeds = list(range(int(seed), int(seed) + num_envs))
    else:
        several = isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str | bytes)
        # One too many tells as much as all of them.
        seeds = list(islice(seed, num_envs + 1)) if several and np.iterable(seed) else [seed]
    for i, value in enumerate(seeds):
        if not _is_integer(value) or not 0 <= value < SEED_LIMIT:
            raise ValueError(
                f"seed: got {reprlib.repr(value)} for environment {i}; "
                "allowed: integers from 0 to 2^63 - 1"
            )
    if len(seeds) != num_envs:
        got = f"{len(seeds)} seeds" if len(seeds) < num_envs else "more seeds"
        raise ValueError(f"seed: got {got}; allowed: one number, or {num_envs} of them")
    return torch.tensor(seeds, dtype=torch.int64)


def _is_integer(value: Any) -> bool:
    # To numpy a difference of times is an integer.
    return isinstance(value, int | np.integer) and not isinstance(value, np.timedelta64)


def read_mask(mask: Any, num_envs: int) -> Bool[Tensor, " batch"]:
    """Returns a mask of environments as a tensor.

    Raises:
        ValueError: The mask is not one boolean for each environment, or all of them are False.
    """
    found = mask if isinstance(mask, Tensor) else _as_array(mask)
    if isinstance(found, np.ndarray) and found.dtype == np.bool_:
        found = torch.from_numpy(found)
    if isinstance(found, Tensor) and found.dtype is torch.bool and _holds_values(found):
        if found.shape == (num_envs,) and found.any():
            return found
    raise ValueError(
        f"reset_mask: got {found.dtype} of shape {tuple(found.shape)}; "
        f"allowed: booleans of shape ({num_envs},), one of them True"
    )


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


def read_choices(
    actions: Any, space: Discrete | MultiDiscrete, num_envs: int
) -> Int64[Tensor, ...]:
    """Returns actions that are choices as a tensor; see `read_actions`.

    Args:
        actions: A tensor, or anything that numpy makes an array of.
        space: Actions of one environment.
        num_envs: Size of the batch.

    Raises:
        ValueError: The actions are not integers, have another shape, or one is not in the space.
    """
    actions = read_numbers("actions", actions)
    shape = (num_envs, *(space.shape or ()))
    if actions.shape != shape:
        raise ValueError(f"actions: got shape {tuple(actions.shape)}; allowed: {shape}")
    count = torch.as_tensor(space.nvec if isinstance(space, MultiDiscrete) else int(space.n))
    wrong = (actions != actions.floor()) | (actions < 0) | (actions >= count.to(actions.device))
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        got, environment = actions[tuple(place)].item(), place[0]
        largest = count.expand(shape[1:])[tuple(place[1:])] - 1
        raise ValueError(
            f"actions: environment {environment} got {got}; allowed: integers from 0 to {largest}"
        )
    return actions.long()


def read_numbers(name: str, value: Any) -> Tensor:
    """Returns real numbers as a tensor without gradients; a copy, unless they were a tensor.

    Raises:
        ValueError: They are something else; `name` tells of what.
    """
    found = value
    if not isinstance(value, Tensor):
        array = _as_array(value)
        real = array.dtype.kind in "biuf"
        if real and not (array.dtype.isnative and array.dtype.char in TORCH_TYPES):
            array = array.astype(np.float64)
        found = torch.from_numpy(array) if real else None
    if found is None or found.is_complex() or not _holds_values(found):
        raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: real numbers")
    return found.detach()


def _as_array(value: Any) -> np.ndarray:
    """A new array: torch takes neither read-only nor reversed ones; of objects if it is none."""
    try:
        return np.array(value)
    except Exception:  # lists of different lengths, or whatever the `__array__` of an object raises
        return np.array(None)


def _holds_values(tensor: Tensor) -> bool:
    """Whether a tensor is neither sparse, nor quantized, nor without values ("meta")."""
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta

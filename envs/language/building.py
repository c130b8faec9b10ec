"""What the registrations of language environments share: options, and how they become objects."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import suggest

if TYPE_CHECKING:
    import torch

    from separatrix.envs.language.instances import Instances
    from separatrix.envs.language.language_environment import Terms

BACKENDS = ("auto", "torch")
OBSERVATIONS = ("features", "tokens")
REWARDS = ("gain", "hit")
INSTANCES: dict[str, Any] = {
    "model": "character",
    "texts": "sentences",
    "text_length": 16,
    "target": "top",
    "target_length": 1,
    "target_rank": 20,
    "fixed_text": None,
    "fixed_target": None,
    "sink": "auto",
}
"""Options of texts and targets."""
TERMS: dict[str, Any] = {
    "candidates": None,
    "forbid_target": True,
    "observation": "features",
    "reward": "gain",
    "price": 0.0,
}
"""Options of what is written, seen and paid."""


def make_instances(
    options: Mapping[str, Any],
    place: str,
    device: torch.device,
    dtype: torch.dtype,
    backend: str,
) -> Instances:
    """Makes what texts and targets are drawn from.

    Args:
        options: Those of `INSTANCES`.
        place: Where prompts stand.
        device: Where the model is to be.
        dtype: Type of its real numbers.
        backend: One of `BACKENDS`.

    Raises:
        ValueError: An option is not allowed; the message says what is.
    """
    from separatrix.envs.language.instances import Instances
    from separatrix.envs.language.models import find_model
    from separatrix.envs.language.prompts import PLACES, Arrangement, read_sink

    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; {suggest(backend, BACKENDS)}")
    if place not in PLACES:
        raise ValueError(f"place: got {reprlib.repr(place)}; allowed: {', '.join(PLACES)}")
    found = {**INSTANCES, **{k: v for k, v in options.items() if k in INSTANCES}}
    model = find_model(found["model"], device, dtype)
    arrangement = Arrangement(model, place, read_sink(model, found["sink"]))
    return Instances(
        arrangement,
        found["texts"],
        found["text_length"],
        found["target"],
        found["target_length"],
        found["target_rank"],
        found["fixed_text"],
        found["fixed_target"],
    )


def make_terms(options: Mapping[str, Any]) -> Terms:
    """Makes what is written, seen and paid, from the options of `TERMS`.

    Raises:
        ValueError: An option is not allowed; the message says what is.
    """
    from separatrix.envs.language.instances import is_count, require
    from separatrix.envs.language.language_environment import Terms

    found = {**TERMS, **{k: v for k, v in options.items() if k in TERMS}}
    for name, allowed in {"observation": OBSERVATIONS, "reward": REWARDS}.items():
        fits = isinstance(found[name], str) and found[name] in allowed
        require(fits, name, found[name], ", ".join(allowed))
    forbid, count = found["forbid_target"], found["candidates"]
    require(isinstance(forbid, bool), "forbid_target", forbid, "True, False")
    require(count is None or is_count(count), "candidates", count, "None, or 1 or more")
    found["price"] = read_positive("price", found["price"], or_zero=True)
    return Terms(**found)


def read_count(name: str, value: Any) -> int:
    """Returns an option that is a number of tokens.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**16:
        raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: an integer from 1 to 65535")
    return value


def read_positive(name: str, value: Any, *, or_zero: bool = False) -> float:
    """Returns an option that is a positive number.

    Raises:
        ValueError: It is something else.
    """
    from separatrix.envs.core.registration import is_positive

    zero = or_zero and isinstance(value, int | float) and value == 0
    if isinstance(value, bool) or not (zero or is_positive(value)):
        allowed = "0, or a positive number" if or_zero else "a positive number"
        raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: {allowed}")
    return float(value)

"""What the registrations of language environments share: options, and how they become objects."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.number_options import read_number_options
from separatrix.envs.core.registration import suggest
from separatrix.envs.language.checks import (
    read_count,
    read_count_or_none,
    read_word,
    require,
)

if TYPE_CHECKING:
    import torch

    from separatrix.envs.language.instances import Instances
    from separatrix.envs.language.language_environment import Terms
    from separatrix.envs.language.prompt_environment import PromptSystem

BACKENDS = ("auto", "torch")
OBSERVATIONS = ("features", "tokens")
REWARDS = ("gain", "hit")
TOLERANCE = {"tolerance": (0.1, 1e-3, 10.0)}
"""Default, smallest and largest divergence of a distribution that is reached, in nats."""
INSTANCES: dict[str, Any] = {
    "model": "character",
    "texts": "sentences",
    "text_length": 16,
    "target": "top",
    "target_length": 1,
    "target_rank": 20,
    "fixed_text": None,
    "fixed_target": None,
    "tolerance": TOLERANCE["tolerance"][0],
    "sink": "auto",
}
"""Options of texts and targets."""
PROMPT: dict[str, Any] = {"prompt_length": 4, "place": "before"}
"""Options of prompts of tokens."""
PRICE = {"price": (0.0, 0.0, 1000.0)}
"""Default, smallest and largest price of what is written, in rewards."""
TERMS: dict[str, Any] = {
    "candidates": None,
    "forbid_target": True,
    "observation": "features",
    "reward": "gain",
    "price": PRICE["price"][0],
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
    from separatrix.envs.language.instances import RULES, Instances
    from separatrix.envs.language.models import MODELS, find_model
    from separatrix.envs.language.prompts import PLACES, Arrangement, read_sink
    from separatrix.envs.language.texts import SOURCES

    if not isinstance(backend, str) or backend not in BACKENDS:
        got = reprlib.repr(backend)
        raise ValueError(f"unknown backend {got}; {suggest(backend, BACKENDS)}")
    read_word("place", place, PLACES)
    found = {**INSTANCES, **{k: v for k, v in options.items() if k in INSTANCES}}
    words = {
        "model": f"{', '.join(MODELS)}, or a folder or name",
        "texts": f"{', '.join(SOURCES)}, or the path of a text file in UTF-8",
        "target": ", ".join(RULES),
    }
    for name, allowed in words.items():
        require(isinstance(found[name], str), name, found[name], allowed)
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
        read_number_options(options, TOLERANCE)["tolerance"],
    )


def make_prompt_system(
    options: Mapping[str, Any],
    num_envs: int,
    device: torch.device,
    dtype: torch.dtype,
    backend: str,
    *,
    appends: bool,
) -> PromptSystem:
    """Makes the plant under prompts of tokens.

    Args:
        options: Those of `PROMPT` and `INSTANCES`.
        num_envs: Size of the batch.
        device: Where the model is to be.
        dtype: Type of its real numbers.
        backend: One of `BACKENDS`.
        appends: Whether prompts behind texts grow by a token at a time.

    Raises:
        ValueError: An option is not allowed; the message says what is.
    """
    from separatrix.envs.language.prompt_environment import AppendingSystem, PromptSystem

    found = {**PROMPT, **{k: v for k, v in options.items() if k in PROMPT}}
    length = read_count("prompt_length", found["prompt_length"])
    instances = make_instances(options, found["place"], device, dtype, backend)
    kind = AppendingSystem if appends and found["place"] == "after" else PromptSystem
    return kind(instances, length, num_envs)


def make_terms(options: Mapping[str, Any]) -> Terms:
    """Makes what is written, seen and paid, from the options of `TERMS`.

    Raises:
        ValueError: An option is not allowed; the message says what is.
    """
    from separatrix.envs.language.language_environment import Terms

    found = {**TERMS, **{k: v for k, v in options.items() if k in TERMS}}
    read_word("observation", found["observation"], OBSERVATIONS)
    read_word("reward", found["reward"], REWARDS)
    forbid = found["forbid_target"]
    require(isinstance(forbid, bool), "forbid_target", forbid, "True, False")
    found["candidates"] = read_count_or_none("candidates", found["candidates"])
    return Terms(**{**found, **read_number_options(options, PRICE)})

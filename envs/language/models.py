"""Language models by name."""

from __future__ import annotations

from functools import lru_cache

import torch

from separatrix.envs.language.language_model import LanguageModel

MODELS = ("character", "smollm2")


@lru_cache(maxsize=4)
def find_model(
    name: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """Loads a model, once a process.

    Args:
        name: "character", which comes with the package, "smollm2", see
            `separatrix.envs.language.smollm2`, or a folder or name of a model of transformers.
        device: Where it is to be.
        dtype: Type of its real numbers.

    Raises:
        ValueError: There is no such model here, or a package is missing that it takes; the message
            says the command that brings it.
    """
    try:
        if name == "character":
            from separatrix.envs.language.character_model import load_character_model

            return load_character_model(device, dtype)
        if name == "smollm2":
            from separatrix.envs.language.smollm2 import load_smollm2

            return load_smollm2(device, dtype)
        from separatrix.envs.language.hub_model import HubModel

        return HubModel(name, device, dtype)
    except ImportError as error:
        raise ValueError(f"model: got {name!r}, but {error}") from error

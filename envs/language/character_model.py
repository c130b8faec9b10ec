"""The character model that ships with the package: a plant so small that it can be enumerated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from separatrix.envs.language.llama import LlamaModel, Tokenizer
from separatrix.envs.language.transformer import Shape, Transformer

FILE = Path(__file__).resolve().parent / "data" / "character_model.safetensors"


class CharacterTokenizer(Tokenizer):
    """One token for each character.

    Args:
        tokens: The characters; names of more than one are tokens that are no text.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._numbers = {token: i for i, token in enumerate(tokens) if len(token) == 1}

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text.

        Raises:
            ValueError: A character is not in the vocabulary.
        """
        unknown = sorted(set(text) - self._numbers.keys())
        if unknown:
            raise ValueError(f"got the character {unknown[0]!r}; allowed: plain ASCII and newlines")
        return [self._numbers[character] for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens."""
        return "".join(self._tokens[token] for token in tokens)


def load_character_model(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, file: Path = FILE
) -> LlamaModel:
    """Loads the model, or another one that `character_training` made.

    It gives the same bits for a text in every batch of texts of one length.

    Args:
        device: Where it is to be.
        dtype: Type of its real numbers.
        file: Weights, with shape and vocabulary in the metadata.
    """
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    transformer = Transformer(Shape(**json.loads(metadata["shape"])), separate=True)
    transformer.to(device, dtype).load(tensors)
    tokens = json.loads(metadata["tokens"])
    tokenizer = CharacterTokenizer(tokens)
    writable = torch.tensor([len(token) == 1 for token in tokens], device=device)
    return LlamaModel("character", transformer, tokenizer, writable, sink=0)

"""Plants that are decoders of the Llama family, run by our own code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import pad

from separatrix.envs.language.language_model import LanguageModel, last
from separatrix.envs.language.transformer import Memory, Transformer


class Tokenizer(ABC):
    """From text to tokens and back."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens."""


class LlamaModel(LanguageModel):
    """A decoder with its tokenizer.

    Args:
        name: As users call it.
        transformer: The decoder; it is frozen.
        tokenizer: Of its vocabulary.
        writable: See `LanguageModel`.
        sink: See `LanguageModel`.
    """

    def __init__(
        self,
        name: str,
        transformer: Transformer,
        tokenizer: Tokenizer,
        writable: Bool[Tensor, " vocabulary"],
        sink: int,
    ) -> None:
        self.name, self.transformer, self._tokenizer = name, transformer, tokenizer
        transformer.requires_grad_(False)
        self.embedding = transformer.embedding.detach()
        self.device, self.dtype = self.embedding.device, self.embedding.dtype
        self.context, self.sink, self.writable = transformer.shape.context, sink, writable

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text.

        Raises:
            ValueError: The text cannot be written with the vocabulary.
        """
        return self._tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens."""
        return self._tokenizer.decode(tokens)

    def log_probabilities_of(
        self,
        embeddings: Float[Tensor, "batch tokens width"],
        lengths: Int64[Tensor, " batch"],
        count: int = 1,
    ) -> Float[Tensor, "batch count vocabulary"]:
        """Returns the logarithms of the probabilities of next tokens, differentiably."""
        if not self.transformer.separate:
            embeddings = embeddings[:, : int(lengths.max())]
        if embeddings.shape[1] > self.context:
            got, allowed = embeddings.shape[1], self.context
            raise ValueError(f"got texts of {got} tokens; allowed for {self.name}: {allowed}")
        return self._heads(self.transformer(embeddings), lengths, count)

    def remember(
        self, tokens: Int64[Tensor, " tokens"]
    ) -> Float[Tensor, "layers 2 key_heads tokens head"]:
        """Reads a text once, with which others begin."""
        return self.begin(tokens[None], len(tokens))[0]

    def log_probabilities_after(
        self,
        memory: Float[Tensor, "layers 2 key_heads known head"],
        tokens: Int64[Tensor, "batch tokens"],
        lengths: Int64[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocabulary"]:
        """Does what `log_probabilities` does for texts behind one that was read before."""
        known = torch.full_like(lengths, memory.shape[-2])
        each = pad(memory, (0, 0, 0, tokens.shape[1])).expand(len(tokens), *(-1,) * 5)
        with torch.no_grad():
            found, _ = self.transformer.go_on(self.embedding[tokens], each, known)
            return self._heads(found, lengths, 1)[:, 0]

    def begin(self, tokens: Int64[Tensor, "batch begin"], room: int) -> Memory:
        """Reads the beginnings of texts."""
        with torch.no_grad():
            return self.transformer.remember(self.embedding[tokens], room)

    def go_on(
        self,
        memory: Memory,
        known: Int64[Tensor, " batch"],
        tokens: Int64[Tensor, "batch tokens"],
    ) -> tuple[Float[Tensor, "batch tokens vocabulary"], Memory]:
        """Reads on where texts were left."""
        with torch.no_grad():
            found, memory = self.transformer.go_on(self.embedding[tokens], memory, known)
            return self.transformer.logits(found).log_softmax(-1), memory

    def _heads(
        self, found: Float[Tensor, "batch tokens width"], lengths: Tensor, count: int
    ) -> Float[Tensor, "batch count vocabulary"]:
        return self.transformer.logits(last(found, lengths, count)).log_softmax(-1)


def find_writable(
    tokenizer: Tokenizer | LanguageModel, vocabulary: int
) -> Bool[Tensor, " vocabulary"]:
    """Tells which tokens are read as the same token again when they are decoded."""
    texts = (tokenizer.decode([token]) for token in range(vocabulary))
    return torch.tensor([tokenizer.encode(text) == [i] for i, text in enumerate(texts)])

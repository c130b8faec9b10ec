"""Language models as plants: what they say of the token that follows a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

ROWS = 1024
"""Texts that a model reads at a time, at most: more bring nothing."""
MEMORY = 2**26
"""Numbers of logits and embeddings together that the texts read at a time may take."""


class LanguageModel(ABC):
    """A model of the next token of texts, frozen, without randomness.

    Texts of a batch are filled up at their ends to one length, with any tokens; `lengths` tells how
    much of each counts. The model never builds more logits than are asked for.

    Attributes:
        name: As users call it.
        context: Tokens of a text, at most.
        device: Where its tensors live.
        dtype: Type of its real numbers.
        sink: Token that stands before texts by default, as the first token of a text has little
            effect on what follows (G. Xiao et al., Efficient streaming language models with
            attention sinks, ICLR 2024); None if the model is not used to one.
        writable: Which tokens may be written: those that are text, and the same token when their
            text is read again.
        embedding: Embeddings of the vocabulary, which `log_probabilities_of` takes.
    """

    name: str
    context: int
    device: torch.device
    dtype: torch.dtype
    sink: int | None
    writable: Bool[Tensor, " vocabulary"]
    embedding: Float[Tensor, "vocabulary width"]

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self.embedding)

    def parts(
        self, texts: int, tokens: int, count: int = 1, *, gradients: bool = False
    ) -> Iterator[slice]:
        """Yields the rows of as many texts as are read at a time, in the memory of a workstation.

        Args:
            texts: Number of texts.
            tokens: Tokens of each.
            count: How many next tokens are asked for, see `log_probabilities_of`.
            gradients: Whether all that is computed of them is kept, for gradients.
        """
        size = count * self.vocabulary + 16 * tokens * self.embedding.shape[1]
        rows = max(1, min(ROWS, MEMORY // size) // (8 if gradients else 1))
        yield from (slice(start, start + rows) for start in range(0, texts, rows))

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, without any that a model's own format would add.

        Raises:
            ValueError: The text cannot be written with the vocabulary.
        """

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens."""

    def log_probabilities(
        self, tokens: Int64[Tensor, "batch tokens"], lengths: Int64[Tensor, " batch"]
    ) -> Float[Tensor, "batch vocabulary"]:
        """Returns the logarithms of the probabilities of the token after each text.

        Args:
            tokens: The texts.
            lengths: Tokens of each, from the first on; at least 1.
        """
        with torch.no_grad():
            return self.log_probabilities_of(self.embedding[tokens], lengths)[:, 0]

    @abstractmethod
    def log_probabilities_of(
        self,
        embeddings: Float[Tensor, "batch tokens width"],
        lengths: Int64[Tensor, " batch"],
        count: int = 1,
    ) -> Float[Tensor, "batch count vocabulary"]:
        """Returns the logarithms of the probabilities of next tokens, differentiably.

        Args:
            embeddings: Of the texts' tokens, or whatever stands in their place.
            lengths: Tokens of each text.
            count: How many next tokens, in the order of the text: the last is the one after the
                text, the one before it is the text's own last token given those before, and so on.
        """

    @abstractmethod
    def remember(self, tokens: Int64[Tensor, " tokens"]) -> Any:
        """Reads a text once, with which others begin; see `log_probabilities_after`."""

    @abstractmethod
    def log_probabilities_after(
        self,
        memory: Any,
        tokens: Int64[Tensor, "batch tokens"],
        lengths: Int64[Tensor, " batch"],
    ) -> Float[Tensor, "batch vocabulary"]:
        """Does what `log_probabilities` does for texts behind one that was read before.

        Args:
            memory: What `remember` returned.
            tokens: What stands behind it.
            lengths: Tokens of each.
        """

    @abstractmethod
    def begin(self, tokens: Int64[Tensor, "batch begin"], room: int) -> Shaped[Tensor, "batch ..."]:
        """Reads the beginnings of texts, so that `go_on` need not read them again.

        Args:
            tokens: Of the beginnings.
            room: Tokens that a text may have in the end.

        Returns:
            What is remembered, one row a text.
        """

    @abstractmethod
    def go_on(
        self,
        memory: Shaped[Tensor, "batch ..."],
        known: Int64[Tensor, " batch"],
        tokens: Int64[Tensor, "batch tokens"],
    ) -> tuple[Float[Tensor, "batch tokens vocabulary"], Shaped[Tensor, "batch ..."]]:
        """Reads what stands behind texts.

        Args:
            memory: What is remembered of the texts; it stays as it is.
            known: Tokens of each text that count; what was read behind them is forgotten.
            tokens: What stands there.

        Returns:
            The logarithms of the probabilities of the token after each of these, and what is
            remembered now.
        """


def last(
    found: Float[Tensor, "batch tokens width"], lengths: Int64[Tensor, " batch"], count: int
) -> Float[Tensor, "batch count width"]:
    """Returns what belongs to the last tokens of texts.

    Args:
        found: Of all tokens.
        lengths: Tokens of each text.
        count: How many of them.
    """
    at = lengths[:, None] + torch.arange(-count, 0, device=lengths.device)
    return found.gather(1, at[..., None].expand(-1, -1, found.shape[-1]))

"""Pairs of a text and a target, drawn anew for every episode."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.envs.core.stream import INITIAL_STATE, TARGET, Stream
from separatrix.envs.language.prompts import Arrangement
from separatrix.envs.language.reading import Reading
from separatrix.envs.language.texts import read_tokens

RULES = ("truth", "top", "uniform", "random")


@dataclass(frozen=True)
class Instances:
    """What pairs are drawn from.

    Attributes:
        arrangement: The plant, and where its prompts stand.
        source: Texts, see `separatrix.envs.language.texts.read_text`.
        text_length: Tokens of a text.
        target: What targets are: the "truth", the tokens that follow in the source; one of the
            "top" `target_rank` tokens of the model itself; one whose rank is "uniform" over all
            that may be written; or "random", any of these. The model's own first choice is never
            the target of "top" and "uniform", as there would be nothing to do.
        target_length: Tokens of a target; above 1 for "truth" and "random" alone.
        target_rank: See `target`.
        fixed_text: A text instead of drawn ones; None to draw.
        fixed_target: A target instead of drawn ones; None to draw.
    """

    arrangement: Arrangement
    source: str
    text_length: int
    target: str
    target_length: int
    target_rank: int
    fixed_text: str | None = None
    fixed_target: str | None = None

    def __post_init__(self) -> None:
        """Raise a ValueError if something is not allowed."""
        require(self.target in RULES, "target", self.target, ", ".join(RULES))
        for name in ("text_length", "target_length", "target_rank"):
            value = getattr(self, name)
            require(is_count(value), name, value, "an integer of 1 or more")
        require(self.target_rank >= 2, "target_rank", self.target_rank, "2 or more")
        several = self.target_length > 1 and self.fixed_target is None
        allowed = f"1, or target 'truth' or 'random' instead of {self.target!r}"
        fits = not several or self.target in ("truth", "random")
        require(fits, "target_length", self.target_length, allowed)
        if self.target == "truth" and self.fixed_target is None and self.fixed_text is not None:
            raise ValueError("target: got 'truth' for a fixed text, which nothing follows")
        self._tokens  # noqa: B018  (refuses what it cannot read)
        for name in ("fixed_text", "fixed_target"):
            value = getattr(self, name)
            if value is not None:
                require(isinstance(value, str) and value, name, value, "None, or a text")
                self._encoded(name, value)

    @property
    def text_tokens(self) -> int:
        """Tokens of every text."""
        fixed = self.fixed_text
        return self.text_length if fixed is None else len(self._encoded("fixed_text", fixed))

    @property
    def target_tokens(self) -> int:
        """Tokens of every target."""
        fixed = self.fixed_target
        return self.target_length if fixed is None else len(self._encoded("fixed_target", fixed))

    def draw(
        self, stream: Stream
    ) -> tuple[
        Int64[Tensor, "batch text"],
        Int64[Tensor, "batch count"],
        Float[Tensor, "batch vocabulary"],
        Reading,
        Stream,
    ]:
        """Draws pairs.

        Returns:
            Texts, targets, what the model says of the first token without control, the reading of
            the targets without control, and the stream.
        """
        batch, device, source = len(stream.seed), stream.seed.device, self._tokens
        last = len(source) - self.text_length - self.target_length
        start, stream = stream.integers(last + 1, INITIAL_STATE)
        offsets = torch.arange(self.text_length + self.target_length, device=device)
        window = source[start[:, None] + offsets]
        text, target = window[:, : self.text_length], window[:, self.text_length :]
        if self.fixed_text is not None:
            text = self._encoded("fixed_text", self.fixed_text).expand(batch, -1)
        if self.fixed_target is not None:
            target = self._encoded("fixed_target", self.fixed_target).expand(batch, -1)
        empty = torch.zeros((batch, 0), dtype=torch.int64, device=device)
        none = torch.zeros(batch, dtype=torch.int64, device=device)
        reading, found, _ = self.arrangement.read(empty, none, text, target)
        uncontrolled = found[:, 0]
        if self.fixed_target is None and self.target != "truth":
            target, stream = self._ranked(uncontrolled, target, stream)
            reading, *_ = self.arrangement.read(empty, none, text, target)
        return text, target, uncontrolled, reading, stream

    def _ranked(
        self, uncontrolled: Tensor, target: Tensor, stream: Stream
    ) -> tuple[Int64[Tensor, "batch count"], Stream]:
        """Draws targets by their ranks, or at random."""
        writable = self.arrangement.model.writable
        if self.target == "random":
            known, columns = writable.nonzero()[:, 0], []
            for _ in range(self.target_length):
                index, stream = stream.integers(len(known), TARGET)
                columns.append(known[index])
            return torch.stack(columns, 1), stream
        count = int(writable.sum())
        highest = min(self.target_rank, count) if self.target == "top" else count
        rank, stream = stream.integers(highest - 1, TARGET)
        known = uncontrolled.masked_fill(~writable, -torch.inf)
        order = known.sort(dim=1, descending=True, stable=True).indices
        return order.gather(1, rank[:, None] + 1), stream

    @property
    def _tokens(self) -> Int64[Tensor, " tokens"]:
        shortest = self.text_length + self.target_length
        return read_tokens(self.source, self.arrangement.model, shortest)

    def _encoded(self, name: str, text: str) -> Int64[Tensor, " tokens"]:
        model = self.arrangement.model
        try:
            return torch.tensor(model.encode(text), device=model.device)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def is_count(value: Any) -> bool:
    """Tells whether a value is an integer of 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def require(fulfilled: Any, name: str, value: Any, allowed: str) -> None:
    """Raises a ValueError that says what is allowed, unless it is fulfilled."""
    if not fulfilled:
        raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: {allowed}")

"""Pairs of a text and a target, drawn anew for every episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.envs.core.stream import INITIAL_STATE, TARGET, Stream
from separatrix.envs.language.checks import read_count, read_word, require
from separatrix.envs.language.prompts import Arrangement
from separatrix.envs.language.reading import Goal, Reading, read
from separatrix.envs.language.texts import read_tokens

RULES = ("truth", "top", "uniform", "random", "distribution")


class Pairs(NamedTuple):
    """Texts, their targets, and what the model says of them without control."""

    text: Int64[Tensor, "batch text"]
    goal: Goal
    uncontrolled: Float[Tensor, "batch vocabulary"]
    """Logarithms of the probabilities of the first token of the target."""
    reading: Reading
    """Of the targets."""
    forward_tokens: Int64[Tensor, " batch"]
    """Tokens that the model read for this."""

    @property
    def wanted(self) -> Float[Tensor, "batch wanted"]:
        """The wanted distributions, of no token for targets."""
        found = self.goal.wanted
        return self.uncontrolled[:, :0] if found is None else found


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
            the target of "top" and "uniform", as there would be nothing to do. Or "distribution":
            what the model says of the token after another text.
        target_length: Tokens of a target; above 1 for "truth" and "random" alone.
        target_rank: See `target`.
        fixed_text: A text instead of drawn ones; None to draw.
        fixed_target: A target instead of drawn ones; None to draw.
        tolerance: See `Goal`.
    """

    arrangement: Arrangement
    source: str
    text_length: int
    target: str
    target_length: int
    target_rank: int
    fixed_text: str | None = None
    fixed_target: str | None = None
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        """Raise a ValueError if something is not allowed."""
        read_word("target", self.target, RULES)
        read_count("text_length", self.text_length)
        read_count("target_length", self.target_length)
        read_count("target_rank", self.target_rank, 2)
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

    @property
    def by_distribution(self) -> bool:
        """Whether goals are distributions, not tokens."""
        return self.target == "distribution" and self.fixed_target is None

    def draw(self, stream: Stream) -> tuple[Pairs, Stream]:
        """Draws pairs, and reads what the model says of them without control."""
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
        elif self.target == "random":
            target, stream = self._random(stream)
        empty = torch.zeros((batch, 0), dtype=torch.int64, device=device)
        none = torch.zeros(batch, dtype=torch.int64, device=device)
        if self.by_distribution:
            goal, stream = self._distribution(stream, text)
        else:
            goal = Goal(target)
        reading, found, tokens = self.arrangement.read(empty, none, text, goal)
        uncontrolled = found[:, 0]
        if self.fixed_target is None and self.target in ("top", "uniform"):
            target, stream = self._ranked(uncontrolled, stream)
            goal = Goal(target)
            reading = read(found, goal, uncontrolled)
        return Pairs(text, goal, uncontrolled, reading, tokens), stream

    def _distribution(
        self, stream: Stream, text: Int64[Tensor, "batch text"]
    ) -> tuple[Goal, Stream]:
        """Draws other texts, and reads what follows them."""
        source, length = self._tokens, text.shape[1]
        start, stream = stream.integers(len(source) - length, TARGET)
        other = source[start[:, None] + torch.arange(length, device=text.device)]
        none = torch.zeros(len(text), dtype=torch.int64, device=text.device)
        _, found, _ = self.arrangement.read(other[:, :0], none, other, Goal(other[:, :1]))
        wanted = found[:, 0]
        return Goal(wanted.argmax(1, keepdim=True), wanted, self.tolerance), stream

    def _random(self, stream: Stream) -> tuple[Int64[Tensor, "batch count"], Stream]:
        """Draws targets among all tokens that may be written."""
        known, columns = self.arrangement.model.writable.nonzero()[:, 0], list[Tensor]()
        for _ in range(self.target_length):
            index, stream = stream.integers(len(known), TARGET)
            columns.append(known[index])
        return torch.stack(columns, 1), stream

    def _ranked(
        self, uncontrolled: Float[Tensor, "batch vocabulary"], stream: Stream
    ) -> tuple[Int64[Tensor, "batch 1"], Stream]:
        """Draws targets by their ranks."""
        writable = self.arrangement.model.writable
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

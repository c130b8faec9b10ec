"""Texts under prompts: how sink, prompt, text and target are put together and read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from separatrix.envs.language.checks import require
from separatrix.envs.language.language_model import LanguageModel
from separatrix.envs.language.reading import Goal, Reading, read

PLACES = ("before", "after")


@dataclass(frozen=True)
class Arrangement:
    """Where a prompt stands.

    Attributes:
        model: The plant.
        place: "before" the text, as a system prompt does, or "after" it.
        sink: Token in front of everything; None for none.
    """

    model: LanguageModel
    place: str
    sink: int | None

    def tokens(
        self,
        prompt: Int64[Tensor, "batch prompt"],
        length: Int64[Tensor, " batch"],
        text: Int64[Tensor, "batch text"],
        target: Int64[Tensor, "batch count"],
    ) -> tuple[Int64[Tensor, "batch tokens"], Int64[Tensor, " batch"]]:
        """Returns what the model reads: sink, prompt and text, and the target but its last token.

        Args:
            prompt: Prompts, in the order in which they are read.
            length: Tokens of each prompt, from the first on.
            text: Texts.
            target: Targets.

        Returns:
            The tokens, and how many of each row count, from the first on.
        """
        batch, device = len(prompt), prompt.device
        used = torch.arange(prompt.shape[1], device=device) < length[:, None]
        parts = [prompt, text] if self.place == "before" else [text, prompt]
        parts.append(target[:, :-1])
        counts = [torch.ones_like(part, dtype=torch.bool) for part in parts]
        counts[0 if self.place == "before" else 1] = used
        if self.sink is not None:
            parts.insert(0, torch.full((batch, 1), self.sink, device=device))
            counts.insert(0, torch.ones((batch, 1), dtype=torch.bool, device=device))
        counted = torch.cat(counts, 1)
        # What counts comes first, in its order.
        order = (~counted).to(torch.uint8).sort(dim=1, stable=True).indices
        return torch.cat(parts, 1).gather(1, order), counted.sum(1)

    def read(
        self,
        prompt: Int64[Tensor, "batch prompt"],
        length: Int64[Tensor, " batch"],
        text: Int64[Tensor, "batch text"],
        goal: Goal,
        uncontrolled: Float[Tensor, "batch vocabulary"] | None = None,
    ) -> tuple[Reading, Float[Tensor, "batch count vocabulary"], Int64[Tensor, " batch"]]:
        """Asks the model what it says of goals under prompts.

        Args:
            prompt: See `tokens`.
            length: See `tokens`.
            text: See `tokens`.
            goal: What the texts are to be followed by.
            uncontrolled: What the model says of the first token without control; None if this is
                without control.

        Returns:
            The reading, the logarithms of the probabilities of each token of the target, and how
            many tokens the model read.
        """
        (tokens, lengths), model = self.tokens(prompt, length, text, goal.target), self.model
        count, each = goal.target.shape[1], list[Tensor]()
        with torch.no_grad():
            for part in model.parts(len(tokens), tokens.shape[1], count):
                embeddings = model.embedding[tokens[part]]
                each.append(model.log_probabilities_of(embeddings, lengths[part], count))
        found = torch.cat(each)
        first = found[:, 0] if uncontrolled is None else uncontrolled
        return read(found, goal, first), found, lengths

    def begin(
        self, text: Int64[Tensor, "batch text"], room: int
    ) -> tuple[Shaped[Tensor, "batch ..."], Int64[Tensor, " batch"]]:
        """Reads sink and texts, so that `go_on` need not read them again.

        Args:
            text: Texts.
            room: Tokens that may stand behind a text.

        Returns:
            What is remembered, and how many tokens the model read.
        """
        model, sinks = self.model, text[:, :0]
        if self.sink is not None:
            sinks = torch.full_like(text[:, :1], self.sink)
        tokens = torch.cat((sinks, text), 1)
        count = tokens.shape[1]
        parts = model.parts(len(tokens), count)
        memory = torch.cat([model.begin(tokens[part], count + room) for part in parts])
        return memory, torch.full_like(tokens[:, 0], count)

    def go_on(
        self,
        memory: Shaped[Tensor, "batch ..."],
        length: Int64[Tensor, " batch"],
        token: Int64[Tensor, " batch"],
        goal: Goal,
        uncontrolled: Float[Tensor, "batch vocabulary"],
    ) -> tuple[
        Reading,
        Float[Tensor, "batch count vocabulary"],
        Shaped[Tensor, "batch ..."],
        Int64[Tensor, " batch"],
    ]:
        """Does what `read` does for texts that are a token longer than those that were read.

        Args:
            memory: What is remembered of them.
            length: Tokens of each, without the new one and the sink.
            token: The new ones.
            goal: See `read`.
            uncontrolled: See `read`.

        Returns:
            The reading, the logarithms of the probabilities of each token of the target, what is
            remembered now, and how many tokens the model read.
        """
        model, tokens = self.model, torch.cat((token[:, None], goal.target[:, :-1]), 1)
        known = length + (0 if self.sink is None else 1)
        count = tokens.shape[1]
        each = [
            model.go_on(memory[part], known[part], tokens[part])
            for part in model.parts(len(tokens), count, count)
        ]
        found, memory = (torch.cat(some) for some in zip(*each, strict=True))
        reading = read(found, goal, uncontrolled)
        return reading, found, memory, torch.full_like(length, count)


def read_sink(model: LanguageModel, sink: Any) -> int | None:
    """Returns the token of the option `sink`: "auto", None, or a token.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(sink, str) and sink == "auto":
        return model.sink
    number = isinstance(sink, int) and not isinstance(sink, bool)
    fits = sink is None or (number and 0 <= sink < model.vocabulary)
    require(fits, "sink", sink, f"'auto', None, or a token from 0 to {model.vocabulary - 1}")
    return None if sink is None else int(sink)

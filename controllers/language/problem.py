"""What a search for prompts is asked, and how it is counted what it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.language.prompts import Arrangement
from separatrix.envs.language.reading import Goal, Reading, read


@dataclass
class Meter:
    """What the model was asked, for each instance."""

    tokens: Int64[Tensor, " instance"]
    """Tokens that it read."""

    gradient_tokens: Int64[Tensor, " instance"]
    """Tokens that gradients went back through, which takes about twice a reading more."""

    prompts: Int64[Tensor, " instance"]
    """Prompts that were tried."""

    @classmethod
    def new(cls, instances: int, device: torch.device) -> Meter:
        """Returns a meter at 0."""
        return cls(*(torch.zeros(instances, dtype=torch.int64, device=device) for _ in range(3)))


@dataclass(eq=False)
class Problem:
    """Texts with targets, all of the same lengths.

    Where prompts of a target of one token stand behind their texts, each text is read once.

    Attributes:
        arrangement: The plant, and where prompts stand.
        text: The texts.
        target: What each is to be followed by.
        wanted: Logarithms of the probabilities that the next token is to have, whose likeliest one
            is the target; None for the target itself.
        tolerance: See `Goal`.
        forbid_target: Whether prompts may not hold tokens of the target.
        meter: What the model was asked so far.
    """

    arrangement: Arrangement
    text: Int64[Tensor, "instance text"]
    target: Int64[Tensor, "instance count"]
    forbid_target: bool = True
    wanted: Float[Tensor, "instance vocabulary"] | None = None
    tolerance: float = 0.1
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        """Begin to count."""
        self.meter = Meter.new(len(self.text), self.text.device)
        self._memories: dict[int, Any] = {}

    @property
    def instances(self) -> int:
        """Number of texts."""
        return len(self.text)

    @property
    def goal(self) -> Goal:
        """What the texts are to be followed by."""
        return Goal(self.target, self.wanted, self.tolerance)

    @property
    def allowed(self) -> Bool[Tensor, "instance vocabulary"]:
        """Which tokens a prompt may have."""
        mask = self.arrangement.model.writable.expand(self.instances, -1)
        if self.forbid_target:
            mask = mask.scatter(1, self.target, False)
        return mask

    def evaluate(
        self, prompts: Int64[Tensor, "some candidates prompt"], rows: Int64[Tensor, " some"]
    ) -> tuple[Float[Tensor, "some candidates"], Bool[Tensor, "some candidates"]]:
        """Tries prompts.

        Args:
            prompts: Of each of some instances.
            rows: The instances.

        Returns:
            The logarithms of the probabilities of the targets, and whether they are hit.
        """
        some, candidates, length = prompts.shape
        self.meter.prompts.index_add_(0, rows, torch.full_like(rows, candidates))
        if self.arrangement.place == "after" and length and self.target.shape[1] == 1:
            each = [self._append(prompts[i], row) for i, row in enumerate(rows.tolist())]
            return torch.stack([r.log_probability for r in each]), torch.stack(
                [r.hit for r in each]
            )
        flat, index = prompts.flatten(0, 1), rows.repeat_interleave(candidates)
        values, hits = [], list[Tensor]()
        for part in self.parts(len(flat), length):
            reading, tokens = self._read(flat[part], index[part])
            self.meter.tokens.index_add_(0, index[part], tokens)
            values.append(reading.log_probability)
            hits.append(reading.hit)
        return torch.cat(values).view(some, -1), torch.cat(hits).view(some, -1)

    def confirm(
        self, prompts: Int64[Tensor, "some prompt"], rows: Int64[Tensor, " some"]
    ) -> Bool[Tensor, " some"]:
        """Tells whether prompts hit when each is read by itself, as the last bits may differ."""
        found = [
            self._read(p[None], row[None])[0].hit for p, row in zip(prompts, rows, strict=True)
        ]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool, device=rows.device)

    def gradient(
        self, prompts: Int64[Tensor, "some prompt"], rows: Int64[Tensor, " some"]
    ) -> Float[Tensor, "some prompt vocabulary"]:
        """Returns the gradient of the targets' log-probability by the one-hot rows of prompts."""
        model, length = self.arrangement.model, prompts.shape[1]
        found = list[Tensor]()
        for part in self.parts(len(prompts), length, gradients=True):
            text, target = self.text[rows[part]], self.target[rows[part]]
            each = torch.full_like(rows[part], length)
            tokens, lengths = self.arrangement.tokens(prompts[part], each, text, target)
            embeddings = model.embedding[tokens].requires_grad_()
            log_probabilities = model.log_probabilities_of(embeddings, lengths, target.shape[1])
            value = self.goal[rows[part]].value(log_probabilities)
            (slope,) = torch.autograd.grad(value.sum(), embeddings)
            first = 0 if self.arrangement.sink is None else 1
            if self.arrangement.place == "after":
                first += self.text.shape[1]
            found.append(slope[:, first : first + length] @ model.embedding.T)
            self.meter.gradient_tokens.index_add_(0, rows[part], lengths)
        return torch.cat(found)

    def parts(self, count: int, length: int, *, gradients: bool = False) -> Iterator[slice]:
        """Yields the rows of as many texts under prompts as the model reads at a time."""
        tokens, targets = length + self.text.shape[1] + self.target.shape[1], self.target.shape[1]
        yield from self.arrangement.model.parts(count, tokens, targets, gradients=gradients)

    def _append(self, prompts: Int64[Tensor, "candidates prompt"], row: int) -> Reading:
        """Reads prompts behind the text of an instance, which is read once."""
        model, length = self.arrangement.model, prompts.shape[1]
        if row not in self._memories:
            sink = [] if self.arrangement.sink is None else [self.arrangement.sink]
            known = torch.cat((self.text.new_tensor(sink), self.text[row]))
            self._memories[row] = model.remember(known)
            self.meter.tokens[row] += len(known)
        found = [
            model.log_probabilities_after(
                self._memories[row], prompts[part], torch.full_like(prompts[part, 0], length)
            )
            for part in self.parts(len(prompts), length)
        ]
        self.meter.tokens[row] += prompts.numel()
        every = torch.cat(found)
        goal = self.goal[torch.full((len(every),), row, device=every.device)]
        return read(every[:, None], goal, every)

    def _read(self, prompts: Tensor, rows: Tensor) -> tuple[Reading, Tensor]:
        length = torch.full_like(rows, prompts.shape[1])
        found = self.arrangement.read(prompts, length, self.text[rows], self.goal[rows])
        return found[0], found[2]


@dataclass
class Solution:
    """The best prompts of a search, one for each instance."""

    prompts: list[Int64[Tensor, " prompt"]]
    """The prompts; empty ones where no prompt was needed."""

    log_probability: Float[Tensor, " instance"]
    """Of the targets."""

    hit: Bool[Tensor, " instance"]
    """Whether the model's first choice is the target."""

    tokens: Int64[Tensor, " instance"]
    """Tokens that the model had read when the search of this instance ended."""

    @classmethod
    def start(cls, problem: Problem) -> Solution:
        """Returns what the model says without a prompt."""
        rows = torch.arange(problem.instances, device=problem.text.device)
        empty = torch.zeros((problem.instances, 1, 0), dtype=torch.int64, device=rows.device)
        value, hit = problem.evaluate(empty, rows)
        prompts = [empty[0, 0] for _ in range(problem.instances)]
        return cls(prompts, value[:, 0], hit[:, 0], problem.meter.tokens.clone())

    @property
    def open(self) -> Int64[Tensor, " some"]:
        """The instances that are not hit."""
        return (~self.hit).nonzero()[:, 0]

    def take(
        self,
        problem: Problem,
        rows: Int64[Tensor, " some"],
        prompts: Int64[Tensor, "some prompt"],
        log_probability: Float[Tensor, " some"],
        hit: Bool[Tensor, " some"],
    ) -> None:
        """Takes prompts that are better than the ones so far; a hit is, once it is confirmed."""
        hit = hit.clone()
        hit[hit.clone()] = problem.confirm(prompts[hit], rows[hit])
        for i, row in enumerate(rows.tolist()):
            better = bool(hit[i]) > bool(self.hit[row]) or (
                bool(hit[i]) == bool(self.hit[row])
                and bool(log_probability[i] > self.log_probability[row])
            )
            if better:
                self.prompts[row] = prompts[i].clone()
                self.log_probability[row], self.hit[row] = log_probability[i], hit[i]
        self.tokens[rows] = problem.meter.tokens[rows]

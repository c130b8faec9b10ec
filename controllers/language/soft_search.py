"""Prompts of vectors by gradients, and the nearest prompts of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.controllers.language.problem import Problem, Solution
from separatrix.controllers.language.searches import draw_prompts


@dataclass(frozen=True)
class SoftSearch:
    """What gradients found."""

    log_probability: Float[Tensor, " instance"]
    """Of the targets under vectors: the best that tokens can do, if nothing was missed."""

    hit: Tensor
    """Whether vectors make the model's first choice the target, (instance,) boolean."""

    nearest: Solution
    """The prompts of the nearest tokens, which most often do much less."""


def soft_search(
    problem: Problem, length: int, steps: int = 100, rate: float = 0.1, seed: int = 0
) -> SoftSearch:
    """Climbs the targets' log-probability by Adam, from the embeddings of random tokens.

    Args:
        problem: The instances; prompts stand before their texts.
        length: Vectors of a prompt.
        steps: Steps of Adam.
        rate: Its learning rate, in units of the root mean square of embeddings.
        seed: Seed of where it begins.

    Raises:
        ValueError: Prompts stand after the texts.
    """
    arrangement, model = problem.arrangement, problem.arrangement.model
    if arrangement.place != "before":
        raise ValueError(f"place: got {arrangement.place!r}; allowed: 'before'")
    rows = torch.arange(problem.instances, device=problem.text.device)
    generator = torch.Generator(rows.device).manual_seed(seed)
    start = draw_prompts(problem, rows, (1, length), generator)[:, 0]
    unit = model.embedding.square().mean().sqrt()
    vectors = (model.embedding[start] / unit).requires_grad_()
    optimizer = torch.optim.Adam([vectors], rate)
    best = torch.full((len(rows),), -torch.inf, dtype=model.dtype, device=rows.device)
    kept, hit = vectors.detach().clone(), torch.zeros_like(rows, dtype=torch.bool)
    for _ in range(steps):
        found = _log_probabilities(problem, vectors * unit)
        value = problem.goal.value(found)
        with torch.no_grad():
            now = problem.goal.hit(found)
            better = (value > best) & (now >= hit) | (now & ~hit)
            best = torch.where(better, value, best)
            kept = torch.where(better[:, None, None], vectors, kept)
            hit |= now
        optimizer.zero_grad()
        (-value.sum()).backward()
        optimizer.step()
    return SoftSearch(best, hit, _nearest(problem, kept * unit, rows))


def _log_probabilities(
    problem: Problem, vectors: Float[Tensor, "instance prompt width"]
) -> Float[Tensor, "instance count vocabulary"]:
    model, sink = problem.arrangement.model, problem.arrangement.sink
    parts = [vectors, model.embedding[problem.text], model.embedding[problem.target[:, :-1]]]
    if sink is not None:
        parts.insert(0, model.embedding[sink].expand(len(vectors), 1, -1))
    embeddings = torch.cat(parts, 1)
    lengths = torch.full((len(vectors),), embeddings.shape[1], device=vectors.device)
    problem.meter.tokens += lengths
    problem.meter.gradient_tokens += lengths
    return model.log_probabilities_of(embeddings, lengths, problem.target.shape[1])


def _nearest(
    problem: Problem, vectors: Float[Tensor, "instance prompt width"], rows: Int64[Tensor, " _"]
) -> Solution:
    distance = torch.cdist(vectors, problem.arrangement.model.embedding.expand(len(rows), -1, -1))
    distance = distance.masked_fill(~problem.allowed[:, None], torch.inf)
    prompts = distance.argmin(2)
    found = Solution.start(problem)
    value, hit = (part[:, 0] for part in problem.evaluate(prompts[:, None], rows))
    found.take(problem, rows, prompts, value, hit)
    return found

"""Greedy coordinate gradient: replacements that a gradient proposes and the model confirms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from separatrix.controllers.language.problem import Problem, Solution
from separatrix.controllers.language.searches import draw_prompts


@dataclass(frozen=True)
class CoordinateGradientConfig:
    """Hyper-parameters; the defaults are for one core."""

    iterations: int = 34
    """Iterations, at most; A. Bhargava et al. have 34."""

    candidates: int = 64
    """Prompts that are tried in an iteration; they have 768."""

    proposed: int = 128
    """Tokens of largest gradient among which the replacement of a position is drawn."""

    kept: int = 4
    """Best prompts so far, from the best of which the next iteration goes on."""


def coordinate_gradient(
    problem: Problem,
    length: int,
    config: CoordinateGradientConfig | None = None,
    *,
    start: Solution | None = None,
    seed: int = 0,
) -> Solution:
    """GCG (A. Zou et al., arXiv:2307.15043) for all instances at once, each until it is hit.

    Other than in the authors' code, the prompt so far is always among those from which the next one
    is chosen, so that no iteration loses what was reached; and an instance ends at the first hit
    that is confirmed when its prompt is read by itself.

    Args:
        problem: The instances.
        length: Tokens of a prompt.
        config: Hyper-parameters.
        start: What to go on from: its prompts are kept at the end that stands by the text, and what
            lacks in length is drawn; None to draw everything.
        seed: Seed of everything drawn.
    """
    config = config or CoordinateGradientConfig()
    found = Solution.start(problem) if start is None else _copied(start)
    device = problem.text.device
    generator = torch.Generator(device).manual_seed(seed)
    rows = found.open
    if len(rows) == 0:
        return found
    current = draw_prompts(problem, rows, (1, length), generator)[:, 0]
    if start is not None:
        for i, row in enumerate(rows.tolist()):
            known = found.prompts[row][-length:]
            place = slice(length - len(known), None)
            if problem.arrangement.place == "after":
                place = slice(0, len(known))
            current[i, place] = known
    value, hit = (part[:, 0] for part in problem.evaluate(current[:, None], rows))
    found.take(problem, rows, current, value, hit)
    pools: dict[int, tuple[Tensor, Tensor]] = {
        int(row): (current[i : i + 1], value[i : i + 1]) for i, row in enumerate(rows)
    }
    for _ in range(config.iterations):
        rows = found.open
        if len(rows) == 0:
            break
        best = torch.stack([pools[int(row)][0][0] for row in rows])
        gradient = problem.gradient(best, rows)
        gradient = gradient.masked_fill(~problem.allowed[rows][:, None], -torch.inf)
        count = min(config.proposed, int(problem.allowed[rows].sum(1).min()))
        proposed = gradient.topk(count, 2).indices
        shape = len(rows), config.candidates
        position = torch.randint(length, shape, generator=generator, device=device)
        choice = torch.randint(count, shape, generator=generator, device=device)
        each = torch.arange(len(rows), device=device)[:, None]
        token = proposed[each, position, choice]
        tried = best[:, None].expand(-1, config.candidates, -1)
        tried = tried.scatter(2, position[..., None], token[..., None])
        value, hit = problem.evaluate(tried, rows)
        first = torch.where(hit, value + 1e6, value).argmax(1)
        alone = each[:, 0]
        found.take(problem, rows, tried[alone, first], value[alone, first], hit[alone, first])
        for i, row in enumerate(rows.tolist()):
            prompts, values = pools[row]
            prompts, values = torch.cat((prompts, tried[i])), torch.cat((values, value[i]))
            order = values.argsort(descending=True)[: config.kept]
            pools[row] = prompts[order], values[order]
    return found


def lengthen(
    problem: Problem,
    lengths: Sequence[int],
    config: CoordinateGradientConfig | None = None,
    seed: int = 0,
) -> tuple[Solution, Int64[Tensor, " instance"]]:
    """Looks for the shortest prompt that hits, by coordinate gradients at each length.

    Other than in the back-off of A. Bhargava et al. (arXiv:2310.04444, section 5.1), which is
    greedy up to three tokens, all lengths are searched in the same way.

    Args:
        problem: The instances.
        lengths: Tokens of prompts, ascending.
        config: Hyper-parameters of each search.
        seed: Seed of everything drawn.

    Returns:
        The best prompts, and the length at which each instance was hit; 0 where no prompt was
        needed, -1 where none was found.
    """
    found = Solution.start(problem)
    needed = torch.where(found.hit, 0, -1)
    for length in lengths:
        rows = found.open
        if len(rows) == 0:
            break
        found = coordinate_gradient(problem, length, config, start=found, seed=seed + length)
        needed[rows] = torch.where(found.hit[rows], length, -1)
    return found, needed


def _copied(found: Solution) -> Solution:
    return Solution(
        list(found.prompts), found.log_probability.clone(), found.hit.clone(), found.tokens.clone()
    )

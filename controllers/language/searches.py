"""Searches that grow prompts token by token, or try them at random, or all of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.controllers.language.problem import Problem, Solution


def grow(problem: Problem, length: int, width: int = 1) -> Solution:
    """Beam search; with width 1 the greedy back-generation of A. Bhargava et al. (appendix C).

    In each round every token is tried at the growing end of the prompts kept: in front of them, if
    prompts stand before the text, behind them otherwise. The likeliest `width` prompts of an
    instance are kept; its search ends with the first hit. Exact for one token.

    Args:
        problem: The instances.
        length: Tokens of a prompt, at most.
        width: Prompts of an instance that are kept.
    """
    found = Solution.start(problem)
    vocabulary = torch.arange(problem.arrangement.model.vocabulary, device=problem.text.device)
    beams: dict[int, Tensor] = {int(row): vocabulary.new_zeros((1, 0)) for row in found.open}
    for _ in range(length):
        rows = found.open
        for row in rows:
            tokens = vocabulary[problem.allowed[row]]
            beam = beams[int(row)]
            kept = beam.repeat_interleave(len(tokens), 0)
            added = tokens.repeat(len(beam))[:, None]
            before = problem.arrangement.place == "before"
            prompts = torch.cat((added, kept) if before else (kept, added), 1)
            value, hit = (part[0] for part in problem.evaluate(prompts[None], row[None]))
            # A hit counts more than any probability.
            order = torch.where(hit, value + 1e6, value).topk(min(width, len(value))).indices
            beams[int(row)] = prompts[order]
            best = order[:1]
            found.take(problem, row[None], prompts[best], value[best], hit[best])
    return found


def random_search(problem: Problem, length: int, prompts: int, seed: int = 0) -> Solution:
    """Tries random prompts of a length, each instance until it is hit.

    Args:
        problem: The instances.
        length: Tokens of a prompt.
        prompts: How many are tried for an instance.
        seed: Seed of the prompts.
    """
    found = Solution.start(problem)
    generator = torch.Generator(problem.text.device).manual_seed(seed)
    at_once = min(prompts, 256)
    for begin in range(0, prompts, at_once):
        rows = found.open
        if len(rows) == 0:
            break
        count = min(at_once, prompts - begin)
        drawn = draw_prompts(problem, rows, (count, length), generator)
        value, hit = problem.evaluate(drawn, rows)
        best = torch.where(hit, value + 1e6, value).argmax(1)
        each = torch.arange(len(rows), device=rows.device)
        found.take(problem, rows, drawn[each, best], value[each, best], hit[each, best])
    return found


def draw_prompts(
    problem: Problem,
    rows: Int64[Tensor, " some"],
    shape: tuple[int, int],
    generator: torch.Generator,
) -> Int64[Tensor, "some count length"]:
    """Draws prompts of tokens that are allowed, uniformly."""
    weights = problem.allowed[rows].to(torch.float32)
    count, length = shape
    drawn = torch.multinomial(weights, count * length, replacement=True, generator=generator)
    return drawn.view(len(rows), count, length)


def enumerate_outputs(
    problem: Problem, length: int
) -> tuple[Int64[Tensor, "instance prompts"], Float[Tensor, "instance vocabulary"]]:
    """Tries every prompt of a length and tells what the model's first choice then is.

    The reachable set of A. Bhargava et al., definition 5, for one token: exact, if the model is
    small enough. All tokens that may be written are tried; no target is forbidden.

    Args:
        problem: The instances; their targets stay unread.
        length: Tokens of a prompt.

    Returns:
        The first choice under every prompt, in the order of `itertools.product`; and the largest
        logarithm of the probability that any prompt gives to each token.
    """
    model, arrangement = problem.arrangement.model, problem.arrangement
    tokens = model.writable.nonzero()[:, 0]
    prompts = torch.cartesian_prod(*[tokens] * length).view(-1, length)
    choices, largest = list[Tensor](), list[Tensor]()
    for text in problem.text:
        firsts, best = list[Tensor](), torch.full_like(model.embedding[:, 0], -torch.inf)
        for part in problem.parts(len(prompts), length):
            some = prompts[part]
            count = torch.full_like(some[:, 0], length)
            empty = some[:, :1]
            read, lengths = arrangement.tokens(some, count, text.expand(len(some), -1), empty)
            found = model.log_probabilities(read, lengths)
            firsts.append(found.argmax(1))
            best = torch.maximum(best, found.amax(0))
        choices.append(torch.cat(firsts))
        largest.append(best)
    return torch.stack(choices), torch.stack(largest)

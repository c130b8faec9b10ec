"""Reachable outputs from prompts drawn at random, and what can be said of those missed."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from separatrix.controllers.language.problem import Problem


def needed_prompts(probability: float, confidence: float, outputs: int) -> int:
    """Returns how many random prompts find every output that is not rare.

    An output that a random prompt has with probability p is missed by n of them with probability
    (1 - p)^n. At most 1 / p outputs have a probability of p or more, so that all of these are found
    with the wanted confidence if n >= log(p (1 - confidence)) / log(1 - p); the count of all
    outputs serves where it is smaller. GenCtrl, arXiv:2601.05637, bounds dialogues in this way.

    Args:
        probability: Above it no output is to be missed.
        confidence: Probability with which none is.
        outputs: How many outputs there are at all.

    Raises:
        ValueError: A probability is not between 0 and 1, or there are no outputs.
    """
    for name, value in {"probability": probability, "confidence": confidence}.items():
        if not 0 < value < 1:
            raise ValueError(f"{name}: got {value}; allowed: above 0, below 1")
    if outputs < 1:
        raise ValueError(f"outputs: got {outputs}; allowed: 1 or more")
    candidates = min(outputs, math.floor(1 / probability))
    return math.ceil(math.log((1 - confidence) / candidates) / math.log1p(-probability))


def sample_outputs(
    problem: Problem, length: int, prompts: int, generator: torch.Generator
) -> Int64[Tensor, "instance prompts"]:
    """Returns the model's first choice under prompts drawn uniformly.

    Args:
        problem: The instances; their targets stay unread, and no token is forbidden for them.
        length: Tokens of a prompt.
        prompts: How many are drawn for an instance.
        generator: Source of randomness.
    """
    model, arrangement = problem.arrangement.model, problem.arrangement
    known = model.writable.nonzero()[:, 0]
    found = list[Tensor]()
    for text in problem.text:
        index = torch.randint(
            len(known), (prompts, length), generator=generator, device=known.device
        )
        drawn, firsts = known[index], list[Tensor]()
        for part in problem.parts(prompts, length):
            some = drawn[part]
            count = torch.full_like(some[:, 0], length)
            read, lengths = arrangement.tokens(some, count, text.expand(len(some), -1), some[:, :1])
            firsts.append(model.log_probabilities(read, lengths).argmax(1))
        found.append(torch.cat(firsts))
    return torch.stack(found)


def common_outputs(
    choices: Int64[Tensor, " prompts"], probability: float, vocabulary: int
) -> Bool[Tensor, " vocabulary"]:
    """Tells which outputs at least this share of all prompts has.

    Args:
        choices: The model's first choice under every prompt.
        probability: The share.
        vocabulary: Tokens.
    """
    return torch.bincount(choices, minlength=vocabulary) >= probability * len(choices)

"""The bound on what prompts do to attention, for the heads of a model that reads texts."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from separatrix.envs.language.attention_bound import Head, Moved, moved
from separatrix.envs.language.llama import LlamaModel


@torch.no_grad()
def moved_heads(
    model: LlamaModel,
    prompt: Int64[Tensor, " prompt"],
    text: Int64[Tensor, " text"],
    sink: int | None = None,
) -> list[list[Moved]]:
    """Compares what a prompt before a text does to every head with what it can do at most.

    The inputs of a head are those that it has under the prompt. The sink is a row of the text for
    the bound, as it is there without the prompt as well; what the prompt does to its own output is
    left out, since it stands before the prompt and does not see it.

    Args:
        model: The model.
        prompt: Tokens of the prompt.
        text: Tokens of the text.
        sink: Token in front of both; None for none.

    Returns:
        For each block, for each of its heads, what `moved` returns, in float64.
    """
    transformer = model.transformer
    first = [] if sink is None else [sink]
    tokens = torch.cat((prompt.new_tensor(first), prompt, text))
    blocks = transformer.trace(model.embedding[tokens][None])
    # Prompt, sink, text: rows with the positions that they have in the text.
    begin = len(first)
    order = torch.arange(len(tokens), device=tokens.device)
    order = torch.cat(
        (order[begin : begin + len(prompt)], order[:begin], order[begin:][len(prompt) :])
    )
    rotary = transformer.cosine[order].double(), transformer.sine[order].double()
    found = list[list[Moved]]()
    for block, (inputs, _, _) in enumerate(blocks):
        rows = inputs[0, order].double()
        each = [
            moved(head, rows[: len(prompt)], rows[len(prompt) :], causal=True, rotary=rotary)
            for head in heads(model, block)
        ]
        found.append([_without_first(one) if begin else one for one in each])
    return found


def heads(model: LlamaModel, block: int) -> list[Head]:
    """Returns the heads of a block, in float64."""
    shape, weights = model.transformer.shape, model.transformer.weights
    size = shape.width // shape.heads

    def part(name: str, index: int) -> Tensor:
        return weights[name][block, :, index * size : (index + 1) * size].double()

    shared = shape.heads // shape.key_heads
    return [
        Head(part("query", i), part("key", i // shared), part("value", i // shared))
        for i in range(shape.heads)
    ]


def _without_first(found: Moved) -> Moved:
    return Moved(
        found.orthogonal[1:],
        found.bound[1:],
        found.printed[1:],
        found.printed_bound,
        found.away[1:],
    )

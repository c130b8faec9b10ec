"""How far a prompt can move the outputs of an attention head: a bound, and what it is made of.

Rows of the output Y of a head, for the text X under a prompt U of k rows, are sums of what the
values of the prompt and of the text contribute, Y_i = Yu_i + Yx_i. Yx_i is a positive multiple of
Y0_i, the output without the prompt, so that only Yu_i moves Y_i off its direction. Each softmax
weight of a prompt row is at most exp(a) / (g_i + k exp(a)), with

    a = s_q s_k M_u M_x / sqrt(d)       s: largest singular values, M: largest norms of rows
    g_i = sum_j exp(q_i . k_j / sqrt(d))      over the rows of the text that row i sees

and so the part of Y_i that is orthogonal to Y0_i is at most

    beta_i = s_v M_u k exp(a) / (g_i + k exp(a))

This corrects theorem 1 of A. Bhargava et al., arXiv:2310.04444v3, which as printed excludes targets
whose distance is at most a bound, not above it, and has s_q where s_v is meant. Rotary positions
turn queries and keys, whose norms they keep, so that the bound holds under them as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Head:
    """Matrices of an attention head, which rows are multiplied by from the left."""

    query: Float[Tensor, "width head"]
    key: Float[Tensor, "width head"]
    value: Float[Tensor, "width out"]

    @property
    def norms(self) -> tuple[float, float, float]:
        """Largest singular values of query, key and value."""
        found = (torch.linalg.matrix_norm(w, 2) for w in (self.query, self.key, self.value))
        query, key, value = (norm.item() for norm in found)
        return query, key, value


@dataclass(frozen=True)
class Moved:
    """What a prompt does to the outputs of a head, one row for each row of the text."""

    orthogonal: Float[Tensor, " text"]
    """Norm of the part of the output that is orthogonal to the output without the prompt."""

    bound: Float[Tensor, " text"]
    """The largest that it can be, beta."""

    printed: Float[Tensor, " text"]
    """What theorem 1 as printed compares with s_q M_u: the distance of the output from the scaled
    one without the prompt."""

    printed_bound: float
    """s_q M_u: as printed, outputs that are not farther off than this, and point away from the
    output without the prompt, are not reachable."""

    away: Tensor
    """Whether the output points away from the one without the prompt, or is orthogonal, (text,)."""


def head_output(
    head: Head,
    prompt: Float[Tensor, "prompt width"],
    text: Float[Tensor, "text width"],
    *,
    causal: bool = False,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> tuple[Float[Tensor, "text out"], Float[Tensor, "text out"], Float[Tensor, " text"]]:
    """Returns the outputs of the text's rows with and without a prompt, and g of each row.

    Args:
        head: The head.
        prompt: Inputs of the prompt.
        text: Inputs of the text.
        causal: Whether a row sees the prompt and the rows of the text up to its own, or all rows.
        rotary: Cosines and sines, (prompt + text, head / 2) each, of the positions; None for none.
    """
    rows = torch.cat((prompt, text))
    query, key = text @ head.query, rows @ head.key
    if rotary is not None:
        from separatrix.envs.language.transformer import rotated

        cosine, sine = rotary
        key = rotated(key, cosine, sine)
        query = rotated(query, cosine[len(prompt) :], sine[len(prompt) :])
    score = query @ key.T / head.query.shape[1] ** 0.5
    if causal:
        seen = torch.ones_like(score, dtype=torch.bool).tril(len(prompt))
        score = score.masked_fill(~seen, -torch.inf)
    value = rows @ head.value
    own = score[:, len(prompt) :]
    return score.softmax(1) @ value, own.softmax(1) @ value[len(prompt) :], own.exp().sum(1)


def moved(
    head: Head,
    prompt: Float[Tensor, "prompt width"],
    text: Float[Tensor, "text width"],
    *,
    causal: bool = False,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> Moved:
    """Compares what a prompt does to the outputs of a head with what it can do at most.

    Args:
        head: The head, in float64: exponentials of large scores overflow in less.
        prompt: Inputs of the prompt.
        text: Inputs of the text.
        causal: See `head_output`.
        rotary: See `head_output`.
    """
    under, without, g = head_output(head, prompt, text, causal=causal, rotary=rotary)
    direction = without / without.norm(dim=1, keepdim=True)
    along = (under * direction).sum(1, keepdim=True)
    orthogonal = (under - along * direction).norm(dim=1)
    query, key, value = head.norms
    largest_prompt, largest_text = (part.norm(dim=1).amax() for part in (prompt, text))
    exponent = query * key * largest_prompt * largest_text / head.query.shape[1] ** 0.5
    weight = len(prompt) / (len(prompt) + g * torch.exp(-exponent))
    share = g / (g + len(prompt) * torch.exp(exponent))
    return Moved(
        orthogonal,
        value * largest_prompt * weight,
        (under - share[:, None] * without).norm(dim=1),
        (query * largest_prompt).item(),
        along[:, 0] <= 0,
    )

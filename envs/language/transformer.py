"""A decoder of the Llama family: token embeddings to the embeddings that predict the next token.

    x   <- x + attention(norm(x))           causal, rotary positions, keys shared by groups of heads
    x   <- x + down(silu(gate(norm(x))) * up(norm(x)))
    log P(next) = log softmax(E norm(x_last)),   E: the embeddings of the vocabulary

H. Touvron et al., LLaMA, arXiv:2302.13971; rotary positions: J. Su et al., RoFormer,
arXiv:2104.09864; shared keys: J. Ainslie et al., GQA, arXiv:2305.13245.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention, silu

Memory = Float[Tensor, "batch layers 2 key_heads room head"]
"""Keys and values of the tokens of texts, for each block."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder."""

    vocabulary: int
    """Tokens."""

    width: int
    """Components of an embedding."""

    layers: int
    """Blocks of attention and feed-forward network."""

    heads: int
    """Heads of attention, of width / heads components each."""

    key_heads: int
    """Heads of keys and values, each shared by heads / key_heads heads."""

    hidden: int
    """Units of the feed-forward network."""

    context: int
    """Tokens that it reads, at most."""

    rotary_base: float = 10_000.0
    """Pair i of a head's n pairs of components turns by rotary_base ** (-i / n) radians a token."""

    norm_epsilon: float = 1e-5
    """Added to the mean square that a norm divides by."""


class Block(NamedTuple):
    """What a block made of texts."""

    inputs: Float[Tensor, "batch tokens width"]
    """Of its attention."""
    keys: Float[Tensor, "batch key_heads tokens head"]
    values: Float[Tensor, "batch key_heads tokens head"]


class Transformer(nn.Module):
    """The decoder.

    Rows of a batch are computed by products of matrices of their own, of the same shape for any
    number of rows, if `separate`: then a row's numbers are the same bits in every batch. Otherwise
    one product takes all rows, which is faster for large models.

    Args:
        shape: Sizes.
        separate: Whether rows are computed apart.

    Attributes:
        shape: Sizes.
        separate: Whether rows are computed apart.
        embedding: Embeddings of the vocabulary, (vocabulary, width).
        cosine: Of the angles by which positions turn pairs of components, (context, pairs).
        sine: The same.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, shape: Shape, *, separate: bool = False) -> None:
        super().__init__()
        self.shape, self.separate = shape, separate
        width, keys = shape.width, shape.key_heads * (shape.width // shape.heads)
        self.embedding = nn.Parameter(torch.zeros(shape.vocabulary, width))
        sizes = {
            "query": (width, width),
            "key": (width, keys),
            "value": (width, keys),
            "out": (width, width),
            "gate": (width, shape.hidden),
            "up": (width, shape.hidden),
            "down": (shape.hidden, width),
        }
        # One tensor for all blocks: (blocks, inputs, outputs).
        self.weights = nn.ParameterDict(
            {name: torch.zeros(shape.layers, *size) for name, size in sizes.items()}
        )
        self.norms = nn.ParameterDict(
            {name: torch.ones(shape.layers, width) for name in ("attention", "feed_forward")}
        )
        self.last_norm = nn.Parameter(torch.ones(width))
        half = width // shape.heads // 2
        slowness = shape.rotary_base ** (torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(shape.context, dtype=torch.float64)[:, None] / slowness
        self.register_buffer("cosine", angle.cos().float(), persistent=False)
        self.register_buffer("sine", angle.sin().float(), persistent=False)

    def initialize(self, generator: torch.Generator) -> None:
        """Draws weights for training: normal numbers of deviation 0.02, smaller where they add."""
        with torch.no_grad():
            self.embedding.normal_(0, 0.02, generator=generator)
            for name, weight in self.weights.items():
                adds = name in ("out", "down")
                deviation = 0.02 / (2 * self.shape.layers) ** 0.5 if adds else 0.02
                weight.normal_(0, deviation, generator=generator)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes weights, as `state_dict` names them, in this decoder's type of numbers."""
        self.load_state_dict({name: tensor.to(self.embedding) for name, tensor in tensors.items()})

    def forward(
        self, embeddings: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Returns the embeddings of which the products with `embedding` are logits.

        Args:
            embeddings: Of the tokens of each text; what stands behind a token does not change what
                is returned for it, so that texts may be filled up at their ends.
        """
        return self._read(embeddings)

    def remember(self, embeddings: Float[Tensor, "batch begin width"], tokens: int) -> Memory:
        """Reads the beginnings of texts, so that they need not be read again.

        Args:
            embeddings: Of their tokens.
            tokens: How many tokens of a text there is to be room for.
        """
        blocks = self.trace(embeddings)
        found = torch.stack([torch.stack((one.keys, one.values), 1) for one in blocks], 1)
        return pad(found, (0, 0, 0, tokens - embeddings.shape[1]))

    def go_on(
        self,
        embeddings: Float[Tensor, "batch tokens width"],
        memory: Memory,
        known: Int64[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch tokens width"], Memory]:
        """Reads what stands behind the beginnings of texts.

        Args:
            embeddings: Of what stands there.
            memory: What is remembered of the texts; it stays as it is.
            known: Tokens of each of them that count.

        Returns:
            What `forward` returns for these tokens; and what is remembered now, of them, too.
        """
        memory = memory.clone()
        return self._read(embeddings, memory=memory, known=known), memory

    def trace(self, embeddings: Float[Tensor, "batch tokens width"]) -> list[Block]:
        """Reads texts, and returns what each block made of them."""
        kept = list[Block]()
        self._read(embeddings, kept)
        return kept

    def logits(
        self, found: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Returns the logits of the next token from what `forward` returned."""
        return self._product(found, self.embedding.T)

    def _read(
        self,
        values: Tensor,
        kept: list[Block] | None = None,
        *,
        memory: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Does what `forward` does; what each block made of it is put into `kept` and `memory`."""
        shape, (batch, tokens, _) = self.shape, values.shape
        place = torch.arange(tokens, device=values.device)
        mask, rows = None, torch.arange(batch, device=values.device)[:, None]
        if memory is not None and known is not None:
            place = place + known[:, None]
            seen = torch.arange(memory.shape[-2], device=values.device) <= place[..., None]
            mask = seen[:, None]
        tables: tuple[Tensor, Tensor] = (self.cosine, self.sine)
        rotation = [table[place].unsqueeze(-3) for table in tables]
        for block in range(shape.layers):
            weights = {name: weight[block] for name, weight in self.weights.items()}
            seen = self._norm(values, self.norms["attention"][block])
            query, key, value = (
                self._product(seen, weights[name]).view(batch, tokens, heads, -1).transpose(1, 2)
                for name, heads in (
                    ("query", shape.heads),
                    ("key", shape.key_heads),
                    ("value", shape.key_heads),
                )
            )
            query, key = rotated(query, *rotation), rotated(key, *rotation)
            if kept is not None:
                kept.append(Block(seen, key, value))
            if memory is not None:
                for i, part in enumerate((key, value)):
                    memory[:, block, i][rows, :, place] = part.transpose(1, 2)
                key, value = memory[:, block, 0], memory[:, block, 1]
            if shape.key_heads < shape.heads:
                groups = shape.heads // shape.key_heads
                key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
            heard = self._attend(query, key, value, mask)
            heard = heard.transpose(1, 2).reshape(batch, tokens, -1)
            values = values + self._product(heard, weights["out"])
            seen = self._norm(values, self.norms["feed_forward"][block])
            gate = silu(self._product(seen, weights["gate"]))
            hidden = gate * self._product(seen, weights["up"])
            values = values + self._product(hidden, weights["down"])
        return self._norm(values, self.last_norm)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Returns what each token hears: of all before it, or of those that a mask lets it."""
        if mask is None:
            return scaled_dot_product_attention(query, key, value, is_causal=True)
        if not self.separate:
            return scaled_dot_product_attention(query, key, value, attn_mask=mask)
        # Torch's attention adds up in an order that goes by the number of rows, if it is masked.
        one = [part.contiguous().flatten(0, 1) for part in (query, key, value)]
        score = torch.bmm(one[0], one[1].transpose(1, 2)) * query.shape[-1] ** -0.5
        score = score.view(*query.shape[:3], -1).masked_fill(~mask, -torch.inf).softmax(-1)
        return torch.bmm(score.flatten(0, 1), one[2]).view(query.shape)

    def _product(self, values: Tensor, weight: Tensor) -> Tensor:
        if self.separate:
            return torch.bmm(values, weight.expand(len(values), -1, -1))
        return values @ weight

    def _norm(self, values: Tensor, scale: Tensor) -> Tensor:
        size = values.square().mean(-1, keepdim=True) + self.shape.norm_epsilon
        return values * size.rsqrt() * scale


def rotated(
    vectors: Float[Tensor, "*heads tokens head"],
    cosine: Float[Tensor, "*rows tokens half"],
    sine: Float[Tensor, "*rows tokens half"],
) -> Float[Tensor, "*heads tokens head"]:
    """Rotates each pair (i, i + half) of components by the angle of its position."""
    first, second = vectors.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)

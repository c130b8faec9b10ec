"""The dynamics networks that a continual learner makes: their weights as one vector, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Layer = tuple[Float[Tensor, "stack _ _"], Float[Tensor, "stack 1 _"]]


@dataclass(frozen=True)
class TargetShape:
    """A fully connected network, whose weights are the rows of a matrix.

    A row holds the weight (inputs, outputs) and then the bias of each layer, from the first on.

    Attributes:
        sizes: Inputs, hidden units of each layer, outputs.
    """

    sizes: tuple[int, ...]

    @property
    def tensors(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each weight, and 0 and outputs of each bias, in their order."""
        shapes = []
        for inputs, outputs in pairwise(self.sizes):
            shapes += [(inputs, outputs), (0, outputs)]
        return shapes

    @property
    def counts(self) -> list[int]:
        """Numbers in each tensor."""
        return [max(1, inputs) * outputs for inputs, outputs in self.tensors]

    @property
    def parameters(self) -> int:
        """Numbers in a row."""
        return sum(self.counts)

    @property
    def head(self) -> int:
        """Numbers of the last layer, which are the last ones of a row."""
        return sum(self.counts[-2:])

    def layers(self, rows: Float[Tensor, "stack parameters"]) -> list[Layer]:
        """Returns the layers of a stack of networks."""
        parts = rows.split(self.counts, 1)
        return [
            (
                weight.view(-1, inputs, outputs),
                bias[:, None],
            )
            for (inputs, outputs), weight, bias in zip(
                self.tensors[::2], parts[::2], parts[1::2], strict=True
            )
        ]

    def deviations(self) -> Float[Tensor, " parameters"]:
        """Returns the standard deviation of each weight at the start; 0 for biases.

        That of PETS (Chua et al., NeurIPS 2018), of variance 1 / (2 inputs).
        """
        parts = [
            torch.full((count,), 1 / math.sqrt(2 * inputs) if inputs else 0.0)
            for count, (inputs, _) in zip(self.counts, self.tensors, strict=True)
        ]
        return torch.cat(parts)

    def initial(self, stack: int, generator: torch.Generator) -> Float[Tensor, "stack parameters"]:
        """Draws the weights of a stack of networks, truncated at two standard deviations."""
        rows = torch.empty((stack, self.parameters))
        torch.nn.init.trunc_normal_(rows, 0.0, 1.0, -2.0, 2.0, generator=generator)
        return rows * self.deviations()


def target_shape(inputs: int, hidden: Sequence[int], outputs: int) -> TargetShape:
    """Returns the shape of a network with hidden layers."""
    return TargetShape((inputs, *hidden, outputs))

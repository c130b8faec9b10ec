"""Many small networks evaluated as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

Layers = Sequence[tuple[Float[Tensor, "stack _ _"], Float[Tensor, "stack 1 _"]]]
"""Weights (stack, inputs, outputs) and biases (stack, 1, outputs) of the layers of networks."""


def stacked_network(
    layers: Layers, inputs: Float[Tensor, "stack rows inputs"]
) -> Float[Tensor, "stack rows outputs"]:
    """Evaluates a stack of fully connected networks with SiLU between the layers.

    Whatever makes the weights may call this: the members of an ensemble are one stack, and so are
    the networks of several tasks.

    Args:
        layers: From the first to the last.
        inputs: Rows of inputs of each network.
    """
    values = inputs
    for i, (weight, bias) in enumerate(layers):
        values = torch.baddbmm(bias, values, weight)
        if i < len(layers) - 1:
            values = nn.functional.silu(values)
    return values


class EnsembleNetwork(nn.Module):
    """Independent fully connected networks of the same shape, with weights of their own.

    Weights are normal with variance 1 / (2 inputs of the layer), truncated at two standard
    deviations, and biases zero (Chua et al., NeurIPS 2018, PETS).

    Args:
        members: Number of networks.
        inputs: Number of inputs.
        hidden: Widths of the hidden layers.
        outputs: Number of outputs.
        generator: Source of the initial weights, on the CPU.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in pairwise(sizes):
            weight = torch.empty((members, before, after))
            deviation = 1 / math.sqrt(2 * before)
            low, high = -2 * deviation, 2 * deviation
            nn.init.trunc_normal_(weight, 0.0, deviation, low, high, generator=generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros((members, 1, after))))

    def forward(
        self, inputs: Float[Tensor, "stack rows inputs"], members: Tensor | None = None
    ) -> Float[Tensor, "stack rows outputs"]:
        """Evaluates the networks.

        Args:
            inputs: Rows of inputs of each network.
            members: Indices of the networks that are evaluated, int64; None for all.
        """
        layers = list(zip(self.weights, self.biases, strict=True))
        if members is not None:
            layers = [(weight[members], bias[members]) for weight, bias in layers]
        return stacked_network(layers, inputs)


class Normalizer(nn.Module):
    """Shifts and scales columns to mean zero and standard deviation one.

    Args:
        size: Number of columns.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def fit(self, values: Float[Tensor, "rows size"]) -> None:
        """Takes mean and standard deviation from data; a constant column keeps its scale."""
        values = values.double()
        mean, deviation = values.mean(0), values.std(0, correction=0)
        constant = deviation <= 1e-6 * mean.abs().clamp_min(1e-6)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(constant, 1.0, deviation))

    def forward(self, values: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows size"]:
        """Returns normalised values."""
        return (values - self.mean) / self.deviation

    def inverse(self, values: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows size"]:
        """Returns values whose normalised values are given."""
        return self.mean + self.deviation * values

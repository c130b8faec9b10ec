"""Policies and critics of offline agents; critics are an ensemble that is evaluated as one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

LOG_STD = (-5.0, 2.0)
"""Bounds of the logarithm of a policy's standard deviation, before tanh."""

LAST = 3e-3
"""Weights of the last layer of critics start within this, so that values start near zero."""


def make_network(
    inputs: int, layers: Sequence[int], outputs: int, generator: torch.Generator
) -> nn.Sequential:
    """Makes a fully connected network with ReLU between the layers.

    Args:
        inputs: Number of inputs.
        layers: Hidden units of each layer.
        outputs: Number of outputs.
        generator: Source of the initial weights, uniform within 1 / sqrt(inputs of the layer), as
            torch has them; the network is on its device.
    """
    modules = list[nn.Module]()
    for before, after in pairwise((inputs, *layers, outputs)):
        linear = nn.utils.skip_init(nn.Linear, before, after, device=generator.device)
        bound = 1 / math.sqrt(before)
        for parameter in (linear.weight, linear.bias):
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


class Policy(nn.Module, ABC):
    """A network that acts.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        layers: Hidden units of each layer.
        generator: Source of the initial weights.

    Attributes:
        outputs: Outputs of the network for each component of an action.
    """

    outputs = 1

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        layers: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        outputs = self.outputs * action_size
        self.network = make_network(observation_size, layers, outputs, generator)

    @abstractmethod
    def mode(self, observation: Float[Tensor, "rows observation"]) -> Float[Tensor, "rows action"]:
        """Returns the deterministic actions, in [-1, 1]."""


class DeterministicPolicy(Policy):
    """Actions tanh(network(observation))."""

    def mode(self, observation: Float[Tensor, "rows observation"]) -> Float[Tensor, "rows action"]:
        """Returns the actions."""
        return torch.tanh(self.network(observation))


class GaussianPolicy(Policy):
    """Actions around a mean in [-1, 1] with a standard deviation that is learned and constant.

    As in IQL (I. Kostrikov et al., ICLR 2022): the density is that of a normal distribution, which
    exists for actions at the bounds, too.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        layers: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__(observation_size, action_size, layers, generator)
        self.log_std = nn.Parameter(torch.zeros(action_size, device=generator.device))

    def mode(self, observation: Float[Tensor, "rows observation"]) -> Float[Tensor, "rows action"]:
        """Returns the means."""
        return torch.tanh(self.network(observation))

    def log_probability(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
    ) -> Float[Tensor, " rows"]:
        """Returns the logarithm of the density of actions."""
        log_std = self.log_std.clamp(*LOG_STD)
        normal = torch.distributions.Normal(self.mode(observation), log_std.exp())
        return normal.log_prob(action).sum(-1)


class SquashedPolicy(Policy):
    """Actions tanh(z) of normal z (T. Haarnoja et al., arXiv:1812.05905, SAC)."""

    outputs = 2

    def mode(self, observation: Float[Tensor, "rows observation"]) -> Float[Tensor, "rows action"]:
        """Returns tanh of the mean of z."""
        return torch.tanh(self.network(observation).chunk(2, -1)[0])

    def sample(
        self, observation: Float[Tensor, "rows observation"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "rows action"], Float[Tensor, " rows"]]:
        """Draws an action for each observation, differentiably, with the logarithm of its density.

        Args:
            observation: Observations.
            generator: Source of randomness.
        """
        action, log_probability = self.samples(observation, 1, generator)
        return action[0], log_probability[0]

    def samples(
        self, observation: Float[Tensor, "rows observation"], count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count rows action"], Float[Tensor, "count rows"]]:
        """Draws several actions for each observation, as `sample` does one.

        Args:
            observation: Observations.
            count: Actions for each of them.
            generator: Source of randomness.
        """
        mean, log_std = self.network(observation).chunk(2, -1)
        log_std = log_std.clamp(*LOG_STD)
        shape, device, dtype = (count, *mean.shape), mean.device, mean.dtype
        noise = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        z = mean + log_std.exp() * noise
        density = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # The logarithm of the derivative of tanh, stable for large z.
        slope = 2 * (math.log(2) - z - nn.functional.softplus(-2 * z))
        return torch.tanh(z), (density - slope).sum(-1)


class Critics(nn.Module):
    """An ensemble of networks from observation and action to a value.

    Args:
        members: Networks.
        observation_size: Components of an observation.
        action_size: Components of an action; 0 for values of observations alone.
        layers: Hidden units of each layer.
        generator: Source of the initial weights; the networks are on its device.
    """

    def __init__(
        self,
        members: int,
        observation_size: int,
        action_size: int,
        layers: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        sizes = (observation_size + action_size, *layers, 1)
        for i, (before, after) in enumerate(pairwise(sizes)):
            bound = LAST if i == len(layers) else 1 / math.sqrt(before)
            for stored, rows in ((self.weights, before), (self.biases, 1)):
                values = torch.empty((members, rows, after), device=generator.device)
                nn.init.uniform_(values, -bound, bound, generator=generator)
                stored.append(nn.Parameter(values))

    @property
    def members(self) -> int:
        """Number of networks."""
        return len(self.biases[0])

    def forward(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "*#alike rows action"] | None = None,
        *,
        first: int | None = None,
        frozen: bool = False,
    ) -> Float[Tensor, "members rows"]:
        """Returns the value that every member gives to every row.

        Args:
            observation: Observations, the same for all members.
            action: Actions, the same for all or of each member; None for values of observations.
            first: How many members, from the first, are asked; None for all.
            frozen: Whether no gradient is to flow to the weights.
        """
        members = self.members if first is None else first
        values = observation.expand(members, -1, -1)
        if action is not None:
            values = torch.cat((values, action.expand(members, -1, -1)), -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if i:
                values = torch.relu(values)
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            if first is not None:
                weight, bias = weight[:first], bias[:first]
            values = torch.baddbmm(bias, values, weight)
        return values[..., 0]

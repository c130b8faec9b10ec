"""A Gaussian policy for analytic gradients, and the networks that it and its critic are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment

ACTIVATIONS = {"tanh": nn.Tanh, "elu": nn.ELU}

LAST_GAIN = 0.01
"""Scale of the initial weights of a network's last layer."""


def make_network(
    inputs: int, layers: Sequence[int], outputs: int, activation: str, generator: torch.Generator
) -> nn.Sequential:
    """Makes a fully connected network with layer normalisation after each activation.

    Args:
        inputs: Number of inputs.
        layers: Hidden units of each layer.
        outputs: Number of outputs.
        activation: Name of the activation.
        generator: Source of the initial weights, which are orthogonal; the network is on its
            device.
    """
    device, modules = generator.device, list[nn.Module]()
    for before, after in pairwise((inputs, *layers, outputs)):
        linear = nn.utils.skip_init(nn.Linear, before, after, device=device)
        nn.init.orthogonal_(linear.weight, 2**0.5, generator=generator)
        nn.init.zeros_(linear.bias)
        modules += [linear, ACTIVATIONS[activation](), nn.LayerNorm(after, device=device)]
    del modules[-2:]
    with torch.no_grad():
        linear.weight.mul_(LAST_GAIN / 2**0.5)
    return nn.Sequential(*modules)


class GaussianPolicy(nn.Module):
    """Actions tanh(mean(observation) + exp(log_std) noise), with noise that is standard normal.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        config: Layers, activation and initial standard deviation.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: AnalyticPolicyConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.mean = make_network(
            observation_size, config.policy_layers, action_size, config.activation, generator
        )
        log_std = torch.full((action_size,), float(config.initial_log_std))
        self.log_std = nn.Parameter(log_std.to(generator.device))

    def forward(
        self,
        observation: Float[Tensor, "*rows observation"],
        noise: Float[Tensor, "*rows action"],
    ) -> Float[Tensor, "*rows action"]:
        """Returns actions; with noise 0, the deterministic ones."""
        return torch.tanh(self.mean(observation) + self.log_std.exp() * noise)


class AnalyticPolicyController(Controller):
    """The deterministic action of a policy.

    Args:
        policy: The policy, whose weights may go on changing.
    """

    def __init__(self, policy: GaussianPolicy) -> None:
        self.policy = policy

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Chooses the actions without noise, in [-1, 1]; the state stays unread."""
        log_std = self.policy.log_std
        noise = log_std.new_zeros((len(observation), len(log_std)))
        return self.policy(observation.to(log_std), noise).to(observation)


def make_analytic_policy(
    config: AnalyticPolicyConfig, tensors: Mapping[str, Tensor], environment: Environment
) -> AnalyticPolicyController:
    """Makes a policy with given weights.

    Args:
        config: Its hyper-parameters.
        tensors: Parameters by name, as the policy's `state_dict` has them.
        environment: Environment it is to act in; gives the sizes and the device.

    Raises:
        RuntimeError: The tensors are those of another network.
    """
    sizes = environment.observation_space.shape[0], environment.action_shape[0]
    policy = GaussianPolicy(*sizes, config, torch.Generator(environment.device))
    policy.load_state_dict(tensors)
    # Gradients flow to the observation, should it want any, and not to the network.
    return AnalyticPolicyController(policy.requires_grad_(False))

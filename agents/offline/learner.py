"""What every offline agent shares: batches, networks with optimisers, snapshots, the policy."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.dynamics.network import Normalizer
from separatrix.agents.offline.config import OfflineConfig
from separatrix.agents.offline.networks import Policy
from separatrix.controllers.controller import Controller

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Batch:
    """Transitions of one gradient step: recorded ones, and after them those of a model."""

    observation: Float[Tensor, "rows observation"]
    """Before the control interval."""

    action: Float[Tensor, "rows action"]
    """Held during the interval, in [-1, 1]."""

    reward: Float[Tensor, " rows"]
    """Of the interval, less what a method takes off for doubt."""

    next_observation: Float[Tensor, "rows observation"]
    """After the interval."""

    terminated: Bool[Tensor, " rows"]
    """Whether the episode ended here: nothing is to be had from the next observation on."""

    cut: Bool[Tensor, " rows"]
    """Whether the next observation is not believed, so that its value is the lowest possible."""

    recorded: int
    """How many rows, the first ones, are recorded."""


class PolicyController(Controller):
    """The deterministic actions of an offline agent.

    Args:
        normalizer: Of observations.
        policy: The network that acts, whose weights may go on changing.
    """

    def __init__(self, normalizer: Normalizer, policy: Policy) -> None:
        self._normalizer, self._policy = normalizer, policy

    @torch.no_grad()
    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Chooses the actions; the state stays unread."""
        values = self._normalizer(observation.to(self._normalizer.mean))
        return self._policy.mode(values).to(observation)


class OfflineLearner(ABC):
    """Networks that learn from batches, one gradient step of each at a time.

    Args:
        observation_size: Components of an observation.
        action_size: Components of an action.
        config: Hyper-parameters.
        seed: Seed of weights and of everything drawn.
        device: Where the networks are.
        total_updates: Updates of the whole run, which a schedule spans.
        lowest_value: Value of next observations that are not believed.

    Attributes:
        updates: Updates so far.
        normalizer: Of observations; to be fitted before the first update.
        generator: Source of randomness.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: OfflineConfig,
        seed: int,
        device: torch.device | str,
        total_updates: int,
        lowest_value: float,
    ) -> None:
        self.config, self.updates, self._total_updates = config, 0, total_updates
        self.lowest_value, self.sizes = lowest_value, (observation_size, action_size)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.normalizer = Normalizer(observation_size).to(device)
        self._modules: dict[str, nn.Module] = {"normalizer": self.normalizer}
        self._optimizers: dict[str, torch.optim.Adam] = {}
        self._rates: dict[str, float] = {}
        self._decaying = set[str]()
        self._build()

    @abstractmethod
    def _build(self) -> None:
        """Makes and registers the networks."""

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes a gradient step.

        Args:
            batch: Transitions, in the units of the data.

        Returns:
            Scalars for the log without `train/`, detached.
        """
        observation, action = batch.observation, batch.action
        normalised = Batch(
            self.normalizer(observation),
            action,
            batch.reward,
            self.normalizer(batch.next_observation),
            batch.terminated,
            batch.cut,
            batch.recorded,
        )
        self._schedule()
        scalars = self._update(normalised)
        self.updates += 1
        return {name: value.detach() for name, value in scalars.items()}

    @abstractmethod
    def _update(self, batch: Batch) -> dict[str, Tensor]:
        """Takes a gradient step on a batch whose observations are normalised."""

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The network that acts, on normalised observations."""

    def act(self, observation: Float[Tensor, "rows observation"]) -> Float[Tensor, "rows action"]:
        """Draws the actions of model rollouts; by default the deterministic ones."""
        return self.policy.mode(self.normalizer(observation))

    def controller(self) -> PolicyController:
        """Returns the deterministic policy, which goes on changing with the training."""
        return PolicyController(self.normalizer, self.policy)

    def _add(
        self, name: str, network: Network, rate: float | None = None, *, decaying: bool = False
    ) -> Network:
        """Registers a network, and an optimiser for it if it has a learning rate.

        Args:
            name: In checkpoints.
            network: The network.
            rate: Learning rate; None for one that is not trained by gradients.
            decaying: Whether the rate falls to 0 along a cosine over the run.
        """
        self._modules[name] = network
        if rate is None:
            network.requires_grad_(False)
        else:
            self._rates[name] = rate
            self._optimizers[name] = torch.optim.Adam(network.parameters(), rate, fused=True)
            if decaying:
                self._decaying.add(name)
        return network

    def _add_target(self, name: str, network: Network) -> Network:
        """Registers a copy that follows a network by `_follow`."""
        return self._add(name, copy.deepcopy(network))

    def _bootstrap(
        self, batch: Batch, next_value: Float[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """Returns rewards plus discounted next values, of ends 0, of what is cut the lowest."""
        next_value = torch.where(batch.cut, self.lowest_value, next_value)
        return batch.reward + self.config.gamma * next_value.masked_fill(batch.terminated, 0.0)

    def _improve_critics(
        self,
        values: Float[Tensor, "critics rows"],
        target: Float[Tensor, " rows"],
        penalty: Tensor | float = 0.0,
    ) -> dict[str, Tensor]:
        """Takes a step of the critics towards targets.

        Args:
            values: What they say.
            target: What they are to say.
            penalty: What a method adds to the squared errors, the sum over critics, too.

        Returns:
            Scalars for the log.
        """
        # The mean over rows, the sum over critics: each learns as if it were alone.
        error = (values - target).square().mean(1).sum()
        self._step("critics", error + penalty)
        values = values.detach()
        return {
            "critic_loss": error / len(values),
            "value": values.mean(),
            "largest_value": values.max(),
            "value_spread": values.std(0, correction=0).mean(),
            "target": target.mean(),
        }

    def _step(self, name: str, loss: Tensor) -> None:
        """Takes a step of the optimiser of a network."""
        optimizer = self._optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def _follow(self, target: nn.Module, network: nn.Module) -> None:
        """Moves a target network by a share of the way to its network."""
        slow: list[Tensor] = list(target.parameters())
        torch._foreach_lerp_(slow, list(network.parameters()), self.config.target_rate)

    def _schedule(self) -> None:
        for name in self._decaying:
            share = 0.5 * (1 + math.cos(math.pi * self.updates / self._total_updates))
            self._optimizers[name].param_groups[0]["lr"] = share * self._rates[name]

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns everything that determines the training from here on.

        That is the weights of each network under its name, `moments.<network>.<i>.*`, Adam's
        moments of parameter i, and the state of the random `generator`; and, as JSON values, the
        number of `updates`. Tensors are on the CPU and own their memory.
        """
        tensors = {"generator": self.generator.get_state()}
        for name, module in self._modules.items():
            tensors |= prefixed(name, module.state_dict())
        for name, optimizer in self._optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= prefixed(f"moments.{name}.{index}", moments)
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return copies, {"updates": self.updates}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned.

        Raises:
            RuntimeError: The networks are others.
            KeyError: Something is missing.
        """
        for name, module in self._modules.items():
            module.load_state_dict(with_prefix(name, tensors))
        for name, optimizer in self._optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in with_prefix(f"moments.{name}", tensors).items():
                index, _, moment = key.partition(".")
                # Cloned, for the optimiser would go on in the snapshot's own memory.
                moments.setdefault(int(index), {})[moment] = tensor.clone()
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(tensors["generator"])
        self.updates = state["updates"]

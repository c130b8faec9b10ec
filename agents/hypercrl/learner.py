"""A continual learner of dynamics: networks of all tasks, trained on one task after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from separatrix.agents.common.checkpoint import prefixed, with_prefix
from separatrix.agents.common.dynamics.network import stacked_network
from separatrix.agents.common.replay import Transitions
from separatrix.agents.hypercrl.config import (
    CoresetConfig,
    ElasticWeightsConfig,
    HyperCRLConfig,
    HypernetworkConfig,
    SingleConfig,
    SynapticIntelligenceConfig,
)
from separatrix.agents.hypercrl.dynamics import Normalizers, TaskDynamics, in_units
from separatrix.agents.hypercrl.hypernetwork import Hypernetwork
from separatrix.agents.hypercrl.memory import Memory, Samples, samples
from separatrix.agents.hypercrl.networks import SeparateNetworks, SharedNetworks, TaskNetworks
from separatrix.agents.hypercrl.protection import (
    ElasticWeights,
    OutputRegularizer,
    Protection,
    SynapticIntelligence,
)
from separatrix.agents.hypercrl.target import TargetShape

LOG_VARIANCE = (-10.0, 0.5)
"""Bounds of the log-variance of normalised targets, which the paper's are, too."""


class Learner:
    """Networks, what protects them, and what is kept of earlier tasks.

    Args:
        config: The hyper-parameters.
        observation_size: Components of an observation.
        action_size: Components of an action.
        features: Physical parameters of the tasks of the stream, for a network that is told them.
        seed: Seed of initial weights and of minibatches.
        device: Where everything lives.

    Attributes:
        networks: The networks.
        task: The task that is learned, counted from 0; -1 before the first.
    """

    def __init__(
        self,
        config: HyperCRLConfig,
        observation_size: int,
        action_size: int,
        features: Float[Tensor, "tasks features"],
        seed: int,
        device: torch.device,
    ) -> None:
        self.config, self.task = config, -1
        self._observation_size = observation_size
        self._reward = config.reward == "learned"
        self._inputs = observation_size + action_size
        self._targets = observation_size + self._reward
        outputs = self._targets * (2 if config.gaussian else 1)
        shape = TargetShape((self._inputs, *config.layers, outputs))
        self.networks = make_networks(config, shape, features, seed).to(device)
        self.protection = make_protection(config, self.networks)
        method = config.method
        self.memory = Memory(method.transitions if isinstance(method, CoresetConfig) else None)
        self.normalizers: list[Normalizers] = []
        self.errors: list[Tensor] = []
        self.generator = torch.Generator(device).manual_seed(seed)
        self._optimizers: dict[str, torch.optim.Adam] = {}
        self._device = device

    def begin_task(self) -> None:
        """Begins with the next task: optimisers start anew."""
        self._add_task()
        self.protection.begin()
        self._make_optimizers()

    def _add_task(self) -> None:
        self.task += 1
        self.networks.add_task()
        self.normalizers.append(Normalizers(self._inputs, self._targets).to(self._device))
        self.errors.append(torch.ones(self._observation_size, device=self._device))
        if self.config.normalizers == "first_task" and self.task > 0:
            self.normalizers[-1].load_state_dict(self.normalizers[0].state_dict())

    def _make_optimizers(self) -> None:
        method, common = self.config.method, self.networks.common_parameters()
        hypernetwork = isinstance(method, HypernetworkConfig)
        # What belongs to an earlier task learns where its data are kept, or where it may follow.
        plastic = isinstance(method, CoresetConfig) or (
            isinstance(method, HypernetworkConfig) and method.plastic_embeddings
        )
        first = 0 if plastic else self.task
        own = [
            p for task in range(first, self.task + 1) for p in self.networks.task_parameters(task)
        ]
        # Embeddings have an Adam, and a bound on their gradient, of their own.
        groups = {"task": own, "common": common} if hypernetwork else {"common": [*common, *own]}
        self._optimizers = {
            name: torch.optim.Adam(parameters, method.learning_rate, fused=True)
            for name, parameters in groups.items()
        }

    def train(self, transitions: Transitions, steps: int) -> dict[str, float]:
        """Trains on all data of the current task so far.

        Args:
            transitions: (times, environments, ...), in the order of time.
            steps: Gradient steps.

        Returns:
            Means over the steps of the loss and the penalty, and the held-out error: the root mean
            square over transitions and components, in units of the targets' deviation.
        """
        training, held_out = samples(transitions, self._reward)
        normalizers = self.normalizers[self.task]
        if self.config.normalizers == "per_task" or self.task == 0:
            normalizers.inputs.fit(training.inputs)
            normalizers.targets.fit(training.targets)
        sets = {**self.memory.tasks, self.task: training}
        sets = {task: self._normalized(task, found) for task, found in sets.items()}
        totals: dict[str, Tensor] = {}
        for _ in range(steps):
            for name, value in self._step(sets).items():
                totals[name] = totals.get(name, 0.0) + value
        found = {f"train/{name}": float(total) / steps for name, total in totals.items()}
        square = self._square_errors(self.task, held_out)
        self.errors[self.task] = square.sqrt()
        return found | {"train/held_out_error": self._in_units(self.task, square)}

    def _step(self, sets: Mapping[int, Samples]) -> dict[str, Tensor]:
        """Takes a gradient step on minibatches of the given tasks."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        size, members = self.config.batch_size, self.config.members
        batches = []
        for samples_of in sets.values():
            rows = torch.randint(
                len(samples_of), (members, size), generator=self.generator, device=self._device
            )
            batches.append(samples_of[rows])
        weights = self.networks(list(sets)).flatten(0, 1)
        inputs = torch.cat([batch.inputs for batch in batches])
        targets = torch.cat([batch.targets for batch in batches])
        # Members are independent of each other; tasks share what there is to learn.
        loss = self._loss(weights, inputs, targets).sum() / len(sets)
        common, penalty = self._optimizers["common"], None
        if self.protection.looks_at_gradients:
            loss.backward()
            self.protection.before_step(common)
            penalty = self.protection.loss(self.generator)
            if penalty is not None:
                penalty.backward()
        else:  # the same gradients in one pass
            penalty = self.protection.loss(self.generator)
            (loss if penalty is None else loss + penalty).backward()
        for name in self._optimizers:
            self._update(name)
        self.protection.after_step()
        found = {"loss": loss.detach() / members}
        return found if penalty is None else found | {"penalty": penalty.detach()}

    def _update(self, name: str) -> None:
        optimizer = self._optimizers[name]
        parameters = optimizer.param_groups[0]["params"]
        if parameters:
            nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
            optimizer.step()

    def _loss(
        self,
        weights: Float[Tensor, "stack parameters"],
        inputs: Float[Tensor, "stack rows inputs"],
        targets: Float[Tensor, "stack rows targets"],
    ) -> Float[Tensor, " stack"]:
        """Returns the mean loss of each network over its rows and all components.

        The squared error, or twice the negative log-likelihood of normal distributions without its
        constant.
        """
        outputs = _evaluate(self.networks.shape, weights, inputs)
        mean = outputs[..., : self._targets]
        square = (mean - targets).square()
        if self.config.gaussian:
            low, high = LOG_VARIANCE
            raw = outputs[..., self._targets :]
            variance = high - nn.functional.softplus(high - raw)
            variance = low + nn.functional.softplus(variance - low)
            square = square * (-variance).exp() + variance
        return square.mean((1, 2))

    def end_task(self, transitions: Transitions) -> None:
        """Ends the current task; its data are forgotten but for what the method keeps."""
        training, _ = samples(transitions, self._reward)
        self.memory.keep(self.task, training, self.generator)
        rows = self._normalized(self.task, training)
        outputs = self._targets

        def sample_loss(weights: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            rows = inputs.expand(len(weights), 1, -1)
            found = _evaluate(self.networks.shape, weights, rows)[..., :outputs]
            return (found - targets).square().sum() / 2

        self.protection.end(self.task, (rows.inputs, rows.targets), sample_loss)

    def dynamics(self, rows: Int64[Tensor, " batch"]) -> TaskDynamics:
        """Returns the dynamics of environments of which these are the tasks, as they are now.

        A task that has not begun gets the networks of the current one.
        """
        with torch.no_grad():
            weights = self.networks(range(self.networks.tasks)).flatten(0, 1)
            layers = self.networks.shape.layers(weights)
            layers = in_units(layers, self.normalizers, self.config.members)
        known = rows.to(self._device).clamp_max(self.task)
        return TaskDynamics(
            layers, self.config.members, known, self._observation_size, self._reward
        )

    def embeddings(self) -> Float[Tensor, "tasks size"] | None:
        """Returns the embedding of every task that has begun; None without hypernetwork."""
        if not isinstance(self.networks, Hypernetwork):
            return None
        return torch.stack(list(self.networks.embeddings)).detach().cpu()

    def stored(self) -> dict[str, dict[str, Tensor]]:
        """Returns what is stored between two tasks and during one, by category.

        See `separatrix.agents.hypercrl.storage`. The data of the current task are not among it.
        """
        named: dict[str, Tensor] = dict(self.networks.named_parameters())
        kind = "hypernetwork" if isinstance(self.networks, Hypernetwork) else "networks"
        embeddings = {n: t for n, t in named.items() if n.startswith("embeddings.")}
        protection = "regulariser targets" if kind == "hypernetwork" else "importance"
        found: dict[str, dict[str, Tensor]] = {
            kind: {n: t for n, t in named.items() if n not in embeddings},
            "embeddings": embeddings,
            protection: self.protection.state_dict(),
            "data": self.memory.state_dict(),
            "normalisers": {
                f"{task}.{name}": tensor
                for task, normalizers in enumerate(self.normalizers)
                for name, tensor in normalizers.state_dict().items()
            },
            "optimiser": {
                f"{name}.{index}.{moment}": tensor
                for name, optimizer in self._optimizers.items()
                for index, moments in optimizer.state_dict()["state"].items()
                for moment, tensor in moments.items()
            },
        }
        return {category: tensors for category, tensors in found.items() if tensors}

    def _normalized(self, task: int, found: Samples) -> Samples:
        normalizers = self.normalizers[task]
        return Samples(normalizers.inputs(found.inputs), normalizers.targets(found.targets))

    def held_out_error(self, task: int, transitions: Transitions) -> float:
        """Measures the error of a task's networks, as they are now, on its held-out transitions.

        Args:
            task: A task that has begun.
            transitions: Its transitions, (times, environments, ...), in the order of time.

        Returns:
            The root mean square over transitions and components of the observation, in units of the
            targets' deviation.
        """
        _, held_out = samples(transitions, self._reward)
        return self._in_units(task, self._square_errors(task, held_out))

    def _in_units(self, task: int, square: Float[Tensor, " observation"]) -> float:
        """Returns the root mean of squared errors in units of the targets' deviation."""
        scale = self.normalizers[task].targets.deviation[: self._observation_size]
        return (square / scale.square()).mean().sqrt().item()

    @torch.no_grad()
    def _square_errors(self, task: int, found: Samples) -> Float[Tensor, " observation"]:
        """Returns the mean square of the error of each component, in the units of the data."""
        size, members = self._observation_size, self.config.members
        observation, action = found.inputs[:, :size], found.inputs[:, size:]
        predicted = self.dynamics(torch.tensor([task])).predict(
            observation.expand(members, -1, -1), action.expand(members, -1, -1)
        )
        change = predicted.next_observation.mean(0) - observation
        return (change - found.targets[:, :size]).square().mean(0)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Returns everything that determines the learning from here on, on the CPU."""
        tensors = {
            **prefixed("networks", self.networks.state_dict()),
            **prefixed("protection", self.protection.state_dict()),
            **prefixed("memory", self.memory.state_dict()),
            "generator": self.generator.get_state(),
        }
        for task, (normalizers, error) in enumerate(
            zip(self.normalizers, self.errors, strict=True)
        ):
            tensors |= prefixed(f"normalizers.{task}", normalizers.state_dict())
            tensors[f"errors.{task}"] = error
        for name, optimizer in self._optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= prefixed(f"moments.{name}.{index}", moments)
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        return copies, {"task": self.task}

    def load_state_dict(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned, in a learner that has begun no task.

        Raises:
            RuntimeError: The networks are others.
            KeyError: Something is missing.
        """
        for _ in range(state["task"] + 1):
            self._add_task()
        self.networks.load_state_dict(with_prefix("networks", tensors))
        self.protection.load_state_dict(
            {name: t.to(self._device) for name, t in with_prefix("protection", tensors).items()}
        )
        self.memory.load_state_dict(
            {name: t.to(self._device) for name, t in with_prefix("memory", tensors).items()}
        )
        self.generator.set_state(tensors["generator"])
        for task, normalizers in enumerate(self.normalizers):
            normalizers.load_state_dict(with_prefix(f"normalizers.{task}", tensors))
            self.errors[task] = tensors[f"errors.{task}"].to(self._device, copy=True)
        if self.task < 0:
            return
        self._make_optimizers()
        for name, optimizer in self._optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in with_prefix(f"moments.{name}", tensors).items():
                index, _, moment = key.partition(".")
                moments.setdefault(int(index), {})[moment] = tensor.clone()
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _evaluate(
    shape: TargetShape,
    weights: Float[Tensor, "stack parameters"],
    inputs: Float[Tensor, "stack rows inputs"],
) -> Float[Tensor, "stack rows outputs"]:
    return stacked_network(shape.layers(weights), inputs)


def make_networks(
    config: HyperCRLConfig,
    shape: TargetShape,
    features: Float[Tensor, "tasks features"],
    seed: int,
) -> TaskNetworks:
    """Makes the networks of a method."""
    method = config.method
    if isinstance(method, HypernetworkConfig):
        return Hypernetwork(shape, config.members, seed, method)
    if isinstance(method, SingleConfig):
        return SeparateNetworks(shape, config.members, seed)
    told = features if isinstance(method, CoresetConfig) and method.context else None
    return SharedNetworks(shape, config.members, seed, heads=method.heads, features=told)


def make_protection(config: HyperCRLConfig, networks: TaskNetworks) -> Protection:
    """Makes what protects the networks of a method."""
    method = config.method
    if isinstance(method, HypernetworkConfig):
        return OutputRegularizer(
            networks,
            beta=method.beta,
            tasks=method.regularized_tasks,
            look_ahead=method.look_ahead,
        )
    if isinstance(method, ElasticWeightsConfig):
        return ElasticWeights(networks, method.strength)
    if isinstance(method, SynapticIntelligenceConfig):
        return SynapticIntelligence(networks, method.strength, method.damping)
    return Protection(networks)

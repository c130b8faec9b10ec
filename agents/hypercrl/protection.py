"""What keeps a learner from forgetting earlier tasks: penalties on changes of what it learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from separatrix.agents.hypercrl.networks import TaskNetworks

Rows = tuple[Float[Tensor, "rows inputs"], Float[Tensor, "rows targets"]]
"""Normalised inputs and targets of transitions."""

SampleLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Loss of networks, (members, parameters), on one transition: weights, inputs, targets."""

SAMPLES = 50
"""Transitions whose gradients are held in memory at once."""


class Protection:
    """A penalty beside the loss of the current task; this one is none.

    Args:
        networks: What is protected.

    Attributes:
        looks_at_gradients: Whether `before_step` has to see the gradients of the task's loss alone.
    """

    looks_at_gradients = False

    def __init__(self, networks: TaskNetworks) -> None:
        self.networks = networks

    def begin(self) -> None:
        """Prepares for a task that has just been added to the networks."""
        return None

    def before_step(self, optimizer: torch.optim.Adam) -> None:
        """Looks at the gradients of the task's loss alone."""
        return None

    def loss(self, generator: torch.Generator) -> Tensor | None:
        """Returns the penalty; None as long as there is nothing to protect."""
        return None

    def after_step(self) -> None:
        """Looks at the step that was taken."""
        return None

    def end(self, task: int, rows: Rows, sample_loss: SampleLoss) -> None:
        """Learns from the data of a task, once, what has to be protected."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Returns what has to be remembered."""
        return {}

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned."""
        return None


class OutputRegularizer(Protection):
    """Holds what a hypernetwork generates for earlier tasks.

    beta times the mean over earlier tasks j of |h(e_j; theta) - h(e_j; theta*)|^2, theta* at the
    start of the current task: J. von Oswald et al., ICLR 2020, eq. 2. All earlier tasks are one
    batch, or some are drawn for each step, which makes its cost constant (S. Auddy et al.,
    arXiv:2311.03600). The look-ahead evaluates the penalty after the step of Adam that the task's
    loss alone would take.

    Args:
        networks: The hypernetwork.
        beta: Weight of the penalty.
        tasks: Earlier tasks in a step; 0 takes all.
        look_ahead: See above.
    """

    def __init__(
        self, networks: TaskNetworks, *, beta: float, tasks: int, look_ahead: bool
    ) -> None:
        super().__init__(networks)
        self.beta, self.count = beta, tasks
        self.looks_at_gradients = look_ahead
        self._targets: Tensor | None = None
        self._steps: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Generates the weights of all earlier tasks, which are to stay."""
        earlier = range(self.networks.tasks - 1)
        with torch.no_grad():
            self._targets = self.networks(earlier) if len(earlier) else None

    def before_step(self, optimizer: torch.optim.Adam) -> None:
        """Computes the step that Adam would take, for the look-ahead."""
        self._steps = {}
        if self._targets is None:
            return
        group = optimizer.param_groups[0]
        (first_decay, second_decay), rate, epsilon = group["betas"], group["lr"], group["eps"]
        names = {id(parameter): name for name, parameter in self.networks.named_parameters()}
        for parameter in group["params"]:
            state, gradient = optimizer.state.get(parameter, {}), parameter.grad
            if gradient is None:
                continue
            none = torch.zeros_like(gradient)  # before its first step Adam remembers nothing
            number = float(state.get("step", 0.0)) + 1
            first = torch.lerp(state.get("exp_avg", none), gradient, 1 - first_decay)
            second = state.get("exp_avg_sq", none)
            second = torch.lerp(second, gradient.square(), 1 - second_decay)
            first = first / (1 - first_decay**number)
            second = second / (1 - second_decay**number)
            self._steps[names[id(parameter)]] = -rate * first / (second.sqrt() + epsilon)

    def loss(self, generator: torch.Generator) -> Tensor | None:
        """Returns the penalty."""
        if self._targets is None:
            return None
        count = len(self._targets)
        chosen = list(range(count))
        if 0 < self.count < count:
            device = generator.device
            drawn = torch.randperm(count, generator=generator, device=device)[: self.count]
            chosen = drawn.tolist()
        if self._steps:
            moved = {
                name: parameter + self._steps[name]
                for name, parameter in self.networks.named_parameters()
                if name in self._steps
            }
            generated = functional_call(self.networks, moved, (chosen,))
        else:
            generated = self.networks(chosen)
        change = generated - self._targets[chosen]
        return self.beta * change.square().sum() / len(chosen)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the weights to hold."""
        return {} if self._targets is None else {"targets": self._targets}

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned."""
        self._targets = found["targets"].clone() if "targets" in found else None


class QuadraticProtection(Protection):
    """Holds common weights theta: strength times the sum of importance (theta - centre)^2.

    The penalties of all earlier tasks, each around the weights at its end, are one such sum but for
    a constant: importances add up, and the centre is their weighted mean. So the memory is constant
    and nothing is approximated.

    Args:
        networks: What is protected.
        strength: Weight of the penalty.
    """

    def __init__(self, networks: TaskNetworks, strength: float) -> None:
        super().__init__(networks)
        self.strength = strength
        weights = networks.common_parameters()
        self._importance = [torch.zeros_like(weight) for weight in weights]
        self._centre = [weight.detach().clone() for weight in weights]

    def loss(self, generator: torch.Generator) -> Tensor | None:
        """Returns the penalty."""
        if self.networks.tasks < 2:
            return None
        parts = zip(self.networks.common_parameters(), self._importance, self._centre, strict=True)
        sums = [(weight * (theta - centre).square()).sum() for theta, weight, centre in parts]
        return self.strength * torch.stack(sums).sum()

    def protect(self, importance: list[Tensor]) -> None:
        """Adds importances around the present weights."""
        for i, (theta, new) in enumerate(
            zip(self.networks.common_parameters(), importance, strict=True)
        ):
            total = self._importance[i] + new
            share = torch.where(total > 0, new / total, 0.0)
            self._centre[i] = torch.lerp(self._centre[i], theta.detach(), share)
            self._importance[i] = total

    def state_dict(self) -> dict[str, Tensor]:
        """Returns importances and centres."""
        pairs = enumerate(zip(self._importance, self._centre, strict=True))
        found: dict[str, Tensor] = {}
        for i, (importance, centre) in pairs:
            found |= {f"importance.{i}": importance, f"centre.{i}": centre}
        return found

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned."""
        for i in range(len(self._importance)):
            self._importance[i] = found[f"importance.{i}"].clone()
            self._centre[i] = found[f"centre.{i}"].clone()


class ElasticWeights(QuadraticProtection):
    """Elastic weight consolidation: the importance is the diagonal of the Fisher matrix.

    J. Kirkpatrick et al., PNAS 114 (2017) 3521, eq. 3, with half the strength in the penalty. The
    matrix is the empirical one: the mean over transitions of the squared gradient of half the
    squared error, summed over components, which is minus a log-likelihood.
    """

    def __init__(self, networks: TaskNetworks, strength: float) -> None:
        super().__init__(networks, strength / 2)

    def end(self, task: int, rows: Rows, sample_loss: SampleLoss) -> None:
        """Computes the Fisher matrix of the task's data."""
        names = {id(p): name for name, p in self.networks.named_parameters()}
        theta = {names[id(p)]: p.detach() for p in self.networks.common_parameters()}

        def loss(common: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
            weights = functional_call(self.networks, common, ([task],))[0]
            return sample_loss(weights, inputs, targets)

        gradient = vmap(grad(loss), (None, 0, 0))
        sums = {name: torch.zeros_like(value) for name, value in theta.items()}
        for inputs, targets in zip(rows[0].split(SAMPLES), rows[1].split(SAMPLES), strict=True):
            for name, values in gradient(theta, inputs, targets).items():
                sums[name] += values.detach().square().sum(0)
        self.protect([total / len(rows[0]) for total in sums.values()])


class SynapticIntelligence(QuadraticProtection):
    """The importance of a weight is by how much its changes lowered the loss of a task.

    F. Zenke, B. Poole and S. Ganguli, ICML 2017, arXiv:1703.04200, eqs. 3 to 5: the path integral
    of minus the gradient, over the squared change of the weight plus a damping. Every task is held
    around its own end; the paper's centre is the latest one for all.

    Args:
        networks: See `QuadraticProtection`.
        strength: See `QuadraticProtection`.
        damping: Added to the squared change.
    """

    looks_at_gradients = True

    def __init__(self, networks: TaskNetworks, strength: float, damping: float) -> None:
        super().__init__(networks, strength)
        self.damping = damping
        self._start = [weight.detach().clone() for weight in networks.common_parameters()]
        self._path = [torch.zeros_like(weight) for weight in self._start]
        self._before: list[tuple[Tensor, Tensor]] = []

    def begin(self) -> None:
        """Starts the path at the present weights."""
        self._start = [w.detach().clone() for w in self.networks.common_parameters()]
        self._path = [torch.zeros_like(weight) for weight in self._start]

    def before_step(self, optimizer: torch.optim.Adam) -> None:
        """Keeps weights and gradients, before the penalty's gradient is added."""
        self._before = [
            (weight.detach().clone(), _gradient(weight))
            for weight in self.networks.common_parameters()
        ]

    def after_step(self) -> None:
        """Adds the step to the path integral."""
        weights = self.networks.common_parameters()
        for path, weight, (old, gradient) in zip(self._path, weights, self._before, strict=True):
            path -= gradient * (weight.detach() - old)

    def end(self, task: int, rows: Rows, sample_loss: SampleLoss) -> None:
        """Turns the path integral into importances, none of them negative."""
        weights = self.networks.common_parameters()
        parts = zip(self._path, weights, self._start, strict=True)
        self.protect(
            [
                (path / ((weight.detach() - start).square() + self.damping)).clamp_min(0.0)
                for path, weight, start in parts
            ]
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Returns importances, centres and the path."""
        found = super().state_dict()
        for i, (start, path) in enumerate(zip(self._start, self._path, strict=True)):
            found |= {f"start.{i}": start, f"path.{i}": path}
        return found

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned."""
        super().load_state_dict(found)
        for i in range(len(self._path)):
            self._start[i] = found[f"start.{i}"].clone()
            self._path[i] = found[f"path.{i}"].clone()


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Returns a copy of a gradient, zeros if there is none."""
    found: Any = parameter.grad
    return torch.zeros_like(parameter) if found is None else found.clone()

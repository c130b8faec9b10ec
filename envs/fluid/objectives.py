"""What is wanted of a field: to be a target, to follow one, to spend little, to cost little.

Light: torch loads when a task is made. Each objective is a frozen dataclass whose fields are
options of the environment, but for functions and tables of them.
"""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from separatrix.envs.core.registration import is_positive, suggest

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import FieldState, SpectralSystem

Numbers = Mapping[str, "Tensor"]
"""Tensors of an objective, with a leading axis of one row or a row for each environment."""


REWARD_SHAPES = ("gaussian", "quadratic")


class FieldStep(NamedTuple):
    """A step as an objective sees it.

    Attributes:
        state: State after the step.
        action: Clipped actions, (batch, action).
        control: Forces that they gave, (batch, control).
    """

    state: FieldState
    action: Tensor
    control: Tensor

    @property
    def field(self) -> Tensor:
        """Fields after the step, (batch, field, *grid)."""
        return self.state.field

    @property
    def energy(self) -> Tensor:
        """The mean squared action, (batch,)."""
        return self.action.square().mean(1)


@dataclass(frozen=True)
class Objective(ABC):
    """Reward and metrics of a step.

    Attributes:
        moves: Whether they depend on time; then the target is seen.
    """

    moves: ClassVar[bool] = False

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """Keys of `metrics`."""

    def reward_range(self, system: SpectralSystem, authority: float) -> tuple[float, float]:
        """Returns the lowest and highest reward."""
        return 0.0, 1.0

    def numbers(self, system: SpectralSystem) -> dict[str, Tensor]:
        """Returns the tensors that reward and metrics take, float64."""
        return {}

    @abstractmethod
    def reward(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> Tensor:
        """Returns the rewards (batch,); `p` is what `numbers` returned, like the step's tensors."""

    @abstractmethod
    def metrics(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> dict[str, Tensor]:
        """Returns the metrics (batch,) by name."""

    def target(self, system: SpectralSystem, p: Numbers, state: FieldState) -> Tensor | None:
        """Returns the fields (rows, field, *grid) wanted at the time of states; None for none."""
        return None


@dataclass(frozen=True)
class Reach(Objective):
    """Come near to a target and stay.

    The reward is exp(-d^2 / (2 width^2)), or max(0, 1 - d^2 / width^2); d is the root mean square
    deviation from the target over the box and the fields.

    Metrics: `distance` d, `on_target` (1 within `radius`, else 0), `energy` (mean squared action).

    Attributes:
        targets: Makes the field (rows, field, *grid), float64, of each named target.
        target_name: Name of the target.
        width: Width of the reward, in units of the field.
        radius: Distance below which a state is on target.
        reward_shape: "gaussian", or "quadratic", which a polynomial model of rewards can learn.
    """

    targets: Mapping[str, Callable[[SpectralSystem], Tensor]]
    target_name: str
    width: float
    radius: float
    reward_shape: str = field(default="gaussian", kw_only=True)

    def __post_init__(self) -> None:
        require_positive(self, "width", "radius")
        if not isinstance(self.reward_shape, str) or self.reward_shape not in REWARD_SHAPES:
            got, hint = reprlib.repr(self.reward_shape), suggest(self.reward_shape, REWARD_SHAPES)
            raise ValueError(f"reward_shape: got {got}; {hint}")
        if not isinstance(self.target_name, str) or self.target_name not in self.targets:
            got, hint = reprlib.repr(self.target_name), suggest(self.target_name, self.targets)
            raise ValueError(f"target_name: got {got}; {hint}")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Keys of `metrics`."""
        return "distance", "on_target", "energy"

    def numbers(self, system: SpectralSystem) -> dict[str, Tensor]:
        """Returns the target."""
        return {"target": self.targets[self.target_name](system)}

    def target(self, system: SpectralSystem, p: Numbers, state: FieldState) -> Tensor:
        """Returns the target."""
        return p["target"]

    def reward(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> Tensor:
        """Returns exp(-d^2 / (2 width^2)) or max(0, 1 - d^2 / width^2), in [0, 1]."""
        square = self._square_distance(system, p, step) / self.width**2
        return (square / -2).exp() if self.reward_shape == "gaussian" else (1 - square).clamp(min=0)

    def metrics(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> dict[str, Tensor]:
        """Returns `distance`, `on_target` and `energy`."""
        distance = self._square_distance(system, p, step).sqrt()
        on_target = (distance < self.radius).to(distance)
        return {"distance": distance, "on_target": on_target, "energy": step.energy}

    def _square_distance(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> Tensor:
        deviation = step.field - self.target(system, p, step.state)
        return deviation.square().flatten(1).mean(1)


@dataclass(frozen=True)
class Follow(Reach):
    """Come near to a target that moves along the first axis of space, and stay with it.

    The target starts in each episode at a random place. It is seen: observations hold what the
    sensors would read of it, after what they read of the fields.

    Attributes:
        speed: Of the target, in units of length a unit of time.
    """

    speed: float
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite(self, "speed")

    def numbers(self, system: SpectralSystem) -> dict[str, Tensor]:
        """Returns the target at place 0, and the boxes that it passes in a control interval."""
        boxes = self.speed * system.control_interval / system.length
        return {**super().numbers(system), "speed": boxes}

    def target(self, system: SpectralSystem, p: Numbers, state: FieldState) -> Tensor:
        """Returns the target, moved by a phase of every Fourier mode."""
        import torch

        from separatrix.envs.core.stream import TARGET, Stream

        # Of the first draw of the episode for this purpose, wherever the stream is now.
        first = Stream(state.stream.seed, state.stream.episode, torch.zeros_like(state.interval))
        place = first.uniform(1, torch.float64, TARGET)[0][:, 0]
        grid = system.grid
        turns = (place + p["speed"].double() * state.interval).view(
            -1, *[1] * (1 + grid.dimensions)
        )
        phase = -2j * torch.pi * turns * grid.numbers[0].to(turns.device)
        moved = grid.transform(p["target"].double()) * torch.exp(phase)
        return grid.synthesize(moved).to(state.field)


@dataclass(frozen=True)
class Reduce(Objective):
    """Keep a quantity low, at little cost.

    The reward is exp(-(q / scale + control_weight * energy)), with the quantity q after the step
    and the mean squared action as energy.

    Metrics: the quantity by its name, and `energy`.

    Attributes:
        name: Name of the quantity.
        quantity: Computes it, (batch,), not negative, of a step.
        scale: Size of the quantity in the free flow.
        control_weight: Weight of the energy.
    """

    name: str
    quantity: Callable[[SpectralSystem, FieldStep], Tensor]
    scale: float
    control_weight: float

    def __post_init__(self) -> None:
        require_positive(self, "scale")
        value = self.control_weight
        if value != 0:
            require_positive(self, "control_weight")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Keys of `metrics`."""
        return self.name, "energy"

    def reward(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> Tensor:
        """Returns exp(-(q / scale + control_weight * energy)), at most 1."""
        cost = self.quantity(system, step) / self.scale + self.control_weight * step.energy
        return (-cost).exp().clamp(max=1.0)

    def metrics(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> dict[str, Tensor]:
        """Returns the quantity and the energy."""
        return {self.name: self.quantity(system, step), "energy": step.energy}


@dataclass(frozen=True)
class Regulate(Objective):
    """Bring all fields to a constant at the least quadratic cost, as controlgym has it.

    The reward is minus the sum of the squares of the deviations at all points of the grid and of
    the forces of all actuators, weighted. controlgym counts the deviations before the step, this
    one after.

    Metrics: `state_cost` and `control_cost`, whose sum is minus the reward.

    Attributes:
        level: The constant.
        control_weight: Weight of the squared forces.
    """

    level: float
    control_weight: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "control_weight")
        require_finite(self, "level")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Keys of `metrics`."""
        return "state_cost", "control_cost"

    def reward_range(self, system: SpectralSystem, authority: float) -> tuple[float, float]:
        """Returns the lowest reward, at the bounds of the fields, and zero."""
        points = system.grid.points**system.grid.dimensions
        largest = points * sum((bound + abs(self.level)) ** 2 for bound in system.definition.bound)
        return -(largest + self.control_weight * len(system.actuators) * authority**2), 0.0

    def numbers(self, system: SpectralSystem) -> dict[str, Tensor]:
        """Returns the target."""
        return {"target": constant(self.level)(system)}

    def target(self, system: SpectralSystem, p: Numbers, state: FieldState) -> Tensor:
        """Returns the constant field."""
        return p["target"]

    def reward(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> Tensor:
        """Returns minus the cost."""
        costs = self.metrics(system, p, step)
        return -(costs["state_cost"] + costs["control_cost"])

    def metrics(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> dict[str, Tensor]:
        """Returns the two costs."""
        deviation = step.field - p["target"]
        return {
            "state_cost": deviation.square().flatten(1).sum(1),
            "control_cost": self.control_weight * step.control.square().sum(1),
        }


def target_place(stream: Stream) -> Tensor:
    """Returns where a target that moves begins in each episode, in boxes, uniform in [0, 1).

    Args:
        stream: Positions of the random streams; the place is that of their episode, wherever in it
            they are.
    """
    import torch

    from separatrix.envs.core.stream import TARGET, Stream

    first = Stream(stream.seed, stream.episode, torch.zeros_like(stream.draw))
    return first.uniform(1, torch.float64, TARGET)[0][:, 0]


def constant(value: float) -> Callable[[SpectralSystem], Tensor]:
    """Returns what makes the target of constant fields."""

    def make(system: SpectralSystem) -> Tensor:
        import torch

        shape = (1, len(system.definition.fields), *system.grid.shape)
        return torch.full(shape, float(value), dtype=torch.float64)

    return make


def require_positive(objective: Any, *names: str) -> None:
    """Checks options of an objective.

    Raises:
        ValueError: One is not a number > 0.
    """
    for name in names:
        value = getattr(objective, name)
        if not is_positive(value):
            raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: a number > 0")


def require_finite(objective: Any, name: str) -> None:
    """Checks an option of an objective that may have either sign.

    Raises:
        ValueError: It is not a finite number.
    """
    value = getattr(objective, name)
    if value != 0 and not (isinstance(value, int | float) and is_positive(abs(value))):
        raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: a finite number")

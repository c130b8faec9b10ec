"""What tasks of one target share: forces, a reward that falls with the distance, and metrics."""

from __future__ import annotations

import reprlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import is_positive
from separatrix.envs.steppers.component_task import Components, ComponentTask, Parameters
from separatrix.envs.steppers.functions import Expression, exp, sqrt, where

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem


@dataclass(frozen=True)
class DistanceTask(ComponentTask):
    """A task whose target is a state, an orbit, or a surface: come near to it and stay.

    The reward is exp(-d^2 / (2 width^2)) with the distance d after the step.

    Metrics: `distance` d, `on_target` (1 within `radius`, else 0), `energy` (mean squared action).

    Attributes:
        width: Width of the reward, in units of the distance.
        radius: Distance below which a state is on target.
    """

    width: float
    radius: float

    def __post_init__(self) -> None:
        require_positive(self, "width", "radius")

    @abstractmethod
    def square_distance(self, state: Components, parameters: Parameters) -> Expression:
        """Returns the square of the distance between a state and the target."""

    def force(self, system: OdeSystem) -> Tensor:
        """Returns the control at action 1, float64 (1, control); by default 1."""
        import torch

        return torch.ones((1, len(system.definition.control_names)), dtype=torch.float64)

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns the forces and the two lengths."""
        return {"force": self.force(system), "width": self.width, "radius": self.radius}

    def control(self, action: Components, parameters: Parameters) -> Components:
        """Scales actions to forces."""
        return [a * force for a, force in zip(action, parameters["force"], strict=True)]

    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        """Returns exp(-d^2 / (2 width^2)), in (0, 1]."""
        square = self.square_distance(next_state, parameters)
        return exp(-square / (2 * parameters["width"] ** 2))

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        """Returns `distance`, `on_target` and `energy`."""
        distance = sqrt(self.square_distance(next_state, parameters))
        squares = [(u / force) ** 2 for u, force in zip(control, parameters["force"], strict=True)]
        return {
            "distance": distance,
            "on_target": where(distance < parameters["radius"], 1, 0),
            "energy": sum(squares) / len(squares),
        }


def require_positive(task: Any, *names: str) -> None:
    """Checks options of a task.

    Raises:
        ValueError: One is not a number > 0.
    """
    for name in names:
        value = getattr(task, name)
        if not is_positive(value):
            raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: a number > 0")

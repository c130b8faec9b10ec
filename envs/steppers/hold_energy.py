"""The task of driving a system to an energy and holding it there."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from separatrix.envs.steppers.component_task import Components, Parameters
from separatrix.envs.steppers.distance_task import DistanceTask
from separatrix.envs.steppers.functions import Expression

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem


@dataclass(frozen=True)
class HoldEnergy(DistanceTask):
    """Bring the energy of the system to a value and hold it.

    The distance is |E - target_energy|, in units of the energy. The task has no equilibrium: every
    motion of the right energy is on target.

    Metrics: those of `DistanceTask`, and `total_energy` E after the step.

    Attributes:
        target_energy: The energy to hold.
    """

    target_energy: float

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.target_energy
        if not (isinstance(value, int | float) and math.isfinite(value)):
            raise ValueError(f"target_energy: got {value!r}; allowed: a finite number")

    @abstractmethod
    def total_energy(self, state: Components, parameters: Parameters) -> Expression:
        """Returns the energy of a state; the system's parameters are among `parameters`."""

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns the parameters of the system and the numbers of the task."""
        own = {"target_energy": self.target_energy}
        return {**system.parameters, **super().parameters(system), **own}

    def excess(self, state: Components, parameters: Parameters) -> Expression:
        """Returns by how many widths of the reward the energy is too high."""
        surplus = self.total_energy(state, parameters) - parameters["target_energy"]
        return surplus / parameters["width"]

    def square_distance(self, state: Components, parameters: Parameters) -> Expression:
        """Returns (E - target_energy)^2."""
        return (self.total_energy(state, parameters) - parameters["target_energy"]) ** 2

    def target_points(self, system: OdeSystem) -> Float[np.ndarray, "points state"]:
        """Returns no point: the target is a surface."""
        return np.empty((0, len(system.definition.state_names)))

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        """Returns those of `DistanceTask`, and `total_energy`."""
        metrics = super().metrics(state, control, next_state, parameters)
        return {**metrics, "total_energy": self.total_energy(next_state, parameters)}

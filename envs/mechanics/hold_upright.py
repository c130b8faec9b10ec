"""The task of balancing a chain of pendulums upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from separatrix.envs.steppers.component_task import Components, Parameters
from separatrix.envs.steppers.distance_task import DistanceTask
from separatrix.envs.steppers.functions import Expression, angle_of, cos, sin

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem

SPEED_SCALE = 8.0
"""Unit of angular velocities in observations, rad/s."""


LEAST_SQUARED_RATE = 1e-6
"""Smallest gravity / length, in 1/s^2: velocities are measured in units of its square root."""


@dataclass(frozen=True)
class HoldUpright(DistanceTask):
    """Hold all links upright and at rest.

    The first half of the states are the angles of the links from upright, the second half their
    velocities. With w^2 = gravity / (sum of the lengths), the squared distance to the target is

        d^2 = sum of 2 (1 - cos angle) + (velocity / w)^2

    near upright the squared angles and scaled velocities. Metrics: `distance` d, `on_target` (1
    within `radius`, else 0), `energy` (mean squared action).
    """

    def equilibrium(self, system: OdeSystem) -> Tensor:
        """Returns all links upright and at rest, zeros (1 or num_envs, state)."""
        import torch

        rows = 1 if system.shared else system.num_envs
        return torch.zeros((rows, len(system.definition.state_names)), dtype=torch.float64)

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns the square of the natural frequency and the numbers of the reward."""
        lengths = [value for name, value in system.parameters.items() if name.endswith("length")]
        squared_rate = system.parameters["gravity"] / sum(lengths)
        if not (squared_rate > LEAST_SQUARED_RATE).all():
            raise ValueError(
                f"gravity and lengths: got gravity / length {squared_rate.tolist()}; allowed: "
                f"numbers > {LEAST_SQUARED_RATE}, for its square root is the unit of velocities"
            )
        return {"squared_rate": squared_rate, **super().parameters(system)}

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns 1 for cosines and sines, and the safe box for velocities, scaled."""
        return upright_bound(system)

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns cosines and sines of the angles, and the scaled velocities."""
        return observe_links(state)

    def state_of(self, observation: Components, parameters: Parameters) -> Components:
        """Returns angles and velocities."""
        return links_of(observation)

    def square_distance(self, state: Components, parameters: Parameters) -> Expression:
        """Returns d^2."""
        angles, velocities = halves(state)
        lean = sum(2 * (1 - cos(angle)) for angle in angles)
        return lean + sum(v**2 for v in velocities) / parameters["squared_rate"]


def halves(state: Components) -> tuple[Components, Components]:
    """Returns angles and velocities."""
    middle = len(state) // 2
    return state[:middle], state[middle:]


def observe_links(state: Components) -> list[Expression]:
    """Returns the cosines of all angles, their sines, and the scaled velocities."""
    angles, velocities = halves(state)
    return [
        *(cos(angle) for angle in angles),
        *(sin(angle) for angle in angles),
        *(velocity / SPEED_SCALE for velocity in velocities),
    ]


def links_of(observation: Components) -> list[Expression]:
    """Returns the angles, each within one turn, and velocities that `observe_links` shows."""
    count = len(observation) // 3
    cosines, sines = observation[:count], observation[count : 2 * count]
    angles = [angle_of(c, s) for c, s in zip(cosines, sines, strict=True)]
    return [*angles, *(SPEED_SCALE * v for v in observation[2 * count :])]


def upright_bound(system: OdeSystem) -> np.ndarray:
    """Returns the largest magnitudes of `observe_links` in the safe box."""
    _, high = system.definition.bounds()
    count = len(high) // 2
    return np.append(np.ones(2 * count), high[count:] / SPEED_SCALE)

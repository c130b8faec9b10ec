"""The task of holding a chaotic system at an unstable fixed point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from separatrix.envs.chaotic.attractor import attractor_of, forced_flow
from separatrix.envs.steppers.component_task import Components, Parameters
from separatrix.envs.steppers.distance_task import DistanceTask, require_positive
from separatrix.envs.steppers.functions import Expression

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem


@dataclass(frozen=True)
class HoldFixedPoint(DistanceTask):
    """Hold the state at a fixed point of the uncontrolled system.

    The action scales an additive force: each force is `authority` times the root mean square of
    the flow in the equation it acts on, over the attractor of the default parameters. The
    observation is the deviation from the fixed point in units of the attractor's standard
    deviation, and the reward is exp(-d^2 / (2 width^2)) with the Euclidean distance d after the
    step. The fixed point is that of each environment's own parameters.

    Metrics: `distance` d, `on_target` (1 within `radius`, else 0), `energy` (mean squared action).

    Attributes:
        near: Where the search for the fixed point starts.
        authority: Largest force, in units of the flow.
    """

    near: tuple[float, ...]
    authority: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "authority")

    def equilibrium(self, system: OdeSystem) -> Tensor:
        """Returns the fixed point of each environment, (1 or num_envs, state) in float64."""
        from separatrix.envs.analysis.equilibria import fixed_point

        return fixed_point(system, self.near)

    def force(self, system: OdeSystem) -> Tensor:
        """Returns the largest forces, (1, control)."""
        return self.authority * forced_flow(system)[None]

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns the fixed point, the scale of the observation, and the numbers of the reward."""
        import torch

        scale = torch.from_numpy(attractor_of(system).statistic("standard_deviation"))[None]
        own = {"target": self.equilibrium(system), "scale": scale}
        return {**own, **super().parameters(system)}

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the size of the safe box in standard deviations, whatever the fixed point."""
        low, high = system.definition.bounds()
        return (high - low) / attractor_of(system).statistic("standard_deviation")

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns the scaled deviation from the fixed point."""
        p = parameters
        return [(x - t) / s for x, t, s in zip(state, p["target"], p["scale"], strict=True)]

    def state_of(self, observation: Components, parameters: Parameters) -> Components:
        """Returns the state: the fixed point and the deviation from it."""
        p = parameters
        return [o * s + t for o, t, s in zip(observation, p["target"], p["scale"], strict=True)]

    def square_distance(self, state: Components, parameters: Parameters) -> Expression:
        """Returns the square of the Euclidean distance to the fixed point."""
        return sum((x - t) ** 2 for x, t in zip(state, parameters["target"], strict=True))

"""Attractors of the chaotic systems: points to start from, and the scales of their coordinates.

They are data, computed once by `separatrix.envs.chaotic.characterize`, so that everybody starts
from the same points.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.ode_system import OdeSystem

NUM_POINTS = 2048


@dataclass(frozen=True)
class Attractor:
    """The attractor of a system with its default parameters, which is also where episodes start.

    Attributes:
        name: Name of the data file.
        margin: The safe box is the smallest box around the attractor, widened about its centre by
            this factor.
    """

    name: str
    margin: float = 5.0

    def statistic(self, key: str) -> np.ndarray:
        """Returns a statistic, float64 of shape (state,).

        Args:
            key: "mean", "standard_deviation", "low", "high", or "flow_rms", the root mean square
                of the time derivative without control.
        """
        return np.array(_statistics()[self.name][key], dtype=np.float64)

    def points(self) -> np.ndarray:
        """Returns points of the attractor, (2048, state) in float32."""
        return _points(self.name)

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lower and upper bounds of the safe box."""
        low, high = self.statistic("low"), self.statistic("high")
        centre, half = (low + high) / 2, (high - low) / 2
        return centre - self.margin * half, centre + self.margin * half

    def sample(self, stream: Stream) -> tuple[torch.Tensor, Stream]:
        """Draws points of the attractor, (batch, state) in float64."""
        from separatrix.envs.core.stream import INITIAL_STATE

        index, stream = stream.integers(NUM_POINTS, INITIAL_STATE)
        return _point_tensor(self.name).index_select(0, index.cpu()), stream


def attractor_of(system: OdeSystem) -> Attractor:
    """Returns the attractor that a system starts on.

    Raises:
        TypeError: It starts elsewhere.
    """
    start = system.definition.start
    if not isinstance(start, Attractor):
        raise TypeError(f"{system.definition.name} does not start on an attractor")
    return start


def forced_flow(system: OdeSystem) -> torch.Tensor:
    """Returns the root mean square of the flow in the equation that each control acts on.

    Returns:
        float64 of shape (control,).

    Raises:
        ValueError: A control enters more than one equation, or not as an additive force.
    """
    import torch

    from separatrix.envs.steppers.ode_system import traced
    from separatrix.envs.steppers.symbolic import jacobian

    program = traced(system.definition)
    entries = jacobian(program.vector_field, program.control)
    flow = attractor_of(system).statistic("flow_rms")
    rows: dict[int, int] = {}
    for (i, j), slope in entries.items():
        if slope != 1 or j in rows:
            raise ValueError(
                f"{system.definition.name}: control {program.control[j]} must be added to exactly "
                "one equation"
            )
        rows[j] = i
    return torch.tensor([flow[rows[j]] for j in range(len(program.control))], dtype=torch.float64)


@cache
def _statistics() -> dict[str, Any]:
    text = resources.files("separatrix.envs.chaotic").joinpath("data/attractors.json").read_text()
    return json.loads(text)["attractors"]


@cache
def _points(name: str) -> np.ndarray:
    file = resources.files("separatrix.envs.chaotic").joinpath(f"data/{name}.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        points: np.ndarray = data["points"]
    points.setflags(write=False)
    return points


@cache
def _point_tensor(name: str) -> torch.Tensor:
    import torch

    return torch.tensor(_points(name), dtype=torch.float64)

"""The task of holding a chaotic system at an unstable fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from separatrix.envs.chaotic.attractor import attractor_of
from separatrix.envs.steppers.component_task import Components, ComponentTask, Parameters
from separatrix.envs.steppers.functions import Expression, exp, sqrt, where

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem


@dataclass(frozen=True)
class HoldFixedPoint(ComponentTask):
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
        width: Width of the reward, in units of the state.
        radius: Radius of the target ball, in units of the state.
    """

    near: tuple[float, ...]
    authority: float
    width: float
    radius: float

    def __post_init__(self) -> None:
        for name in ("authority", "width", "radius"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: got {value!r}; allowed: a number > 0")

    def equilibrium(self, system: OdeSystem) -> Tensor:
        """Returns the fixed point of each environment, (1 or num_envs, state) in float64."""
        return fixed_point(system, self.near)

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns fixed point, scale of the observation, forces and the two lengths."""
        import torch

        scale = torch.from_numpy(attractor_of(system).statistic("standard_deviation"))[None]
        return {
            "target": self.equilibrium(system),
            "scale": scale,
            "force": self.authority * forced_flow(system)[None],
            "width": self.width,
            "radius": self.radius,
        }

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the size of the safe box in standard deviations, whatever the fixed point."""
        low, high = system.definition.bounds()
        return (high - low) / attractor_of(system).statistic("standard_deviation")

    def control(self, action: Components, parameters: Parameters) -> Components:
        """Scales actions to forces."""
        return [a * force for a, force in zip(action, parameters["force"], strict=True)]

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns the scaled deviation from the fixed point."""
        p = parameters
        return [(x - t) / s for x, t, s in zip(state, p["target"], p["scale"], strict=True)]

    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        """Returns exp(-d^2 / (2 width^2)), in (0, 1]."""
        square = _square_distance(next_state, parameters)
        return exp(-square / (2 * parameters["width"] ** 2))

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        """Returns `distance`, `on_target` and `energy`."""
        distance = sqrt(_square_distance(next_state, parameters))
        squares = [(u / force) ** 2 for u, force in zip(control, parameters["force"], strict=True)]
        return {
            "distance": distance,
            "on_target": where(distance < parameters["radius"], 1, 0),
            "energy": sum(squares) / len(squares),
        }


def _square_distance(state: Components, parameters: Parameters) -> Any:
    return sum((x - t) ** 2 for x, t in zip(state, parameters["target"], strict=True))


def forced_flow(system: OdeSystem) -> Tensor:
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


def fixed_point(system: OdeSystem, near: tuple[float, ...], tolerance: float = 1e-12) -> Tensor:
    """Finds a zero of the uncontrolled vector field by Newton's method, in float64.

    Args:
        system: The system; every environment's own parameters are used.
        near: Where to start.
        tolerance: Largest residual, relative to the size of the starting point (at least 1).

    Returns:
        Fixed points, (1, state) with shared parameters, else (num_envs, state).

    Raises:
        ValueError: Newton's method did not converge, or `near` is not a state.
    """
    import torch

    from separatrix.envs.core.inputs import read_numbers

    batch, size = 1 if system.shared else system.num_envs, len(system.definition.state_names)
    start = read_numbers("near", near).to("cpu", torch.float64)
    if start.shape != (size,) or not start.isfinite().all():
        raise ValueError(f"near: got {near!r}; allowed: {size} finite numbers")
    values = start.repeat(batch, 1)
    control = torch.zeros((batch, len(system.definition.control_names)), dtype=torch.float64)
    for _ in range(50):
        residual = system.vector_field(values, control)
        if residual.abs().max() <= tolerance * max(1.0, float(start.abs().max())):
            return values
        jacobian, _ = system.jacobian(values, control)
        step, singular = torch.linalg.solve_ex(jacobian, residual)
        if singular.any():
            break
        values = values - step
    raise ValueError(
        f"{system.definition.name}: no fixed point found from {near} with parameters "
        f"{ {name: value.tolist() for name, value in system.parameters.items()} }"
    )

"""The task of following an unstable periodic orbit of a driven chaotic system."""

from __future__ import annotations

import copy
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from separatrix.envs.chaotic.attractor import attractor_of, forced_flow
from separatrix.envs.steppers.component_task import Components, Parameters
from separatrix.envs.steppers.distance_task import DistanceTask, require_positive
from separatrix.envs.steppers.functions import Expression, angle_of, cos, sin

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem

HARMONICS = 12
"""Harmonics of the drive in an orbit."""


@dataclass(frozen=True)
class FollowOrbit(DistanceTask):
    """Follow a periodic orbit of the uncontrolled system whose period is that of the drive.

    The last state of the system is the phase of the drive. The orbit gives the other states as
    Fourier series of the phase, and the distance d is to the point of the orbit at the same phase.
    The action scales an additive force: each force is `authority` times the root mean square of
    the flow in the equation it acts on, over the attractor of the default parameters. The
    observation is the deviation from the orbit in units of the attractor's standard deviation,
    followed by cosine and sine of the phase. The orbit is that of each environment's own
    parameters. There is no equilibrium, hence no LQR.

    Metrics: `distance` d, `on_target` (1 within `radius`, else 0), `energy` (mean squared action).

    Attributes:
        near: Where the search for the orbit starts: mean and coefficients of cosine and sine of
            the phase, for one state after the other.
        authority: Largest force, in units of the flow.
    """

    near: tuple[float, ...]
    authority: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "authority")

    def force(self, system: OdeSystem) -> Tensor:
        """Returns the largest forces, (1, control)."""
        return self.authority * forced_flow(system)[None]

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns the orbit, the scale of the observation, and the numbers of the reward."""
        import torch

        scale = torch.from_numpy(attractor_of(system).statistic("standard_deviation"))[None, :-1]
        orbit = periodic_orbit(system, self.near).flatten(1)
        return {"orbit": orbit, "scale": scale, **super().parameters(system)}

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the size of the safe box in standard deviations, and 1 for cosine and sine."""
        low, high = system.definition.bounds()
        size = (high - low) / attractor_of(system).statistic("standard_deviation")
        return np.append(size[:-1], (1.0, 1.0))

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns the scaled deviation from the orbit, and cosine and sine of the phase."""
        away = deviation(state, parameters["orbit"])
        scaled = [d / s for d, s in zip(away, parameters["scale"], strict=True)]
        return [*scaled, cos(state[-1]), sin(state[-1])]

    def state_of(self, observation: Components, parameters: Parameters) -> Components:
        """Returns the state: the point of the orbit at the phase and the deviation from it."""
        *scaled, cosine, sine = observation
        phase = angle_of(cosine, sine)
        orbit = [-d for d in deviation([*(0 for _ in scaled), phase], parameters["orbit"])]
        scale = parameters["scale"]
        return [*(o + x * s for o, x, s in zip(orbit, scaled, scale, strict=True)), phase]

    def square_distance(self, state: Components, parameters: Parameters) -> Expression:
        """Returns the square of the Euclidean distance to the orbit at the same phase."""
        return sum(d**2 for d in deviation(state, parameters["orbit"]))

    def target_points(self, system: OdeSystem) -> Float[np.ndarray, "points state"]:
        """Returns the orbit of the first environment at 200 phases."""
        orbit = periodic_orbit(system, self.near)[0].numpy()
        phase = np.linspace(-np.pi, np.pi, 200, endpoint=False)
        return np.column_stack((fourier(phase)[0] @ orbit.T, phase))


def deviation(state: Components, orbit: Sequence[Expression]) -> list[Expression]:
    """Returns state minus orbit at the phase of the state, for all states but the phase.

    Args:
        state: The states; the last is the phase.
        orbit: For each of the others mean, coefficients of cosine and coefficients of sine.
    """
    *others, phase = state
    cosines, sines = [1, cos(phase)], [0, sin(phase)]
    for _ in range(HARMONICS - 1):  # cos(k p) + cos((k - 2) p) = 2 cos(p) cos((k - 1) p)
        cosines.append(2 * cosines[1] * cosines[-1] - cosines[-2])
        sines.append(2 * cosines[1] * sines[-1] - sines[-2])
    terms = [*cosines, *sines[1:]]
    size = len(terms)
    return [
        x - sum(c * term for c, term in zip(orbit[i * size : (i + 1) * size], terms, strict=True))
        for i, x in enumerate(others)
    ]


def fourier(phase: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns 1, cosines and sines of a phase and its multiples, and their derivatives.

    Args:
        phase: Radians, (phases,).

    Returns:
        Two arrays of shape (phases, 1 + 2 * HARMONICS).
    """
    order = np.arange(1, HARMONICS + 1)
    angle = phase[:, None] * order
    values = np.hstack((np.ones((len(phase), 1)), np.cos(angle), np.sin(angle)))
    slopes = np.hstack((np.zeros((len(phase), 1)), -order * np.sin(angle), order * np.cos(angle)))
    return values, slopes


def periodic_orbit(
    system: OdeSystem, near: tuple[float, ...]
) -> Float[Tensor, "rows component coefficient"]:
    """Finds a periodic orbit of a driven system without control, in float64.

    The unknowns are Fourier coefficients; Newton's method makes the equations of motion hold at
    25 phases of the drive, one for each coefficient (collocation), which finds unstable orbits as
    well as stable ones. It starts with the default parameters of the system and follows the orbit
    in four steps to each environment's own, so that all environments get the same branch.

    Args:
        system: A system whose last state is the phase of the drive, the only angle.
        near: Where to start, see `FollowOrbit`.

    Returns:
        For every state but the phase its mean, coefficients of cosine, and coefficients of sine;
        one row with shared parameters, else num_envs.

    Raises:
        ValueError: The search did not converge, `near` has another number of entries, or the last
            state is not the phase of a drive.
    """
    import torch

    from separatrix.envs.core.inputs import read_numbers

    definition = system.definition
    if definition.angles != definition.state_names[-1:]:
        raise ValueError(f"{definition.name}: the last state must be the phase of the drive")
    size = len(definition.state_names) - 1
    start = read_numbers("near", near).to("cpu", torch.float64)
    if start.shape != (3 * size,) or not start.isfinite().all():
        raise ValueError(f"near: got {near!r}; allowed: {3 * size} finite numbers")
    rows = 1 if system.shared else system.num_envs
    orbit = torch.zeros((rows, size, 1 + 2 * HARMONICS), dtype=torch.float64)
    orbit[..., [0, 1, 1 + HARMONICS]] = start.reshape(size, 3)
    defaults = definition.parameters
    for fraction in np.linspace(0, 1, 5).tolist():
        between = copy.copy(system)
        between.parameters = {
            name: defaults[name] + fraction * (value - defaults[name])
            for name, value in system.parameters.items()
        }
        orbit = _newton(between, orbit, near)
        if all((value == defaults[name]).all() for name, value in system.parameters.items()):
            break
    return orbit


def _newton(
    system: OdeSystem, orbit: Float[Tensor, "rows component coefficient"], near: tuple[float, ...]
) -> Float[Tensor, "rows component coefficient"]:
    """Improves an orbit until the residual of the equations of motion is below 1e-10."""
    import torch

    rows, size, count = orbit.shape
    phases = 2 * math.pi * np.arange(count) / count
    values, slopes = (torch.from_numpy(array) for array in fourier(phases))
    everywhere = system.select(torch.arange(rows).repeat_interleave(count))  # a row for each phase
    place = torch.from_numpy(phases).repeat(rows)[:, None]
    control = torch.zeros((rows * count, len(system.definition.control_names)), dtype=torch.float64)
    for _ in range(50):
        # A product and a sum, for the rounding of a matrix product depends on the batch's size.
        position, slope = ((orbit[:, None] * m[:, None]).sum(-1) for m in (values, slopes))
        points = torch.cat((position.reshape(rows * count, size), place), 1)
        flow = everywhere.vector_field(points, control).reshape(rows, count, size + 1)
        rate = flow[..., -1:]
        residual = rate * slope - flow[..., :-1]
        found = residual.abs().amax((1, 2)) < 1e-10
        if found.all():
            return orbit
        jacobian = everywhere.jacobian(points, control)[0].reshape(rows, count, size + 1, size + 1)
        # By phase and state of the residual, and by state and coefficient of the orbit.
        identity = torch.eye(size, dtype=torch.float64)[..., None]
        drift = rate[..., None, None] * identity * slopes[:, None, None]
        gradient = drift - jacobian[..., :-1, :-1, None] * values[:, None, None]
        step, singular = torch.linalg.solve_ex(
            gradient.reshape(rows, count * size, size * count), residual.flatten(1)
        )
        if singular.any():
            break
        # Nothing of a row may depend on its neighbours, hence no more steps where it is found.
        orbit = torch.where(found[:, None, None], orbit, orbit - step.reshape(orbit.shape))
    raise ValueError(
        f"{system.definition.name}: no periodic orbit found from {near} with parameters "
        f"{ {name: reprlib.repr(value.tolist()) for name, value in system.parameters.items()} }"
    )

"""H2 and H-infinity output feedback, designed by the algorithms of SLICOT.

Both act on the generalized plant

    x+ = A x + B a + W^(1/2) w,    y = C x + V^(1/2) v,    z = (Q^(1/2) x, R^(1/2) a)

and make the closed loop from (w, v) to z small: H2 in the mean over white noise, H-infinity in the
worst case over all signals of finite energy (J. C. Doyle, K. Glover, P. P. Khargonekar, B. A.
Francis, IEEE Trans. Automat. Contr. 34 (1989) 831). They need `pip install 'separatrix[robust]'`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.output_feedback import (
    Compensator,
    Covariance,
    OutputFeedback,
    Problem,
)
from separatrix.envs.core.environment import Environment

LARGEST_NORM = 1e12
SEARCHED = 1e-3
"""Relative precision of the smallest attainable norm."""


class Matrices(NamedTuple):
    """A linear system x+ = A x + B u, y = C x + D u; with x' for x+ in continuous time."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray


class H2(OutputFeedback):
    """The H2 controller of the continuous-time linearization, sampled by Tustin's rule.

    For a control interval that is short against the dynamics it is `LQG`, which is the H2
    controller in discrete time and exact for every interval. The noises are those of a control
    interval, as in `LQG`.

    Args:
        environment: An environment over an ODE system whose task has an equilibrium, without
            wrappers that have a memory.
        process_noise: See `separatrix.controllers.output_feedback.OutputFeedback`.
        measurement_noise: Likewise.
        control_weight: Likewise.

    Raises:
        ValueError: See `OutputFeedback`.
        ImportError: The package slycot is missing.
    """

    time = "continuous"

    def design(self, problem: Problem) -> Compensator:
        """Calls `control.h2syn`."""
        # White noise of the same effect: intensities are covariances times or over the interval.
        process, measurement = np.sqrt(1 / problem.interval), np.sqrt(problem.interval)
        plant = generalized_plant(problem, process, measurement)
        _require_slycot()
        import control

        try:
            found = control.h2syn(control.ss(*plant), len(problem.c), problem.b.shape[1])
        except ArithmeticError as error:
            raise ValueError(f"the linearized system cannot be stabilized: {error}") from None
        sampled = tustin(Matrices(found.A, found.B, found.C, found.D), problem.interval)
        return Compensator(*sampled, np.zeros_like(problem.b))


class HInfinity(OutputFeedback):
    """The H-infinity controller of the discrete-time linearization.

    It is SLICOT's SB10DD, the central controller of the sampled system itself, at a norm a little
    above the smallest attainable one, which a bisection finds.

    Args:
        environment: See `separatrix.controllers.output_feedback.OutputFeedback`, as for the rest.
        process_noise: Square of the weight of disturbances of the state.
        measurement_noise: Square of the weight of errors of the observation.
        control_weight: Weight of the squared action.
        margin: Factor between the norm that is designed for and the smallest one attainable, above
            1. The very smallest asks for gains without bound.

    Attributes:
        norm: The bound on the closed loop's norm from (w, v) to z that was designed for, of each
            environment or of all, in float64.

    Raises:
        ValueError: See `OutputFeedback`.
        ImportError: The package slycot is missing.
    """

    norm: Float[Tensor, " rows"]

    def __init__(
        self,
        environment: Environment,
        *,
        process_noise: Covariance,
        measurement_noise: Covariance,
        control_weight: float = 0.1,
        margin: float = 1.1,
    ) -> None:
        if not margin > 1:
            raise ValueError(f"margin: got {margin!r}; allowed: a number > 1")
        self._margin = margin
        self._norms: list[float] = []
        super().__init__(
            environment,
            process_noise=process_noise,
            measurement_noise=measurement_noise,
            control_weight=control_weight,
        )
        self.norm = torch.tensor(self._norms, dtype=torch.float64)

    def design(self, problem: Problem) -> Compensator:
        """Searches the smallest attainable norm, and designs for `margin` times that.

        Raises:
            ValueError: No controller stabilizes the linearized system.
        """
        plant = generalized_plant(problem)
        outputs, actions = len(problem.c), problem.b.shape[1]
        low, high = 0.0, 1.0
        while _central_controller(plant, outputs, actions, high) is None:
            low, high = high, 10 * high
            if high > LARGEST_NORM:
                raise ValueError("the linearized system cannot be stabilized by its observations")
        while high - low > SEARCHED * high:
            middle = (low + high) / 2
            if _central_controller(plant, outputs, actions, middle) is None:
                low = middle
            else:
                high = middle
        found = _central_controller(plant, outputs, actions, self._margin * high)
        if found is None:
            raise ValueError(f"no controller was found for the norm {self._margin * high}")
        self._norms.append(self._margin * high)
        return Compensator(*found, np.zeros_like(problem.b))


def generalized_plant(
    problem: Problem, process_scale: float = 1.0, measurement_scale: float = 1.0
) -> Matrices:
    """Returns the plant from (w, v, a) to (z, y).

    Args:
        problem: Model, weights and noises.
        process_scale: Factor of the weight of w.
        measurement_scale: Factor of the weight of v.
    """
    p = problem
    n, m = p.b.shape
    outputs = len(p.c)
    disturbance = process_scale * _root(p.process_noise)
    noise = measurement_scale * _root(p.measurement_noise)
    b = np.concatenate((disturbance, np.zeros((n, outputs)), p.b), 1)
    c = np.concatenate((_root(p.state_weight), np.zeros((m, n)), p.c))
    d = np.zeros((n + m + outputs, n + outputs + m))
    d[n : n + m, n + outputs :] = _root(p.control_weight)
    d[n + m :, n : n + outputs] = noise
    return Matrices(p.a, b, c, d)


def tustin(system: Matrices, interval: float) -> Matrices:
    """Samples a continuous-time system by Tustin's rule, s = (2 / interval) (z - 1) / (z + 1)."""
    half = interval / 2 * system.a
    inverse = np.linalg.inv(np.eye(len(half)) - half)
    return Matrices(
        inverse @ (np.eye(len(half)) + half),
        interval * inverse @ system.b,
        system.c @ inverse,
        system.d + interval / 2 * system.c @ inverse @ system.b,
    )


def close_loop(plant: Matrices, controller: Matrices) -> Matrices:
    """Returns the closed loop from (w, v) to z of a generalized plant with D22 = 0."""
    actions, outputs = controller.d.shape
    b1, b2 = np.split(plant.b, [-actions], 1)
    c1, c2 = np.split(plant.c, [-outputs])
    d12, d21 = plant.d[:-outputs, -actions:], plant.d[-outputs:, :-actions]
    k = controller
    return Matrices(
        np.block([[plant.a + b2 @ k.d @ c2, b2 @ k.c], [k.b @ c2, k.a]]),
        np.concatenate((b1 + b2 @ k.d @ d21, k.b @ d21)),
        np.concatenate((c1 + d12 @ k.d @ c2, d12 @ k.c), 1),
        plant.d[:-outputs, :-actions] + d12 @ k.d @ d21,
    )


def _central_controller(
    plant: Matrices, outputs: int, actions: int, norm: float
) -> Matrices | None:
    """Returns the central H-infinity controller of a discrete-time plant.

    Returns:
        None if there is no controller that stabilizes the plant and keeps to the norm.
    """
    _require_slycot()
    import slycot

    (n, inputs), results = plant.b.shape, len(plant.c)
    try:
        found = slycot.sb10dd(n, inputs, results, actions, outputs, norm, *plant)
    except ArithmeticError:
        return None
    controller = Matrices(*found[1:5])
    radius = np.abs(np.linalg.eigvals(close_loop(plant, controller).a)).max()
    return controller if radius < 1 else None


def _root(matrix: np.ndarray) -> np.ndarray:
    """Returns the symmetric square root of a covariance or weight."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def _require_slycot() -> None:
    if find_spec("slycot") is None:
        raise ImportError(
            "H2 and H-infinity design need the package slycot: pip install 'separatrix[robust]'"
        )

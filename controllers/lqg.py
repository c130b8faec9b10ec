"""The linear-quadratic-Gaussian controller: LQR on the estimate of a Kalman filter."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.lqr import design as design_regulator
from separatrix.controllers.output_feedback import (
    Compensator,
    Covariance,
    OutputFeedback,
    Problem,
)
from separatrix.envs.core.environment import Environment


class LQG(OutputFeedback):
    """Discrete-time LQG: the best linear feedback of noisy observations.

    With the gain K of `LQR` and the steady-state gain L of the Kalman filter, of an estimate s made
    before the observation y arrives,

        estimate = s + L (y - C s),   a = -K estimate,   s+ = A estimate + B (the applied action),

    as deviations from the equilibrium; the applied action is the saturated one. It minimizes the
    mean over time of x' Q x + a' R a, where x' Q x is the squared deviation of the observation of
    the unwrapped environment (B. D. O. Anderson and J. B. Moore, Optimal Control, 1990, ch. 8, and
    Optimal Filtering, 1979, ch. 4).

    Args:
        environment: See `separatrix.controllers.output_feedback.OutputFeedback`, as for the rest.
        process_noise: Covariance of the disturbance of the state in a control interval.
        measurement_noise: Covariance of the noise of the observation.
        control_weight: Weight of the squared action.

    Attributes:
        gain: K, one for all environments or one for each, in float64.
        filter_gain: L, likewise.
        mean_cost: The mean cost of a step of the linear model, likewise:
            tr(P W) + tr(K' (R + B' P B) K S) with the cost P of the regulator, the covariance W of
            the disturbance and S of the error of the estimate.

    Raises:
        ValueError: See `OutputFeedback`.
    """

    gain: Float[Tensor, "rows action state"]
    filter_gain: Float[Tensor, "rows state observation"]
    mean_cost: Float[Tensor, " rows"]

    def __init__(
        self,
        environment: Environment,
        *,
        process_noise: Covariance,
        measurement_noise: Covariance,
        control_weight: float = 0.1,
    ) -> None:
        self._found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        super().__init__(
            environment,
            process_noise=process_noise,
            measurement_noise=measurement_noise,
            control_weight=control_weight,
        )
        pairs = zip(self._found, self.reductions, strict=True)
        found = [(k @ z.left.T, z.right @ f, cost) for (k, f, cost), z in pairs]
        self.gain, self.filter_gain, self.mean_cost = (
            torch.from_numpy(np.stack(matrices)) for matrices in zip(*found, strict=True)
        )

    def design(self, problem: Problem) -> Compensator:
        """Solves the two Riccati equations."""
        p = problem
        gain, cost = design_regulator(p.a, p.b, p.state_weight, float(p.control_weight[0, 0]))
        filter_gain, error = kalman_filter(p.a, p.c, p.process_noise, p.measurement_noise)
        curvature = p.control_weight + p.b.T @ cost @ p.b
        mean_cost = np.trace(cost @ p.process_noise) + np.trace(gain.T @ curvature @ gain @ error)
        self._found.append((gain, filter_gain, mean_cost))
        closed, correction = p.a - p.b @ gain, np.eye(len(p.a)) - filter_gain @ p.c
        return Compensator(
            closed @ correction, closed @ filter_gain, -gain @ correction, -gain @ filter_gain, p.b
        )


def kalman_filter(
    a: np.ndarray, c: np.ndarray, process_noise: np.ndarray, measurement_noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solves for the steady-state Kalman filter of x+ = A x + w, y = C x + v.

    Returns:
        The gain L of the correction L (y - C s) of a prediction s, and the covariance of the error
        of the corrected estimate.

    Raises:
        ValueError: The measurements do not determine the state.
    """
    try:
        predicted = scipy.linalg.solve_discrete_are(a.T, c.T, process_noise, measurement_noise)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the linearized system cannot be estimated: {error}") from None
    gain = np.linalg.solve(c @ predicted @ c.T + measurement_noise, c @ predicted).T
    return gain, (np.eye(len(a)) - gain @ c) @ predicted

"""The linear-quadratic regulator at the equilibrium of a task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.environment import Environment
from separatrix.envs.steppers.ode_environment import OdeEnvironment


class LQR(Controller):
    """Discrete-time LQR designed on the linearization, saturated to [-1, 1].

    For the linear model x_{k+1} = A x_k + B a_k of a step at the task's equilibrium, exact for the
    environment's own integrator, the gain minimizes, over an infinite horizon,

        sum_k  |C x_k|^2 + control_weight |a_k|^2

    with C x the deviation of the observation (Anderson and Moore, Optimal Control, 1990, ch. 2).

    Args:
        environment: An environment over an ODE system or a map, whose task has an equilibrium.
        control_weight: Weight of the squared action.
        capture: Act only where no component of the unsaturated action exceeds this, as far from
            the equilibrium the linear law is no guide; infinite acts everywhere.

    Attributes:
        gain: K of the law a = -K x, one for all environments or one for each, in float64.
        cost: P of the optimal cost x' P x from the state x on, likewise.

    Raises:
        ValueError: The environment has wrappers or no linearization, a weight is not positive, or
            the linearized system cannot be stabilized.
    """

    gain: Float[Tensor, "rows action state"]
    cost: Float[Tensor, "rows state state"]

    def __init__(
        self,
        environment: Environment,
        *,
        control_weight: float = 0.1,
        capture: float = math.inf,
    ) -> None:
        if environment.unwrapped is not environment:
            raise ValueError(
                "LQR is designed on the state of the physics, got an environment with wrappers; "
                "allowed: its `unwrapped`"
            )
        if not isinstance(environment, OdeEnvironment):
            raise ValueError(f"LQR needs an ODE system, got {type(environment.system).__name__}")
        for name, value in (("control_weight", control_weight), ("capture", capture)):
            if not value > 0:
                raise ValueError(f"{name}: got {value!r}; allowed: a number > 0")
        self._system, self._capture = environment.system, capture
        linear = linearize(environment)
        designs = [
            design(a, b, c.T @ c, control_weight)
            for a, b, c in zip(linear.a.numpy(), linear.b.numpy(), linear.c.numpy(), strict=True)
        ]
        self.gain = torch.from_numpy(np.stack([gain for gain, _ in designs]))
        self.cost = torch.from_numpy(np.stack([cost for _, cost in designs]))
        self._gain = self.gain.to(environment.device, environment.dtype)
        self._origin = linear.state.to(environment.device, environment.dtype)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns -K x, saturated; zero outside the capture region."""
        deviation = self._system.difference(state.values, self._origin)
        action = -(self._gain @ deviation[..., None])[..., 0]
        inside = (action.abs() <= self._capture).all(-1, keepdim=True)
        return torch.where(inside, action.clamp(-1.0, 1.0), 0.0)


def design(
    a: np.ndarray, b: np.ndarray, state_weight: np.ndarray, control_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """Solves the discrete-time LQR problem.

    Args:
        a: State matrix of x_{k+1} = A x_k + B a_k.
        b: Action matrix.
        state_weight: Q of the cost x' Q x, (state, state).
        control_weight: Weight of the squared action.

    Returns:
        The gain K and the cost matrix P.

    Raises:
        ValueError: No action stabilizes the system.
    """
    weight = control_weight * np.eye(b.shape[1])
    try:
        cost = scipy.linalg.solve_discrete_are(a, b, state_weight, weight)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the linearized system cannot be stabilized: {error}") from None
    gain = np.linalg.solve(weight + b.T @ cost @ b, b.T @ cost @ a)
    return gain, cost

"""The linear-quadratic regulator at the equilibrium or the target field of a task."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.analysis.coordinates import flatten
from separatrix.envs.analysis.leading_modes import leading_modes
from separatrix.envs.analysis.linearization import StateSpace, linearize
from separatrix.envs.analysis.reduction import Reduction, reduce
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.fluid.field_task import FieldTask
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.spectral_system import SpectralSystem

LARGE = 1024
"""Values of a field beyond which the matrix of its step is not made."""


class LQR(Controller):
    """Discrete-time LQR designed on the linearization, saturated to [-1, 1].

    For the linear model x_{k+1} = A x_k + B a_k of a step at the task's equilibrium, exact for the
    environment's own integrator, the gain minimizes, over an infinite horizon,

        sum_k  |C x_k|^2 + control_weight |a_k|^2

    with C x the deviation of the observation (Anderson and Moore, Optimal Control, 1990, ch. 2).

    Of a PDE, |C x|^2 is the mean square over the box of the deviation from the target, each field
    in units of its `scale`, and the equation is solved in the coordinates of
    `separatrix.envs.analysis.reduction`: conserved quantities that no action moves are left alone.
    Of a field of more than a thousand values only the slowest modes are controlled, some ninety,
    which `separatrix.envs.analysis.leading_modes` finds without the matrix of the step.

    Args:
        environment: An environment over an ODE system or a map, whose task has an equilibrium, or
            over a PDE, whose task has a target that stays as it is.
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
        for name, value in (("control_weight", control_weight), ("capture", capture)):
            if not value > 0:
                raise ValueError(f"{name}: got {value!r}; allowed: a number > 0")
        self._designs, origin = _designs(environment, control_weight)
        self.gain = torch.from_numpy(np.stack([gain for gain, _, _ in self._designs]))
        self._capture = capture
        self._difference: Callable[[Tensor, Tensor], Tensor] = torch.sub
        if isinstance(environment, OdeEnvironment):  # angles count modulo a turn
            self._difference = environment.system.difference
        self._gain = self.gain.to(environment.device, environment.dtype)
        self._origin = origin.to(environment.device, environment.dtype)

    @cached_property
    def cost(self) -> Float[Tensor, "rows state state"]:
        """P of the optimal cost x' P x."""
        costs = [left @ cost @ left.T for _, cost, left in self._designs]
        return torch.from_numpy(np.stack(costs))

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns -K x, saturated; zero outside the capture region."""
        deviation = self._difference(flatten(state), self._origin)
        action = -(self._gain @ deviation[..., None])[..., 0]
        inside = (action.abs() <= self._capture).all(-1, keepdim=True)
        return torch.where(inside, action.clamp(-1.0, 1.0), 0.0)


Design = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Gain of the state, cost matrix of reduced coordinates, and what gives these of the state."""


def _designs(environment: Environment, control_weight: float) -> tuple[list[Design], Tensor]:
    """Returns a design for all environments or one for each, and coordinates of the target."""
    system = environment.system
    if isinstance(environment, ComposedEnvironment) and isinstance(system, SpectralSystem):
        if len(system.definition.fields) * system.grid.points**system.grid.dimensions > LARGE:
            modes = leading_modes(environment)
            left, right = modes.reduction
            weight = right.T @ (field_weights(environment)[:, None] * right)
            gain, cost = design(modes.a, modes.b, weight, control_weight)
            return [(gain @ left.T, cost, left)], modes.target.flatten(1)
    linear = linearize(environment)
    designs = list[Design]()
    weights = state_weights(environment, linear)
    for a, b, q in zip(linear.a.numpy(), linear.b.numpy(), weights, strict=True):
        left, right = reduction(environment, a, b)
        gain, cost = design(left.T @ a @ right, left.T @ b, right.T @ q @ right, control_weight)
        designs.append((gain @ left.T, cost, left))
    return designs, linear.state


def reduction(environment: Environment, a: np.ndarray, b: np.ndarray) -> Reduction:
    """Returns the coordinates of a design: of a PDE fewer, else those of the state.

    Raises:
        ValueError: A growing mode is moved by no action.
    """
    if isinstance(environment.unwrapped.system, SpectralSystem):
        return reduce(a, b)
    return Reduction(np.eye(len(a)), np.eye(len(a)))


def state_weights(environment: Environment, linear: StateSpace) -> list[np.ndarray]:
    """Returns Q of the cost x' Q x, one for all environments or one for each.

    Args:
        environment: Without wrappers.
        linear: Its linear model.
    """
    if not (
        isinstance(environment, ComposedEnvironment) and isinstance(environment.task, FieldTask)
    ):
        return [c.T @ c for c in linear.c.numpy()]
    return [np.diag(field_weights(environment))] * len(linear.a)


def field_weights(environment: ComposedEnvironment) -> np.ndarray:
    """Returns the diagonal of Q of a PDE: the mean square, each field in units of its scale."""
    system = environment.system
    assert isinstance(environment.task, FieldTask) and isinstance(system, SpectralSystem)
    points = system.grid.points**system.grid.dimensions
    return 1 / (points * np.repeat(environment.task.scale, points) ** 2)


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

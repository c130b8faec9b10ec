"""Controllers that see observations only: linear dynamic feedback designed on a linear model."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.controllers.lqr import reduction, state_weights
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.analysis.reduction import Reduction
from separatrix.envs.core.environment import Environment

Covariance = float | Float[Tensor, "size size"]
"""A covariance matrix, or one variance for all components."""


@dataclass(frozen=True)
class Problem:
    """A linear model x+ = A x + B a + w, y = C x + v with the cost x' Q x + a' R a.

    In continuous time x' takes the place of x+, and the covariances are intensities.

    Attributes:
        a, b, c: The matrices A, B and C.
        state_weight, control_weight: Q and R.
        process_noise, measurement_noise: Covariances of w and v.
        interval: The control interval.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    state_weight: np.ndarray
    control_weight: np.ndarray
    process_noise: np.ndarray
    measurement_noise: np.ndarray
    interval: float


class Compensator(NamedTuple):
    """The controller s+ = A s + B y + E (applied - wanted action), action = C s + D y.

    Attributes:
        a, b, c, d: The matrices A, B, C and D.
        windup: E, what of a saturated action the memory takes back.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    windup: np.ndarray


class OutputFeedback(Controller):
    """Linear feedback of observations with a memory, saturated to [-1, 1].

    The linear model is that of a step at the task's equilibrium. It is of the environment with its
    wrappers: what a `PartialObservation` shows is measured, and the action that an `ActionDelay`
    remembers is state. Of a PDE the design is in the coordinates of
    `separatrix.envs.analysis.reduction`.

    Args:
        environment: An environment over an ODE system or a map whose task has an equilibrium, or
            over a PDE whose task has a target that stays as it is; with or without wrappers.
        process_noise: Covariance of a disturbance of the state, added in every control interval,
            (state, state); a number is the variance of each component of the physics' state.
        measurement_noise: Covariance of the noise of the observation, (observation, observation);
            a number is the variance of each component.
        control_weight: Weight of the squared action against the squared deviation of the
            observation of the unwrapped environment; of a PDE against that of `LQR`.

    Raises:
        ValueError: The task has no equilibrium, an argument is no covariance or not positive, or
            the problem has no solution.
    """

    time: ClassVar[str] = "discrete"

    def __init__(
        self,
        environment: Environment,
        *,
        process_noise: Covariance,
        measurement_noise: Covariance,
        control_weight: float = 0.1,
    ) -> None:
        if not control_weight > 0:
            raise ValueError(f"control_weight: got {control_weight!r}; allowed: a number > 0")
        model = linearize(environment, time=self.time)
        weights = state_weights(environment.unwrapped, linearize(environment.unwrapped))
        rows, n, m = model.b.shape
        physics, outputs = len(weights[0]), model.c.shape[1]
        process = _covariance("process_noise", process_noise, n, physics)
        measurement = _covariance("measurement_noise", measurement_noise, outputs, outputs)
        if np.linalg.eigvalsh(measurement)[0] <= 0:
            raise ValueError("measurement_noise: got a singular matrix; allowed: positive definite")
        designs = []
        self.reductions: list[Reduction] = []
        for i in range(rows):
            # Of the state with wrappers, the physics comes first.
            weight = np.zeros((n, n))
            weight[:physics, :physics] = weights[i]
            a, b, c = (matrix[i].numpy() for matrix in (model.a, model.b, model.c))
            left, right = reduction(environment, a, b)
            problem = Problem(
                left.T @ a @ right,
                left.T @ b,
                c @ right,
                right.T @ weight @ right,
                control_weight * np.eye(m),
                left.T @ process @ left,
                measurement,
                environment.control_interval,
            )
            found = self.design(problem)
            # Back to the coordinates of the state, of which every environment has as many.
            designs.append(
                Compensator(
                    right @ found.a @ left.T,
                    right @ found.b,
                    found.c @ left.T,
                    found.d,
                    right @ found.windup,
                )
            )
            self.reductions.append(Reduction(left, right))

        def stacked(matrices: list[np.ndarray]) -> Tensor:
            found = torch.from_numpy(np.stack(matrices))
            return found.to(environment.device, environment.dtype)

        self._a, self._b, self._c, self._d, self._windup = (
            stacked([design[k] for design in designs]) for k in range(5)
        )
        self._origin = model.observation.to(environment.device, environment.dtype)
        self._memory = self._a.new_zeros((0, self._a.shape[1]))

    @abstractmethod
    def design(self, problem: Problem) -> Compensator:
        """Returns the compensator of one environment."""

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Forgets the past of the environments that start anew."""
        if len(self._memory) != len(mask):
            self._memory = self._a.new_zeros((len(mask), self._a.shape[1]))
        self._memory = torch.where(mask[:, None], 0.0, self._memory)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the saturated action, and remembers what was seen and done.

        Raises:
            ValueError: The batch is another one than that of the last `reset`.
        """
        if len(self._memory) != len(observation):
            raise ValueError(
                f"observation: got a batch of {len(observation)}; allowed: {len(self._memory)}, "
                "as `reset` was told last"
            )
        deviation, memory = (observation - self._origin)[..., None], self._memory[..., None]
        wanted = self._c @ memory + self._d @ deviation
        action = wanted.clamp(-1.0, 1.0)
        memory = self._a @ memory + self._b @ deviation + self._windup @ (action - wanted)
        self._memory = memory[..., 0]
        return action[..., 0]


def _covariance(name: str, value: Covariance, size: int, noisy: int) -> np.ndarray:
    """Reads a covariance; a number is the variance of the first `noisy` components.

    Raises:
        ValueError: It is not symmetric and non-negative, or of another size.
    """
    if not isinstance(value, Tensor):
        matrix = np.diag([float(value)] * noisy + [0.0] * (size - noisy))
    else:
        matrix = value.double().cpu().numpy()
    if matrix.shape != (size, size):
        raise ValueError(f"{name}: got shape {matrix.shape}; allowed: ({size}, {size})")
    sound = np.isfinite(matrix).all() and np.allclose(matrix, matrix.T)
    if not sound or np.linalg.eigvalsh(matrix)[0] < -1e-12 * np.abs(matrix).max():
        raise ValueError(f"{name}: got no covariance; allowed: symmetric, no negative eigenvalue")
    return matrix

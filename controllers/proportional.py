"""Proportional feedback: every actuator pushes against the deviation that it sees at its place."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.analysis.linearization import target_state
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.fluid.field_task import FieldTask
from separatrix.envs.steppers.spectral_system import SpectralSystem


class Proportional(Controller):
    """Opposition: the action is -gain times the deviation from the target where it acts, saturated.

    What an actuator of shape s sees of the deviation v is the mean of v weighted by s,
    <s v> / <|s|>. Whatever the shapes, such feedback takes from the sum of v^2 and never adds to it
    (of opposition in turbulence: H. Choi, P. Moin, J. Kim, J. Fluid Mech. 262 (1994) 75). It is
    local, needs no model, and follows a target that moves.

    Args:
        environment: An environment over a PDE, whose task has a target.
        gain: Action for a deviation of 1.

    Raises:
        ValueError: The environment has wrappers, is not over a PDE, its task has no target, or the
            gain is not positive.
    """

    def __init__(self, environment: Environment, *, gain: float = 1.0) -> None:
        if not gain > 0:
            raise ValueError(f"gain: got {gain!r}; allowed: a number > 0")
        if not (
            isinstance(environment, ComposedEnvironment)
            and isinstance(environment.task, FieldTask)
            and isinstance(environment.system, SpectralSystem)
        ):
            raise ValueError(
                f"proportional feedback acts on fields, got a {type(environment).__name__} over a "
                f"{type(environment.system).__name__}; allowed: PDEs, without wrappers"
            )
        self._task = environment.task
        target_state(environment, environment.task, environment.dtype)  # if there is one
        shapes = environment.system.actuators.flatten(1)
        weights = gain * shapes / shapes.abs().sum(1, keepdim=True)
        self._weights = weights.T.to(environment.device, environment.dtype)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the opposing actions, saturated."""
        target = self._task.target(state)
        assert target is not None
        return -((state.field - target).flatten(1) @ self._weights).clamp(-1.0, 1.0)

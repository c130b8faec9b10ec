"""Feedback of the lift: bodies in a stream act against the force that vortices put on them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment
from separatrix.envs.steppers.lattice_system import LatticeState, LatticeSystem


class LiftFeedback(Controller):
    """Opposition of the lift: the action is gain times L plus damping times L', saturated.

    L is the mean lift coefficient over the last control interval of the body that a control acts
    on, L' its rate of change. Of a single harmonic the two gains are an amplitude and a phase, as
    in the phase-shifted feedback of K. Roussopoulos, J. Fluid Mech. 248 (1993) 267.

    Args:
        environment: An environment of bodies in a stream.
        gain: Action for a lift coefficient of 1.
        damping: Action for a change of 1 in D / U.

    Raises:
        ValueError: The environment has wrappers, or no bodies in a stream.
    """

    def __init__(
        self, environment: Environment, *, gain: float = -0.15, damping: float = -0.15
    ) -> None:
        system = environment.system
        if environment.unwrapped is not environment or not isinstance(system, LatticeSystem):
            raise ValueError(
                f"feedback of the lift needs a body in a stream, got a "
                f"{type(environment).__name__} over a {type(system).__name__}; allowed: "
                "RotaryCylinder-v0, JetCylinder-v0 and Pinball-v0, without wrappers"
            )
        self._gain, self._damping = gain, damping
        self._interval = environment.control_interval
        bodies = {actuator.control: actuator.body for actuator in system.actuators}
        self._bodies = torch.tensor([bodies[control] for control in sorted(bodies)])

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the opposing actions, saturated."""
        assert isinstance(state, LatticeState)
        bodies = self._bodies.to(state.flow.force.device)
        lift = state.flow.force[:, bodies, 1]
        change = (lift - state.flow.previous_force[:, bodies, 1]) / self._interval
        return (self._gain * lift + self._damping * change).clamp(-1.0, 1.0)

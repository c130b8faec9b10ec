"""The thermostat of a refrigerator."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.twin.refrigerator_system import RefrigeratorSystem
from separatrix.envs.twin.refrigerator_task import SCALE


class Thermostat(Controller):
    """Proportional and integral feedback of the temperature on the power of the compressor.

    The power is gain (e + 1/T_i integral of e) with the temperature's excess e over the set-point,
    both as they are observed, within 0 and 1. The integral's part stays within 0 and 1, too, so
    that it does not wind up where the power is saturated.

    Args:
        environment: Refrigerator-v0.
        gain: Power for an excess of one degree.
        integral_time: T_i in steps.

    Raises:
        ValueError: The environment is another one or has wrappers, or a setting is not positive.
    """

    def __init__(
        self, environment: Environment, *, gain: float = 0.5, integral_time: float = 20.0
    ) -> None:
        if not (gain > 0 and integral_time > 0):
            got = f"{gain=}, {integral_time=}"
            raise ValueError(f"thermostat: got {got}; allowed: numbers > 0")
        if not (
            isinstance(environment, ComposedEnvironment)
            and isinstance(environment.system, RefrigeratorSystem)
        ):
            raise ValueError(
                f"thermostat cools, got a {type(environment).__name__} over a "
                f"{type(environment.system).__name__}; allowed: Refrigerator-v0, without wrappers"
            )
        self._gain, self._rate = gain, gain / integral_time
        size, device = environment.num_envs, environment.device
        self._integral = torch.zeros(size, device=device, dtype=environment.dtype)

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Forgets the integral of environments that start anew."""
        if self._integral.shape != mask.shape:
            self._integral = self._integral.new_zeros(mask.shape)
        self._integral = torch.where(mask, 0.0, self._integral)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the power as an action."""
        excess = SCALE * (observation[:, 0] - observation[:, 2])
        self._integral = (self._integral + self._rate * excess).clamp(0.0, 1.0)
        power = (self._gain * excess + self._integral).clamp(0.0, 1.0)
        return (2 * power - 1)[:, None]

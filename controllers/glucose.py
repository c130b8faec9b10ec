"""Controllers of glucose that clinics and pumps use: basal and bolus insulin by rule, and PID."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.twin.glucose.system import GlucoseState, GlucoseSystem
from separatrix.envs.twin.glucose.task import GlucoseTask


def _patients(environment: Environment, name: str) -> tuple[GlucoseSystem, GlucoseTask]:
    """Returns system and task of patients.

    Raises:
        ValueError: The environment has wrappers or is another one.
    """
    if isinstance(environment, ComposedEnvironment):
        system, task = environment.system, environment.task
        if isinstance(system, GlucoseSystem) and isinstance(task, GlucoseTask):
            return system, task
    raise ValueError(
        f"{name} doses insulin, got a {type(environment).__name__} over a "
        f"{type(environment.system).__name__}; allowed: Glucose-v0, without wrappers"
    )


class BasalBolus(Controller):
    """What a person with a pump does: constant basal insulin, and a bolus with every meal.

    A bolus is the carbohydrates over the patient's carbohydrate ratio and, where the reading is
    above `correct_above`, its excess over the target over the correction factor, less the insulin
    that is on board beyond basal, and never less than none. So does simglucose's controller, but
    for the insulin on board.

    Args:
        environment: Glucose-v0; meals must be announced to it.
        target: Glucose in mg/dL.
        correct_above: Glucose in mg/dL.

    Raises:
        ValueError: The environment is another one, or has wrappers.
    """

    def __init__(
        self, environment: Environment, *, target: float = 140.0, correct_above: float = 150.0
    ) -> None:
        self._system, self._task = _patients(environment, "basal_bolus")
        self._target, self._correct_above = target, correct_above
        self._settings = {
            name: value.to(environment.device, environment.dtype)
            for name, value in self._system.settings.items()
        }

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns basal insulin and boluses as actions."""
        assert isinstance(state, GlucoseState)
        reading = state.readings[:, -1]
        basal = self._settings["basal"].expand(len(reading))
        _, meal = self._system.meal_ahead(state)
        excess = (reading - self._target) / self._settings["correction_factor"]
        on_board = self._system.on_board_beyond_basal(state)
        correction = (excess - on_board.clamp_min(0)).clamp_min(0)
        bolus = meal.to(reading) / self._settings["carbohydrate_ratio"]
        bolus = bolus + torch.where(reading > self._correct_above, correction, 0.0)
        bolus = torch.where(meal > 0, bolus, 0.0)
        return self._task.action(basal, bolus)


class GlucosePID(Controller):
    """Proportional, integral and derivative feedback of the reading on basal insulin.

    The rate of insulin is basal (1 + e + 1/T_i integral of e + T_d de/dt), with the reading's
    excess over the target divided by `scale` as e; less `feedback` times the insulin on board
    beyond basal over what is on board at basal (G. Steil et al., J. Clin. Endocrinol. Metab. 96
    (2011) 1402). The integral stays between -1 and 2, the rate between 0 and 4 times basal. No meal
    is announced to it.

    Args:
        environment: Glucose-v0.
        target: Glucose in mg/dL.
        scale: Excess in mg/dL that doubles the insulin.
        integral_time: T_i in minutes.
        derivative_time: T_d in minutes.
        feedback: Of the insulin on board.

    Raises:
        ValueError: The environment is another one or has wrappers, or a time or scale is not
            positive.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        target: float = 120.0,
        scale: float = 60.0,
        integral_time: float = 450.0,
        derivative_time: float = 66.0,
        feedback: float = 0.5,
    ) -> None:
        if not (scale > 0 and integral_time > 0 and derivative_time >= 0):
            got = f"scale={scale!r}, integral_time={integral_time!r}, {derivative_time=}"
            raise ValueError(f"glucose_pid: got {got}; allowed: numbers > 0")
        self._system, self._task = _patients(environment, "glucose_pid")
        self._target, self._scale, self._feedback = target, scale, feedback
        self._rate = environment.control_interval / integral_time
        self._lead = derivative_time / environment.control_interval
        self._basal = self._system.basal.to(environment.device, environment.dtype)
        size = environment.num_envs
        self._integral = torch.zeros(size, device=environment.device, dtype=environment.dtype)

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Forgets the integral of environments that start anew."""
        if self._integral.shape != mask.shape:
            self._integral = self._integral.new_zeros(mask.shape)
        self._integral = torch.where(mask, 0.0, self._integral)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the insulin as a basal rate, without boluses."""
        assert isinstance(state, GlucoseState)
        excess = (state.readings - self._target) / self._scale
        now = excess[:, -1]
        # A straight line through the last four readings: the sensor is noisy.
        slope = excess[:, -4:] @ excess.new_tensor([-0.3, -0.1, 0.1, 0.3])
        self._integral = (self._integral + self._rate * now).clamp(-1.0, 2.0)
        on_board = self._system.on_board_beyond_basal(state) / self._system.on_board_at_basal
        rate = 1.0 + now + self._integral + self._lead * slope - self._feedback * on_board
        return self._task.action(self._basal * rate.clamp(0.0, 4.0), torch.zeros_like(rate))

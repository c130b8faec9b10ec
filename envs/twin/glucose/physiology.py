"""How patients answer to meals and insulin: what a clinic would measure of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.glucose.model import COMPARTMENTS
from separatrix.envs.twin.glucose.system import LARGEST_BOLUS, GlucoseSystem

START = 60
"""Minute of the bolus and of the meal."""
MEAL = 0.7
"""Carbohydrates of the meal per body weight, g/kg: 50 g at 71 kg."""
BOLUS = 0.01
"""Of the test of insulin, U/kg: small enough that no patient comes to hypoglycaemia."""
RETURN = 300
"""Minutes after which the bolus of a meal is to have brought glucose back to its fasting value."""
STEP = 5
HALVINGS = 20


@dataclass(frozen=True)
class Responses:
    """What is measured of patients, by simulation from a rest under their own basal insulin.

    Attributes:
        basal: Own basal insulin, U/h.
        rise: Of glucose under the skin after the meal without a bolus, at its peak, mg/dL.
        peak_time: Of that peak, minutes after the meal.
        lowest: Glucose in the 12 hours after that meal, mg/dL.
        correction_factor: Fall of glucose at its lowest after the bolus, mg/dL per U.
        action_time: Minutes until 80 % of the action of the bolus on the liver and on tissues
            together, over time, has passed.
        carbohydrate_ratio: Carbohydrates of the meal over the bolus with which glucose is back at
            its fasting value after 5 hours, g/U.
    """

    basal: Float64[Tensor, " rows"]
    rise: Float64[Tensor, " rows"]
    peak_time: Float64[Tensor, " rows"]
    lowest: Float64[Tensor, " rows"]
    correction_factor: Float64[Tensor, " rows"]
    action_time: Float64[Tensor, " rows"]
    carbohydrate_ratio: Float64[Tensor, " rows"]


def measure(
    parameters: Mapping[str, Float64[Tensor, " rows"]], fasting_glucose: Float64[Tensor, " rows"]
) -> Responses:
    """Measures patients.

    Args:
        parameters: Of the model.
        fasting_glucose: Under basal insulin, mg/dL.

    Raises:
        ValueError: Some have no basal insulin that keeps them there.
    """
    unknown = torch.ones_like(fasting_glucose)  # the pump's settings, which nothing here uses
    system = GlucoseSystem(
        parameters,
        fasting_glucose,
        unknown,
        unknown,
        num_envs=len(fasting_glucose),
        control_interval=STEP,
        days=1,
        meals=[(START, 1)],
        meal_factor=1.0,
        sensor_noise=0.0,
        start_deviation=0.0,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    weight, none = parameters["BW"], torch.zeros_like(fasting_glucose)
    grams = MEAL * weight
    volume = parameters["Vg"]

    def glucose_of(path: Tensor) -> Tensor:
        return path[..., COMPARTMENTS.index("Gs")] / volume

    eaten = glucose_of(simulate(system, grams, none, 12 * 60))
    peak, place = eaten.max(0)
    injected = simulate(system, none, BOLUS * weight, 20 * 60)
    fall = fasting_glucose - glucose_of(injected).amin(0)
    action = _action(parameters, injected).cumsum(0)
    passed = (action < 0.8 * action[-1]).sum(0)
    low, high = none, none + LARGEST_BOLUS
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = glucose_of(simulate(system, grams, middle, RETURN))[-1] > fasting_glucose
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return Responses(
        basal=system.basal,
        rise=peak - fasting_glucose,
        peak_time=(place + 1).double() * STEP,
        lowest=eaten.amin(0),
        correction_factor=fall / (BOLUS * weight),
        action_time=passed.double() * STEP,
        carbohydrate_ratio=grams / high,
    )


def simulate(
    system: GlucoseSystem,
    grams: Float64[Tensor, " rows"],
    bolus: Float64[Tensor, " rows"],
    minutes: int,
) -> Float64[Tensor, "step rows compartment"]:
    """Returns the compartments after a meal and a bolus, every 5 minutes.

    Args:
        system: The patients, with a schedule of one meal.
        grams: Of the meal.
        bolus: In U.
        minutes: How long after the meal.
    """
    state = system.initial_state(Stream.start(torch.arange(len(grams))))
    state = replace(state, meal_size=grams[:, None])
    found = []
    for minute in range(0, START + minutes, STEP):
        given = bolus if minute == START else torch.zeros_like(bolus)
        state = system.advance(state, torch.stack((system.basal, given), 1))
        found.append(system.values(state))
    return torch.stack(found[START // STEP :])


def _action(
    p: Mapping[str, Tensor], path: Float64[Tensor, "step rows compartment"]
) -> Float64[Tensor, "step rows"]:
    """What insulin above the basal takes from glucose, mg/kg/min, were glucose at rest."""
    now = dict(zip(COMPARTMENTS, path.unbind(-1), strict=True))
    uptake = p["Vmx"] * (now["X"] - now["X"][0]) * now["Gt"][0] / (p["Km0"] + now["Gt"][0])
    return uptake + p["kp3"] * (now["Id"] - now["Id"][0])

"""What is recorded of a patient, as `separatrix.envs.twin.assimilate.records` reads it."""

from jaxtyping import Float
from torch import Tensor

from separatrix.envs.twin.assimilate.records import Column
from separatrix.envs.twin.glucose.system import GlucoseState, GlucoseSystem

MOLAR_MASS = 180.156
"""Of glucose, g/mol (NIST Chemistry WebBook), so that 1 mmol/L is 18.0156 mg/dL."""

PATIENT_COLUMNS = (
    Column("glucose", "mg/dL", 35, 600, units={"mmol/L": MOLAR_MASS / 10}),
    Column("basal", "U/h", 0, 30, kind="rate", units={"U/min": 60.0}, optional=True),
    Column("bolus", "U", 0, 30, kind="amount", units={"mU": 1e-3}, optional=True),
    Column("carbohydrates", "g", 0, 300, kind="amount", optional=True),
)
"""Readings of the sensor, insulin from the pump at most as much as it gives, and meals."""


def sensor(system: GlucoseSystem, state: GlucoseState) -> Float[Tensor, "batch 1"]:
    """Returns what a sensor without error would show, for the `observe` of a twin."""
    return system.glucose(state)[:, None]

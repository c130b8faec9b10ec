"""Makes `patient.csv`, the records of a tutorial: five days of an adult who does not exist.

    python docs/tutorials/patient_records.py

The patient is drawn anew, none of those that ship. They take basal insulin, which is off by up to a
fifth for six hours at a time, and boluses with their meals, off by a third, of which one in ten is
forgotten. One reading in fifty is missing.
"""

import csv
from datetime import datetime, timedelta
from pathlib import Path

import torch

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.glucose.population import draw_patients

FILE = Path(__file__).with_name("patient.csv")
SEED, DAYS, MINUTES = 77, 5, 5


def main() -> None:
    """Lets the patient live, and writes what their devices record."""
    patient = draw_patients(1, "adult", SEED)[0]
    system = make_environment("Glucose-v0", patient=patient, days=DAYS, dtype="float64").system
    generator = torch.Generator().manual_seed(SEED)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    state = system.initial_state(Stream.start(torch.tensor([SEED])))
    time, basal = datetime(2026, 3, 2), 0.0
    with FILE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["time", "glucose [mg/dL]", "basal [U/h]", "bolus [U]", "carbohydrates [g]"]
        )
        for interval in range(DAYS * 1440 // MINUTES):
            changes = interval % (360 // MINUTES) == 0
            if changes:
                basal = round(float(system.basal) * uniform(0.8, 1.2), 2)
            _, grams = system.meal_ahead(state)
            ratio = patient.carbohydrate_ratio
            dose = 0.0 if uniform(0, 1) < 0.1 else float(grams) / ratio * uniform(0.7, 1.3)
            bolus = round(dose, 1)
            reading = "" if uniform(0, 1) < 0.02 else f"{float(state.readings[0, -1]):.0f}"
            writer.writerow(
                [
                    (time + interval * timedelta(minutes=MINUTES)).isoformat(),
                    reading,
                    basal if changes else "",
                    bolus or "",
                    f"{float(grams):.0f}" if grams > 0 else "",
                ]
            )
            state = system.advance(state, torch.tensor([[basal, bolus]], dtype=torch.float64))


if __name__ == "__main__":
    main()

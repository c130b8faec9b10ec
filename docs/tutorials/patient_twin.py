"""A patient's records in, a calibrated twin with its uncertainty out, and a policy tried on it.

    python patient_twin.py

Research only, not for treatment decisions.
"""

from pathlib import Path

import numpy as np
import torch

from separatrix.controllers.catalog import make_controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.assimilate.calibration import calibrate
from separatrix.envs.twin.assimilate.disturbed import (
    Disturbance,
    DisturbedState,
    DisturbedSystem,
)
from separatrix.envs.twin.assimilate.priors import InitialFactor, LogNormal
from separatrix.envs.twin.assimilate.reading_error import ReadingError
from separatrix.envs.twin.assimilate.records import read_records
from separatrix.envs.twin.assimilate.scores import coverage
from separatrix.envs.twin.assimilate.stream import TwinStream
from separatrix.envs.twin.assimilate.twin import Twin
from separatrix.envs.twin.glucose.patients import find_patient, patient_names
from separatrix.envs.twin.glucose.records import PATIENT_COLUMNS, sensor
from separatrix.envs.twin.glucose.system import GLUCOSE

MEMBERS, CALIBRATED = 50, 4 * 288  # four days of intervals of five minutes

# 1. Records: checked, and laid on the grid of the control intervals.
records = read_records(Path(__file__).with_name("patient.csv"), PATIENT_COLUMNS)
stream = TwinStream(records, interval=5.0)
moments = [stream.moment(i) for i in range(1, stream.last + 1)]
print(f"{len(records.time)} records, {len(records.flags)} flagged, {len(moments)} intervals")

# 2. Calibration: what the first four days tell of the parameters. Priors are what adults have.
adults = [find_patient(name).parameters for name in patient_names("adult")]
priors = {
    name: LogNormal(float(np.exp(np.mean(np.log([p[name] for p in adults])))), variation)
    for name, variation in {"kp1": 0.1, "Vmx": 0.3, "kp3": 0.3, "kabs": 0.3, "kmax": 0.3}.items()
}
options = {"patient": "adult#001", "meals": [], "sensor_noise": 0.0, "dtype": "float64"}
model = make_environment("Glucose-v0", **options).system
first = moments[:CALIBRATED]
calibration = calibrate(
    model,
    model.initial_state(Stream.start(torch.zeros(1, dtype=torch.int64))),
    torch.tensor(np.array([m.control for m in first]))[:, None],
    torch.tensor(np.array([m.observation for m in first]))[:, None],
    parameters=priors,
    factors={"glucose at start": InitialFactor(GLUCOSE, LogNormal(1.0, 0.3))},
    error=ReadingError(deviation=11.7, mean=0.72, correlation=0.69 ** (1 / 3), every=3),
    observe=sensor,
)
print(calibration.identifiability.table())

# 3. The twin: members drawn from the posterior follow all days. What the model does not know pushes
# their glucose, and the sensor's error lasts; both are estimated with the state.
draws = calibration.draws(MEMBERS, torch.Generator().manual_seed(0))
physics = model.with_parameters({name: draws[name][0] for name in priors}, MEMBERS)
push = Disturbance(deviation=10.0, correlation=1 - 5 / 60, component=GLUCOSE[0])  # mg/kg
bias = Disturbance(deviation=11.7, correlation=0.69 ** (1 / 3))  # mg/dL
system = DisturbedSystem(physics, {"push": push, "bias": bias})
start = system.initial_state(Stream.start(torch.arange(MEMBERS)))


def reading(system: DisturbedSystem, state: DisturbedState) -> torch.Tensor:
    return sensor(system.inner, state.inner) + state.disturbances[:, 1:]


twin = Twin(system, start, seed=0, observe=reading)
ahead, read = [], []
for moment in moments:
    twin.forecast(moment.control)
    if moment.index > CALIBRATED and not np.isnan(moment.observation[0]):
        ahead.append(twin.observed)
        read.append(moment.observation)
    twin.assimilate(moment.observation, variance=2.0**2)
members, truth = torch.stack(ahead), torch.tensor(np.array(read))
error = float((members.mean(1) - truth).square().mean().sqrt())
print(f"readings of the last day, five minutes ahead: off by {error:.1f} mg/dL; 0.9 intervals hold")
print(f"{float(coverage(members, truth, 0.9).double().mean()):.2f} of them")
glucose = sensor(twin.system.inner, twin.state.inner)
print(f"glucose now: {float(glucose.mean()):.0f} +- {float(glucose.std()):.0f} mg/dL")

# 4. Policies tried on all members, each with its own parameters, on a day of random meals.
plain = make_environment("Glucose-v0", MEMBERS, **options | {"meals": "random"})
tried = plain.with_parameters(dict(twin.system.parameters), MEMBERS)
for name in ("zero", "glucose_pid", "basal_bolus"):
    found = evaluate(tried, make_controller(name, tried), torch.arange(MEMBERS)).columns()
    share = found["in_range"].double()
    low, high = share.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64)).tolist()
    share_of_day = f"{float(share.mean()):.2f} of the day in range"
    print(f"{name}: {share_of_day}, most members {low:.2f}-{high:.2f}")

"""Type-1 diabetes: a patient with meals, a sensor and an insulin pump.

The equations are in `separatrix.envs.twin.glucose.model`, the patients in
`separatrix.envs.twin.glucose.patients`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import check_count, is_positive, register, suggest
from separatrix.envs.twin.glucose.model import COMPARTMENTS, PARAMETERS

if TYPE_CHECKING:
    from separatrix.envs.core.environment import ComposedEnvironment
    from separatrix.envs.twin.glucose.patients import Patient

DAY = 1440
FIRST_PATIENT = "adult#001"


class Glucose:
    """Keep the glucose of a person with type-1 diabetes in range by insulin.

    ## Description
    Research only, not for treatment decisions.

    Without insulin of one's own, every meal drives blood glucose up for hours, and too much insulin
    drives it down to where one faints. Insulin under the skin acts late and cannot be taken back;
    the sensor shows what was, with an error. Thirteen compartments describe a patient; there are
    patients of three ages, drawn for this package, and those of simglucose if it is installed.

    ## Action space
    | Num | Name  | Min | Max | Unit                                                            |
    |-----|-------|-----|-----|-----------------------------------------------------------------|
    | 0   | basal | -1  | 1   | (1 + a)^2 times the patient's own basal insulin, 0.3 to 2 U/h   |
    | 1   | bolus | -1  | 1   | `bolus_hours` hours of that insulin in U; none for a <= 0       |

    No action, 0, gives the patient's own basal insulin and no bolus. A bolus is given evenly over
    the step. The pump gives at most 30 U/h and 30 U.

    ## Observation space
    | Num  | Name                                   | Min | Max | Unit                             |
    |------|----------------------------------------|-----|-----|----------------------------------|
    | 0-11 | readings of the sensor, oldest first   | -10 | 10  | 100 mg/dL, above 140 mg/dL       |
    | 12   | insulin on board, more than fasting    | -10 | 10  | what is on board when fasting    |
    | 13   | carbohydrates of a meal that begins    | -10 | 10  | 50 g                             |
    | 14   | sine of the time of day                | -10 | 10  | 1                                |
    | 15   | cosine of the time of day              | -10 | 10  | 1                                |
    | 16   | insulin of the step before             | -10 | 10  | `bolus_hours` of own basal       |

    A meal is seen in the step in which it begins, unless `announced=False`.

    ## Reward
    `reward="kovatchev"`: 1 - r / 100 with the risk r = 10 (1.509 (ln(g)^1.084 - 5.381))^2 of the
    glucose g under the skin in mg/dL, at most 100. "magni" weighs low glucose more: r = 10 (3.5506
    (ln(g)^0.8353 - 3.7932))^2. "in_range": 1 from 70 to 180 mg/dL, else 0. Zero at an end by death.

    ## Starting state
    Midnight, at rest under one's own basal insulin, with glucose off by a log-normal factor of
    `start_deviation`. Meals of all days and the sensor's error are drawn anew.

    ## Episode end
    Truncated after a day, 288 steps of 5 minutes; `max_episode_steps=2016, days=7` makes a week.
    Terminated at a glucose below 10 or above 600 mg/dL.

    ## Metrics
    `glucose` (mg/dL), `in_range`, `below_range`, `above_range`, `severe` (below 54 mg/dL), each 0
    or 1, `risk`, `low_risk`, `high_risk` (Kovatchev; their means are BGRI, LBGI and HBGI),
    `insulin`, `bolus` (U), `carbohydrates` (g).

    ## Arguments
    System: `patient` ("adult#001", or a name for each environment; "simglucose/adult#001" where
    simglucose is installed), any parameter of the model in place of the patient's (None): `BW`
    (kg), `Vg`, `k1`, `k2`, `Vi`, `m1`, `m2`, `m4`, `m30`, `kmax`, `kmin`, `kabs`, `f`, `b`, `d`,
    `kp1`, `kp2`, `kp3`, `ki`, `Fsnc`, `Vm0`, `Vmx`, `Km0`, `p2u`, `Ib`, `ke1`, `ke2`, `ka1`,
    `ka2`, `kd`, `ksc`, whose meaning and units are on the page of the model;
    `control_interval` (5 minutes, a whole number), `days` (1, until meals repeat), `meals`
    ("random", or pairs of minute and grams that every day repeats), `meal_factor` (1),
    `sensor_noise` (1), `start_deviation` (0.1). Task: `reward` ("kovatchev"), `bolus_hours` (24),
    `announced` (True).

    ## References
    C. Dalla Man, R. Rizza, C. Cobelli, IEEE Trans. Biomed. Eng. 54 (2007) 1740. B. Kovatchev et
    al., J. Diabetes Sci. Technol. 3 (2009) 44. J. Xie, simglucose (2018).

    ## Version history
    - v0: first version.
    """


SETTINGS: dict[str, Any] = {
    "patient": FIRST_PATIENT,
    "control_interval": 5,
    "days": 1,
    "meals": "random",
    "meal_factor": 1.0,
    "sensor_noise": 1.0,
    "start_deviation": 0.1,
    "reward": "kovatchev",
    "bolus_hours": 24.0,
    "announced": True,
}


def build(
    *, num_envs: int, device: Any, dtype: Any, backend: str, horizon: int, options: Mapping
) -> ComposedEnvironment:
    """Makes the environment, see `separatrix.envs.core.registration.Registration`."""
    import torch

    from separatrix.envs.core.environment import ComposedEnvironment
    from separatrix.envs.steppers.ode_system import parameter_tensor
    from separatrix.envs.twin.glucose.picture import draw_readings
    from separatrix.envs.twin.glucose.system import GlucoseSystem
    from separatrix.envs.twin.glucose.task import REWARDS, GlucoseTask

    chosen = SETTINGS | dict(options)
    for name in ("control_interval", "days"):
        check_count(name, chosen[name])
    if chosen["control_interval"] > 60:
        got = chosen["control_interval"]
        raise ValueError(f"control_interval: got {got}; allowed: 1 to 60 minutes")
    for name in ("meal_factor", "sensor_noise", "start_deviation", "bolus_hours"):
        value = chosen[name]
        if not is_positive(value) and (value != 0 or name == "bolus_hours"):
            sign = ">" if name == "bolus_hours" else ">="
            raise ValueError(f"{name}: got {reprlib.repr(value)}; allowed: a number {sign} 0")
    if not isinstance(chosen["reward"], str) or chosen["reward"] not in REWARDS:
        got = reprlib.repr(chosen["reward"])
        raise ValueError(f"reward: got {got}; {suggest(chosen['reward'], REWARDS)}")
    if not isinstance(chosen["announced"], bool):
        raise ValueError(f"announced: got {chosen['announced']!r}; allowed: True, False")
    patients = _patients(chosen["patient"], num_envs)
    parameters = {
        name: torch.tensor([p.parameters[name] for p in patients], dtype=torch.float64)
        if options.get(name) is None
        else parameter_tensor(name, options[name], num_envs)
        for name in PARAMETERS
    }
    system = GlucoseSystem(
        parameters,
        *(
            torch.tensor(values, dtype=torch.float64)
            for values in (
                [p.fasting_glucose for p in patients],
                [p.carbohydrate_ratio for p in patients],
                [p.correction_factor for p in patients],
            )
        ),
        num_envs=num_envs,
        device=device,
        dtype=dtype,
        backend=backend,
        **{
            name: chosen[name]
            for name in (
                "control_interval", "days", "meals", "meal_factor", "sensor_noise",
                "start_deviation",
            )
        },
    )  # fmt: skip
    task = GlucoseTask(system, chosen["reward"], chosen["bolus_hours"], chosen["announced"])
    return ComposedEnvironment(system, task, horizon, draw_readings)


def _patients(patient: Any, num_envs: int) -> list[Patient]:
    """Reads the option `patient`: a name or a patient, or one for each environment."""
    from separatrix.envs.twin.glucose.patients import Patient, find_patient

    chosen = [patient] if isinstance(patient, str | Patient) else patient
    sound = isinstance(chosen, Sequence) and all(isinstance(one, str | Patient) for one in chosen)
    if not sound or len(chosen) not in (1, num_envs):
        raise ValueError(
            f"patient: got {reprlib.repr(patient)}; allowed: a name or a Patient, or one for each "
            f"of the {num_envs} environments"
        )
    return [find_patient(one) if isinstance(one, str) else one for one in chosen]


register(
    "Glucose-v0",
    build,
    horizon=DAY // SETTINGS["control_interval"],
    summary="Keep the glucose of a person with type-1 diabetes in range by insulin",
    options={**SETTINGS, **dict.fromkeys(PARAMETERS)},
    documented=Glucose,
    states=len(COMPARTMENTS),
    controls=2,
    backends=("numba", "triton", "torch"),
)

"""Refrigerator: one temperature, cooled by a compressor and warmed through walls and a door."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import register, suggest

if TYPE_CHECKING:
    import torch

    from separatrix.envs.core.environment import ComposedEnvironment

# Name: default, smallest and largest value.
PARAMETERS = {
    "ambient": (15.0, -25.0, 25.0),
    "cooling": (1.0, 0.0, 10.0),
    "leak_closed": (0.02, 0.0, 1.0),
    "leak_open": (0.08, 0.0, 1.0),
    "noise": (0.02, 0.0, 10.0),
}
SET_POINT = (4.0, -25.0, 25.0)
START = (2.0, 8.0)
POWER_WEIGHT = 0.01
DOORS = ("random", "closed")
BACKENDS = ("auto", "torch")


class Refrigerator:
    """Keep a refrigerator at its set-point, whoever opens the door.

    ## Description
    A compressor of power u in [0, 1] cools the inside, T degrees Celsius, and the warmth of the
    room comes in through the walls, and faster through an open door. In each step

        T' = T - `cooling` u - leak (T - `ambient`) + `noise` normal number

    with the leak `leak_closed`, 0.02, or `leak_open`, 0.08, and T' kept within [-25, 25]. Then a
    closed door is opened with probability 0.02, and an open one closed with probability 0.1: it
    stands open for ten steps in the mean, and for a sixth of the time. Under constant power and a
    closed door the temperature goes to 15 - 50 u, at a rate of 0.98 a step.

    With the door open or closed the physics is linear, so that it is known beforehand what a model
    of it should predict where it has no data, such as at other set-points. It is a twin of no
    particular refrigerator.

    ## Action space
    | Num | Name  | Min | Max | Unit               |
    |-----|-------|-----|-----|--------------------|
    | 0   | power | -1  | 1   | u = (1 + action)/2 |

    ## Observation space
    | Num | Name        | Min  | Max | Unit                |
    |-----|-------------|------|-----|---------------------|
    | 0   | temperature | -2.5 | 2.5 | 10 degrees          |
    | 1   | door        | 0    | 1   | 1 for an open door  |
    | 2   | set-point   | -2.5 | 2.5 | 10 degrees          |

    That is all there is: it is the state, and reward and the distribution of what follows are
    functions of it and of the action.

    ## Reward
    -(0.1 |T - set-point| + `power_weight` u), of the temperature after the step: at most 0, and by
    the range of temperatures at least -2.91 at the default set-point.

    ## Starting state
    The temperature is uniform within `start`, whatever the set-point; the door is open with
    probability 1/6.

    ## Episode end
    Truncated after 200 steps. Nothing terminates it, and it cannot diverge.

    ## Metrics
    `deviation` (degrees off the set-point, after the step), `power` (u), `door_open` (1 or 0,
    during the step).

    ## Arguments
    System: `ambient` (15 degrees), `cooling` (1 degree a step), `leak_closed` (0.02), `leak_open`
    (0.08), `noise` (0.02 degrees), each a number, or one for each environment of a batch; `door`
    ("random", or "closed": never opened), `start` ((2, 8), lowest and highest temperature).
    Task: `set_point` (4 degrees, -25 to 25; a number, or one for each environment), `power_weight`
    (0.01).

    ## References
    F.-M. Luo, T. Xu, X. Cao, Y. Yu, Reward-consistent dynamics models are strongly generalizable
    for offline reinforcement learning, ICLR (2024), arXiv:2310.05422, where a refrigerator tells a
    model of dynamics that generalises from one that does not; the numbers here are our own.

    ## Version history
    - v0: first version.
    """


def build(
    *,
    num_envs: int,
    device: Any,
    dtype: Any,
    backend: str,
    horizon: int,
    options: Mapping[str, Any],
) -> ComposedEnvironment:
    """Makes the environment, see `Registration`."""
    from separatrix.envs.core.environment import ComposedEnvironment
    from separatrix.envs.twin.refrigerator_picture import draw_refrigerator
    from separatrix.envs.twin.refrigerator_system import RefrigeratorSystem
    from separatrix.envs.twin.refrigerator_task import KeepTemperature

    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"unknown backend {reprlib.repr(backend)}; {suggest(backend, BACKENDS)}")
    door, weight = options.get("door", DOORS[0]), options.get("power_weight", POWER_WEIGHT)
    if not isinstance(door, str) or door not in DOORS:
        raise ValueError(f"door: got {reprlib.repr(door)}; {suggest(door, DOORS)}")
    if not (isinstance(weight, int | float) and 0 <= weight <= 100):
        got = reprlib.repr(weight)
        raise ValueError(f"power_weight: got {got}; allowed: a number from 0 to 100")
    numbers = {
        name: _numbers(name, options.get(name, limits[0]), limits, num_envs)
        for name, limits in {**PARAMETERS, "set_point": SET_POINT}.items()
    }
    set_point = numbers.pop("set_point")
    system = RefrigeratorSystem(
        numbers,
        set_point,
        start=_start(options.get("start", START)),
        opens=door == "random",
        num_envs=num_envs,
        device=device,
        dtype=dtype,
    )
    return ComposedEnvironment(system, KeepTemperature(system, weight), horizon, draw_refrigerator)


def _numbers(
    name: str, value: Any, limits: tuple[float, float, float], num_envs: int
) -> torch.Tensor:
    """Reads a number, or one for each environment, within limits: (1,) or (num_envs,)."""
    from separatrix.envs.steppers.ode_system import parameter_tensor

    found = parameter_tensor(name, value, num_envs)
    _, low, high = limits
    outside = found[(found < low) | (found > high)].tolist()
    if outside:
        raise ValueError(
            f"{name}: got {outside[0]:g}; allowed: a number from {low:g} to {high:g}, or one for "
            "each environment"
        )
    return found


def _start(value: Any) -> tuple[float, float]:
    """Reads the option `start`."""
    from separatrix.envs.core.inputs import read_numbers

    _, coldest, warmest = SET_POINT
    found = read_numbers("start", value).double()
    if found.shape == (2,) and bool(coldest <= found[0] <= found[1] <= warmest):
        low, high = found.tolist()
        return low, high
    raise ValueError(
        f"start: got {reprlib.repr(value)}; allowed: two numbers from {coldest:g} to {warmest:g}, "
        "the lower first"
    )


register(
    "Refrigerator-v0",
    build,
    horizon=200,
    summary="Keep a refrigerator at its set-point, whoever opens the door",
    options={
        **{name: default for name, (default, _, _) in PARAMETERS.items()},
        "door": DOORS[0],
        "start": START,
        "set_point": SET_POINT[0],
        "power_weight": POWER_WEIGHT,
    },
    documented=Refrigerator,
    states=3,
    controls=1,
    backends=("torch",),
)

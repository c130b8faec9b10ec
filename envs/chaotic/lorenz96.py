"""Lorenz (1996): weather on a circle of latitude, forty sites.

    x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F + u_i      i modulo 40

E. N. Lorenz, Predictability: a problem partly solved, ECMWF Seminar on Predictability (1996),
eq. 1; E. N. Lorenz, K. A. Emanuel, J. Atmos. Sci. 55 (1998) 399. One time unit is five days.

    parameter  default  meaning
    forcing    8        F, the external forcing
"""

from collections.abc import Sequence

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import Profile
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

SITES = 40

attractor = Attractor("lorenz96")


@ode(states=f"x[{SITES}]", controls=f"u[{SITES}]", start=attractor, box=attractor.box)
def lorenz96(
    x: Sequence[Expression], u: Sequence[Expression], *, forcing: Expression = 8.0
) -> list[Expression]:
    """Returns the time derivatives of all sites."""
    return [
        (x[(i + 1) % SITES] - x[i - 2]) * x[i - 1] - x[i] + forcing + u[i] for i in range(SITES)
    ]


class Lorenz96:
    """Hold forty-site Lorenz weather at its unstable uniform state.

    ## Description
    Waves travel around the circle and break (largest Lyapunov exponent about 1.7, thirteen
    positive ones). The uniform state x_i = F has 24 unstable modes, the fastest growing at 7.9 a
    time unit. A force acts on every site.

    ## Action space
    | Num  | Name  | Min | Max | Unit                                               |
    |------|-------|-----|-----|----------------------------------------------------|
    | 0-39 | force | -1  | 1   | `authority` times the rms of x_i' on the attractor |

    ## Observation space
    | Num  | Name | Min   | Max  | Unit                                     |
    |------|------|-------|------|------------------------------------------|
    | 0-39 | x_i  | -38.9 | 38.9 | deviation from F / standard deviation    |

    ## Reward
    exp(-d^2 / 450), d the Euclidean distance to the uniform state after the step: between 0 and 1,
    1 on target. A diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random.

    ## Episode end
    Truncated after 400 steps of 0.05 time units (6 hours). Terminated if the state leaves the safe
    box, five times the attractor's.

    ## Arguments
    System: `forcing`. Task `hold`: `authority` (1), `width` (15), `radius` (4, of the target ball),
    `near` (start of the search for the fixed point).

    ## References
    E. N. Lorenz, ECMWF Seminar on Predictability (1996); E. N. Lorenz and K. A. Emanuel,
    J. Atmos. Sci. 55 (1998) 399.

    ## Version history
    - v0: first version.
    """


register_ode(
    "Lorenz96-v0",
    lorenz96,
    {"hold": HoldFixedPoint(near=(8.0,) * SITES, authority=1.0, width=15.0, radius=4.0)},
    control_interval=0.05,
    substeps=6,
    horizon=400,
    summary="Hold forty-site Lorenz weather at its unstable uniform state",
    draw=Profile(),
    documented=Lorenz96,
)

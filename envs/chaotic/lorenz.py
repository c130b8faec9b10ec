"""Lorenz (1963): convection in a fluid layer heated from below, truncated to three modes.

    x' = sigma (y - x)
    y' = x (rho - z) - y + u      u: extra heating
    z' = x y - beta z

E. N. Lorenz, J. Atmos. Sci. 20 (1963) 130, eqs. 25-27; time is in units of heat diffusion.

    parameter  default  meaning
    sigma      10       Prandtl number
    rho        28       Rayleigh number over its critical value
    beta       8/3      aspect ratio of the convection cells
"""

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

attractor = Attractor("lorenz")


@ode(states="x y z", controls="u", start=attractor, box=attractor.box)
def lorenz(
    x: Expression,
    y: Expression,
    z: Expression,
    u: Expression,
    *,
    sigma: Expression = 10.0,
    rho: Expression = 28.0,
    beta: Expression = 8 / 3,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x (rotation), y and z (temperature modes)."""
    return sigma * (y - x), x * (rho - z) - y + u, x * y - beta * z


class Lorenz:
    """Hold Lorenz convection at its unstable steady rotation C+.

    ## Description
    The flow rotates one way for a while, then unpredictably the other. Extra heating u can steady
    it at the fixed point C+ = (q, q, rho - 1), q = sqrt(beta (rho - 1)), whose spiral is unstable
    (exponents 0.094 +- 10.19 i and -13.85). The largest Lyapunov exponent of the free flow is
    0.906.

    ## Action space
    | Num | Name    | Min | Max | Unit                                              |
    |-----|---------|-----|-----|---------------------------------------------------|
    | 0   | heating | -1  | 1   | `authority` times the rms of y' on the attractor  |

    ## Observation space
    | Num | Name | Min   | Max  | Unit                                   |
    |-----|------|-------|------|----------------------------------------|
    | 0   | x    | -24.3 | 24.3 | deviation from C+ / standard deviation |
    | 1   | y    | -29.8 | 29.8 | deviation from C+ / standard deviation |
    | 2   | z    | -27.0 | 27.0 | deviation from C+ / standard deviation |

    ## Reward
    exp(-d^2 / 50), d the distance to C+ after the step: between 0 and 1, 1 on target. A diverged
    environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random.

    ## Episode end
    Truncated after 400 steps of 0.05 time units. Terminated if the state leaves the safe box, five
    times the attractor's; no allowed action drives it there.

    ## Arguments
    System: `sigma`, `rho`, `beta`. Task `hold`: `authority` (0.3), `width` (5), `radius` (2, of the
    target ball), `near` (start of the search for the fixed point).

    ## References
    E. N. Lorenz, J. Atmos. Sci. 20 (1963) 130.

    ## Version history
    - v0: first version.
    """


register_ode(
    "Lorenz-v0",
    lorenz,
    {"hold": HoldFixedPoint(near=(8.5, 8.5, 27.0), authority=0.3, width=5.0, radius=2.0)},
    control_interval=0.05,
    substeps=10,
    horizon=400,
    summary="Hold Lorenz convection at its unstable steady rotation",
    draw=PhasePortrait(horizontal=0, vertical=2),
    documented=Lorenz,
)

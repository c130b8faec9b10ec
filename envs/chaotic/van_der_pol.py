"""Van der Pol (1926): self-sustained oscillation of a triode.

    x' = v
    v' = mu (1 - x^2) v - x + u      u: additional force

B. van der Pol, Phil. Mag. 2 (1926) 978; time is in units of the linear oscillation over 2 pi.

    parameter  default  meaning
    mu         1        strength of the nonlinear damping
"""

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

attractor = Attractor("van_der_pol")


@ode(states="x v", controls="u", start=attractor, box=attractor.box)
def van_der_pol(
    x: Expression, v: Expression, u: Expression, *, mu: Expression = 1.0
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x (voltage) and v (its rate)."""
    return v, mu * (1 - x * x) * v - x + u


class VanDerPol:
    """Suppress the limit cycle of van der Pol's oscillator.

    ## Description
    The oscillator feeds small oscillations and damps large ones, so that all motion ends on one
    limit cycle (amplitude 2.0086 and period 6.6633 with mu = 1). The rest state in its middle is an
    unstable focus (exponents 0.5 +- 0.866 i). The system is not chaotic: it is the place to begin.

    ## Action space
    | Num | Name  | Min | Max | Unit                                                |
    |-----|-------|-----|-----|-----------------------------------------------------|
    | 0   | force | -1  | 1   | `authority` times the rms of v' on the limit cycle  |

    ## Observation space
    | Num | Name | Min   | Max  | Unit                                  |
    |-----|------|-------|------|---------------------------------------|
    | 0   | x    | -14.0 | 14.0 | deviation from 0 / standard deviation |
    | 1   | v    | -18.7 | 18.7 | deviation from 0 / standard deviation |

    ## Reward
    exp(-d^2 / 2), d the distance to the rest state after the step: between 0 and 1, 1 on target. A
    diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the limit cycle of the default parameter, drawn at random.

    ## Episode end
    Truncated after 400 steps of 0.1 time units, each of 4 Runge-Kutta steps (error of a step below
    1e-7 of the standard deviation). Terminated if the state leaves the safe
    box, five times the limit cycle's; no allowed action drives it there.

    ## Arguments
    System: `mu`. Task `hold`: `authority` (0.5), `width` (1), `radius` (0.2, of the target ball),
    `near` (start of the search for the fixed point).

    ## References
    B. van der Pol, Phil. Mag. 2 (1926) 978.

    ## Version history
    - v0: first version.
    """


register_ode(
    "VanDerPol-v0",
    van_der_pol,
    {"hold": HoldFixedPoint(near=(0.0, 0.0), authority=0.5, width=1.0, radius=0.2)},
    control_interval=0.1,
    substeps=4,
    horizon=400,
    summary="Suppress the limit cycle of van der Pol's oscillator",
    draw=PhasePortrait(horizontal=0, vertical=1),
    documented=VanDerPol,
)

"""Chen (1999): a relative of the Lorenz system, found by making that one chaotic with feedback.

    x' = a (y - x)
    y' = (c - a) x - x z + c y + u      u: additive force
    z' = x y - b z

G. Chen, T. Ueta, Int. J. Bifurcation Chaos 9 (1999) 1465, with the parameters a = 35, b = 3,
c = 28.
"""

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

attractor = Attractor("chen")


@ode(states="x y z", controls="u", start=attractor, box=attractor.box)
def chen(
    x: Expression,
    y: Expression,
    z: Expression,
    u: Expression,
    *,
    a: Expression = 35.0,
    b: Expression = 3.0,
    c: Expression = 28.0,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x, y and z."""
    return a * (y - x), (c - a) * x - x * z + c * y + u, x * y - b * z


class Chen:
    """Hold the Chen system at the unstable focus of one wing.

    ## Description
    A faster and more unstable relative of the Lorenz system. The fixed point (q, q, 2 c - a),
    q = sqrt(b (2 c - a)), is in the middle of one wing; its spiral is unstable (exponents 4.21 +-
    14.9 i and -18.4). The largest Lyapunov exponent of the free flow is 2.0.

    ## Action space
    | Num | Name  | Min | Max | Unit                                             |
    |-----|-------|-----|-----|--------------------------------------------------|
    | 0   | force | -1  | 1   | `authority` times the rms of y' on the attractor |

    ## Observation space
    | Num | Name | Min   | Max  | Unit                                            |
    |-----|------|-------|------|-------------------------------------------------|
    | 0   | x    | -32.4 | 32.4 | deviation from fixed point / standard deviation |
    | 1   | y    | -35.2 | 35.2 | deviation from fixed point / standard deviation |
    | 2   | z    | -39.7 | 39.7 | deviation from fixed point / standard deviation |

    ## Reward
    exp(-d^2 / 32), d the distance to the fixed point after the step: between 0 and 1, 1 on target.
    A diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random.

    ## Episode end
    Truncated after 400 steps of 0.02 time units, each of 8 Runge-Kutta steps (error of a step below
    1e-6 of the standard deviation). Terminated if the state leaves the safe box, five times the
    attractor's; no allowed action drives it there.

    ## Arguments
    System: `a`, `b`, `c`. Task `hold`: `authority` (0.1), `width` (4), `radius` (2, of the target
    ball), `near` (start of the search for the fixed point).

    ## References
    G. Chen, T. Ueta, Int. J. Bifurcation Chaos 9 (1999) 1465.

    ## Version history
    - v0: first version.
    """


register_ode(
    "Chen-v0",
    chen,
    {"hold": HoldFixedPoint(near=(8.0, 8.0, 21.0), authority=0.1, width=4.0, radius=2.0)},
    control_interval=0.02,
    substeps=8,
    horizon=400,
    summary="Hold the Chen system at the unstable focus of one wing",
    draw=PhasePortrait(horizontal=0, vertical=2),
    documented=Chen,
)

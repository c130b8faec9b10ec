"""Rossler (1976): the simplest continuous chaos, one quadratic term.

    x' = -y - z
    y' = x + a y + u      u: additive force
    z' = b + z (x - c)

O. E. Rossler, Phys. Lett. A 57 (1976) 397, with the parameters a = b = 0.2, c = 5.7.
"""

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

# Allowed forces, in resonance, throw z out of five times the attractor's box and it comes back.
attractor = Attractor("rossler", margin=8.0)


@ode(states="x y z", controls="u", start=attractor, box=attractor.box)
def rossler(
    x: Expression,
    y: Expression,
    z: Expression,
    u: Expression,
    *,
    a: Expression = 0.2,
    b: Expression = 0.2,
    c: Expression = 5.7,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x, y (the rotation) and z (the reinjection)."""
    return -y - z, x + a * y + u, b + z * (x - c)


class Rossler:
    """Hold the Rossler system at the unstable focus inside its band.

    ## Description
    The state spirals outwards in the plane and is thrown back by a pulse of z. The fixed point in
    the middle, near (0.007, -0.035, 0.035), is an unstable focus (exponents 0.097 +- 0.995 i and
    -5.69). The basin of the attractor is small: a force on z expels the state at once, and one on
    y does if it swings in resonance with more than twice the default authority.

    ## Action space
    | Num | Name  | Min | Max | Unit                                             |
    |-----|-------|-----|-----|--------------------------------------------------|
    | 0   | force | -1  | 1   | `authority` times the rms of y' on the attractor |

    ## Observation space
    | Num | Name | Min   | Max  | Unit                                            |
    |-----|------|-------|------|-------------------------------------------------|
    | 0   | x    | -31.9 | 31.9 | deviation from fixed point / standard deviation |
    | 1   | y    | -30.7 | 30.7 | deviation from fixed point / standard deviation |
    | 2   | z    | -64.5 | 64.5 | deviation from fixed point / standard deviation |

    ## Reward
    exp(-d^2 / 12.5), d the distance to the fixed point after the step: between 0 and 1, 1 on
    target. A diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random.

    ## Episode end
    Truncated after 400 steps of 0.2 time units. Terminated if the state leaves the safe box, eight
    times the attractor's.

    ## Arguments
    System: `a`, `b`, `c`. Task `hold`: `authority` (0.2), `width` (2.5), `radius` (1, of the target
    ball), `near` (start of the search for the fixed point).

    ## References
    O. E. Rossler, Phys. Lett. A 57 (1976) 397.

    ## Version history
    - v0: first version.
    """


register_ode(
    "Rossler-v0",
    rossler,
    {"hold": HoldFixedPoint(near=(0.0, 0.0, 0.0), authority=0.2, width=2.5, radius=1.0)},
    control_interval=0.2,
    substeps=20,
    horizon=400,
    summary="Hold the Rossler system at the unstable focus inside its band",
    draw=PhasePortrait(horizontal=0, vertical=1),
    documented=Rossler,
)

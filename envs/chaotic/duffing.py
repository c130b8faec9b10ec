"""Duffing's two-well oscillator: a driven beam between two magnets.

    x' = v
    v' = -delta v - alpha x - beta x^3 + gamma cos(phase) + u      u: additional force
    phase' = omega

F. C. Moon, P. J. Holmes, J. Sound Vib. 65 (1979) 275; J. C. Sprott, Chaos and Time-Series Analysis
(2003), appendix A, whose parameters these are.

    parameter  default  meaning
    delta      0.25     damping
    alpha      -1       linear stiffness; negative, the rest between the wells is unstable
    beta       1        cubic stiffness
    gamma      0.4      amplitude of the drive
    omega      1        frequency of the drive
"""

import numpy as np

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.follow_orbit import FollowOrbit
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression, cos
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

attractor = Attractor("duffing")
LARGEST_PHASE = 1e4
"""Bound of the phase in radians: it is not wrapped."""


def box() -> tuple[np.ndarray, np.ndarray]:
    """Returns the safe box: five times the attractor's, and wide in the phase."""
    low, high = attractor.box()
    low[2], high[2] = -LARGEST_PHASE, LARGEST_PHASE
    return low, high


@ode(states="x v phase", controls="u", start=attractor, box=box, angles="phase")
def duffing(
    x: Expression,
    v: Expression,
    phase: Expression,
    u: Expression,
    *,
    delta: Expression = 0.25,
    alpha: Expression = -1.0,
    beta: Expression = 1.0,
    gamma: Expression = 0.4,
    omega: Expression = 1.0,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x (position), v (velocity) and the phase of the drive."""
    force = -delta * v - alpha * x - beta * x**3 + gamma * cos(phase)
    return v, force + u, omega


class Duffing:
    """Follow the unstable periodic orbit in one well of Duffing's oscillator.

    ## Description
    A beam shaken between two magnets swings around one, then unpredictably around the other
    (largest Lyapunov exponent 0.157). In the chaos lie unstable periodic orbits. The one to be
    followed swings around the right magnet once a period of the drive, 2 pi / omega; its Floquet
    multipliers are -13.8 and -0.0151: a deviation grows fourteenfold each period and changes sides.
    On the orbit no force is needed. There is no state to hold, hence no LQR.

    ## Action space
    | Num | Name  | Min | Max | Unit                                             |
    |-----|-------|-----|-----|--------------------------------------------------|
    | 0   | force | -1  | 1   | `authority` times the rms of v' on the attractor |

    ## Observation space
    | Num | Name            | Min   | Max  | Unit                                      |
    |-----|-----------------|-------|------|-------------------------------------------|
    | 0   | x               | -17.4 | 17.4 | deviation from orbit / standard deviation |
    | 1   | v               | -19.7 | 19.7 | deviation from orbit / standard deviation |
    | 2   | cosine of phase | -1    | 1    |                                           |
    | 3   | sine of phase   | -1    | 1    |                                           |

    ## Reward
    exp(-d^2 / 0.18), d the distance to the point of the orbit at the same phase of the drive, after
    the step: between 0 and 1, 1 on the orbit. A diverged environment gets 0. An episode of 400
    steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random, with its phase.

    ## Episode end
    Truncated after 400 steps of 0.1 time units, each of 4 Runge-Kutta steps (error of a step below
    1e-7 of the standard deviation). Terminated if x or v leaves the safe box, five times the
    attractor's, or the phase exceeds 10,000 rad; no allowed action drives it there.

    ## Arguments
    System: `delta`, `alpha`, `beta`, `gamma`, `omega`. Task `follow`: `authority` (0.2), `width`
    (0.3), `radius` (0.1, of being on target), `near` (start of the search for the orbit with the
    default parameters: mean and coefficients of cosine and sine of the phase, of x and of v). The
    orbit of other parameters continues that one; far away it may not exist, which is an error.

    ## References
    F. C. Moon, P. J. Holmes, J. Sound Vib. 65 (1979) 275. J. C. Sprott, Chaos and Time-Series
    Analysis (2003). Control of unstable orbits: E. Ott, C. Grebogi, J. A. Yorke, Phys. Rev. Lett.
    64 (1990) 1196.

    ## Version history
    - v0: first version.
    """


register_ode(
    "Duffing-v0",
    duffing,
    {
        "follow": FollowOrbit(
            near=(0.55, -0.57, 0.29, 0.0, 0.29, 0.57), authority=0.2, width=0.3, radius=0.1
        )
    },
    control_interval=0.1,
    substeps=4,
    horizon=400,
    summary="Follow the unstable period-one orbit in a well of Duffing's oscillator",
    draw=PhasePortrait(horizontal=0, vertical=1),
    documented=Duffing,
)

"""Chua's circuit: the simplest electronic circuit with chaos, piecewise linear.

    x' = alpha (y - h(x)) + u      u: current into the nonlinear resistor's capacitor
    y' = x - y + z
    z' = -beta y
    h(x) = m1 x + (m0 - m1) (|x + 1| - |x - 1|) / 2

T. Matsumoto, L. O. Chua, M. Komuro, IEEE Trans. Circuits Syst. 32 (1985) 797, eqs. 2.1-2.3.

    parameter  default  meaning
    alpha      9        ratio of the two capacitances
    beta       100/7    conductance squared, times capacitance and inductance
    m0         -1/7     inner slope of h, for |x| < 1
    m1         2/7      outer slope of h
"""

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression, absolute
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

attractor = Attractor("chua")


@ode(states="x y z", controls="u", start=attractor, box=attractor.box)
def chua(
    x: Expression,
    y: Expression,
    z: Expression,
    u: Expression,
    *,
    alpha: Expression = 9.0,
    beta: Expression = 100 / 7,
    m0: Expression = -1 / 7,
    m1: Expression = 2 / 7,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x, y (voltages) and z (current)."""
    h = m1 * x + (m0 - m1) * (absolute(x + 1) - absolute(x - 1)) / 2
    return alpha * (y - h) + u, x - y + z, -beta * y


class Chua:
    """Hold Chua's circuit at an unstable rest state of the double scroll.

    ## Description
    The state spirals around one rest state, grows, and is thrown over to the other. The one to be
    held is (q, 0, -q), q = (m1 - m0) / m1 = 1.5; its spiral is unstable (exponents 0.185 +- 3.05 i
    and -3.94). The largest Lyapunov exponent of the free flow is 0.33.

    ## Action space
    | Num | Name    | Min | Max | Unit                                             |
    |-----|---------|-----|-----|--------------------------------------------------|
    | 0   | current | -1  | 1   | `authority` times the rms of x' on the attractor |

    ## Observation space
    | Num | Name | Min   | Max  | Unit                                            |
    |-----|------|-------|------|-------------------------------------------------|
    | 0   | x    | -16.4 | 16.4 | deviation from rest state / standard deviation  |
    | 1   | y    | -20.9 | 20.9 | deviation from rest state / standard deviation  |
    | 2   | z    | -19.8 | 19.8 | deviation from rest state / standard deviation  |

    ## Reward
    exp(-2 d^2), d the distance to the rest state after the step: between 0 and 1, 1 on target. A
    diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random.

    ## Episode end
    Truncated after 400 steps of 0.1 time units, each of 10 Runge-Kutta steps (error of a step below
    2e-5 of the standard deviation; the corners of h keep it from falling faster). Terminated if the
    state leaves the safe box, five times the attractor's. No allowed
    action drives it there.

    ## Arguments
    System: `alpha`, `beta`, `m0`, `m1`. Task `hold`: `authority` (0.3), `width` (0.5), `radius`
    (0.2, of the target ball), `near` (start of the search for the fixed point).

    ## References
    T. Matsumoto, L. O. Chua, M. Komuro, IEEE Trans. Circuits Syst. 32 (1985) 797.

    ## Version history
    - v0: first version.
    """


register_ode(
    "Chua-v0",
    chua,
    {"hold": HoldFixedPoint(near=(1.5, 0.0, -1.5), authority=0.3, width=0.5, radius=0.2)},
    control_interval=0.1,
    substeps=10,
    horizon=400,
    summary="Hold Chua's circuit at an unstable rest state of the double scroll",
    draw=PhasePortrait(horizontal=0, vertical=1),
    documented=Chua,
)

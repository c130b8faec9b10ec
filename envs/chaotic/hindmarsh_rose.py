"""Hindmarsh and Rose (1984): a neuron that fires bursts of spikes, chaotically.

    x' = y - a x^3 + b x^2 - z + current + u      u: additional injected current
    y' = c - d x^2 - y
    z' = r (s (x - rest) - z)

J. L. Hindmarsh, R. M. Rose, Proc. R. Soc. London B 221 (1984) 87. Without dimensions; a spike takes
about one unit of time.

    parameter  default  meaning
    a          1        x is the membrane potential: a and b shape the spike
    b          3
    c          1        y is the recovery by fast currents
    d          5
    r          0.006    z, the adaptation current, is slow by this factor
    s          4        strength of the adaptation
    rest       -1.6     membrane potential without adaptation
    current    3.25     injected current
"""

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

attractor = Attractor("hindmarsh_rose")


@ode(states="x y z", controls="u", start=attractor, box=attractor.box)
def hindmarsh_rose(
    x: Expression,
    y: Expression,
    z: Expression,
    u: Expression,
    *,
    a: Expression = 1.0,
    b: Expression = 3.0,
    c: Expression = 1.0,
    d: Expression = 5.0,
    r: Expression = 0.006,
    s: Expression = 4.0,
    rest: Expression = -1.6,
    current: Expression = 3.25,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x (potential), y (recovery) and z (adaptation)."""
    spike = y - a * x**3 + b * x**2 - z + current + u
    return spike, c - d * x**2 - y, r * (s * (x - rest) - z)


class HindmarshRose:
    """Silence a bursting neuron at its unstable rest state.

    ## Description
    The neuron fires a burst of spikes, falls silent while the adaptation z recovers, and fires
    again, never twice alike (largest Lyapunov exponent 0.013; a burst and a pause take about 150
    time units). The rest state near (-0.695, -1.416, 3.619) has two unstable directions (exponents
    0.173, 0.014 and -6.81). An injected current can hold the neuron there; from far away it takes
    as long as the adaptation.

    ## Action space
    | Num | Name    | Min | Max | Unit                                             |
    |-----|---------|-----|-----|--------------------------------------------------|
    | 0   | current | -1  | 1   | `authority` times the rms of x' on the attractor |

    ## Observation space
    | Num | Name | Min   | Max  | Unit                                           |
    |-----|------|-------|------|------------------------------------------------|
    | 0   | x    | -30.7 | 30.7 | deviation from rest state / standard deviation |
    | 1   | y    | -21.9 | 21.9 | deviation from rest state / standard deviation |
    | 2   | z    | -21.0 | 21.0 | deviation from rest state / standard deviation |

    ## Reward
    exp(-d^2 / 2), d the distance to the rest state after the step: between 0 and 1, 1 on target. A
    diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random.

    ## Episode end
    Truncated after 400 steps of 0.5 time units, each of 20 Runge-Kutta steps (error of a step below
    1e-5 of the standard deviation). Terminated if the state leaves the safe box, five times the
    attractor's; no allowed action drives it there.

    ## Arguments
    System: `a`, `b`, `c`, `d`, `r`, `s`, `rest`, `current`. Task `hold`: `authority` (0.3), `width`
    (1), `radius` (0.2, of the target ball), `near` (start of the search for the fixed point).

    ## References
    J. L. Hindmarsh, R. M. Rose, Proc. R. Soc. London B 221 (1984) 87.

    ## Version history
    - v0: first version.
    """


register_ode(
    "HindmarshRose-v0",
    hindmarsh_rose,
    {"hold": HoldFixedPoint(near=(0.0, 0.0, 0.0), authority=0.3, width=1.0, radius=0.2)},
    control_interval=0.5,
    substeps=20,
    horizon=400,
    summary="Silence a bursting neuron at its unstable rest state",
    draw=PhasePortrait(horizontal=2, vertical=0),
    documented=HindmarshRose,
)

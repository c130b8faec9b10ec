"""The fluidic pinball: three cylinders in a stream, each of which rotates.

    u_t + (u . grad) u = -grad p + laplacian u / Re,    div u = 0

in units of the diameter D and the velocity U of the stream, solved by the lattice Boltzmann method,
see `separatrix.envs.steppers.lattice_torch`. The centres form an equilateral triangle of side 1.5
diameters that points against the stream (N. Deng et al., J. Fluid Mech. 884 (2020) A37).

| Parameter | Value | Meaning |
|-----------|-------|---------|
| Re        | 100   | U D / viscosity |
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from separatrix.envs.fluid.bodies import free_stream, register_bodies
from separatrix.envs.steppers.lattice import Actuator, Disc, Domain

if TYPE_CHECKING:
    import numpy as np

REAR = 1.5 * math.cos(math.pi / 6)
DOMAIN = free_stream([Disc(0.0, 0.0), Disc(REAR, 0.75), Disc(REAR, -0.75)])


def probes(domain: Domain) -> np.ndarray:
    """Returns the places of 35 probes in the wake: a grid of 7 by 5."""
    import numpy as np

    front = domain.bodies[0]
    wake = [(x, y) for x in np.arange(3.0, 10.0) for y in np.arange(-2.0, 2.5)]
    return np.array([front.x, front.y]) + np.array(wake)


class Pinball:
    """Lower the drag of three cylinders by rotating each.

    ## Description
    With the Reynolds number the flow passes from steady by a periodic one and one that leans to a
    side to chaos at about 115. Three cylinders, at the corners of a triangle of side 1.5 D that
    points against the stream, turn about their axes, counterclockwise if the action is positive;
    their surfaces move up to `authority` times as fast as the stream. Rear cylinders that turn
    against each other (lower one counterclockwise) close the wake.

    ## Action space
    | Num | Name                       | Min | Max | Unit                                   |
    |-----|----------------------------|-----|-----|----------------------------------------|
    | 0   | rotation, front cylinder   | -1  | 1   | `authority` U, velocity of the surface |
    | 1   | rotation, upper cylinder   | -1  | 1   | likewise                               |
    | 2   | rotation, lower cylinder   | -1  | 1   | likewise                               |

    The velocity follows what is asked for exponentially, with the time `smoothing_time`.

    ## Observation space
    | Num  | Name                                                 | Min | Max | Unit      |
    |------|------------------------------------------------------|-----|-----|-----------|
    | 0-2  | drag coefficients less a third of the free mean drag | -50 | 50  | 1         |
    | 3-5  | lift coefficients                                    | -50 | 50  | 1         |
    | 6-8  | their changes since the step before                  | -50 | 50  | 2 U / D   |
    | 9-11 | rotations in force                                   | -50 | 50  | authority |

    Coefficients are means over the control interval. With `observed="probes"` instead: velocities
    along the stream, velocities across, and pressures at 35 probes in the wake, in units of U and
    of density times U^2.

    ## Reward
    D_0 - D - `lift_weight` |L|, with the mean coefficients of drag D and lift L of all cylinders
    together over the step, and the mean drag D_0 without control; clipped to [-10, 10]. A diverged
    environment gets -10.

    ## Starting state
    The developed flow, in one of eight phases at random, with a little of the other phases mixed
    in. It is computed when it is first needed
    with some settings, in seconds at the default resolution, and kept on disk (see
    `separatrix.envs.fluid.developed`). Or with `start="impulsive"` the undisturbed stream.

    ## Episode end
    Truncated after 200 steps of 0.25 D / U. Terminated only by divergence: a population that
    deviates by more than 0.4 from fluid at rest.

    ## Metrics
    `drag`, `lift` (mean coefficients over the step, of all cylinders), `energy` (mean squared
    action).

    ## Arguments
    System: `reynolds_number` (100). Lattice: `resolution` (10 sites to a diameter), `speed` (0.05,
    links that U makes a time step: an error of its square), `control_interval` (0.25). Task:
    `observed` ("forces" or "probes"), `lift_weight` (0), `authority` (1), `smoothing_time` (0.1),
    `start` ("developed" or "impulsive"). Settings that the lattice cannot carry are refused.

    ## References
    N. Deng et al., J. Fluid Mech. 884 (2020) A37. L. Fagerstrom, C. Lagemann et al., HydroGym,
    arXiv:2512.17534. N. Zolman et al., SINDy-RL, arXiv:2403.09110.

    ## Version history
    - v0: first version.
    """


register_bodies(
    "Pinball-v0",
    {"free_stream": DOMAIN},
    lambda options: [Actuator(body, body) for body in range(3)],
    probes,
    reynolds_number=100.0,
    authority=1.0,
    observed="forces",
    lift_weight=0.0,
    smoothing_time=0.1,
    horizon=200,
    summary="Lower the drag of three cylinders in a stream by rotating them",
    documented=Pinball,
)

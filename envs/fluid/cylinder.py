"""A cylinder in a stream, which sheds vortices; it is rotated, or blows and sucks.

    u_t + (u . grad) u = -grad p + laplacian u / Re,    div u = 0

in units of the diameter D and the mean velocity U of the stream, solved by the lattice Boltzmann
method, see `separatrix.envs.steppers.lattice_torch`. The channel is that of M. Schafer and S. Turek
(Notes Numer. Fluid Mech. 52 (1996) 547, case 2D-2): 22 by 4.1 diameters, a parabola as inflow, the
cylinder 2 diameters from the inflow and from the lower wall.

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

DOMAINS = {
    "channel": Domain(22.0, 4.1, "parabola", "no_slip", (Disc(2.0, 2.0),)),
    "free_stream": free_stream([Disc(0.0, 0.0)]),
}
TOP, BOTTOM = 90.0, -90.0


def probes(domain: Domain) -> np.ndarray:
    """Returns the places of 151 probes, those of J. Rabault et al. as FluidGym has them.

    A grid in the wake, two circles of 36 about the cylinder, and points above and below it.
    """
    import numpy as np

    wake = [(x, y) for x in np.arange(1.0, 5.0, 0.5) for y in np.arange(-1.5, 1.75, 0.5)]
    angles = np.linspace(0, 2 * math.pi, 36)
    circles = [(r * math.cos(a), r * math.sin(a)) for r in (1.0, 0.625) for a in angles]
    far = [(x, y) for y in (-1.5, 1.5) for x in np.arange(-0.25, 1.0, 0.25)]
    near = [(x, y) for y in (-1.0, 1.0) for x in (-0.25, 0.25, 0.5, 0.75, 1.0)]
    behind = [(0.75, y) for y in (-0.5, 0.0, 0.5)]
    centre = np.array([domain.bodies[0].x, domain.bodies[0].y])
    return centre + np.array(wake + circles + far + near + behind)


class RotaryCylinder:
    """Lower the drag of a cylinder by rotating it.

    ## Description
    Above a Reynolds number of about 47 the wake of a cylinder is a street of vortices, which cost
    drag and shake the cylinder. It turns about its axis, counterclockwise if the action is
    positive, and its surface moves up to `authority` times as fast as the stream.

    The channel with probes is FluidGym's CylinderRot2D-easy; the free stream with forces is what
    HydroGym's RotaryCylinder and SINDy-RL's cylinder are like.

    ## Action space
    | Num | Name     | Min | Max | Unit                                  |
    |-----|----------|-----|-----|---------------------------------------|
    | 0   | rotation | -1  | 1   | `authority` U, velocity of the surface |

    The velocity follows what is asked for exponentially, with the time `smoothing_time`.

    ## Observation space
    | Num | Name                                 | Min | Max | Unit      |
    |-----|--------------------------------------|-----|-----|-----------|
    | 0   | drag coefficient less its free mean  | -50 | 50  | 1         |
    | 1   | lift coefficient                     | -50 | 50  | 1         |
    | 2   | its change since the step before     | -50 | 50  | 2 U / D   |
    | 3   | rotation in force                    | -50 | 50  | authority |

    Coefficients are means over the control interval. With `observed="probes"` instead: velocities
    along the stream, velocities across, and pressures at 151 probes, in units of U and of density
    times U^2.

    ## Reward
    D_0 - D - `lift_weight` |L|, with the mean coefficients of drag D and lift L over the step and
    the mean drag D_0 without control; clipped to [-10, 10]. A diverged environment gets -10.

    ## Starting state
    The developed flow, in one of eight phases at random, with a little of the other phases mixed
    in. It is computed when it is first needed
    with some settings, in seconds at the default resolution, and kept on disk; `python -m
    separatrix.envs.fluid.developed RotaryCylinder-v0 resolution=20` does it before. Or with
    `start="impulsive"` the undisturbed stream.

    ## Episode end
    Truncated after 80 steps of 0.25 D / U. Terminated only by divergence: a population that
    deviates by more than 0.4 from fluid at rest.

    ## Metrics
    `drag`, `lift` (mean coefficients over the step), `energy` (mean squared action).

    ## Arguments
    System: `reynolds_number` (100), `domain` ("channel" or "free_stream", 30 by 20 diameters with
    open sides). Lattice: `resolution` (10 sites to a diameter; in the channel multiples of 10. At
    20 and 40 drag and shedding come within 2 and 1 % of the reference), `speed` (0.05, links that U
    makes a time step: an error of its square), `control_interval` (0.25). Task: `observed`
    ("forces" or "probes"), `lift_weight` (1), `authority` (1), `smoothing_time` (0.1),
    `start` ("developed" or "impulsive"). Settings that the lattice cannot carry are refused.

    ## References
    M. Schafer, S. Turek, Notes Numer. Fluid Mech. 52 (1996) 547. J. Rabault et al., J. Fluid Mech.
    865 (2019) 281. M. Tokarev et al., Energies 13 (2020) 5920. N. Zolman et al., SINDy-RL,
    arXiv:2403.09110. FluidGym, arXiv:2601.15015.

    ## Version history
    - v0: first version.
    """


class JetCylinder:
    """Lower the drag of a cylinder by two jets from its sides.

    ## Description
    The flow of `RotaryCylinder`. Two slots at the top and at the bottom of the cylinder blow and
    suck, one as much as the other, so that no net mass is added. Over its width a jet has the shape
    of half a cosine.

    The channel is that of Rabault et al., whose largest flow rate of 0.06 U D a jet the default
    `authority` gives, and FluidGym's CylinderJet2D-easy, whose jets are wider and slower
    (`jet_width=20, authority=0.67`).

    ## Action space
    | Num | Name | Min | Max | Unit                                       |
    |-----|------|-----|-----|--------------------------------------------|
    | 0   | jets | -1  | 1   | `authority` U, mean velocity of the upper  |

    The velocity follows what is asked for exponentially, with the time `smoothing_time`.

    ## Observation space
    | Num     | Name                       | Min | Max | Unit        |
    |---------|----------------------------|-----|-----|-------------|
    | 0-150   | velocity along the stream  | -50 | 50  | U           |
    | 151-301 | velocity across            | -50 | 50  | U           |
    | 302-452 | pressure                   | -50 | 50  | density U^2 |

    At 151 probes. With `observed="forces"` instead: the drag coefficient less its free mean, the
    lift coefficient, its change since the step before in units of 2 U / D, and the jets in force.

    ## Reward
    D_0 - D - `lift_weight` |L|, with the mean coefficients of drag D and lift L over the step and
    the mean drag D_0 without control; clipped to [-10, 10]. A diverged environment gets -10.

    ## Starting state
    The developed flow, in one of eight phases at random, as that of `RotaryCylinder`; or with
    `start="impulsive"` the undisturbed stream.

    ## Episode end
    Truncated after 80 steps of 0.25 D / U. Terminated only by divergence: a population that
    deviates by more than 0.4 from fluid at rest.

    ## Metrics
    `drag`, `lift` (mean coefficients over the step), `energy` (mean squared action).

    ## Arguments
    System: `reynolds_number` (100), `domain` ("channel" or "free_stream", 30 by 20 diameters with
    open sides), `jet_width` (10 degrees). Lattice: `resolution` (10 sites to a diameter; in the
    channel multiples of 10), `speed` (0.05, links that U makes a time step), `control_interval`
    (0.25). Task: `observed` ("probes" or "forces"), `lift_weight` (1), `authority` (0.6875),
    `smoothing_time` (0.05, as of Rabault et al.), `start` ("developed" or "impulsive"). Settings
    that the lattice cannot carry are refused.

    ## References
    J. Rabault et al., J. Fluid Mech. 865 (2019) 281, arXiv:1808.07664. M. Schafer, S. Turek, Notes
    Numer. Fluid Mech. 52 (1996) 547. FluidGym, arXiv:2601.15015.

    ## Version history
    - v0: first version.
    """


register_bodies(
    "RotaryCylinder-v0",
    DOMAINS,
    lambda options: [Actuator(0, 0)],
    probes,
    reynolds_number=100.0,
    authority=1.0,
    observed="forces",
    lift_weight=1.0,
    smoothing_time=0.1,
    horizon=80,
    summary="Lower the drag of a cylinder in a stream by rotating it",
    documented=RotaryCylinder,
)
register_bodies(
    "JetCylinder-v0",
    DOMAINS,
    lambda options: [
        Actuator(0, 0, "jet", TOP, options["jet_width"], 1.0),
        Actuator(0, 0, "jet", BOTTOM, options["jet_width"], -1.0),
    ],
    probes,
    reynolds_number=100.0,
    authority=0.6875,
    observed="probes",
    lift_weight=1.0,
    smoothing_time=0.05,
    horizon=80,
    summary="Lower the drag of a cylinder in a stream by two jets",
    documented=JetCylinder,
    options={"jet_width": 10.0},
)

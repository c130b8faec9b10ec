"""Fisher: a population that grows, spreads, and is harvested.

    u_t = D u_xx + r u (1 - u) + f(x, t)        x periodic with period L

R. A. Fisher, Ann. Eugenics 7 (1937) 355; A. Kolmogorov, I. Petrovsky, N. Piskunov, Bull. Univ.
Moscou 1 (1937) 1; in this form one of controlgym's PDEs.

    parameter    default  meaning
    diffusivity  0.2      D
    reaction     1        r, the rate of growth
    length       10       L, the period
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.objectives import Reach, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import random_waves
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

fisher = SpectralDefinition(
    name="Fisher",
    fields=("u",),
    dimensions=1,
    parameters={"diffusivity": 0.2, "reaction": 1.0, "length": 10.0},
    linear=lambda d, p: [[p["reaction"] + p["diffusivity"] * laplacian(d)]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-p["reaction"]]],
    degree=2,
    bound=(5.0,),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws uneven populations: 0.7 and random waves."""
    field, stream = random_waves(stream, system, waves=4, rms=0.1)
    return 0.7 + field, stream


class Fisher:
    """Harvest a population where it grows most, or wipe it out.

    ## Description
    A population u grows up to 1, and its fronts invade empty land at the speed 2 (r D)^(1/2). At
    the target "half" it grows fastest, by r / 4, all of which is to be taken away; who takes more
    for long takes all. At the target "zero" seven waves are unstable, the fastest of rate r. A
    force is not bound to what there is: below zero u falls without end, and the environment
    diverges.

    Tasks: `reach` (default) brings u to a target, `regulate` has the quadratic cost of controlgym's
    environment. That environment: `task="regulate", diffusivity=1e-4, reaction=0.1, points=256,
    control_interval=0.05, actuator_shape="top_hat", actuator_width=0.1, sensors=10`, but for its
    start, which is negative in half of the box.

    ## Action space
    | Num | Name             | Min | Max | Unit                      |
    |-----|------------------|-----|-----|---------------------------|
    | 0-7 | force at i L / 8 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num | Name         | Min | Max | Unit                |
    |-----|--------------|-----|-----|---------------------|
    | 0-7 | u at i L / 8 | -5  | 5   | 1, that of capacity |

    ## Reward
    `reach`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target after
    the step: in (0, 1], 1 on target. `regulate`: minus the sum of (u - `level`)^2 over the points
    and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    0.7 and random waves of up to four periods, of rms 0.1.

    ## Episode end
    Truncated after 200 steps of 0.1 (20 time units). Terminated only by divergence: |u| > 5
    somewhere (the free flow stays below 1.1, random actions below 1.2; u < 0 may diverge).

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `diffusivity` (D, 0.2), `reaction` (r, 1), `length` (L, 10). Task `reach`: `target_name`
    ("half", "zero"), `width` (0.1), `radius` (0.05), `reward_shape` ("gaussian" as above, or
    "quadratic" for max(0, 1 - d^2 / `width`^2)). Task `regulate`: `level` (0), `control_weight` (1,
    of the squared forces). Forces: `actuators` (how many, or places in units of L),
    `actuator_shape` ("gaussian", "top_hat", "mode"), `actuator_width` (standard deviation, or width
    of the hat, in units of L), `authority` (0.5, twice the fastest growth). Sensors: `sensors` (how
    many, or places in units of L), `sensor_shape` ("point", or "mode": coefficients of so many of
    the longest waves), `sensor_width` (of the mean around each, in units of L; 0 for the point).
    `points` of the grid.

    ## References
    R. A. Fisher, Ann. Eugenics 7 (1937) 355. A. Kolmogorov, I. Petrovsky, N. Piskunov, Bull. Univ.
    Moscou 1 (1937) 1. M. B. Schaefer, Bull. Inter-Am. Trop. Tuna Comm. 1 (1954) 27, on harvests. X.
    Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "Fisher-v0",
    fisher,
    {
        "reach": Reach(
            targets={"half": constant(0.5), "zero": constant(0.0)},
            target_name="half",
            width=0.1,
            radius=0.05,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=64,
    control_interval=0.1,
    substeps=1,
    horizon=200,
    authority=0.5,
    scale=(1.0,),
    summary="Harvest a spreading population where it grows most",
    documented=Fisher,
    actuators=Actuators(8, "gaussian", 0.05),
    sensors=Sensors(8),
)

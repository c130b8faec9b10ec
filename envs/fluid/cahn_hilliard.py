"""Cahn-Hilliard: a mixture that separates into two phases and coarsens.

    u_t = D (u^3 - u - g u_xx)_xx + f(x, t)        x periodic with period L

J. W. Cahn, J. E. Hilliard, J. Chem. Phys. 28 (1958) 258; J. W. Cahn, Acta Metall. 9 (1961) 795;
in this form one of controlgym's PDEs.

    parameter        default  meaning
    diffusivity      1        D
    surface_tension  0.02     g; interfaces are (2 g)^(1/2) wide
    length           2        L, the period
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators, without_mean
from separatrix.envs.fluid.allen_cahn import stripes
from separatrix.envs.fluid.objectives import Reach, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import somewhere
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

cahn_hilliard = SpectralDefinition(
    name="CahnHilliard",
    fields=("u",),
    dimensions=1,
    parameters={"diffusivity": 1.0, "surface_tension": 0.02, "length": 2.0},
    linear=lambda d, p: [
        [-p["diffusivity"] * (laplacian(d) + p["surface_tension"] * laplacian(d) ** 2)]
    ],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u * u,),
    outputs=lambda d, p: [[p["diffusivity"] * laplacian(d)]],
    degree=3,
    bound=(5.0,),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws controlgym's profile less its mean at a random place, with small waves on it."""
    mean = -1 / (4 * math.sqrt(math.pi))

    def profile(x: Tensor, uniform: Tensor) -> Tensor:
        wave = (0.9 + 0.2 * uniform[:, :1]) * (2 * math.pi * x).cos()
        return wave - (-((4 * math.pi * x) ** 2)).exp() - mean

    return somewhere(stream, system, profile, rms=0.1)


def width(system: SpectralSystem) -> Tensor:
    """Returns w = g^(1/2), (rows,)."""
    return system.parameters["surface_tension"].sqrt()


class CahnHilliard:
    """Keep a mixture in two stripes, which would rather be one.

    ## Description
    Waves longer than 2 pi g^(1/2) grow at the rate D k^2 (1 - g k^2): the mixture separates into
    the phases u = -1 and u = 1. Then it coarsens: two stripes become one, though two are an
    equilibrium, too, unstable at the rate 4.2. The mean of u is conserved: it is zero, and the
    forces have their means taken out.

    Tasks: `reach` (default) brings u to an equilibrium, `regulate` has the quadratic cost of
    controlgym's environment. That environment itself: `task="regulate", points=256,
    actuator_shape="top_hat", actuator_width=0.1, sensors=10`, but for the means of its start and
    forces, the place of its start and the waves on it.

    ## Action space
    | Num | Name             | Min | Max | Unit                      |
    |-----|------------------|-----|-----|---------------------------|
    | 0-7 | force at i L / 8 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num | Name         | Min | Max | Unit              |
    |-----|--------------|-----|-----|-------------------|
    | 0-7 | u at i L / 8 | -5  | 5   | 1, that of phases |

    ## Reward
    `reach`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target after
    the step: in (0, 1], 1 on target. `regulate`: minus the sum of (u - `level`)^2 over the points
    and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    controlgym's profile less its mean in the box of length 2, a cos(pi x) - exp(-4 pi^2 x^2) with a
    from 0.9 to 1.1, but with x counted from a random place, and random waves of rms 0.1 on it.

    ## Episode end
    Truncated after 200 steps of 0.01 (2 time units). Terminated only by divergence: |u| > 5
    somewhere (the free flow stays below 1.0 after the start, random actions below 1.1).

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `diffusivity` (D, 1), `surface_tension` (g, 0.02), `length` (L, 2). Task `reach`:
    `target_name` ("two_stripes", "one_stripe", "zero"), `width` (0.3), `radius` (0.1),
    `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 / `width`^2)). Task
    `regulate`: `level` (0), `control_weight` (1, of the squared forces). Forces: `actuators` (how
    many, or places in units of L), `actuator_shape` ("gaussian", "top_hat", "mode"),
    `actuator_width` (standard deviation, or width of the hat, in units of L), `authority` (5).
    Sensors: `sensors` (how many, or places in units of L), `sensor_shape` ("point", or "mode":
    coefficients of so many of the longest waves), `sensor_width` (of the mean around each, in units
    of L; 0 for the point). `points` of the grid.

    ## References
    J. W. Cahn, J. E. Hilliard, J. Chem. Phys. 28 (1958) 258. J. W. Cahn, Acta Metall. 9 (1961) 795.
    X. Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "CahnHilliard-v0",
    cahn_hilliard,
    {
        "reach": Reach(
            targets={
                "two_stripes": stripes(2, width),
                "one_stripe": stripes(1, width),
                "zero": constant(0.0),
            },
            target_name="two_stripes",
            width=0.3,
            radius=0.1,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=64,
    control_interval=0.01,
    substeps=4,
    horizon=200,
    authority=5.0,
    scale=(1.0,),
    summary="Keep a mixture in two stripes, which would rather be one",
    documented=CahnHilliard,
    actuators=Actuators(8, "gaussian", 0.05),
    sensors=Sensors(8),
    force=without_mean,
)

"""Burgers' equation: waves that steepen to shocks, the smallest model of a compressible flow.

    u_t = -u u_x + nu u_xx + f(x, t)        x periodic with period L

J. M. Burgers, Adv. Appl. Mech. 1 (1948) 171; solved by E. Hopf, Comm. Pure Appl. Math. 3 (1950)
201, and J. D. Cole, Quart. Appl. Math. 9 (1951) 225.

    parameter  default  meaning
    length     1        L, the period
    viscosity  0.005    nu; a shock of height h is 4 nu / h wide
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.objectives import Follow, Regulate
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import bump
from separatrix.envs.steppers.spectral import SpectralDefinition

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

burgers = SpectralDefinition(
    name="Burgers",
    fields=("u",),
    dimensions=1,
    parameters={"length": 1.0, "viscosity": 0.005},
    linear=lambda d, p: [[p["viscosity"] * d[0] ** 2]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-d[0] / 2]],
    degree=2,
    bound=(10.0,),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws the bumps of controlgym."""
    return bump(stream, system, amplitude=(0.9, 1.1), width=(0.04, 0.06))


def wave(count: int) -> Callable[[SpectralSystem], Tensor]:
    """Returns what makes the target 0.5 + 0.25 sin(2 pi count x / L)."""

    def make(system: SpectralSystem) -> Tensor:
        import torch

        points = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
        return (0.5 + 0.25 * torch.sin(2 * torch.pi * count * points))[None, None]

    return make


class Burgers:
    """Make a wave travel that would steepen to a shock if left alone.

    ## Description
    High values overtake low ones, and viscosity smooths the shock. Without forces the mean of u
    stays and all else decays, like 1 / t. The default task wants a sine wave that travels with the
    mean, 0.5: the forces have to hold its front open and its amplitude up, and first to bring in
    two thirds of its mass.

    256 points resolve the shocks of the free flow to 1e-8 at the default viscosity. That of
    controlgym, 0.001, takes 1024 points for 1e-6; 256 points leave ripples of 1 %.

    Tasks: `follow` (default) keeps u on a travelling wave, `regulate` has the quadratic cost of
    controlgym's environment. That environment itself: `task="regulate", viscosity=0.001,
    actuators=[(i + 0.5) / 8 for i in range(8)]`, but for the limit of the forces.

    ## Action space
    | Num | Name             | Min | Max | Unit                      |
    |-----|------------------|-----|-----|---------------------------|
    | 0-7 | force at i L / 8 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num   | Name                         | Min | Max | Unit                    |
    |-------|------------------------------|-----|-----|-------------------------|
    | 0-9   | u at i L / 10                | -20 | 20  | 0.5, mean of the target |
    | 10-19 | target at i L / 10, `follow` | -20 | 20  | 0.5                     |

    ## Reward
    `follow`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target at
    the time after the step: in (0, 1], 1 on target. `regulate`: minus the sum of (u - `level`)^2
    over the points and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    The bump of controlgym, a / cosh((x / L - 1/2) / w), with a uniform in [0.9, 1.1] and w in
    [0.04, 0.06]. The target starts anywhere.

    ## Episode end
    Truncated after 100 steps of 0.05 (5 time units). Terminated only by divergence: |u| > 10
    somewhere (full force for a whole episode brings u to 2.3).

    ## Metrics
    `follow`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `length` (L, 1), `viscosity` (nu, 0.005). Task `follow`: `target_name` ("wave", 0.5 +
    0.25 sin(2 pi x / L), moved, or "waves" with twice as many), `speed` (of the target, 0.5),
    `width` (0.2), `radius` (0.05), `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1
    - d^2 / `width`^2)). Task `regulate`: `level` (0), `control_weight` (1, of the squared forces).
    Forces: `actuators` (how many, or places in units of L), `actuator_shape` ("gaussian",
    "top_hat", "mode"), `actuator_width` (standard deviation, or width of the hat, in units of L:
    0.1), `authority` (0.5). Sensors: `sensors` (how many, or places in units of L), `sensor_shape`
    ("point", or "mode" for the coefficients of the longest waves), `sensor_width` (of the mean
    around each point, in units of L; 0 for the point). `points` of the grid.

    ## References
    J. M. Burgers, Adv. Appl. Mech. 1 (1948) 171. C. Basdevant et al., Comput. Fluids 14 (1986) 23.
    X. Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "Burgers-v0",
    burgers,
    {
        "follow": Follow(
            targets={"wave": wave(1), "waves": wave(2)},
            target_name="wave",
            width=0.2,
            radius=0.05,
            speed=0.5,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=256,
    control_interval=0.05,
    substeps=20,
    horizon=100,
    authority=0.5,
    scale=(0.5,),
    summary="Make a wave travel that would steepen to a shock",
    documented=Burgers,
    actuators=Actuators(8, "top_hat", 0.1),
    sensors=Sensors(10),
)

"""Convection, diffusion and reaction: the linear PDE of a heated or reacting stream.

    u_t = D u_xx - c u_x + r u + f(x, t)        x periodic with period L

The constants are those of X. Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    parameter    default  meaning
    length       1        L, the period
    diffusivity  0.002    D
    velocity     0.1      c
    reaction     0.1      r; a wave of number k grows at the rate r - D k^2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.objectives import Reach, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import bump
from separatrix.envs.steppers.spectral import SpectralDefinition

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

convection_diffusion_reaction = SpectralDefinition(
    name="ConvectionDiffusionReaction",
    fields=("u",),
    dimensions=1,
    parameters={"length": 1.0, "diffusivity": 0.002, "velocity": 0.1, "reaction": 0.1},
    linear=lambda d, p: [[p["diffusivity"] * d[0] ** 2 - p["velocity"] * d[0] + p["reaction"]]],
    inputs=lambda d, p: [],
    product=lambda: (),
    outputs=lambda d, p: [[]],
    degree=1,
    bound=(50.0,),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws the bumps of controlgym."""
    return bump(stream, system, amplitude=(0.9, 1.1), width=(0.04, 0.06))


def standing_wave(system: SpectralSystem) -> Tensor:
    """Returns the target sin(2 pi x / L) / 5, which the stream would carry away."""
    import torch

    points = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
    return (torch.sin(2 * torch.pi * points) / 5)[None, None]


class ConvectionDiffusionReaction:
    """Bring a reacting stream to rest at zero, which is unstable; a linear system.

    ## Description
    A bump is carried downstream and spreads, while the reaction feeds it: the mean grows at the
    rate r, and the longest wave at r - D (2 pi / L)^2 = 0.021, too; all others decay. A linear
    system with a quadratic cost, so that the best controller of task `regulate` is known but for
    the limit of the forces. A step is exact, whatever its length.

    Tasks: `reach` (default) brings u to a target, `regulate` has the quadratic cost of controlgym's
    environment. That environment itself: `task="regulate",
    actuators=[(i + 0.5) / 8 for i in range(8)]`; but its actions are added to u at the end of a
    step, without limit, while forces here act throughout the step, with about the effect of
    `control_interval` * force.

    ## Action space
    | Num | Name             | Min | Max | Unit                      |
    |-----|------------------|-----|-----|---------------------------|
    | 0-7 | force at i L / 8 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num | Name          | Min  | Max | Unit                        |
    |-----|---------------|------|-----|-----------------------------|
    | 0-9 | u at i L / 10 | -125 | 125 | 0.4, rms after free flow    |

    ## Reward
    `reach`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target after
    the step: in (0, 1], 1 on target. `regulate`: minus the sum of (u - `level`)^2 over the points
    and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    The bump of controlgym, a / cosh((x / L - 1/2) / w), with a uniform in [0.9, 1.1] and w in
    [0.04, 0.06].

    ## Episode end
    Truncated after 100 steps of 0.1 (10 time units). Terminated only by divergence: |u| > 50
    somewhere.

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `length` (L, 1), `diffusivity` (D, 0.002), `velocity` (c, 0.1), `reaction` (r, 0.1).
    Task `reach`: `target_name` ("zero", or "wave", sin(2 pi x / L) / 5 held against the stream),
    `width` (0.1), `radius` (0.02), `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1
    - d^2 / `width`^2)). Task `regulate`: `level` (0), `control_weight` (1, of the squared forces).
    Forces: `actuators` (how many, or places in units of L), `actuator_shape` ("gaussian",
    "top_hat", "mode"), `actuator_width` (standard deviation, or width of the hat, in units of L:
    0.1), `authority` (0.2). Sensors: `sensors` (how many, or places in units of L), `sensor_shape`
    ("point", or "mode" for the coefficients of the longest waves), `sensor_width` (of the mean
    around each point, in units of L; 0 for the point). `points` of the grid.

    ## References
    X. Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "ConvectionDiffusionReaction-v0",
    convection_diffusion_reaction,
    {
        "reach": Reach(
            targets={"zero": constant(0.0), "wave": standing_wave},
            target_name="zero",
            width=0.1,
            radius=0.02,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=200,
    control_interval=0.1,
    substeps=1,
    horizon=100,
    authority=0.2,
    scale=(0.4,),
    summary="Bring a reacting stream to rest; linear",
    documented=ConvectionDiffusionReaction,
    actuators=Actuators(8, "top_hat", 0.1),
    sensors=Sensors(10),
)

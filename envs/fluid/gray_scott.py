"""Gray-Scott: a chemical that feeds on another, and grows spots and stripes.

    u_t = Du lap u - u v^2 + F (1 - u) + f(x, t)        x on a periodic square of side L
    v_t = Dv lap v + u v^2 - (F + k) v

P. Gray, S. K. Scott, Chem. Eng. Sci. 38 (1983) 29; J. E. Pearson, Science 261 (1993) 189.

    parameter      default  meaning
    feed           0.055    F, the rate at which u flows in and all flows out
    kill           0.062    k, the rate at which v decays
    diffusivity_u  2e-5     Du
    diffusivity_v  1e-5     Dv
    length         0.25     L; Pearson's square has side 2.5
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.objectives import Reach
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import random_waves
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

gray_scott = SpectralDefinition(
    name="GrayScott",
    fields=("u", "v"),
    dimensions=2,
    parameters={
        "feed": 0.055,
        "kill": 0.062,
        "diffusivity_u": 2e-5,
        "diffusivity_v": 1e-5,
        "length": 0.25,
    },
    linear=lambda d, p: [
        [p["diffusivity_u"] * laplacian(d) - p["feed"], 0],
        [0, p["diffusivity_v"] * laplacian(d) - p["feed"] - p["kill"]],
    ],
    inputs=lambda d, p: [[1, 0], [0, 1]],
    product=lambda u, v: (u * v * v,),
    outputs=lambda d, p: [[-1], [1]],
    degree=3,
    bound=(4.0, 4.0),
    forcing=lambda x, p: (p["feed"], 0.0),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws uneven mixtures about (1/2, 1/4), which Pearson puts in the middle of his square."""
    import torch

    u, stream = random_waves(stream, system, waves=3, rms=0.05)
    v, stream = random_waves(stream, system, waves=3, rms=0.025)
    return torch.cat((0.5 + u, 0.25 + v), 1), stream


def mixed(system: SpectralSystem) -> Tensor:
    """Returns the homogeneous state, other than (1, 0), with more of v.

    It exists for 4 (F + k)^2 <= F; beyond, the values at its end, u = 1/2, take its place.
    """
    import torch

    p = system.parameters
    outflow = p["feed"] + p["kill"]
    u = (1 - (1 - 4 * outflow**2 / p["feed"]).clamp(min=0).sqrt()) / 2
    state = torch.stack((u, p["feed"] * (1 - u) / outflow), -1)
    return state[..., None, None].expand(*state.shape, *system.grid.shape).contiguous()


def fed(system: SpectralSystem) -> Tensor:
    """Returns the state (1, 0)."""
    import torch

    state = torch.zeros((1, 2, *system.grid.shape), dtype=torch.float64)
    state[:, 0] = 1
    return state


class GrayScott:
    """Keep a chemical mixture even, which would rather grow stripes.

    ## Description
    v feeds on u, which flows in; both flow out. (1, 0) is stable. The target "mixed" is the other
    homogeneous state with more v: u = 0.467, v = 0.251. Alone it would rest; with diffusion, waves
    of lengths from 0.09 to 0.20 grow (A. M. Turing), in this box sixteen, the fastest at rate
    0.009, and end as spots and stripes. The forces feed u, or take it away; to feed where v is high
    feeds the pattern.

    ## Action space
    | Num  | Name                                      | Min | Max | Unit                     |
    |------|-------------------------------------------|-----|-----|--------------------------|
    | 0-35 | force on u at (i, j) L / 6, number 6i + j | -1  | 1   | `authority`, height of f |

    ## Observation space
    | Num   | Name             | Min | Max | Unit |
    |-------|------------------|-----|-----|------|
    | 0-35  | u at (i, j) L / 6 | -8  | 8   | 0.5  |
    | 36-71 | v at (i, j) L / 6 | -20 | 20  | 0.2  |

    ## Reward
    exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target over the box
    and both fields after the step: in (0, 1], 1 on target. A diverged environment gets the lowest.

    ## Starting state
    (1/2, 1/4), which Pearson puts in the middle of his square, and random waves of up to three
    periods on it, of rms 0.05 and 0.025.

    ## Episode end
    Truncated after 200 steps of 8 (1600 time units). Terminated only by divergence: |u| or |v| > 4
    somewhere (the free flow and random actions stay below 1.1 and 0.7).

    ## Metrics
    `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).

    ## Arguments
    System: `feed` (F, 0.055), `kill` (k, 0.062), `diffusivity_u` (2e-5), `diffusivity_v` (1e-5),
    `length` (L, 0.25). Task `reach`: `target_name` ("mixed", an equilibrium while 4 (F + k)^2 <= F,
    else u = 1/2 and v = F / (2 (F + k)); or "fed" for (1, 0)), `width` (0.05), `radius` (0.02),
    `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 / `width`^2)). Forces:
    `actuators` (how many along each axis, or places in units of L), `actuator_shape` ("gaussian",
    "top_hat", "mode"), `actuator_width` (standard deviation, or width of the hat, in units of L),
    `authority` (0.005). Sensors: `sensors` (how many along each axis, or places in units of L),
    `sensor_shape` ("point", or "mode": coefficients of so many of the longest waves),
    `sensor_width` (side of the window around each, in units of L; 0 for the point). `points` of the
    grid along each axis.

    ## References
    J. E. Pearson, Science 261 (1993) 189. P. Gray, S. K. Scott, Chem. Eng. Sci. 38 (1983) 29. A. M.
    Turing, Phil. Trans. R. Soc. B 237 (1952) 37.

    ## Version history
    - v0: first version.
    """


register_field(
    "GrayScott-v0",
    gray_scott,
    {
        "reach": Reach(
            targets={"mixed": mixed, "fed": fed}, target_name="mixed", width=0.05, radius=0.02
        )
    },
    start,
    points=64,
    control_interval=8.0,
    substeps=2,
    horizon=200,
    authority=0.005,
    scale=(0.5, 0.2),
    summary="Keep a chemical mixture even, which would rather grow stripes",
    documented=GrayScott,
    actuators=Actuators(6, "gaussian", 0.06),
    sensors=Sensors(6),
    observed=(0, 1),
)

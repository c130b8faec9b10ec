"""Mixing: a dye in two-dimensional turbulence, decaying or forced.

    u_t + (u . grad) u = -grad p + viscosity laplacian u - drag u + forcing F(x, y) + f(x, y, t)
    theta_t + u . grad theta = diffusivity laplacian theta
    div u = 0        x and y periodic with period L

with F = (-sin(8 pi y / L), sin(8 pi x / L)), steady cells. G. Boffetta, R. E. Ecke, Annu. Rev.
Fluid Mech. 44 (2012) 427. It is solved for the vorticity, omega = v_x - u_y;
see `separatrix.envs.fluid.vorticity`.

    parameter    default  meaning
    viscosity    0.005
    diffusivity  0.005    of the scalar theta
    drag         0.05     linear friction, as of a thin layer on its bottom
    forcing      0        strength of the steady force; 0 lets turbulence decay
    length       2 pi     L, the period
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from separatrix.envs.fluid.objectives import Objective
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import random_waves
from separatrix.envs.fluid.vorticity import BodyForces, advection, velocity
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.fluid.objectives import FieldStep, Numbers
    from separatrix.envs.steppers.spectral import Parameters
    from separatrix.envs.steppers.spectral_grid import Grid
    from separatrix.envs.steppers.spectral_system import SpectralSystem

CELLS = 4
"""Waves of the steady force."""

EDGE = 0.3
"""Width of the edge between the dyed half and the other, in units of L / (2 pi)."""


def cells(positions: Sequence[Tensor], p: Parameters) -> tuple[Tensor, float]:
    """Returns the curl of the steady force, and nothing for the scalar."""
    import torch

    k = 2 * math.pi * CELLS / p["length"]
    return p["forcing"] * k * (torch.cos(k * positions[0]) + torch.cos(k * positions[1])), 0.0


scalar_mixing = SpectralDefinition(
    name="ScalarMixing",
    fields=("omega", "theta"),
    dimensions=2,
    parameters={
        "viscosity": 0.005,
        "diffusivity": 0.005,
        "drag": 0.05,
        "forcing": 0.0,
        "length": 2 * math.pi,
    },
    linear=lambda d, p: [
        [p["viscosity"] * laplacian(d) - p["drag"], 0],
        [0, p["diffusivity"] * laplacian(d)],
    ],
    inputs=lambda d, p: [*([multiplier, 0] for multiplier in velocity(d)), [0, 1]],
    product=lambda u, v, theta: (u * v, u * u - v * v, u * theta, v * theta),
    outputs=lambda d, p: [[*advection(d), 0, 0], [0, 0, -d[0], -d[1]]],
    degree=2,
    bound=(60.0, 3.0),
    forcing=cells,
)


def dyed_half(points: int) -> Tensor:
    """Returns the scalar at the points of an axis: 1 on one half, -1 on the other, float64."""
    import torch

    angle = torch.arange(points, dtype=torch.float64) * (2 * torch.pi / points)
    return torch.tanh(torch.sin(angle) / EDGE)


def mix_norm(theta: Tensor, grid: Grid) -> Tensor:
    """Returns the norm of H^(-1/2), (sum |theta_k|^2 / |k|)^(1/2) over k != 0, for the side 2 pi.

    Args:
        theta: Scalar, (batch, *grid).
        grid: Points and modes.
    """
    import torch

    k = (grid.numbers[0] ** 2 + grid.numbers[1] ** 2).sqrt()
    weight = torch.where(k == 0, 0.0, 2 / k)  # a mode and its conjugate
    weight[:, 0] /= 2
    return (grid.transform(theta).abs().square() * weight.to(theta)).sum((1, 2)).sqrt()


@dataclass(frozen=True)
class Mix(Objective):
    """Spread the scalar evenly.

    The reward is 1 - m, at least 0, with the mix-norm m in units of its value at the start.

    Metrics: `mix_norm` m, `variance` (of the scalar, in units of that at the start), `energy` (mean
    squared action).
    """

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Keys of `metrics`."""
        return "mix_norm", "variance", "energy"

    def numbers(self, system: SpectralSystem) -> dict[str, Tensor]:
        """Returns mix-norm and variance at the start."""
        theta = dyed_half(system.grid.points).expand(1, *system.grid.shape)
        return {"norm": mix_norm(theta, system.grid), "variance": theta.square().mean((1, 2))}

    def reward(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> Tensor:
        """Returns 1 - m, in [0, 1]."""
        return (1 - mix_norm(step.field[:, 1], system.grid) / p["norm"]).clamp(0.0, 1.0)

    def metrics(self, system: SpectralSystem, p: Numbers, step: FieldStep) -> dict[str, Tensor]:
        """Returns `mix_norm`, `variance` and `energy`."""
        theta = step.field[:, 1]
        return {
            "mix_norm": mix_norm(theta, system.grid) / p["norm"],
            "variance": theta.var((1, 2), correction=0) / p["variance"],
            "energy": step.energy,
        }


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws random waves of vorticity, and the place and direction of the dyed half."""
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    omega, stream = random_waves(stream, system, waves=4, rms=1.0)
    points = system.grid.points
    place, stream = stream.integers(points, INITIAL_STATE)
    across, stream = stream.integers(2, INITIAL_STATE)
    half = dyed_half(points).to(omega)[(torch.arange(points).to(place) + place[:, None]) % points]
    stripes = half[:, :, None].expand(-1, points, points)
    theta = torch.where(across.bool()[:, None, None], stripes, stripes.mT)
    return torch.stack((omega[:, 0], theta), 1), stream


class ScalarMixing:
    """Mix a dye by stirring two-dimensional turbulence.

    ## Description
    The flow stretches the dye into filaments until diffusion takes them, but slow and large eddies
    leave it unmixed for long, and without a force they decay. Swirls at 4 x 4 places stir: forces
    along circles, strongest at 0.08 L from the centre.

    The mix-norm is that of the Sobolev space H^(-1/2): it counts large scales more than small ones,
    and so falls as the flow makes filaments, before diffusion, where the variance waits for it.

    Turbulence decays by default. With `forcing` (about 1) a steady force of 4 x 4 cells keeps it
    alive, against `drag`; with `drag=0` only viscosity slows it. Task: `mix`.

    ## Action space
    | Num  | Name                                        | Min | Max | Unit                       |
    |------|---------------------------------------------|-----|-----|----------------------------|
    | 0-15 | swirl at (i L / 4, j L / 4), number 4 i + j | -1  | 1   | `authority`, largest force |

    ## Observation space
    | Num    | Name                                             | Min | Max | Unit |
    |--------|--------------------------------------------------|-----|-----|------|
    | 0-63   | omega at (i L / 8, j L / 8), number 8 i + j      | -60 | 60  | 1    |
    | 64-127 | theta at (i L / 8, j L / 8), number 64 + 8 i + j | -3  | 3   | 1    |

    ## Reward
    1 - m, at least 0, with the mix-norm m = (sum |theta_k|^2 / |k|)^(1/2) over all k but 0 after
    the step, in units of its value at the start. A diverged environment gets 0.

    ## Starting state
    Vorticity of random waves, up to four along each axis, all of the same mean square, of root
    mean square 1 together. Half of the box is dyed, theta = 1, the other is at -1, with the edge
    between them smooth; where, and whether along x or y, is random.

    ## Episode end
    Truncated after 100 steps of 0.2 (20 time units). Terminated only by divergence: |omega| > 60 or
    |theta| > 3 somewhere.

    ## Metrics
    `mix_norm` m, `variance` (of theta, in units of that at the start), `energy` (mean squared
    action).

    ## Arguments
    System: `viscosity` (0.005), `diffusivity` (0.005), `drag` (0.05), `forcing` (0; strength of the
    steady force), `length` (L, 2 pi). Forces: `actuators` (how many along each axis, or places in
    units of L; for shear how many, or wave numbers k), `actuator_shape` ("swirl", or "shear": sin(2
    pi k y / L) along x), `actuator_width` (of a swirl, in units of L: 0.08), `authority` (0.3; L /
    (2 pi) times that in other boxes). Sensors: `sensors` (how many along each axis, or places in
    units of L), `sensor_shape` ("point", or "mode": coefficients of so many of the longest waves),
    `sensor_width` (of the mean around each, in units of L; 0 for the point). `points` of the grid
    along each axis.

    ## References
    G. Mathew, I. Mezic, L. Petzold, Physica D 211 (2005) 23. J.-L. Thiffeault, Nonlinearity 25
    (2012) R1. G. Boffetta, R. E. Ecke, Annu. Rev. Fluid Mech. 44 (2012) 427.

    ## Version history
    - v0: first version.
    """


register_field(
    "ScalarMixing-v0",
    scalar_mixing,
    {"mix": Mix()},
    start,
    points=64,
    control_interval=0.2,
    substeps=8,
    horizon=100,
    authority=0.3,
    scale=(1.0, 1.0),
    summary="Mix a dye by stirring turbulence",
    documented=ScalarMixing,
    actuators=BodyForces(4),
    sensors=Sensors(8),
    observed=(0, 1),
)

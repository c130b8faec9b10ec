"""The Schrodinger equation, with the cubic term that makes solitons: light in fibres, cold atoms.

    i h psi_t = -h^2 / (2 m) psi_xx + V psi - g |psi|^2 psi + i h f(x, t)        x periodic

in psi = re + i im. V. E. Zakharov, A. B. Shabat, Sov. Phys. JETP 34 (1972) 62. A bright soliton is
psi = a / cosh(x / w) exp(-i mu t / h) with g a^2 = h^2 / (m w^2) and mu = V - g a^2 / 2.

    parameter    default  meaning
    length       1        L, the period
    planck       1        h
    mass         1        m
    potential    200      V, constant in space: it turns the phase
    interaction  400      g; 0 for the linear equation
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators, on_first_field
from separatrix.envs.fluid.objectives import Reach, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import bump
from separatrix.envs.steppers.spectral import (
    Derivatives,
    Matrix,
    Parameters,
    SpectralDefinition,
    laplacian,
)

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem


def frequency(d: Derivatives, p: Parameters) -> Matrix:
    """Returns L: kinetic and potential energy turn the phase of each wave."""
    w = -p["planck"] / (2 * p["mass"]) * laplacian(d) + p["potential"] / p["planck"]
    return [[0, w], [-w, 0]]


def cubic(re: Tensor, im: Tensor) -> Sequence[Tensor]:
    """Returns real and imaginary part of |psi|^2 psi."""
    density = re * re + im * im
    return density * re, density * im


def rotation(d: Derivatives, p: Parameters) -> Matrix:
    """Returns O: i g / h."""
    rate = p["interaction"] / p["planck"]
    return [[0, -rate], [rate, 0]]


schrodinger = SpectralDefinition(
    name="Schrodinger",
    fields=("re", "im"),
    dimensions=1,
    parameters={
        "length": 1.0,
        "planck": 1.0,
        "mass": 1.0,
        "potential": 200.0,
        "interaction": 400.0,
    },
    linear=frequency,
    inputs=lambda d, p: [[1, 0], [0, 1]],
    product=cubic,
    outputs=rotation,
    degree=3,
    bound=(10.0, 10.0),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws controlgym's packets, of random phase."""
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    packet, stream = bump(stream, system, amplitude=(0.9, 1.1), width=(0.04, 0.06))
    uniform, stream = stream.uniform(1, torch.float64, INITIAL_STATE)
    phase = 2 * torch.pi * uniform[:, :, None]
    return torch.cat((packet * phase.cos(), packet * phase.sin()), 1), stream


def soliton(system: SpectralSystem) -> Tensor:
    """Returns the target: re = 1 / cosh((x / L - 1/2) / 0.05), im = 0."""
    import torch

    points = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
    re = 1 / torch.cosh((points - 0.5) / 0.05)
    return torch.stack((re, torch.zeros_like(re)))[None]


def on_imaginary_part(shapes: Tensor, fields: int) -> Tensor:
    """Returns forces (control, field, *grid) that act on im alone."""
    return on_first_field(shapes, fields).flip(1)


class Schrodinger:
    """Turn a wave packet into a soliton, at rest and in phase.

    ## Description
    Dispersion spreads a packet of waves, attraction draws it together. Where the two balance it is
    a soliton, which keeps its shape while its phase turns; here the potential stops the phase of
    the soliton 1 / cosh((x / L - 1/2) / 0.05), so that it is an equilibrium, neutrally stable.
    The packets of the start are near to it in shape but not in phase: they breathe, shed waves and
    turn at another rate. Without forces the norm and the energy are conserved. The forces are
    sources on the imaginary part, as in controlgym's environment, and change the norm.

    Tasks: `reach` (default) brings psi to a target, `regulate` has the quadratic cost of
    controlgym's environment. That environment itself, which is linear: `task="regulate",
    interaction=0.0, potential=0.0, actuators=[(i + 0.5) / 8 for i in range(8)]`; but its packet
    starts with phase 0, and its actions are added at the end of a step, without limit, while forces
    here act throughout the step, with about the effect of `control_interval` * force.

    ## Action space
    | Num | Name                   | Min | Max | Unit                      |
    |-----|------------------------|-----|-----|---------------------------|
    | 0-7 | force on im at i L / 8 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num   | Name           | Min | Max | Unit                  |
    |-------|----------------|-----|-----|-----------------------|
    | 0-9   | re at i L / 10 | -25 | 25  | 0.4                   |
    | 10-19 | im at i L / 10 | -25 | 25  | 0.4                   |

    ## Reward
    `reach`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation of re and im from the
    target after the step: in (0, 1], 1 on target. `regulate`: minus the sum of (re - `level`)^2 +
    (im - `level`)^2 over the points and of the squared forces. A diverged environment gets the
    lowest.

    ## Starting state
    The packet of controlgym, a / cosh((x / L - 1/2) / w), with a uniform in [0.9, 1.1] and w in
    [0.04, 0.06], times exp(i phi) with phi uniform in [0, 2 pi).

    ## Episode end
    Truncated after 500 steps of 0.001 (0.5 time units: the potential alone would turn the phase 16
    times). Terminated only by divergence: |re| or |im| > 10 somewhere.

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `length` (L, 1), `planck` (h, 1), `mass` (m, 1), `potential` (V, 200), `interaction` (g,
    400). Task `reach`: `target_name` ("soliton" or "zero"), `width` (0.1), `radius` (0.02),
    `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 / `width`^2)). Task
    `regulate`: `level` (0), `control_weight` (1, of the squared forces). Forces: `actuators` (how
    many, or places in units of L), `actuator_shape` ("gaussian", "top_hat", "mode"),
    `actuator_width` (standard deviation, or width of the hat, in units of L: 0.1), `authority`
    (30). Sensors: `sensors` (how many, or places in units of L), `sensor_shape` ("point", or "mode"
    for the coefficients of the longest waves), `sensor_width` (of the mean around each point, in
    units of L; 0 for the point). `points` of the grid.

    ## References
    V. E. Zakharov, A. B. Shabat, Sov. Phys. JETP 34 (1972) 62. X. Zhang et al., Controlgym, L4DC
    (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "Schrodinger-v0",
    schrodinger,
    {
        "reach": Reach(
            targets={"soliton": soliton, "zero": constant(0.0)},
            target_name="soliton",
            width=0.1,
            radius=0.02,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=128,
    control_interval=0.001,
    substeps=4,
    horizon=500,
    authority=30.0,
    scale=(0.4, 0.4),
    summary="Turn a wave packet into a soliton, at rest and in phase",
    documented=Schrodinger,
    actuators=Actuators(8, "top_hat", 0.1),
    sensors=Sensors(10),
    force=on_imaginary_part,
    observed=(0, 1),
)

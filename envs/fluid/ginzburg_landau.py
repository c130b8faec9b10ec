"""Ginzburg-Landau: the slow amplitude of waves beyond their threshold, real or complex.

    u_t = u + u_xx - u^3 + f(x, t)                                   x periodic with period L
    A_t = A + (1 + i b) A_xx - (1 + i c) |A|^2 A + f(x, t)           A = u + i v

The first has patterns that do not oscillate, one of controlgym's PDEs; the second has waves: I. S.
Aranson, L. Kramer, Rev. Mod. Phys. 74 (2002) 99, eq. 2.

    parameter   default  meaning
    length      50       L of the real equation; all else is scaled away
    length      32       L of the complex equation
    dispersion  2        b, by which the frequency depends on the wave number
    detuning    -2       c, by which the frequency depends on the amplitude
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.objectives import Reach, Reduce, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import free_flow, random_waves, somewhere
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.fluid.objectives import FieldStep
    from separatrix.envs.steppers.spectral_system import SpectralSystem

ginzburg_landau = SpectralDefinition(
    name="GinzburgLandau",
    fields=("u",),
    dimensions=1,
    parameters={"length": 50.0},
    linear=lambda d, p: [[1 + laplacian(d)]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u * u,),
    outputs=lambda d, p: [[-1]],
    degree=3,
    bound=(5.0,),
)

complex_ginzburg_landau = SpectralDefinition(
    name="ComplexGinzburgLandau",
    fields=("u", "v"),
    dimensions=1,
    parameters={"dispersion": 2.0, "detuning": -2.0, "length": 32.0},
    linear=lambda d, p: [
        [1 + laplacian(d), -p["dispersion"] * laplacian(d)],
        [p["dispersion"] * laplacian(d), 1 + laplacian(d)],
    ],
    inputs=lambda d, p: [[1, 0], [0, 1]],
    product=lambda u, v: ((u * u + v * v) * u, (u * u + v * v) * v),
    outputs=lambda d, p: [[-1, p["detuning"]], [-p["detuning"], -1]],
    degree=3,
    bound=(5.0, 5.0),
)

SETTLING_TIME, SETTLING_STEP = 50.0, 0.1
"""By then small waves have grown to turbulence."""


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws controlgym's pulse at a random place, with small waves on it."""

    def profile(x: Tensor, uniform: Tensor) -> Tensor:
        height, spread = 0.075 + 0.05 * uniform[:, :1], 15 + 10 * uniform[:, 1:]
        return height * ((100 * x + spread / 2).tanh() - (100 * x - spread / 2).tanh())

    return somewhere(stream, system, profile, rms=0.02)


def turbulence(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws fields of the attractor: random waves, left to themselves."""
    import torch

    u, stream = random_waves(stream, system, waves=8, rms=0.5)
    v, stream = random_waves(stream, system, waves=8, rms=0.5)
    return free_flow(torch.cat((u, v), 1), system, SETTLING_TIME, SETTLING_STEP), stream


def on_both_fields(shapes: Tensor, fields: int) -> Tensor:
    """Returns forces on u by all actuators, then forces on v."""
    import torch

    identity = torch.eye(fields, dtype=shapes.dtype)
    return torch.cat([shapes[:, None] * row[:, None] for row in identity])


def free_energy(system: SpectralSystem, step: FieldStep) -> Tensor:
    """Returns <|A_x|^2 + (1 - |A|^2)^2 / 2>, zero for homogeneous oscillations alone."""
    import torch

    grid, field = system.grid, step.field
    k = 2 * torch.pi * grid.numbers[0] / system.length[:, None]
    spectrum = grid.transform(field)
    slope = grid.synthesize(spectrum * (1j * k).to(spectrum)[:, None])
    return (slope.square().sum(1) + (1 - field.square().sum(1)).square() / 2).mean(1)


def intensity(system: SpectralSystem, step: FieldStep) -> Tensor:
    """Returns <|A|^2>."""
    return step.field.square().sum(1).mean(1)


class GinzburgLandau:
    """Stop a pulse that invades an unstable state.

    ## Description
    u = 0 is unstable, at most at rate 1, to waves longer than 2 pi; u = -1 and u = 1 are stable. A
    pulse grows and spreads at speed 2. Scaled, this is Allen-Cahn in a box so large that fifteen
    waves are unstable.

    Tasks: `reach` (default) brings u to a constant, `regulate` has the quadratic cost of
    controlgym's environment. That environment itself: `task="regulate", length=100, points=256,
    actuators=8, actuator_width=0.1, sensors=10`, but for the place of its start and the waves on
    it. Its eight actuators cannot hold u = 0: the wave of four periods that is zero in the middle
    of each is unstable, and none of them moves it. Here sixteen in a box of 50 can.

    ## Action space
    | Num  | Name              | Min | Max | Unit                      |
    |------|-------------------|-----|-----|---------------------------|
    | 0-15 | force at i L / 16 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num  | Name          | Min | Max | Unit              |
    |------|---------------|-----|-----|-------------------|
    | 0-15 | u at i L / 16 | -5  | 5   | 1, that of phases |

    ## Reward
    `reach`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target after
    the step: in (0, 1], 1 on target. `regulate`: minus the sum of (u - `level`)^2 over the points
    and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    controlgym's pulse, a (tanh(x + s / 2) - tanh(x - s / 2)) with a from 0.075 to 0.125 and s from
    15 to 25 hundredths of the box, x in hundredths of the box from a random place, and random waves
    of rms 0.02 on it.

    ## Episode end
    Truncated after 200 steps of 0.1 (20 time units). Terminated only by divergence: |u| > 5
    somewhere (the free flow stays below 1.01, random actions below 1.1).

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `length` (L, 50). Task `reach`: `target_name` ("zero", "plus" for u = 1), `width` (0.2),
    `radius` (0.05), `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 /
    `width`^2)). Task `regulate`: `level` (0), `control_weight` (1, of the squared forces). Forces:
    `actuators` (how many, or places in units of L), `actuator_shape` ("gaussian", "top_hat",
    "mode"), `actuator_width` (standard deviation, or width of the hat, in units of L), `authority`
    (0.3; the reaction pulls with at most 0.39). Sensors: `sensors` (how many, or places in units of
    L), `sensor_shape` ("point", or "mode": coefficients of so many of the longest waves),
    `sensor_width` (of the mean around each, in units of L; 0 for the point). `points` of the grid.

    ## References
    I. S. Aranson, L. Kramer, Rev. Mod. Phys. 74 (2002) 99, section II. X. Zhang et al., Controlgym,
    L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


class ComplexGinzburgLandau:
    """Turn turbulent waves into one oscillation, or still them.

    ## Description
    A = exp(-i c t) is the homogeneous oscillation; where 1 + b c < 0, as here, it is unstable to
    long waves (Benjamin and Feir), in this box to those of one to five periods, at most at rate
    0.48, and the flow is chaotic with largest Lyapunov exponent 0.28. A = 0 is unstable to all
    waves longer than 2 pi.

    Tasks: `synchronize` (default) keeps <|A_x|^2 + (1 - |A|^2)^2 / 2> low, which is zero for
    homogeneous oscillations alone; `still` keeps <|A|^2> low; `regulate` has a quadratic cost.

    ## Action space
    | Num   | Name                   | Min | Max | Unit                            |
    |-------|------------------------|-----|-----|---------------------------------|
    | 0-11  | force on u at i L / 12 | -1  | 1   | `authority`, height of f        |
    | 12-23 | force on v at i L / 12 | -1  | 1   | the same                        |

    ## Observation space
    | Num   | Name          | Min | Max | Unit                    |
    |-------|---------------|-----|-----|-------------------------|
    | 0-11  | u at i L / 12 | -5  | 5   | 1, that of oscillations |
    | 12-23 | v at i L / 12 | -5  | 5   | the same                |

    ## Reward
    `synchronize` and `still`: exp(-(q / `scale` + `control_weight` * energy)) with their quantities
    q after the step. `regulate`: minus the sum of (u - `level`)^2 and (v - `level`)^2 over the
    points and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    A point of the attractor: random waves of up to eight periods, left to themselves for 50 units
    of time in steps of 0.1.

    ## Episode end
    Truncated after 200 steps of 0.2 (40 time units). Terminated only by divergence: |u| or |v| > 5
    somewhere (the attractor stays below 1.3, random actions below 1.4).

    ## Metrics
    `synchronize`: `free_energy`, `energy` (mean squared action). `still`: `intensity`, `energy`.
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `dispersion` (b, 2), `detuning` (c, -2), `length` (L, 32). Tasks `synchronize` and
    `still`: `scale` (0.3 and 0.6; in the free flow the quantities are 0.28 and 0.54),
    `control_weight` (0). Task `regulate`: `level` (0), `control_weight` (1, of the squared forces).
    Forces: `actuators` (how many on each field, or places in units of L), `actuator_shape`
    ("gaussian", "top_hat", "mode"), `actuator_width` (standard deviation, or width of the hat, in
    units of L), `authority` (0.5). Sensors: `sensors` (how many, or places in units of L),
    `sensor_shape` ("point", or "mode": coefficients of so many of the longest waves),
    `sensor_width` (of the mean around each, in units of L; 0 for the point). `points` of the grid.

    ## References
    I. S. Aranson, L. Kramer, Rev. Mod. Phys. 74 (2002) 99. D. Battogtokh, A. Mikhailov, Physica D
    90 (1996) 84, on the control of its turbulence.

    ## Version history
    - v0: first version.
    """


register_field(
    "GinzburgLandau-v0",
    ginzburg_landau,
    {
        "reach": Reach(
            targets={"zero": constant(0.0), "plus": constant(1.0)},
            target_name="zero",
            width=0.2,
            radius=0.05,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=128,
    control_interval=0.1,
    substeps=1,
    horizon=200,
    authority=0.3,
    scale=(1.0,),
    summary="Stop a pulse that invades an unstable state",
    documented=GinzburgLandau,
    actuators=Actuators(16, "top_hat", 0.05),
    sensors=Sensors(16),
)

register_field(
    "ComplexGinzburgLandau-v0",
    complex_ginzburg_landau,
    {
        "synchronize": Reduce(
            name="free_energy", quantity=free_energy, scale=0.3, control_weight=0.0
        ),
        "still": Reduce(name="intensity", quantity=intensity, scale=0.6, control_weight=0.0),
        "regulate": Regulate(level=0.0),
    },
    turbulence,
    points=96,
    control_interval=0.2,
    substeps=4,
    horizon=200,
    authority=0.5,
    scale=(1.0, 1.0),
    summary="Turn turbulent waves into one oscillation",
    documented=ComplexGinzburgLandau,
    actuators=Actuators(12, "gaussian", 0.03),
    sensors=Sensors(12),
    force=on_both_fields,
    controls=24,
    observed=(0, 1),
)

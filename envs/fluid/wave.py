"""The wave equation: a string, or sound in a ring.

    u_tt = c^2 u_xx + f(x, t),    as u_t = v, v_t = c^2 u_xx + f        x periodic with period L

J. le Rond d'Alembert, Hist. Acad. Sci. Berlin 3 (1747) 214. The constants are those of X. Zhang et
al., Controlgym, L4DC (2024), arXiv:2311.18736.

    parameter  default  meaning
    length     1        L, the period
    speed      0.1      c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators, on_first_field
from separatrix.envs.fluid.objectives import Reach, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.steppers.spectral import SpectralDefinition

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

wave = SpectralDefinition(
    name="Wave",
    fields=("u", "v"),
    dimensions=1,
    parameters={"length": 1.0, "speed": 0.1},
    linear=lambda d, p: [[0, 1], [(p["speed"] * d[0]) ** 2, 0]],
    inputs=lambda d, p: [],
    product=lambda: (),
    outputs=lambda d, p: [[], []],
    degree=1,
    bound=(50.0, 20.0),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws controlgym's bumps, at random places and moving to both sides in random shares."""
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    uniform, stream = stream.uniform(4, torch.float64, INITIAL_STATE)
    ranges = ((0.9, 1.1), (0.04, 0.06), (-1.0, 1.0), (0.0, 1.0))
    amplitude, width, drift, place = (
        low + (high - low) * uniform[:, i, None] for i, (low, high) in enumerate(ranges)
    )
    points = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
    z = (torch.remainder(points.to(uniform) - place + 0.5, 1.0) - 0.5) / width
    u = amplitude / torch.cosh(z)
    speed = (system.parameters["speed"] / system.length).to(uniform)[:, None]
    v = drift * speed * u * torch.tanh(z) / width  # -drift c u_x
    return torch.stack((u, v), 1), stream


def on_velocity(shapes: Tensor, fields: int) -> Tensor:
    """Returns forces (control, field, *grid) that act on v alone."""
    return on_first_field(shapes, fields).flip(1)


def bent(system: SpectralSystem) -> Tensor:
    """Returns the target u = sin(2 pi x / L) / 4, v = 0, which tension would straighten."""
    import torch

    points = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
    u = torch.sin(2 * torch.pi * points) / 4
    return torch.stack((u, torch.zeros_like(u)))[None]


class Wave:
    """Bring a string to rest, waves and mean; a linear system that conserves its energy.

    ## Description
    A bump splits in two that run around the ring, unchanged, and meet again; left alone they do so
    for ever. A linear system with a quadratic cost, so that the best controller of task `regulate`
    is known but for the limit of the forces. A step is exact, whatever its length.

    The mean of u feels no tension: it moves with constant speed, and only the mean of the forces
    changes that. So the forces keep theirs; without it the mean of the bump could not be brought to
    zero, and with random forces it drifts.

    Tasks: `reach` (default) brings u and v to a target, `regulate` has the quadratic cost of
    controlgym's environment. That environment itself: `task="regulate",
    actuators=[(i + 0.5) / 8 for i in range(8)]`; but its string starts at rest with the bump at
    1/2, and its actions are added to v at the end of a step, without limit, while forces here act
    throughout the step, with about the effect of `control_interval` * force.

    ## Action space
    | Num | Name                  | Min | Max | Unit                      |
    |-----|-----------------------|-----|-----|---------------------------|
    | 0-7 | force on v at i L / 8 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num   | Name          | Min   | Max  | Unit                   |
    |-------|---------------|-------|------|------------------------|
    | 0-9   | u at i L / 10 | -166  | 166  | 0.3, rms at the start  |
    | 10-19 | v at i L / 10 | -66.7 | 66.7 | 0.3                    |

    ## Reward
    `reach`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target, over
    both fields, after the step: in (0, 1], 1 on target. `regulate`: minus the sum of
    (u - `level`)^2 + (v - `level`)^2 over the points and of the squared forces. A diverged
    environment gets the lowest.

    ## Starting state
    The bump of controlgym, u = a / cosh((x / L - b) / w), with a uniform in [0.9, 1.1] and w in
    [0.04, 0.06], at a place b uniform in [0, 1); v = -s c u_x with s uniform in [-1, 1], so that a
    share (1 + s) / 2 moves right.

    ## Episode end
    Truncated after 200 steps of 0.1 (20 time units: a wave runs around twice). Terminated only by
    divergence: |u| > 50 or |v| > 20 somewhere.

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `length` (L, 1), `speed` (c, 0.1). Task `reach`: `target_name` ("zero", or "bent", u =
    sin(2 pi x / L) / 4 held against the tension), `width` (0.1), `radius` (0.02), `reward_shape`
    ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 / `width`^2)). Task `regulate`: `level`
    (0), `control_weight` (1, of the squared forces). Forces: `actuators` (how many, or places in
    units of L), `actuator_shape` ("gaussian", "top_hat", "mode"), `actuator_width` (standard
    deviation, or width of the hat, in units of L: 0.1), `authority` (0.2). Sensors: `sensors` (how
    many, or places in units of L), `sensor_shape` ("point", or "mode" for the coefficients of the
    longest waves), `sensor_width` (of the mean around each point, in units of L; 0 for the point).
    `points` of the grid.

    ## References
    X. Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "Wave-v0",
    wave,
    {
        "reach": Reach(
            targets={"zero": constant(0.0), "bent": bent},
            target_name="zero",
            width=0.1,
            radius=0.02,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=100,
    control_interval=0.1,
    substeps=1,
    horizon=200,
    authority=0.2,
    scale=(0.3, 0.3),
    summary="Bring a string to rest; linear",
    documented=Wave,
    actuators=Actuators(8, "top_hat", 0.1),
    sensors=Sensors(10),
    force=on_velocity,
    observed=(0, 1),
)

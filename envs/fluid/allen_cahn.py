"""Allen-Cahn: two phases, each stable, and the interfaces between them.

    u_t = D^2 u_xx + P (u - u^3) + f(x, t)        x periodic with period L

S. M. Allen, J. W. Cahn, Acta Metall. 27 (1979) 1085; in this form one of controlgym's PDEs.

    parameter    default  meaning
    diffusivity  0.2      D; interfaces are D (2 / P)^(1/2) wide
    potential    5        P, the rate at which u = 0 decays into the phases u = -1 and u = 1
    length       2        L, the period
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.objectives import Reach, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import somewhere
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

allen_cahn = SpectralDefinition(
    name="AllenCahn",
    fields=("u",),
    dimensions=1,
    parameters={"diffusivity": 0.2, "potential": 5.0, "length": 2.0},
    linear=lambda d, p: [[p["potential"] + p["diffusivity"] ** 2 * laplacian(d)]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u * u,),
    outputs=lambda d, p: [[-p["potential"]]],
    degree=3,
    bound=(5.0,),
)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws controlgym's profile at a random place, with small waves on it."""

    def profile(x: Tensor, uniform: Tensor) -> Tensor:
        return 4 * x**2 * (2 * math.pi * x).cos() + 0.2 * (uniform[:, :1] - 0.5)

    return somewhere(stream, system, profile, rms=0.1)


def stripes(waves: int, width: Callable[[SpectralSystem], Tensor]) -> Callable[..., Tensor]:
    """Returns what makes stripes of the two phases, which solve w^2 u_xx + u - u^3 = 0.

    They are u = (2 m / (1 + m))^(1/2) sn(x / (w (1 + m)^(1/2)) | m), with the parameter m for which
    the period fits.

    Args:
        waves: Periods in the box.
        width: Gives w of a system, (rows,).
    """

    def make(system: SpectralSystem) -> Tensor:
        import torch
        from scipy.optimize import brentq
        from scipy.special import ellipj, ellipkm1

        rows = []
        for ratio in (system.length / width(system) / waves).tolist():
            # By the complement 1 - m, which is tiny where interfaces are far apart.
            def excess(log: float, ratio: float = ratio) -> float:
                return float(4 * ellipkm1(10**log) * (2 - 10**log) ** 0.5 - ratio)

            if not excess(0.0) < 0 < excess(-300.0):
                raise ValueError(
                    f"length: got {ratio:.3g} interface widths a period of the target; "
                    f"allowed: more than {2 * torch.pi:.3g}, for else there are no stripes, and "
                    f"less than {1 + excess(-300.0) + ratio:.0f}"
                )
            complement = 10 ** brentq(excess, -300, 0)
            m, quarter = 1 - complement, float(ellipkm1(complement))
            turns = torch.arange(system.grid.points, dtype=torch.float64) * waves
            turns = (turns / system.grid.points + 0.25) % 1
            # Within a quarter of a period from a zero, where it is precise for m close to 1.
            reflected = quarter * (1 - (4 * turns - 2).abs())
            sn = torch.as_tensor(ellipj(reflected.numpy(), m)[0])
            rows.append((2 * m / (1 + m)) ** 0.5 * sn)
        return torch.stack(rows)[:, None]

    return make


def width(system: SpectralSystem) -> Tensor:
    """Returns w = D / P^(1/2), (rows,)."""
    ratio: Tensor = system.parameters["diffusivity"] / system.parameters["potential"].sqrt()
    return ratio


class AllenCahn:
    """Put two phases in their places, or keep a mixture from falling into them.

    ## Description
    u = 0 is unstable and falls into the phases u = -1 and u = 1, each stable. Between them lie
    interfaces, u = tanh(x / (D (2 / P)^(1/2))), which attract each other so weakly that they rest.
    The target "stripes", the exact equilibrium of one period, has them at x = 0 and L / 2: those of
    the free flow, which lie elsewhere, are to be moved or made anew. The target "zero" has seven
    unstable waves, the fastest of rate P.

    Tasks: `reach` (default) brings u to a target, `regulate` has the quadratic cost of controlgym's
    environment. That environment itself: `task="regulate", diffusivity=1e-4, points=256,
    control_interval=0.01, actuator_shape="top_hat", actuator_width=0.1, sensors=10`, but for the
    place of its start and the waves on it. Its interfaces are a hundred times thinner than its
    grid.

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
    controlgym's profile in the box of length 2, x^2 cos(pi x) and a constant of up to 0.1, but with
    x counted from a random place, and random waves of rms 0.1 on it.

    ## Episode end
    Truncated after 200 steps of 0.05 (10 time units). Terminated only by divergence: |u| > 5
    somewhere (the free flow stays below 1.02, random actions below 1.2).

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `diffusivity` (D, 0.2), `potential` (P, 5), `length` (L, 2). Task `reach`: `target_name`
    ("stripes", "zero", "plus" and "minus" for the phases), `width` (0.3), `radius` (0.1),
    `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 / `width`^2)). Task
    `regulate`: `level` (0), `control_weight` (1, of the squared forces). Forces: `actuators` (how
    many, or places in units of L), `actuator_shape` ("gaussian", "top_hat", "mode"),
    `actuator_width` (standard deviation, or width of the hat, in units of L), `authority` (2; the
    reaction pulls with at most 0.39 P). Sensors: `sensors` (how many, or places in units of L),
    `sensor_shape` ("point", or "mode": coefficients of so many of the longest waves),
    `sensor_width` (of the mean around each, in units of L; 0 for the point). `points` of the grid.

    ## References
    S. M. Allen, J. W. Cahn, Acta Metall. 27 (1979) 1085. J. Carr, R. L. Pego, Commun. Pure Appl.
    Math. 42 (1989) 523, on interfaces that rest. X. Zhang et al., Controlgym, L4DC (2024),
    arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "AllenCahn-v0",
    allen_cahn,
    {
        "reach": Reach(
            targets={
                "stripes": stripes(1, width),
                "zero": constant(0.0),
                "plus": constant(1.0),
                "minus": constant(-1.0),
            },
            target_name="stripes",
            width=0.3,
            radius=0.1,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=64,
    control_interval=0.05,
    substeps=2,
    horizon=200,
    authority=2.0,
    scale=(1.0,),
    summary="Put two phases in their places",
    documented=AllenCahn,
    actuators=Actuators(8, "gaussian", 0.05),
    sensors=Sensors(8),
)

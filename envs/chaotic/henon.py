"""Henon (1976): a map of the plane with a strange attractor, a cut through a flow such as Lorenz's.

    x' = 1 - (a + u) x^2 + y      u: perturbation of a
    y' = b x

M. Henon, Commun. Math. Phys. 50 (1976) 69, with his parameters a = 1.4, b = 0.3. A prime is the
next iterate; the unit of time is one iteration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import difference_equation
from separatrix.envs.steppers.registration import register_map

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_system import OdeSystem

attractor = Attractor("henon")


@difference_equation(states="x y", controls="u", start=attractor, box=attractor.box)
def henon(
    x: Expression, y: Expression, u: Expression, *, a: Expression = 1.4, b: Expression = 0.3
) -> tuple[Expression, ...]:
    """Returns the next x and y."""
    return 1 - (a + u) * x**2 + y, b * x


@dataclass(frozen=True)
class HoldByParameter(HoldFixedPoint):
    """Hold the state at an unstable fixed point by small changes of a parameter.

    As `HoldFixedPoint`, but the control is no force: action 1 changes the parameter by
    `authority`.
    """

    def force(self, system: OdeSystem) -> Tensor:
        """Returns the largest change of each parameter, (1, control)."""
        import torch

        size = (1, len(system.definition.control_names))
        return torch.full(size, self.authority, dtype=torch.float64)


class Henon:
    """Hold the Henon map at the unstable fixed point inside its attractor.

    ## Description
    One iteration stretches the plane, folds it and squeezes it to 0.3 of its area. The fixed point
    x = (b - 1 + sqrt((b - 1)^2 + 4 a)) / (2 a), y = b x, near (0.631, 0.189), is a saddle on the
    attractor (multipliers -1.924 and 0.156): small changes u of the parameter a can hold the state
    there once chaos has brought it near, as Ott, Grebogi and Yorke taught. The largest Lyapunov
    exponent of the free map is 0.419 an iteration. With a above 1.43 there is no attractor left: a
    large change at the wrong moment sends the state to infinity.

    ## Action space
    | Num | Name             | Min | Max | Unit        |
    |-----|------------------|-----|-----|-------------|
    | 0   | change u of a    | -1  | 1   | `authority` |

    ## Observation space
    | Num | Name | Min   | Max  | Unit                                            |
    |-----|------|-------|------|-------------------------------------------------|
    | 0   | x    | -17.7 | 17.7 | deviation from fixed point / standard deviation |
    | 1   | y    | -17.7 | 17.7 | deviation from fixed point / standard deviation |

    ## Reward
    exp(-d^2 / 0.08), d the distance to the fixed point after the iteration: between 0 and 1, 1 on
    target. A diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    One of 2048 points of the attractor of the default parameters, drawn at random.

    ## Episode end
    Truncated after 400 iterations. Terminated if the state leaves the safe box, five times the
    attractor's, on its way to infinity.

    ## Arguments
    System: `a`, `b`. Task `hold`: `authority` (0.02, the largest change of a), `width` (0.2),
    `radius` (0.05, of the target ball), `near` (start of the search for the fixed point).

    ## References
    M. Henon, Commun. Math. Phys. 50 (1976) 69. E. Ott, C. Grebogi, J. A. Yorke, Phys. Rev. Lett. 64
    (1990) 1196.

    ## Version history
    - v0: first version.
    """


register_map(
    "Henon-v0",
    henon,
    {"hold": HoldByParameter(near=(0.6, 0.2), authority=0.02, width=0.2, radius=0.05)},
    horizon=400,
    summary="Hold the Henon map at the unstable fixed point inside its attractor",
    draw=PhasePortrait(horizontal=0, vertical=1),
    documented=Henon,
)

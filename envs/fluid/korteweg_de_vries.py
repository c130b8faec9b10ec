"""Korteweg-de Vries: solitons, waves on shallow water that keep their shape.

    u_t = -6 u u_x - u_xxx + f(x, t)        x periodic with period L

D. J. Korteweg, G. de Vries, Phil. Mag. 39 (1895) 422; solitons: N. J. Zabusky, M. D. Kruskal, Phys.
Rev. Lett. 15 (1965) 240. A soliton of speed c is u = (c / 2) / cosh^2(sqrt(c) (x - c t) / 2).

    parameter  default  meaning
    length     10       L, the period; all else is scaled away
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.fluid.objectives import Follow, Regulate, target_place
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.steppers.spectral import SpectralDefinition

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.spectral_system import SpectralSystem

korteweg_de_vries = SpectralDefinition(
    name="KortewegDeVries",
    fields=("u",),
    dimensions=1,
    parameters={"length": 10.0},
    linear=lambda d, p: [[-(d[0] ** 3)]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-3 * d[0]]],
    degree=2,
    bound=(20.0,),
)


def solitons(speed: Tensor, place: Tensor, system: SpectralSystem) -> Tensor:
    """Returns solitons, (batch, 1, point), with those of the next boxes.

    Args:
        speed: Of each, (batch, 1), which also sets height and width.
        place: Of each, (batch, 1), in boxes.
        system: Gives grid and box.
    """
    import torch

    points = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
    x = system.length[:, None].to(speed) * (points.to(speed) - place)
    shift = system.length[:, None].to(speed)
    images = [
        speed / 2 / torch.cosh(speed.sqrt() / 2 * (x - n * shift)).square() for n in range(-2, 4)
    ]
    return torch.stack(images).sum(0)[:, None]


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws controlgym's solitons, of speeds from 1.5 to 2.5, where the target begins."""
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    uniform, stream = stream.uniform(1, torch.float64, INITIAL_STATE)
    return solitons(1.5 + uniform, target_place(stream)[:, None], system), stream


def soliton(speed: float) -> Callable[[SpectralSystem], Tensor]:
    """Returns what makes a soliton the target."""

    def make(system: SpectralSystem) -> Tensor:
        import torch

        value, place = torch.tensor([[[speed]], [[0.0]]], dtype=torch.float64)
        return solitons(value, place, system)

    return make


class KortewegDeVries:
    """Speed a soliton up: it has to grow and sharpen to run faster.

    ## Description
    Dispersion spreads a wave, u u_x steepens it; in a soliton the two balance. Its speed c sets its
    height c / 2 and its width 2 / sqrt(c). Without forces mass, momentum (integral of u^2) and
    energy (of u^3 - u_x^2 / 2) are conserved, and what is left over from a push runs around the box
    for ever. In the default task a soliton of speed about 2 has to follow one of speed 4, twice as
    high, of 1.4 times the mass and 2.8 times the momentum.

    Tasks: `follow` (default) keeps u on a travelling soliton, `regulate` has the quadratic cost of
    controlgym's environment. That environment itself, which is written for -u: `task="regulate",
    control_interval=0.01, actuators=[(i + 0.5) / 8 for i in range(8)]`, but for the limit of the
    forces; its episodes last 100 steps, too.

    ## Action space
    | Num | Name             | Min | Max | Unit                      |
    |-----|------------------|-----|-----|---------------------------|
    | 0-7 | force at i L / 8 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num   | Name                         | Min | Max | Unit |
    |-------|------------------------------|-----|-----|------|
    | 0-9   | u at i L / 10                | -20 | 20  | 1    |
    | 10-19 | target at i L / 10, `follow` | -20 | 20  | 1    |

    ## Reward
    `follow`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target at
    the time after the step: in (0, 1], 1 on target. `regulate`: minus the sum of (u - `level`)^2
    over the points and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    A soliton of a speed uniform in [1.5, 2.5], at a random place, where the target begins, too.

    ## Episode end
    Truncated after 100 steps of 0.05 (5 time units: the target runs around twice). Terminated only
    by divergence: |u| > 20 somewhere.

    ## Metrics
    `follow`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `length` (L, 10). Task `follow`: `target_name` ("fast" or "slow", the solitons of speeds
    4 and 2), `speed` (at which the target moves, 4), `width` (0.3), `radius` (0.1), `reward_shape`
    ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 / `width`^2)). Task `regulate`: `level`
    (0), `control_weight` (1, of the squared forces). Forces: `actuators` (how many, or places in
    units of L), `actuator_shape` ("gaussian", "top_hat", "mode"), `actuator_width` (standard
    deviation, or width of the hat, in units of L: 0.1), `authority` (1). Sensors: `sensors` (how
    many, or places in units of L), `sensor_shape` ("point", or "mode" for the coefficients of the
    longest waves), `sensor_width` (of the mean around each point, in units of L; 0 for the point).
    `points` of the grid.

    ## References
    N. J. Zabusky, M. D. Kruskal, Phys. Rev. Lett. 15 (1965) 240. R. M. Miura, SIAM Rev. 18 (1976)
    412. X. Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "KortewegDeVries-v0",
    korteweg_de_vries,
    {
        "follow": Follow(
            targets={"fast": soliton(4.0), "slow": soliton(2.0)},
            target_name="fast",
            width=0.3,
            radius=0.1,
            speed=4.0,
        ),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=128,
    control_interval=0.05,
    substeps=20,
    horizon=100,
    authority=1.0,
    scale=(1.0,),
    summary="Speed a soliton up",
    documented=KortewegDeVries,
    actuators=Actuators(8, "top_hat", 0.1),
    sensors=Sensors(10),
)

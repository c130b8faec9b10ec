"""Kolmogorov flow: two-dimensional turbulence driven by a steady shear.

    u_t + (u . grad) u = -grad p + laplacian u / Re + sin(2 pi n y / L) e_x + f(x, y, t)
    div u = 0        x and y periodic with period L

G. J. Chandler, R. R. Kerswell, J. Fluid Mech. 722 (2013) 554, in its units. It is solved for the
vorticity, omega = v_x - u_y; see `separatrix.envs.fluid.vorticity`.

    parameter  default  meaning
    reynolds   40       Re, of the force and the length L / (2 pi)
    waves      4        n, periods of the driving force in the box, a whole number
    length     2 pi     L, the period
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from separatrix.envs.fluid.objectives import Reach, Reduce, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.vorticity import BodyForces, advection, velocity
from separatrix.envs.steppers.spectral import SpectralDefinition, laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.fluid.objectives import FieldStep
    from separatrix.envs.steppers.spectral import Parameters
    from separatrix.envs.steppers.spectral_system import SpectralSystem

SHIFTS = 8
"""A flow of four waves keeps its statistics under as many shift-and-reflections."""


def driving(positions: Sequence[Tensor], p: Parameters) -> tuple[Tensor]:
    """Returns the curl of the driving force.

    Raises:
        ValueError: `reynolds` is not positive, or `waves` not a whole number that the grid keeps.
    """
    import torch

    if not (p["reynolds"] > 0).all():
        got = p["reynolds"].flatten().tolist()
        raise ValueError(f"parameter 'reynolds': got {got}; allowed: numbers > 0")
    n, y = p["waves"], positions[1]
    highest = (y.shape[-1] - 1) // 3
    if not ((n == n.round()) & (n >= 1) & (n <= highest)).all():
        raise ValueError(
            f"parameter 'waves': got {n.flatten().tolist()}; allowed: whole numbers from 1 to "
            f"{highest} on a grid of {y.shape[-1]} points"
        )
    k = 2 * math.pi * n / p["length"]
    return (-k * torch.cos(k * y),)


kolmogorov_flow = SpectralDefinition(
    name="KolmogorovFlow",
    fields=("omega",),
    dimensions=2,
    parameters={"reynolds": 40.0, "waves": 4.0, "length": 2 * math.pi},
    linear=lambda d, p: [[laplacian(d) / p["reynolds"]]],
    inputs=lambda d, p: [[multiplier] for multiplier in velocity(d)],
    product=lambda u, v: (u * v, u * u - v * v),
    outputs=lambda d, p: [advection(d)],
    degree=2,
    bound=(60.0,),
    forcing=driving,
)


def laminar(system: SpectralSystem) -> Tensor:
    """Returns the vorticity of the laminar flow, U = Re sin(k y) / k^2 with k = 2 pi n / L."""
    p = {name: value.view(-1, 1, 1) for name, value in system.parameters.items()}
    k = 2 * math.pi * p["waves"] / p["length"]
    # The forcing, -k cos(k y), is the viscous term's opposite.
    (curl,) = driving(system.grid.positions(p["length"]), p)
    field: Tensor = (p["reynolds"] / k**2 * curl)[:, None]
    return field.expand(-1, 1, *system.grid.shape)


def dissipation(system: SpectralSystem, step: FieldStep) -> Tensor:
    """Returns D = <omega^2> / Re."""
    return step.field.square().mean((1, 2, 3)) / system.parameters["reynolds"].to(step.field)


@cache
def snapshots(points: int) -> Tensor:
    """Returns turbulent fields at the default parameters, float64 (field, points, points).

    They are data, computed by `python -m separatrix.envs.fluid.characterize`.
    """
    import numpy as np
    import torch

    from separatrix.envs.steppers.spectral_grid import Grid

    file = resources.files("separatrix.envs.fluid").joinpath("data/kolmogorov_flow.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        modes = torch.from_numpy(data["modes"]).to(torch.complex128)  # x from -m to m, y from 0 on
    highest = modes.shape[-1] - 1
    kept = min(highest, (points - 1) // 3)
    spectra = modes.new_zeros((len(modes), points, points // 2 + 1))
    numbers = torch.arange(-kept, kept + 1)
    spectra[:, numbers % points, : kept + 1] = modes[:, numbers + highest, : kept + 1]
    return Grid(points, 2).synthesize_constant(spectra)


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws a snapshot and changes it by what the flow of four waves does not see.

    That are translations along x, the shift-and-reflection omega -> -omega(-x, y + L / 8) and the
    rotation by half a turn; shifts are as many of the eight as the grid has points for.
    """
    import torch

    from separatrix.envs.core.stream import INITIAL_STATE

    points = system.grid.points
    table, shifts = snapshots(points), math.gcd(points, SHIFTS)
    draws = []
    for count in (len(table), points, shifts, 2):
        drawn, stream = stream.integers(count, INITIAL_STATE)
        draws.append(drawn.cpu()[:, None])
    index, along, shift, turned = draws
    along_y = shift * (points // shifts)
    reflected = 1 - 2 * (shift * (SHIFTS // shifts) % 2)
    turn = 1 - 2 * turned
    grid = torch.arange(points)
    x, y = (reflected * turn * grid + along) % points, (turn * grid + along_y) % points
    field = table[index[..., None], x[:, :, None], y[:, None, :]] * reflected[..., None]
    return field[:, None], stream


class KolmogorovFlow:
    """Bring turbulence in two dimensions to rest in its laminar state.

    ## Description
    A steady force drives layers of fluid past each other, 2 n of them. Their laminar flow,
    U = Re sin(n y) / n^2 in a box of side 2 pi, is unstable at Re = 40 and n = 4: 38 directions
    grow, the fastest with rate 2.35. Turbulence is slower than it: it has 0.44 of its energy,
    E = Re^2 / (4 n^4), and dissipates 0.094 of its D = Re / (2 n^2), in bursts of up to 0.3. At
    Re = 20 there are 10 such directions, of rate 0.81 at most; at Re = 9.9 none is left.

    Only the curl of a body force moves the fluid. Here it comes from swirls, forces along circles
    around 8 x 8 places, strongest at 0.08 L from the centre. 4 x 4 are too few: the fastest growing
    waves, two along x, may vanish at all of them. Linear feedback of the whole field through all 64
    brought turbulence to d < 0.5 within 15 units of time.

    Tasks: `relaminarize` (default) wants the laminar flow, or rest. `reduce_dissipation` wants
    little dissipation at little cost.

    The environment of HydroGym (JAX) with its four shear forces, as its equations are meant:
    `reynolds=200, actuators=(4, 5, 6, 7), actuator_shape="shear", authority=0.5,
    control_interval=10, substeps=1000`. It shows the speed on the 8 x 8 points, averaged over the
    interval, where this one shows the vorticity at its end.

    ## Action space
    | Num  | Name                       | Min | Max | Unit                          |
    |------|----------------------------|-----|-----|-------------------------------|
    | 0-63 | swirl at (i L / 8, j L / 8), number 8 i + j | -1 | 1 | `authority`, largest force |

    ## Observation space
    | Num  | Name                                        | Min | Max | Unit                      |
    |------|---------------------------------------------|-----|-----|---------------------------|
    | 0-63 | omega at (i L / 8, j L / 8), number 8 i + j | -30 | 30  | 2, about rms of turbulence |

    ## Reward
    `relaminarize`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation of omega from
    the target after the step: in (0, 1], 1 on target. `reduce_dissipation`: exp(-(D / `scale` +
    `control_weight` * energy)) with D = <omega^2> / Re. A diverged environment gets the lowest.

    ## Starting state
    A field of the turbulent attractor at the default parameters: one of 64 that come with the
    package, moved along x at random, and changed by a random shift-and-reflection and half turn,
    under which the flow's statistics stay. Where `reynolds` or `waves` differ, it is a rough
    turbulent start that takes some units of time to settle.

    ## Episode end
    Truncated after 300 steps of 0.1 (30 time units). Terminated only by divergence: |omega| > 60
    somewhere (turbulence stays below 13, the laminar flow is 10). Forces held at full strength in
    one wave of the box make the flow too fast for the time step after 5 to 10 units of time; where
    |u| + |v| goes beyond 5, more `substeps` are needed.

    ## Metrics
    `relaminarize`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `reduce_dissipation`: `dissipation` D, `energy`.

    ## Arguments
    System: `reynolds` (Re, 40), `waves` (n, 4, a whole number), `length` (L, 2 pi; the driving
    force is sin(2 pi n y / L)). Task `relaminarize`: `target_name` ("laminar" or "zero"), `width`
    (2.5), `radius` (1), `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 /
    `width`^2)). Task `reduce_dissipation`: `scale` (0.117, D of the free flow), `control_weight`
    (0.5). Forces: `actuators` (how many along each axis, or places in units of L; for shear how
    many, or wave numbers k), `actuator_shape` ("swirl", or "shear": sin(2 pi k y / L) along x),
    `actuator_width` (of a swirl, in units of L: 0.08), `authority` (0.3, in units of the driving
    force; L / (2 pi) times that in other boxes). Sensors: `sensors` (how many along each axis, or
    places in units of L), `sensor_shape` ("point", or "mode": coefficients of so many of the
    longest waves), `sensor_width` (of the mean around each, in units of L; 0 for the point).
    `points` of the grid along each axis.

    ## References
    G. J. Chandler, R. R. Kerswell, J. Fluid Mech. 722 (2013) 554. L. D. Meshalkin, Ya. G. Sinai,
    J. Appl. Math. Mech. 25 (1961) 1700. HydroGym: arXiv:2512.17534.

    ## Version history
    - v0: first version.
    """


register_field(
    "KolmogorovFlow-v0",
    kolmogorov_flow,
    {
        "relaminarize": Reach(
            targets={"laminar": laminar, "zero": constant(0.0)},
            target_name="laminar",
            width=2.5,
            radius=1.0,
        ),
        "reduce_dissipation": Reduce(
            name="dissipation", quantity=dissipation, scale=0.117, control_weight=0.5
        ),
    },
    start,
    points=64,
    control_interval=0.1,
    substeps=4,
    horizon=300,
    authority=0.3,
    scale=(2.0,),
    summary="Bring two-dimensional turbulence to its laminar state",
    documented=KolmogorovFlow,
    actuators=BodyForces(8),
    sensors=Sensors(8),
)

"""Kuramoto-Sivashinsky: flame fronts and falling films, the smallest turbulence in space and time.

    u_t = -u u_x - u_xx - u_xxxx + f(x, t)        x periodic with period L

Y. Kuramoto, T. Tsuzuki, Prog. Theor. Phys. 55 (1976) 356; G. I. Sivashinsky, Acta Astronaut. 4
(1977) 1177. In this form: P. Cvitanovic, R. L. Davidchack, E. Siminos, SIAM J. Appl. Dyn. Syst. 9
(2010) 1, eq. 1.1.

    parameter  default  meaning
    length     22       L, the period; all else is scaled away
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from separatrix.envs.fluid.actuators import Actuators, without_mean
from separatrix.envs.fluid.objectives import Reach, Reduce, Regulate, constant
from separatrix.envs.fluid.registration import register_field
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.fluid.starts import free_flow, random_waves
from separatrix.envs.steppers.spectral import SpectralDefinition

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.fluid.objectives import FieldStep
    from separatrix.envs.steppers.spectral_system import SpectralSystem

kuramoto_sivashinsky = SpectralDefinition(
    name="KuramotoSivashinsky",
    fields=("u",),
    dimensions=1,
    parameters={"length": 22.0},
    linear=lambda d, p: [[-(d[0] ** 2) - d[0] ** 4]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-d[0] / 2]],
    degree=2,
    bound=(15.0,),
)

SETTLING_TIME, SETTLING_STEP = 100.0, 0.25
"""Five times the Lyapunov time; the step of Kassam and Trefethen."""

NEAR: Mapping[str, Mapping[int, float]] = {
    "E1": {1: -0.82, 2: -0.18, 3: -0.42, 4: -0.37, 5: -0.12},
    "E2": {2: 1.12, 4: -0.70, 6: 0.11},
    "E3": {3: 2.48, 6: -0.45},
}
"""Sines of 2 pi n x / L from which Newton's method finds the equilibria at L = 22."""


def start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    """Draws fields of the attractor: random waves, left to themselves."""
    field, stream = random_waves(stream, system, waves=4, rms=1.0)
    return free_flow(field, system, SETTLING_TIME, SETTLING_STEP), stream


def equilibrium(name: str) -> Callable[[SpectralSystem], Tensor]:
    """Returns what finds a named equilibrium at the period of the system."""

    def find(system: SpectralSystem) -> Tensor:
        import torch

        from separatrix.envs.analysis.newton_krylov import field_equilibrium

        points = torch.arange(system.grid.points, dtype=torch.float64) / system.grid.points
        waves = [b * torch.sin(2 * torch.pi * n * points) for n, b in NEAR[name].items()]
        near = torch.stack(waves).sum(0)[None, None]
        try:
            found = field_equilibrium(system, near)
            exists = bool((found.abs().amax((1, 2)) > 0.01).all())
        except ValueError:
            exists = False
        if not exists:
            raise ValueError(
                f"target_name: got {name!r}, which Newton's method does not find at this length; "
                "allowed: 'zero', or a length nearer to 22"
            )
        return found

    return find


def power(system: SpectralSystem, step: FieldStep) -> Tensor:
    """Returns <u_xx^2> + |<u_x^2> + <u f>|: dissipation, and the power put in."""
    import torch

    grid, u = system.grid, step.field
    k = 2 * torch.pi * grid.numbers[0] / system.length[:, None]
    spectrum = grid.transform(u)
    first, second = (
        grid.synthesize(spectrum * factor.to(spectrum)[:, None]).square().mean((1, 2))
        for factor in (1j * k, -(k**2))
    )
    shapes = system.actuators.to(u)[:, 0]
    work = (step.control * (u * shapes).mean(2)).sum(1)
    return second + (first + work).abs()


class KuramotoSivashinsky:
    """Hold flame fronts, turbulent in space and time, at an unstable equilibrium.

    ## Description
    Long waves grow, u u_x hands them on to short ones, and these decay. At L = 22 the attractor has
    one positive Lyapunov exponent, 0.048, and Kaplan-Yorke dimension 5.2; three pairs of waves make
    u = 0 unstable. The equations do not change under translations, so equilibria other than zero
    come in families; the target is the member that is odd about x = 0. The mean of u is conserved:
    it is zero, and the forces have their means taken out.

    The setting is that of Bucci et al. and of Zeng and Graham: L = 22, 64 points, four Gaussian
    actuators of standard deviation 0.4, a control held for 0.25.

    Tasks: `reach` (default) brings u to an equilibrium, `reduce_power` keeps dissipation and power
    low, `regulate` has the quadratic cost of controlgym's environment. That environment itself:
    `task="regulate", length=32 * pi, points=256, control_interval=0.5, actuators=8,
    actuator_shape="top_hat", actuator_width=0.1, sensors=10`, but for the means of its forces.

    ## Action space
    | Num | Name             | Min | Max | Unit                      |
    |-----|------------------|-----|-----|---------------------------|
    | 0-3 | force at i L / 4 | -1  | 1   | `authority`, height of f  |

    ## Observation space
    | Num | Name         | Min   | Max  | Unit                       |
    |-----|--------------|-------|------|----------------------------|
    | 0-7 | u at i L / 8 | -12.5 | 12.5 | 1.2, rms on the attractor  |

    ## Reward
    `reach`: exp(-d^2 / (2 `width`^2)), with d the root mean square deviation from the target after
    the step: in (0, 1], 1 on target. `reduce_power`: exp(-(P / `scale` + `control_weight` *
    energy)) with P = <u_xx^2> + |<u_x^2> + <u f>|, means over the box. `regulate`: minus the sum of
    u^2 over the points and of the squared forces. A diverged environment gets the lowest.

    ## Starting state
    A point of the attractor: random waves of up to four periods, left to themselves for 100 units
    of time in steps of 0.25.

    ## Episode end
    Truncated after 400 steps of 0.25 (100 time units). Terminated only by divergence: |u| > 15
    somewhere (the attractor stays below 3.5).

    ## Metrics
    `reach`: `distance` d, `on_target` (1 if d < `radius`), `energy` (mean squared action).
    `reduce_power`: `power` P, `energy`. `regulate`: `state_cost`, `control_cost`.

    ## Arguments
    System: `length` (L, 22). Task `reach`: `target_name` ("E1", "E2", "E3" or "zero"; the
    equilibria are found when the environment is made, for lengths near 22 alone), `width` (0.5),
    `radius` (0.2), `reward_shape` ("gaussian" as above, or "quadratic" for max(0, 1 - d^2 /
    `width`^2)). Task `reduce_power`: `scale` (1.85, P of the free flow), `control_weight` (0). Task
    `regulate`: `level` (0), `control_weight` (1, of the squared forces). Forces: `actuators` (how
    many, or places in units of L), `actuator_shape` ("gaussian", "top_hat", "mode"),
    `actuator_width` (standard deviation, or width of the hat, in units of L: 0.4 / 22), `authority`
    (1). Sensors: `sensors` (how many, or places in units of L), `sensor_shape` ("point"; or "mode":
    coefficients of the longest waves, cosine and sine by turns, which are the proper orthogonal
    modes of the free flow), `sensor_width` (of the mean around each, in units of L; 0 for the
    point). `points` of the grid.

    ## References
    M. A. Bucci et al., Proc. R. Soc. A 475 (2019) 20190351, arXiv:1906.07672. K. Zeng and
    M. D. Graham, Phys. Rev. E 104 (2021) 014210, arXiv:2104.05437. P. Cvitanovic et al., SIAM J.
    Appl. Dyn. Syst. 9 (2010) 1. X. Zhang et al., Controlgym, L4DC (2024), arXiv:2311.18736.

    ## Version history
    - v0: first version.
    """


register_field(
    "KuramotoSivashinsky-v0",
    kuramoto_sivashinsky,
    {
        "reach": Reach(
            targets={**{name: equilibrium(name) for name in NEAR}, "zero": constant(0.0)},
            target_name="E1",
            width=0.5,
            radius=0.2,
        ),
        "reduce_power": Reduce(name="power", quantity=power, scale=1.85, control_weight=0.0),
        "regulate": Regulate(level=0.0),
    },
    start,
    points=64,
    control_interval=0.25,
    substeps=5,
    horizon=400,
    authority=1.0,
    scale=(1.2,),
    summary="Hold turbulent flame fronts at an unstable equilibrium",
    documented=KuramotoSivashinsky,
    actuators=Actuators(4, "gaussian", 0.4 / 22),
    sensors=Sensors(8),
    force=without_mean,
)

"""Damped pendulum: a mass on a rod, driven by a motor too weak to lift it at once.

    m l^2 q'' = m g l sin(q) - c q' + T u      q: angle from upright, u: motor signal

    symbol  parameter   default  unit
    m       mass        1        kg       at the end of the massless rod
    l       length      1        m
    g       gravity     9.81     m/s^2
    c       damping     0.1      N m s
    T       max_torque  3        N m      torque at signal 1; lifting the rod takes m g l = 9.81 N m

The textbook system: S. H. Strogatz, Nonlinear Dynamics and Chaos (1994), sections 4.4 and 6.7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from separatrix.envs.mechanics.hold_upright import HoldUpright
from separatrix.envs.mechanics.links import draw_links
from separatrix.envs.steppers.functions import Expression, sin
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.ode_environment import OdeEnvironment

BOX_LIMIT = (1000.0, 100.0)
"""Angle in rad, which is not wrapped, and angular velocity in rad/s."""


@dataclass(frozen=True)
class HangingStart:
    """The pendulum hanging at rest, with normal deviations.

    Attributes:
        deviation: Standard deviation of the angle in rad and of the velocity in rad/s.
    """

    deviation: float = 0.1

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        """Draws one initial state an environment, (batch, 2) in float64."""
        import torch

        from separatrix.envs.core.stream import INITIAL_STATE

        normals, stream = stream.normal(2, torch.float64, INITIAL_STATE)
        return self.deviation * normals + normals.new_tensor((math.pi, 0.0)), stream


@ode(
    states="angle angular_velocity",
    controls="motor",
    start=HangingStart(),
    angles="angle",
    box=(tuple(-limit for limit in BOX_LIMIT), BOX_LIMIT),
)
def damped_pendulum(
    angle: Expression,
    angular_velocity: Expression,
    motor: Expression,
    *,
    mass: Expression = 1.0,
    length: Expression = 1.0,
    gravity: Expression = 9.81,
    damping: Expression = 0.1,
    max_torque: Expression = 3.0,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of the angle from upright (rad) and the velocity (rad/s)."""
    torque = mass * gravity * length * sin(angle) - damping * angular_velocity + max_torque * motor
    return angular_velocity, torque / (mass * length**2)


class DampedPendulum:
    """Swing a damped pendulum up with a weak motor and hold it upright.

    ## Description
    The motor's torque is less than a third of what lifting the rod takes: the pendulum must be
    swung back and forth until it has the energy to rise. Upright it is unstable (exponents 3.08 and
    -3.18 a second).

    ## Action space
    | Num | Name  | Min | Max | Unit                                      |
    |-----|-------|-----|-----|-------------------------------------------|
    | 0   | motor | -1  | 1   | 3 N m (`max_torque`), in growing angle    |

    ## Observation space
    | Num | Name             | Min   | Max  | Unit    |
    |-----|------------------|-------|------|---------|
    | 0   | cosine of angle  | -1    | 1    |         |
    | 1   | sine of angle    | -1    | 1    |         |
    | 2   | angular velocity | -12.5 | 12.5 | 8 rad/s |

    The angle is 0 upright and grows to the right. The velocity is bounded by the safe box.

    ## Reward
    exp(-d^2 / 2) after the step, with d^2 = 2 (1 - cos(angle)) + (angular velocity)^2 length /
    gravity: 0.135 hanging at rest, 1 upright at rest, between 0 and 1. An episode of 400 steps
    returns at most 400.

    ## Starting state
    Hanging at rest; angle and angular velocity deviate by independent normal numbers of standard
    deviation 0.1 (rad, rad/s).

    ## Episode end
    Truncated after 400 steps of 0.05 s (20 s), each of 4 Runge-Kutta steps (error of a step below
    1e-7 of the standard deviation). Nothing terminates it but divergence: a state outside |angle|
    <= 1000 rad, |angular velocity| <= 100 rad/s; the motor reaches about 30 rad/s against the
    damping.

    ## Arguments
    System: `mass`, `length`, `gravity`, `damping`, `max_torque`. Task `hold`: `width` (1), `radius`
    (0.2, of being on target).

    ## References
    S. H. Strogatz, Nonlinear Dynamics and Chaos (1994), sections 4.4 and 6.7. Swing-up by energy:
    K. J. Astrom, K. Furuta, Automatica 36 (2000) 287.

    ## Version history
    - v0: first version.
    """


def draw(
    values: Float[np.ndarray, " 2"], environment: OdeEnvironment
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the pendulum.

    Args:
        values: Angle in rad and angular velocity, which is not drawn.
        environment: Has the length of the rod, in its first row of parameters.
    """
    return draw_links(values[:1], [float(environment.system.parameters["length"][0])])


register_ode(
    "DampedPendulum-v0",
    damped_pendulum,
    {"hold": HoldUpright(width=1.0, radius=0.2)},
    control_interval=0.05,
    substeps=4,
    horizon=400,
    summary="Swing a damped pendulum up with a weak motor and hold it upright",
    draw=draw,
    documented=DampedPendulum,
)

"""Cart-pole swing-up: a cart on a rail between soft stops, carrying a free pole.

With position x of the cart, angle q of the pole from upright (the tip is at x + L sin q) and
motor signal u, the equations of motion are

    (M + m) x'' + m l cos(q) q'' = F u - b x' + m l sin(q) q'^2 - f
    m l cos(q) x'' + J q''       = m g l sin(q) - c q'

    symbol  parameter      default  unit     meaning
    M       cart_mass      1        kg
    m       pole_mass      0.1      kg
    L       pole_length    1        m        hinge to the centre of the round tip; l = L / 2
    r       pole_radius    0.045    m        the pole is a capsule of uniform density
    g       gravity        9.81     m/s^2
    F       motor_force    10       N        force of the motor at signal 1
    b       cart_damping   5e-4     N s/m
    c       hinge_damping  2e-6     N m s
            rail           1.8      m        the stops stand at +-rail
    J                               kg m^2   inertia of the pole about the hinge

The stops are MuJoCo's soft constraint, which only pushes. Past the right stop by o = x - rail, the
acceleration is, with a the one that the cart would have without the stop,

    x'' = a - max(0, a + B x' + K d o) / (1 + (1 - d) / d * D / D0)
    K = 1 / (0.95 T)^2,  B = 2 / (0.95 T),  T = 0.08 s

and likewise at the left one. D is the determinant of the mass matrix, D0 its value at q = 0; the
impedance d rises smoothly from 0.9 at the stop to 0.95 from 1 mm past it.

The system is `cartpole` of the DeepMind Control Suite: Y. Tassa et al., arXiv:1801.00690 (2018).
The stops: E. Todorov, ICRA 2014, p. 6054, and "Solver parameters" in MuJoCo's documentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from separatrix.envs.steppers.component_task import Components, ComponentTask, Parameters
from separatrix.envs.steppers.functions import (
    Expression,
    absolute,
    angle_of,
    cos,
    exp,
    maximum,
    minimum,
    sin,
    where,
)
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.ode_environment import OdeEnvironment
    from separatrix.envs.steppers.ode_system import OdeSystem

STOP_TIME = 0.08
"""Time constant of a stop, in seconds; it is critically damped."""
IMPEDANCE = (0.9, 0.95)
"""Impedance at a stop, and from `IMPEDANCE_WIDTH` past it."""
IMPEDANCE_WIDTH = 0.001
"""Depth, in metres, over which the impedance rises."""

OBSERVATION_SCALE = (1.8, 1.0, 1.0, 4.0, 8.0)
"""Units of the observations: the rail (m); 1 for cosine and sine; the speed that the motor gives
the cart over 0.9 m (4.04 m/s), and that of a pole fallen from upright (7.55 rad/s), rounded."""

# Beyond what the motor was found to reach, so that an unstable simulation alone leaves the box. The
# largest values in 10 s with the default parameters, over random switching, shaking near resonance,
# pushing along the velocity and spinning the pole up, were 2.2 m, 392 rad, 11 m/s and 81 rad/s. The
# angle is not wrapped, hence its wide bound.
BOX_LIMIT = (3.0, 1000.0, 30.0, 300.0)


@dataclass(frozen=True)
class HangingStart:
    """The cart at the centre and the pole hanging, at rest, each with normal deviations.

    Attributes:
        deviation: Standard deviation of every component, in m, rad, m/s and rad/s.
    """

    deviation: float = 0.01

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        """Draws one initial state an environment, (batch, 4) in float64."""
        import torch

        from separatrix.envs.core.stream import INITIAL_STATE

        normals, stream = stream.normal(4, torch.float64, INITIAL_STATE)
        return self.deviation * normals + normals.new_tensor((0.0, math.pi, 0.0, 0.0)), stream


def hinge_inertia(mass: Expression, length: Expression, radius: Expression) -> Expression:
    """Returns the inertia of a capsule about an axis across its end, the centre of one cap.

    Args:
        mass: Mass in kg.
        length: Distance between the centres of the round caps in m.
        radius: Radius in m.
    """
    caps = 4 * radius / 3  # the cylinder as long as both caps are voluminous
    cylinder_square = length * length / 12 + radius * radius / 4
    caps_square = length * length / 4 + 3 * length * radius / 8 + 2 * radius * radius / 5
    about_centre = (length * cylinder_square + caps * caps_square) / (length + caps)
    return mass * (about_centre + length * length / 4)


@ode(
    states="position angle velocity angular_velocity",
    controls="motor",
    start=HangingStart(),
    angles="angle",
    box=(tuple(-limit for limit in BOX_LIMIT), BOX_LIMIT),
)
def cart_pole(
    position: Expression,
    angle: Expression,
    velocity: Expression,
    angular_velocity: Expression,
    motor: Expression,
    *,
    cart_mass: Expression = 1.0,
    pole_mass: Expression = 0.1,
    pole_length: Expression = 1.0,
    pole_radius: Expression = 0.045,
    gravity: Expression = 9.81,
    motor_force: Expression = 10.0,
    cart_damping: Expression = 5e-4,
    hinge_damping: Expression = 2e-6,
    rail: Expression = 1.8,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of position, angle, velocity and angular velocity.

    Args:
        position: Position of the cart in m.
        angle: Angle of the pole from upright in rad, not wrapped.
        velocity: Velocity of the cart in m/s.
        angular_velocity: Angular velocity of the pole in rad/s.
        motor: Motor signal in [-1, 1].
        cart_mass: See the module's table, as for all that follow.
        pole_mass: Mass of the pole.
        pole_length: Length of the pole.
        pole_radius: Radius of the pole.
        gravity: Acceleration of free fall.
        motor_force: Force of the motor at signal 1.
        cart_damping: Friction of the cart.
        hinge_damping: Friction of the hinge.
        rail: Distance of either stop from the centre.
    """
    moment = pole_mass * pole_length / 2
    inertia = hinge_inertia(pole_mass, pole_length, pole_radius)
    lean = moment * sin(angle)
    coupling = moment * cos(angle)
    upright_determinant = (cart_mass + pole_mass) * inertia - moment * moment
    determinant = (cart_mass + pole_mass) * inertia - coupling * coupling

    force = motor_force * motor - cart_damping * velocity + lean * angular_velocity**2
    torque = gravity * lean - hinge_damping * angular_velocity
    free = (inertia * force - coupling * torque) / determinant

    overshoot = position - maximum(minimum(position, rail), -rail)
    depth = minimum(absolute(overshoot) / IMPEDANCE_WIDTH, 1)
    rise = 2 * depth**2 - 4 * maximum(depth - 0.5, 0) ** 2  # two parabolas, smooth from 0 to 1
    impedance = IMPEDANCE[0] + (IMPEDANCE[1] - IMPEDANCE[0]) * rise
    stop_time = IMPEDANCE[1] * STOP_TIME
    excess = free + 2 / stop_time * velocity + impedance / stop_time**2 * overshoot
    softness = (1 / impedance - 1) * determinant / upright_determinant
    push = where(overshoot > 0, maximum(excess, 0), where(overshoot < 0, minimum(excess, 0), 0))
    acceleration = free - push / (1 + softness)

    return velocity, angular_velocity, acceleration, (torque - coupling * acceleration) / inertia


@dataclass(frozen=True)
class SwingUp(ComponentTask):
    """Swing a hanging pole up and balance it at the middle of the rail.

    ## Description
    The motor pushes the cart along a rail of 3.6 m between soft stops, with about the acceleration
    of gravity; the pole swings freely through all angles. Physics and reward are those of
    `cartpole-swingup` of the DeepMind Control Suite.

    ## Action space
    | Num | Name  | Min | Max | Unit                               |
    |-----|-------|-----|-----|------------------------------------|
    | 0   | motor | -1  | 1   | 10 N (`motor_force`), to the right |

    ## Observation space
    | Num | Name             | Min   | Max  | Unit    |
    |-----|------------------|-------|------|---------|
    | 0   | position         | -1.67 | 1.67 | 1.8 m   |
    | 1   | cosine of angle  | -1    | 1    |         |
    | 2   | sine of angle    | -1    | 1    |         |
    | 3   | velocity         | -7.5  | 7.5  | 4 m/s   |
    | 4   | angular velocity | -37.5 | 37.5 | 8 rad/s |

    The angle is 0 upright and grows to the right. The first and the last two are bounded by the
    safe box.

    ## Reward
    The product of four terms, in the state after the step with the motor signal u of the step:

        (1 + cos(angle)) / 2                         upright
        1 - u^2 / 5                                  small control
        (1 + 0.1^((angular velocity / 5)^2)) / 2     small velocity
        (1 + 0.1^((position / 2)^2)) / 2             centred

    It is 0 with the pole hanging, 1 with pole upright, cart centred, both at rest and no control.
    An episode of 1000 steps returns at most 1000.

    ## Starting state
    The cart at the centre and the pole hanging, at rest: position, angle and velocities deviate
    from it by independent normal numbers of standard deviation 0.01 (m, rad, m/s, rad/s).

    ## Episode end
    Truncated after 1000 steps of 0.01 s (10 s). Nothing terminates it but divergence: a state
    outside |position| <= 3 m, |angle| <= 1000 rad, |velocity| <= 30 m/s, |angular velocity|
    <= 300 rad/s. With the default parameters, the hardest driving tried stays well inside.

    ## Metrics
    `upright`: 1 where cos(angle) >= 0.995 after the step, else 0. `energy`: the squared action.

    ## Arguments
    System: `cart_mass`, `pole_mass`, `pole_length`, `pole_radius`, `gravity`, `motor_force`,
    `cart_damping`, `hinge_damping`, `rail`. The units of the observations do not follow them.

    ## References
    Y. Tassa et al., DeepMind Control Suite, arXiv:1801.00690 (2018).

    ## Version history
    - v0: first version.
    """

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the bounds of the safe box, and 1 for cosine and sine, scaled."""
        position, _, velocity, angular_velocity = BOX_LIMIT
        return np.array((position, 1.0, 1.0, velocity, angular_velocity)) / OBSERVATION_SCALE

    def equilibrium(self, system: OdeSystem) -> Tensor:
        """Returns the pole upright, at rest at the middle of the rail: zeros (1 or num_envs, 4)."""
        import torch

        return torch.zeros((1 if system.shared else system.num_envs, 4), dtype=torch.float64)

    def control(self, action: Components, parameters: Parameters) -> Components:
        """Returns the action: it is the motor signal."""
        return action

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns position, cosine and sine of the angle, velocity and angular velocity, scaled."""
        position, angle, velocity, angular_velocity = state
        values = (position, cos(angle), sin(angle), velocity, angular_velocity)
        return [value / scale for value, scale in zip(values, OBSERVATION_SCALE, strict=True)]

    def state_of(self, observation: Components, parameters: Parameters) -> Components:
        """Returns the state, the angle within one turn."""
        scaled = [o * scale for o, scale in zip(observation, OBSERVATION_SCALE, strict=True)]
        position, cosine, sine, velocity, angular_velocity = scaled
        return position, angle_of(cosine, sine), velocity, angular_velocity

    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        """Returns the Control Suite's smooth reward, of the state after the step."""
        position, angle, _, angular_velocity = next_state
        decay = math.log(0.1)  # each Gaussian falls to 0.1 at its margin, 5 rad/s or 2 m
        upright = (1 + cos(angle)) / 2
        small_control = 1 - control[0] ** 2 / 5
        small_velocity = (1 + exp(decay / 5**2 * angular_velocity**2)) / 2
        centred = (1 + exp(decay / 2**2 * position**2)) / 2
        return upright * small_control * small_velocity * centred

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        """Returns `upright` and `energy`."""
        # The range of the Control Suite's sparse reward.
        upright = where(cos(next_state[1]) >= 0.995, 1, 0)
        return {"upright": upright, "energy": control[0] ** 2}


def draw(
    values: Float[np.ndarray, " 4"],
    environment: OdeEnvironment,
    width: int = 400,
    height: int = 300,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the cart, the rail with its stops, and the pole.

    Args:
        values: Position in m, angle in rad, and velocities, which are not drawn.
        environment: Has the lengths of pole and rail, in its first row of parameters.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """
    from PIL import Image, ImageDraw

    pole_length, rail = (
        float(environment.system.parameters[name][0]) for name in ("pole_length", "rail")
    )
    # The tip stays in the picture at a stop; drawn at twice the size and halved to smooth edges.
    scale = 2 * min(width / (2 * (rail + pole_length) + 0.4), height / (2 * pole_length + 0.4))
    image = Image.new("RGB", (2 * width, 2 * height), "#f7f7f5")
    canvas = ImageDraw.Draw(image)

    def point(x: float, z: float) -> tuple[float, float]:
        return width + scale * x, height - scale * z

    def box(x: float, z: float, half_width: float, half_height: float) -> list[float]:
        return [*point(x - half_width, z + half_height), *point(x + half_width, z - half_height)]

    position, angle = float(values[0]), float(values[1])
    tip = (position + pole_length * math.sin(angle), pole_length * math.cos(angle))
    canvas.rectangle(box(0.0, 0.0, rail + 0.2, 0.015), fill="#9a9a9a")
    for side in (
        -1,
        1,
    ):  # a stop touches the cart's side when the cart's centre is at the rail's end
        canvas.rectangle(box(side * (rail + 0.22), 0.0, 0.02, 0.1), fill="#9a9a9a")
    canvas.rounded_rectangle(box(position, 0.0, 0.2, 0.1), radius=0.03 * scale, fill="#30475e")
    canvas.line([point(position, 0.0), point(*tip)], fill="#d1603d", width=round(0.09 * scale))
    for x, z in ((position, 0.0), tip):
        canvas.ellipse(box(x, z, 0.045, 0.045), fill="#d1603d")
    canvas.ellipse(box(position, 0.0, 0.02, 0.02), fill="#f7f7f5")
    return np.asarray(image.reduce(2))


register_ode(
    "CartPoleSwingUp-v0",
    cart_pole,
    {"swing_up": SwingUp()},
    control_interval=0.01,
    substeps=1,
    horizon=1000,
    summary="Swing a pole up on a cart and balance it",
    draw=draw,
    documented=SwingUp,
)

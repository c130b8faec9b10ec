"""Double pendulum: two masses on two massless rods, conservative chaos.

With angles q1, q2 of the rods from upright and d = q1 - q2, the equations of motion are

    (m1 + m2) l1^2 q1'' + m2 l1 l2 cos(d) q2'' + m2 l1 l2 sin(d) q2'^2
        = (m1 + m2) g l1 sin(q1) + (T1 - T2) u
    m2 l1 l2 cos(d) q1'' + m2 l2^2 q2'' - m2 l1 l2 sin(d) q1'^2
        = m2 g l2 sin(q2) + T2 u

    symbol  parameter        default  unit
    m1, m2  upper_mass,      1, 1     kg       at the ends of the rods
            lower_mass
    l1, l2  upper_length,    1, 1     m
            lower_length
    g       gravity          9.81     m/s^2
    T1      shoulder_torque  10       N m      between pivot and upper rod, at motor signal u = 1
    T2      elbow_torque     0        N m      between the rods

The equations of L. D. Landau, E. M. Lifshitz, Mechanics, section 5, problem 1, with angles from
upright and the motors' torques. Driven at the shoulder alone it is the pendubot (M. W. Spong,
D. J. Block, Proc. CDC 1995, 555), at the elbow alone the acrobot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from separatrix.envs.mechanics.hold_upright import (
    HoldUpright,
    links_of,
    observe_links,
    upright_bound,
)
from separatrix.envs.mechanics.links import draw_links
from separatrix.envs.steppers.component_task import Components, Parameters
from separatrix.envs.steppers.energy_shell import EnergyShell
from separatrix.envs.steppers.functions import Expression, cos, sin
from separatrix.envs.steppers.hold_energy import HoldEnergy
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.ode_environment import OdeEnvironment
    from separatrix.envs.steppers.ode_system import OdeSystem

UPRIGHT_ENERGY = 3 * 9.81
"""Energy of the default pendulum upright and at rest, in J; 0 is with both rods level."""
BOX_LIMIT = (1000.0, 1000.0, 100.0, 100.0)
"""Angles in rad, which are not wrapped, and angular velocities in rad/s."""


def start_potential(q1: Tensor, q2: Tensor) -> Tensor:
    """Returns the potential energy of the default pendulum in J."""
    return 9.81 * (2 * q1.cos() + q2.cos())


def start_mass(q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the mass matrix of the default pendulum in kg m^2."""
    return 2 + 0 * q1, (q1 - q2).cos(), 1 + 0 * q1


@ode(
    states="upper_angle lower_angle upper_velocity lower_velocity",
    controls="motor",
    start=EnergyShell(
        UPRIGHT_ENERGY, (-math.pi,) * 2, (math.pi,) * 2, start_potential, start_mass, 2.0
    ),
    angles="upper_angle lower_angle",
    box=(tuple(-limit for limit in BOX_LIMIT), BOX_LIMIT),
)
def double_pendulum(
    upper_angle: Expression,
    lower_angle: Expression,
    upper_velocity: Expression,
    lower_velocity: Expression,
    motor: Expression,
    *,
    upper_mass: Expression = 1.0,
    lower_mass: Expression = 1.0,
    upper_length: Expression = 1.0,
    lower_length: Expression = 1.0,
    gravity: Expression = 9.81,
    shoulder_torque: Expression = 10.0,
    elbow_torque: Expression = 0.0,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of both angles from upright (rad) and velocities (rad/s)."""
    mass = upper_mass + lower_mass
    bend = upper_angle - lower_angle
    coupling = lower_mass * upper_length * lower_length
    upper_inertia, lower_inertia = mass * upper_length**2, lower_mass * lower_length**2
    off_diagonal = coupling * cos(bend)
    determinant = upper_inertia * lower_inertia - off_diagonal * off_diagonal
    upper = (
        mass * gravity * upper_length * sin(upper_angle)
        - coupling * sin(bend) * lower_velocity**2
        + (shoulder_torque - elbow_torque) * motor
    )
    lower = (
        lower_mass * gravity * lower_length * sin(lower_angle)
        + coupling * sin(bend) * upper_velocity**2
        + elbow_torque * motor
    )
    upper_acceleration = (lower_inertia * upper - off_diagonal * lower) / determinant
    lower_acceleration = (upper_inertia * lower - off_diagonal * upper) / determinant
    return upper_velocity, lower_velocity, upper_acceleration, lower_acceleration


def energy(state: Components, parameters: Any) -> Expression:
    """Returns kinetic and potential energy in J, zero with both rods level and at rest.

    Args:
        state: Angles and velocities.
        parameters: The system's parameters by name.
    """
    q1, q2, v1, v2 = state
    p = parameters
    mass = p["upper_mass"] + p["lower_mass"]
    upper_speed, lower_speed = p["upper_length"] * v1, p["lower_length"] * v2
    kinetic = mass * upper_speed**2 / 2 + p["lower_mass"] * (
        lower_speed**2 / 2 + upper_speed * lower_speed * cos(q1 - q2)
    )
    height = mass * p["upper_length"] * cos(q1) + p["lower_mass"] * p["lower_length"] * cos(q2)
    return kinetic + p["gravity"] * height


@dataclass(frozen=True)
class HoldPendulumEnergy(HoldEnergy):
    """Hold the energy of the double pendulum, in J."""

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the bounds of `observe_links`, and the largest excess of energy in the box."""
        p = {name: value.abs().max().item() for name, value in system.parameters.items()}
        fastest = BOX_LIMIT[2]
        largest = p["gravity"] * (p["upper_mass"] + p["lower_mass"]) * (
            p["upper_length"] + p["lower_length"]
        ) + (p["upper_mass"] + p["lower_mass"]) * fastest**2 / 2 * (
            (p["upper_length"] + p["lower_length"]) ** 2
        )
        return np.append(upright_bound(system), (largest + abs(self.target_energy)) / self.width)

    def total_energy(self, state: Components, parameters: Parameters) -> Expression:
        """Returns the energy in J."""
        return energy(state, parameters)

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns the observation of `HoldUpright`, and the excess of energy in widths."""
        return [*observe_links(state), self.excess(state, parameters)]

    def state_of(self, observation: Components, parameters: Parameters) -> Components:
        """Returns angles and velocities; the excess of energy follows from them."""
        return links_of(observation[:-1])


class DoublePendulum:
    """Balance a double pendulum upright by its shoulder, or hold its energy.

    ## Description
    Two rods swing without friction, chaotically. A motor at the shoulder drives them (or at the
    elbow, or both, through `shoulder_torque` and `elbow_torque`). Task `hold` is to balance both
    rods upright, an unstable equilibrium (exponents +- 5.79 and +- 2.40 a second). The start has
    its energy already: the way there leads through the chaos. Task `energy` is to bring the energy
    to `target_energy` and keep it.

    ## Action space
    | Num | Name  | Min | Max | Unit                                        |
    |-----|-------|-----|-----|---------------------------------------------|
    | 0   | motor | -1  | 1   | 10 N m (`shoulder_torque`) on the upper rod |

    ## Observation space
    | Num | Name                     | Min   | Max  | Unit    |
    |-----|--------------------------|-------|------|---------|
    | 0   | cosine of upper angle    | -1    | 1    |         |
    | 1   | cosine of lower angle    | -1    | 1    |         |
    | 2   | sine of upper angle      | -1    | 1    |         |
    | 3   | sine of lower angle      | -1    | 1    |         |
    | 4   | upper angular velocity   | -12.5 | 12.5 | 8 rad/s |
    | 5   | lower angular velocity   | -12.5 | 12.5 | 8 rad/s |

    Both angles are measured from upright. Task `energy` adds, as number 6, the excess of energy
    over the target in units of `width`, within 2670.

    ## Reward
    exp(-d^2 / (2 width^2)) after the step, between 0 and 1, 1 on target. For `hold`, d^2 is the sum
    over both rods of 2 (1 - cos(angle)) + (angular velocity / w)^2, w^2 = gravity / (sum of
    lengths); for `energy`, d is the difference between energy and target in J. A diverged
    environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    Uniform on the energy shell of the upright state with the default parameters, 29.43 J, where 0
    is with both rods level (microcanonical, Liouville's measure).

    ## Episode end
    Truncated after 400 steps of 0.05 s (20 s), each of 10 Runge-Kutta steps (error of a step below
    3e-6 of the standard deviation). Nothing terminates it but divergence: a state outside |angle|
    <= 1000 rad, |angular velocity| <= 100 rad/s. Pushing always along the upper rod's motion gets
    there in most episodes; random pushing does not.

    ## Arguments
    System: `upper_mass`, `lower_mass`, `upper_length`, `lower_length`, `gravity`,
    `shoulder_torque`, `elbow_torque`. Task `hold`: `width` (1), `radius` (0.2). Task `energy`:
    `target_energy` (-10 J), `width` (15 J), `radius` (1 J).

    ## References
    L. D. Landau, E. M. Lifshitz, Mechanics, section 5, problem 1. M. W. Spong, D. J. Block, The
    Pendubot, Proc. CDC (1995) 555.

    ## Version history
    - v0: first version.
    """


def draw(
    values: Float[np.ndarray, " 4"], environment: OdeEnvironment
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws both rods.

    Args:
        values: Both angles in rad, and velocities, which are not drawn.
        environment: Has the lengths of the rods, in its first row of parameters.
    """
    parameters = environment.system.parameters
    lengths = [float(parameters[name][0]) for name in ("upper_length", "lower_length")]
    return draw_links(values[:2], lengths)


register_ode(
    "DoublePendulum-v0",
    double_pendulum,
    {
        "hold": HoldUpright(width=1.0, radius=0.2),
        "energy": HoldPendulumEnergy(target_energy=-10.0, width=15.0, radius=1.0),
    },
    control_interval=0.05,
    substeps=10,
    horizon=400,
    summary="Balance a double pendulum upright by its shoulder, or hold its energy",
    draw=draw,
    documented=DoublePendulum,
)

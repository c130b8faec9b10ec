"""Hopper: a leg that hops in a plane, exactly Gymnasium's `Hopper-v5`, stepped by MuJoCo.

The model is the file `hopper.xml` of the installed package gymnasium: a torso, a thigh, a leg and a
foot, capsules 4 to 6 cm in radius and of 15.8 kg together; joints with damping and soft stops;
three motors of 200 N m. MuJoCo integrates by Runge-Kutta steps of 0.002 s, four to a control.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from jaxtyping import Float64, UInt8

from separatrix.envs.core.number_options import read_number_options
from separatrix.envs.core.registration import register

if TYPE_CHECKING:
    import mujoco

    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment

MODEL = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "hopper.xml"
FRAME_SKIP = 4
HIDDEN = 1
"""The first position, x, is not observed: nothing depends on it."""

# Beyond what the motors reach, so that an unstable simulation alone leaves the box. Under bang-bang
# signals of many frequencies, random switching, noise, pushing along the motion and against it, for
# 8 s each whether it fell or not, from starts with reset_noise_scale up to 0.1, the largest values
# found were z 2.5 m, joints 2.9 rad, 14 m/s, 56 rad/s of the torso and 42 rad/s of the joints;
# until it fell 1.5 m, 0.9 rad, 2.8 m/s, 12 rad/s and 17 rad/s. The torso's angle is not wrapped.
POSITION_LIMITS = (1000.0, 10.0, 1000.0, 5.0, 5.0, 5.0)
VELOCITY_LIMITS = (30.0, 30.0, 150.0, 100.0, 100.0, 100.0)

# Name: default, smallest and largest value. It stands 1.25 m high, and starts beyond 0.1 are in the
# ground.
OPTIONS = {
    "forward_reward_weight": (1.0, -1e6, 1e6),
    "ctrl_cost_weight": (1e-3, 0.0, 1e6),
    "healthy_reward": (1.0, -1e6, 1e6),
    "healthy_height": (0.7, 0.0, 1.25),
    "healthy_angle": (0.2, 0.01, 100.0),
    "reset_noise_scale": (5e-3, 0.0, 0.1),
}
SCALE = 90
"""Pixels a metre."""
PAINT = {
    "torso_geom": "#30475e",
    "thigh_geom": "#6d8299",
    "leg_geom": "#30475e",
    "foot_geom": "#d1603d",
}


class Hopper:
    """Hop forward on one leg without falling, exactly as Gymnasium's Hopper-v5.

    ## Description
    A torso stands on a thigh, a leg and a foot, in a vertical plane. Motors turn the three joints
    between them. The task is to get far along x in 8 s; the episode is over when it falls.

    Physics, observations, rewards and ends of episodes are those of `Hopper-v5` of the installed
    Gymnasium, bit for bit in float64, so that returns can be compared; only the random numbers of
    the start are our own. So observations are in Gymnasium's units, not scaled. MuJoCo steps it on
    the CPU, without derivatives: a state or an action that requires a gradient is refused (detach
    it, or step under `torch.no_grad()`), and so is a controller that plans by gradients.

    ## Action space
    | Num | Name          | Min | Max | Unit    |
    |-----|---------------|-----|-----|---------|
    | 0   | thigh's motor | -1  | 1   | 200 N m |
    | 1   | leg's motor   | -1  | 1   | 200 N m |
    | 2   | foot's motor  | -1  | 1   | 200 N m |

    ## Observation space
    | Num | Name                          | Min   | Max  | Unit  |
    |-----|-------------------------------|-------|------|-------|
    | 0   | height of the torso           | -10   | 10   | m     |
    | 1   | angle of the torso            | -1000 | 1000 | rad   |
    | 2   | angle of the thigh            | -5    | 5    | rad   |
    | 3   | angle of the leg              | -5    | 5    | rad   |
    | 4   | angle of the foot             | -5    | 5    | rad   |
    | 5   | velocity along x              | -10   | 10   | m/s   |
    | 6   | velocity upwards              | -10   | 10   | m/s   |
    | 7   | angular velocity of the torso | -10   | 10   | rad/s |
    | 8   | angular velocity of the thigh | -10   | 10   | rad/s |
    | 9   | angular velocity of the leg   | -10   | 10   | rad/s |
    | 10  | angular velocity of the foot  | -10   | 10   | rad/s |

    The torso stands upright at 1.25 m. Its angle is not wrapped, and is positive when it leans
    forward; the angles of the links are those at their upper joints. Velocities are clipped to
    [-10, 10], as in Gymnasium; the other bounds are those of the safe box. Stops, which are soft,
    are at 0 and -2.6 rad of thigh and leg and at 0.79 rad to either side of the foot.

    ## Reward
    `forward_reward_weight` * dx / dt + `healthy_reward` - `ctrl_cost_weight` * |action|^2, with x
    of the torso before and after the step of dt = 0.008 s; a step that ends the episode goes
    without the healthy reward. It lies between -60.003 and 61 by twice the largest velocity in the
    safe box, since the mean velocity over a step may be above those at its ends; before they fell,
    the hardest driven stayed within 4. A diverged environment gets the lowest. The observation does
    not determine the reward: x is not seen, and velocities are clipped.

    ## Starting state
    Upright and at rest at x = 0, but for deviations of all positions and velocities, independent
    and uniform within `reset_noise_scale` (m, rad, m/s, rad/s).

    ## Episode end
    Terminated when it is unhealthy: the torso no higher than `healthy_height`, leaning by
    `healthy_angle` or more, or an angle or a velocity of 100 (rad, m/s, rad/s) or more. Truncated
    after 1000 steps of 0.008 s (8 s). The safe box, outside of which it diverges, is |x| <= 1000 m,
    |z| <= 10 m, velocities of 30 m/s, 150 rad/s of the torso and 100 rad/s of the joints, and the
    bounds of the observed angles. The hardest driving tried stays inside.

    `known_outcome` refuses, as the reward is not determined. The observation does tell the end of
    an episode, but for velocities above 100: `environment.known_termination(observation)`.

    ## Metrics
    `forward_velocity`: dx / dt in m/s. `energy`: the mean squared action.

    ## Arguments
    Task: `forward_reward_weight` (1), `ctrl_cost_weight` (0.001), `healthy_reward` (1),
    `healthy_height` (0.7 m, the lower end of Gymnasium's `healthy_z_range`, whose upper end is
    infinite), `healthy_angle` (0.2 rad, both ends of its `healthy_angle_range`). Start:
    `reset_noise_scale` (0.005, at most 0.1). They are numbers, the same for all environments of a
    batch.

    ## References
    T. Erez, Y. Tassa, E. Todorov, Infinite-horizon model predictive control for periodic tasks with
    contacts, Proc. RSS VII (2011). M. Towers et al., Gymnasium, arXiv:2407.17032 (2024). E.
    Todorov, T. Erez, Y. Tassa, MuJoCo, Proc. IROS (2012) 5026.

    ## Version history
    - v0: first version.
    """


def build(
    *,
    num_envs: int,
    device: Any,
    dtype: Any,
    backend: str,
    horizon: int,
    options: Mapping[str, Any],
) -> MujocoEnvironment:
    """Makes the environment, see `Registration`."""
    from separatrix.envs.mechanics.hop_forward import HopForward
    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment
    from separatrix.envs.mechanics.uniform_start import uniform_system

    chosen = read_number_options(options, OPTIONS)
    system = uniform_system(
        MODEL,
        (*POSITION_LIMITS, *VELOCITY_LIMITS),
        chosen.pop("reset_noise_scale"),
        FRAME_SKIP,
        num_envs=num_envs,
        device=device,
        dtype=dtype,
        backend=backend,
    )
    task = HopForward(**chosen, control_interval=system.control_interval, hidden=HIDDEN)
    return MujocoEnvironment(system, task, horizon, draw)


def draw(
    coordinates: Float64[np.ndarray, " 12"], model: mujoco.MjModel
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the body from the side, see `draw_capsules`.

    Args:
        coordinates: Positions in m and rad, and velocities, which are not drawn.
        model: The body's model, which is always the same.
    """
    from separatrix.envs.mechanics.side_view import draw_capsules

    return draw_capsules(coordinates, model, PAINT, SCALE)


register(
    "Hopper-v0",
    build,
    horizon=1000,
    summary="Hop forward on one leg without falling",
    options={name: default for name, (default, _, _) in OPTIONS.items()},
    documented=Hopper,
    states=12,
    controls=3,
    backends=("mujoco",),
)

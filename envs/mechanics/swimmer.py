"""Swimmer: three links in a viscous fluid, exactly Gymnasium's `Swimmer-v5`, stepped by MuJoCo.

The model is the file `swimmer.xml` of the installed package gymnasium: capsules 1 m long, 0.1 m
thick in radius and as dense as water, in a plane; a fluid of density 4000 kg / m^3 and viscosity
0.1 Pa s, whose forces MuJoCo computes link by link; two motors of 150 N m; joints that reach 100
degrees to either side. MuJoCo integrates by Runge-Kutta steps of 0.01 s, four to a control.

R. Coulom, Reinforcement Learning Using Neural Networks, with Applications to Motor Control, thesis,
Institut National Polytechnique de Grenoble (2002); Gymnasium's documentation of `Swimmer-v5`.
"""

from __future__ import annotations

import math
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

MODEL = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "swimmer.xml"
FRAME_SKIP = 4
HIDDEN = 2
"""The first positions, x and y, are not observed: nothing depends on where the body is."""

# Far beyond what the motors reach, so that an unstable simulation alone leaves the box. Under
# bang-bang signals of many frequencies, random switching and pushing along the motion, the largest
# values found were 4.1 m/s, 7.6 rad/s and 1.80 rad at the joints, whose stops are soft; the body's
# angle is not wrapped.
POSITION_LIMITS = (100.0, 100.0, 1000.0, 3.0, 3.0)
VELOCITY_LIMITS = (20.0, 20.0, 50.0, 50.0, 50.0)

# Name: default, smallest and largest value. A start beyond 1 could lie outside the joints' range.
OPTIONS = {
    "forward_reward_weight": (1.0, -1e6, 1e6),
    "ctrl_cost_weight": (1e-4, 0.0, 1e6),
    "reset_noise_scale": (0.1, 0.0, 1.0),
}

HEAD, RADIUS = 1.5, 0.1
"""Distance of the head from (x, y), along the first link, and radius of the links, in m."""
SIZE = 320
SCALE = 64
"""Pixels a metre."""
WATER, GRID, LINK_COLOURS = "#e8f1f5", "#c9dbe3", ("#30475e", "#30475e", "#d1603d")


class Swimmer:
    """Swim forward by bending two joints, exactly as Gymnasium's Swimmer-v5.

    ## Description
    Three links float in a plane, in a viscous fluid; motors bend the two joints between them. The
    drag is larger across a link than along it, which is what there is to swim by. The task is to
    get far along x in 40 s.

    Physics, observations and rewards are those of `Swimmer-v5` of the installed Gymnasium, bit for
    bit in float64, so that returns can be compared; only the random numbers of the start are our
    own. So observations are in Gymnasium's units, not scaled. MuJoCo steps it on the CPU, without
    derivatives: a state or an action that requires a gradient is refused (detach it, or step under
    `torch.no_grad()`), and so is a controller that plans by gradients.

    ## Action space
    | Num | Name                 | Min | Max | Unit    |
    |-----|----------------------|-----|-----|---------|
    | 0   | first joint's motor  | -1  | 1   | 150 N m |
    | 1   | second joint's motor | -1  | 1   | 150 N m |

    ## Observation space
    | Num | Name                                 | Min   | Max  | Unit  |
    |-----|--------------------------------------|-------|------|-------|
    | 0   | angle of the first link from x       | -1000 | 1000 | rad   |
    | 1   | angle of the first joint             | -3    | 3    | rad   |
    | 2   | angle of the second joint            | -3    | 3    | rad   |
    | 3   | velocity along x                     | -20   | 20   | m/s   |
    | 4   | velocity along y                     | -20   | 20   | m/s   |
    | 5   | angular velocity of the first link   | -50   | 50   | rad/s |
    | 6   | angular velocity of the first joint  | -50   | 50   | rad/s |
    | 7   | angular velocity of the second joint | -50   | 50   | rad/s |

    The point (x, y) moves with the first link; it is the middle of the swimmer when it is straight.
    Angles are not wrapped. The bounds are those of the safe box; stops, which are soft, are at
    joint angles of 1.75 rad.

    ## Reward
    `forward_reward_weight` * dx / dt - `ctrl_cost_weight` * |action|^2, with x before and after the
    step of dt = 0.04 s. It lies between -20.0002 and 20 by the largest velocity in the safe box;
    the hardest driving tried stays within 4. A diverged environment gets the lowest.

    ## Starting state
    Straight along x and at rest at the origin, but for deviations of all positions and velocities,
    independent and uniform within `reset_noise_scale` (m, rad, m/s, rad/s).

    ## Episode end
    Truncated after 1000 steps of 0.04 s (40 s). Nothing terminates it but divergence: a state
    outside |x|, |y| <= 100 m or the bounds of the observations. The hardest driving tried stays
    well inside.

    ## Metrics
    `forward_velocity`: dx / dt in m/s. `energy`: the mean squared action.

    ## Arguments
    Task: `forward_reward_weight` (1), `ctrl_cost_weight` (1e-4). Start: `reset_noise_scale` (0.1,
    at most 1). They are numbers, the same for all environments of a batch.

    ## References
    R. Coulom, Reinforcement Learning Using Neural Networks, with Applications to Motor Control,
    thesis, INP Grenoble (2002). M. Towers et al., Gymnasium, arXiv:2407.17032 (2024). E. Todorov,
    T. Erez, Y. Tassa, MuJoCo, Proc. IROS (2012) 5026.

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
    from separatrix.envs.mechanics.move_forward import MoveForward
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
    task = MoveForward(**chosen, control_interval=system.control_interval, hidden=HIDDEN)
    return MujocoEnvironment(system, task, horizon, draw)


def draw(
    coordinates: Float64[np.ndarray, " 10"], model: mujoco.MjModel
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the links from above, in the middle of a picture that moves along with them.

    The lines of the ground are 1 m apart; those through the origin are bolder.

    Args:
        coordinates: Positions in m and rad, and velocities, which are not drawn.
        model: The links' model, which is always the same.
    """
    from PIL import Image, ImageDraw

    headings = np.cumsum(coordinates[2:5])
    links = np.stack((np.cos(headings), np.sin(headings)), 1)  # each is 1 m long
    ends = coordinates[:2] + HEAD * links[0] - np.cumsum(np.vstack((np.zeros(2), links)), 0)
    centre = ends.mean(0)

    # Drawn at twice the size and halved to smooth edges.
    image = Image.new("RGB", (2 * SIZE, 2 * SIZE), WATER)
    canvas = ImageDraw.Draw(image)

    def pixel(point: np.ndarray) -> np.ndarray:
        return SIZE + 2 * SCALE * (point - centre) * (1, -1)

    reach = SIZE / (2 * SCALE)
    for axis in (0, 1):
        first, last = math.ceil(centre[axis] - reach), math.floor(centre[axis] + reach)
        for line in range(first, last + 1):
            start, end = centre - 2 * reach, centre + 2 * reach
            start[axis] = end[axis] = line
            width = 4 if line == 0 else 2
            canvas.line([*pixel(start), *pixel(end)], fill=GRID, width=width)
    radius = 2 * SCALE * RADIUS
    for colour, link in zip(LINK_COLOURS, ((2, 3), (1, 2), (0, 1)), strict=True):
        joints = [pixel(ends[i]) for i in link]
        canvas.line(np.concatenate(joints).tolist(), fill=colour, width=round(2 * radius))
        for joint in joints:
            canvas.ellipse([*(joint - radius), *(joint + radius)], fill=colour)
    return np.asarray(image.reduce(2))


register(
    "Swimmer-v0",
    build,
    horizon=1000,
    summary="Swim forward by bending two joints",
    options={name: default for name, (default, _, _) in OPTIONS.items()},
    documented=Swimmer,
    states=10,
    controls=2,
    backends=("mujoco",),
)

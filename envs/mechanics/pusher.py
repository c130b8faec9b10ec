"""Pusher: a tool pushes a block of two halves, of different densities, over a table.

The block, 12 cm x 12 cm x 6 cm, stands on a foot at each corner, so that its weight rests on them
as its centre of mass demands, and dry friction acts at each: pushed through its middle, a block
with a lighter half turns. A round tip, at the height of the middle of the block, moves in a plane
under motors that hold its velocity. MuJoCo takes 20 implicit steps of 0.005 s to a control.

What varies, the reward and the length of an episode are those of the pushing tasks of Y. Huang,
K. Xie, H. Bharadhwaj, F. Shkurti, "Continual Model-Based Reinforcement Learning with
Hypernetworks", ICRA 2021, arXiv:2009.11997, where a robot's arm holds the tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.number_options import read_number_options
from separatrix.envs.core.registration import register

if TYPE_CHECKING:
    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment

FRAME_SKIP = 20
# Of tool x, y; block x, y, z, yaw, pitch, roll. Far beyond what the tool reaches, so that an
# unstable simulation alone leaves the box. Under bang-bang signals of many frequencies, random
# switching, noise, driving along the motion and pushing after the block, in 3000 episodes over the
# whole ranges of densities and friction, the largest values found were, of the block, 0.54 m, 7 rad
# of yaw, 0.1 rad of tilt, 5 mm of lift, 0.35 m/s and 4 rad/s; of the tool 0.29 m/s.
POSITION_LIMITS = (1.0, 1.0, 2.0, 2.0, 0.1, 100.0, 0.5, 0.5)
VELOCITY_LIMITS = (3.0, 3.0, 5.0, 5.0, 5.0, 50.0, 50.0, 50.0)
DEVIATING = (1, 1, 1, 1, 0, 1, 0, 0)
"""Coordinates that are not the same at each start; velocities likewise."""

PARAMETERS = {
    "density_1": (500.0, 50.0, 2000.0),
    "density_2": (500.0, 50.0, 2000.0),
    "friction": (0.4, 0.1, 1.0),
}
"""Default, smallest and largest value."""
NUMBERS = {"control_weight": (0.25, 0.0, 100.0), "reset_noise_scale": (0.01, 0.0, 0.02)}
"""Likewise. A start deviating more could put the tool into the block."""


class Pusher:
    """Push a block of two halves of different densities to a goal pose.

    ## Description
    On a table lies a square block, 12 cm wide, of two halves: the one to its right (y < 0 at the
    start) and the one to its left. A round tool, 3 cm thick, moves under motors that hold its
    velocity and push with 10 N at most. It pushes the block, but cannot pull it, 15 cm to its
    goal, unturned. Where the centre of mass is the observation does not tell: a block with a
    lighter half turns when it is pushed through its middle.

    This is the pushing task of the paper below without its robot's arm: the tool is moved directly.
    MuJoCo steps it on the CPU, without derivatives: a state or an action that requires a gradient
    is refused (detach it, or step under `torch.no_grad()`), and so is a controller that plans by
    gradients.

    ## Action space
    | Num | Name                          | Min | Max | Unit     |
    |-----|-------------------------------|-----|-----|----------|
    | 0   | velocity of the tool, along x | -1  | 1   | 0.25 m/s |
    | 1   | velocity of the tool, along y | -1  | 1   | 0.25 m/s |

    ## Observation space
    | Num | Name                           | Min | Max | Unit     |
    |-----|--------------------------------|-----|-----|----------|
    | 0   | position of the tool, x        | -5  | 5   | 0.2 m    |
    | 1   | position of the tool, y        | -5  | 5   | 0.2 m    |
    | 2   | position of the block, x       | -10 | 10  | 0.2 m    |
    | 3   | position of the block, y       | -10 | 10  | 0.2 m    |
    | 4   | cosine of the block's angle    | -1  | 1   |          |
    | 5   | sine of the block's angle      | -1  | 1   |          |
    | 6   | velocity of the tool, x        | -12 | 12  | 0.25 m/s |
    | 7   | velocity of the tool, y        | -12 | 12  | 0.25 m/s |
    | 8   | velocity of the block, x       | -20 | 20  | 0.25 m/s |
    | 9   | velocity of the block, y       | -20 | 20  | 0.25 m/s |
    | 10  | angular velocity of the block  | -25 | 25  | 2 rad/s  |

    The block's position is that of its middle, from the goal; bounds are those of the safe box.
    Soft walls keep the tool within 0.4 m of the goal along x and y. That the block stands on its
    feet, and tilts by some hundredths of a radian at most, is not observed.

    ## Reward
    With d_i the distance of corner i of the block from where it is at the goal, in metres,

        (sum_i (1 - tanh(10 d_i)) - `control_weight` |action|) / 4

    of the state after the step. The paper's is four times as large; this one is 1 at the goal
    without control, and at least -0.089 with the default weight. A diverged environment gets the
    lowest.

    ## Starting state
    The block 0.15 m from the goal along x and unturned, the tool 0.12 m behind its middle, all at
    rest, but for deviations of positions, angle and velocities in the plane, independent and
    uniform within `reset_noise_scale` (m, rad, m/s, rad/s).

    ## Episode end
    Truncated after 120 steps of 0.1 s (12 s). Nothing terminates it but divergence: a state outside
    the bounds of the observations, or a block that turned by 100 rad, rose by 0.1 m or tilted by
    0.5 rad. The hardest driving tried stays well inside.

    ## Metrics
    `distance`: the mean of d_i, in m. `energy`: the mean squared action.

    ## Arguments
    System: `density_1` and `density_2`, of the block's right and left half in kg/m^3 (500, 50 to
    2000), `friction`, the coefficient of block and table (0.4, 0.1 to 1); each a number, or one for
    each environment of a batch. Task: `control_weight` (0.25). Start: `reset_noise_scale` (0.01, at
    most 0.02).

    ## References
    Y. Huang, K. Xie, H. Bharadhwaj, F. Shkurti, Continual Model-Based Reinforcement Learning with
    Hypernetworks, ICRA 2021, arXiv:2009.11997. E. Todorov, T. Erez, Y. Tassa, MuJoCo, Proc. IROS
    (2012) 5026.

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
    import torch

    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment
    from separatrix.envs.mechanics.mujoco_system import MujocoSystem
    from separatrix.envs.mechanics.push_block import PushBlock
    from separatrix.envs.mechanics.pusher_model import draw, pusher_model
    from separatrix.envs.mechanics.uniform_start import uniform_deviation
    from separatrix.envs.steppers.ode_system import parameter_tensor

    numbers = read_number_options(options, NUMBERS)
    columns = []
    for name, (default, low, high) in PARAMETERS.items():
        values = parameter_tensor(name, options.get(name, default), num_envs)
        outside = values[(values < low) | (values > high)].tolist()
        if outside:
            got = f"{name}: got {outside[0]:g}"
            raise ValueError(f"{got}; allowed: a number from {low:g} to {high:g}, or one for each")
        columns.append(values)
    rows = list(
        zip(*(column.tolist() for column in torch.broadcast_tensors(*columns)), strict=True)
    )
    models = {row: pusher_model(*row) for row in dict.fromkeys(rows)}
    scale = numbers["reset_noise_scale"]
    system = MujocoSystem(
        [models[row] for row in rows],
        (*POSITION_LIMITS, *VELOCITY_LIMITS),
        uniform_deviation([scale * moved for moved in 2 * DEVIATING]),
        frame_skip=FRAME_SKIP,
        num_envs=num_envs,
        device=device,
        dtype=dtype,
        backend=backend,
    )
    return MujocoEnvironment(system, PushBlock(numbers["control_weight"]), horizon, draw)


register(
    "Pusher-v0",
    build,
    horizon=120,
    summary="Push a block of two halves of different densities to a goal pose",
    options={name: default for name, (default, _, _) in {**PARAMETERS, **NUMBERS}.items()},
    documented=Pusher,
    states=16,
    controls=2,
    backends=("mujoco",),
)

"""Door: a hand grips a handle, turns it, and opens a door; which handle, and where it hangs, vary.

The hand is a ball that moves in space and turns about x, under motors that hold its velocities. It
holds on by adhesion to the ball at the end of the handle when the two touch, as a suction cup does:
with 40 N at most, by friction across, and with a torque about the contact. So there are no fingers,
whose contacts are many and fragile.

The door hangs on an upright hinge, 0.4 m beside the axis of the handle, and opens towards the hand.
A bolt on the handle's axis stands behind the frame until the handle, which a spring turns back, is
turned far enough: the latch is a contact, and nothing but the state tells whether it holds. MuJoCo
takes 20 implicit steps of 0.005 s to a control.

The six handles are those of Y. Huang, K. Xie, H. Bharadhwaj, F. Shkurti, "Continual Model-Based
Reinforcement Learning with Hypernetworks", ICRA 2021, arXiv:2009.11997, where a robot's arm opens
the doors.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from separatrix.envs.core.number_options import read_number_options
from separatrix.envs.core.registration import register, suggest

if TYPE_CHECKING:
    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment


class Handle(NamedTuple):
    """What a handle is like.

    Attributes:
        side: Where the hinge is, seen by the hand, which looks along x: 1 for its left, y > 0, so
            that the door opens to negative angles, -1 for its right.
        reach: Distance of the ball from the handle's axis, along y, in m.
        turn: 1 or -1, how it turns about x; 0 for one that neither turns nor latches.
    """

    side: int
    reach: float
    turn: int


HANDLES = {
    "pull_right": Handle(-1, 0.0, 0),
    "pull_left": Handle(1, 0.0, 0),
    "round_left": Handle(1, 0.0, -1),
    "lever_left": Handle(1, 0.08, -1),
    "round_right": Handle(1, 0.0, 1),
    "lever_right": Handle(1, -0.08, 1),
}
FRAME_SKIP = 20
# Of the hand's x, y and z, wrist, door and handle; their velocities; and the grip. Far beyond what
# the motors reach, so that an unstable simulation alone leaves the box. Under bang-bang signals of
# many frequencies, random switching, noise, driving along the motion and going for the handle with
# the grip on, in 3000 episodes over all handles, the largest values found were those of the walls
# and stops, and 0.41 m/s, 2.9 rad/s of the wrist, 1.4 of the door and 11.9 of the handle.
POSITION_LIMITS = (3.0, 3.0, 3.0, 10.0, 3.0, 3.0)
VELOCITY_LIMITS = (5.0, 5.0, 5.0, 50.0, 50.0, 100.0)
GRIP_LIMIT = 1.0
DEVIATING = (1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0)
"""Coordinates that are not the same at each start."""

NUMBERS = {"control_weight": (0.01, 0.0, 100.0), "reset_noise_scale": (0.02, 0.0, 0.1)}
"""Default, smallest and largest value. A start deviating more could put the hand into a handle."""


class Door:
    """Grip a handle, turn it if it must be turned, and open the door.

    ## Description
    A hand moves in space and turns its wrist; it grips a handle like a suction cup when it touches
    its end. The handle is a bar to pull (`pull_right`, `pull_left`, by the side to which the door
    opens), a round knob or a lever (`round_left`, `lever_left`, `round_right`, `lever_right`, by
    how it turns; the levers are pressed down). Knobs and levers latch the door: it opens only while
    they are turned by more than 0.44 rad, against a spring. The hinge is on the hand's left, of
    `pull_right` on its right. Spaces are the same for all handles, and the observation does not
    name them; at the start only the ends of levers are elsewhere, 8 cm to either side.

    These are the doors of the paper below without its robot's arm. MuJoCo steps it on the CPU,
    without derivatives: a state or an action that requires a gradient is refused (detach it, or
    step under `torch.no_grad()`), and so is a controller that plans by gradients.

    ## Action space
    | Num | Name                          | Min | Max | Unit    |
    |-----|-------------------------------|-----|-----|---------|
    | 0   | velocity of the hand, along x | -1  | 1   | 0.3 m/s |
    | 1   | velocity of the hand, along y | -1  | 1   | 0.3 m/s |
    | 2   | velocity of the hand, up      | -1  | 1   | 0.3 m/s |
    | 3   | velocity of the wrist         | -1  | 1   | 2 rad/s |
    | 4   | grip; none below 0            | -1  | 1   | 40 N    |

    Motors hold the velocities, with 40 N and 3 N m at most; the grip follows within 0.1 s or so.
    The closed door lies across x, the hand is on the side of negative x.

    ## Observation space
    | Num | Name                               | Min   | Max  | Unit    |
    |-----|------------------------------------|-------|------|---------|
    | 0   | hand from the end of the handle, x | -20   | 20   | 0.2 m   |
    | 1   | hand from the end of the handle, y | -20   | 20   | 0.2 m   |
    | 2   | hand from the end of the handle, z | -20   | 20   | 0.2 m   |
    | 3   | angle of the wrist                 | -10   | 10   | rad     |
    | 4   | velocity of the hand, x            | -16.7 | 16.7 | 0.3 m/s |
    | 5   | velocity of the hand, y            | -16.7 | 16.7 | 0.3 m/s |
    | 6   | velocity of the hand, z            | -16.7 | 16.7 | 0.3 m/s |
    | 7   | angular velocity of the wrist      | -25   | 25   | 2 rad/s |
    | 8   | angular velocity of the door       | -50   | 50   | rad/s   |
    | 9   | angular velocity of the handle     | -50   | 50   | 2 rad/s |
    | 10  | angle of the door                  | -3    | 3    | rad     |
    | 11  | angle of the handle                | -3    | 3    | rad     |
    | 12  | grip                               | -1    | 1    | 40 N    |

    Bounds are those of the safe box. Soft walls keep the hand within 0.7 m of the handle's axis
    along x and y, 0.3 m along z and on its side of the closed door, and the wrist within 2 rad;
    the door opens by 90 degrees, handles turn by 1.2 rad.

    ## Reward
    With d the gap between hand and handle in m, h and D the angles of handle and door in rad,

        0.2 (1 - tanh(5 d)) + 0.2 min(|h|, 1) + 0.6 min(|D| / (pi / 2), 1)
            - `control_weight` |action|

    of the state after the step. It is at most 1, for handles to pull 0.8 or so, and at least -0.023
    with the default weight. A diverged environment gets the lowest.

    ## Starting state
    The door closed and the hand 0.25 m before the handle's axis, at rest, but for deviations of the
    hand's position, the wrist and all velocities, independent and uniform within
    `reset_noise_scale` (m, rad, m/s, rad/s).

    ## Episode end
    Truncated after 100 steps of 0.1 s (10 s). Nothing terminates it but divergence: a state outside
    |x|, |y|, |z| <= 3 m of the hand or the other bounds of the observations. The hardest driving
    tried stays well inside.

    ## Metrics
    `door`: |D| in rad. `handle`: |h| in rad. `energy`: the mean squared action.

    ## Arguments
    System: `handle` ("pull_right"), a name or one for each environment of a batch. Task:
    `control_weight` (0.01). Start: `reset_noise_scale` (0.02, at most 0.1).

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
    from separatrix.envs.mechanics.door_model import door_model, draw
    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment
    from separatrix.envs.mechanics.mujoco_system import MujocoSystem
    from separatrix.envs.mechanics.open_door import OpenDoor
    from separatrix.envs.mechanics.uniform_start import uniform_deviation

    numbers = read_number_options(options, NUMBERS)
    names = read_handles(options.get("handle", "pull_right"), num_envs)
    models = {name: door_model(HANDLES[name]) for name in dict.fromkeys(names)}
    scale = numbers["reset_noise_scale"]
    system = MujocoSystem(
        [models[name] for name in names],
        (*POSITION_LIMITS, *VELOCITY_LIMITS, GRIP_LIMIT),
        uniform_deviation([scale * moved for moved in DEVIATING]),
        frame_skip=FRAME_SKIP,
        num_envs=num_envs,
        device=device,
        dtype=dtype,
        backend=backend,
    )
    task = OpenDoor([HANDLES[name] for name in names], numbers["control_weight"])
    return MujocoEnvironment(system, task, horizon, draw)


def read_handles(handle: Any, num_envs: int) -> list[str]:
    """Reads the option `handle`: a name, or one for each environment.

    Raises:
        ValueError: It is something else.
    """
    names = [handle] if isinstance(handle, str) else handle
    several = isinstance(names, Sequence | np.ndarray) and len(names) == num_envs
    if not (several or isinstance(handle, str)):
        raise ValueError(
            f"handle: got {reprlib.repr(handle)}; allowed: a name, or one for each of the "
            f"{num_envs} environments"
        )
    for name in names:
        if not isinstance(name, str) or name not in HANDLES:
            raise ValueError(f"unknown handle {reprlib.repr(name)}; {suggest(name, HANDLES)}")
    return list(names)


register(
    "Door-v0",
    build,
    horizon=100,
    summary="Grip a handle, turn it if it must be turned, and open the door",
    options={
        "handle": "pull_right",
        **{name: default for name, (default, _, _) in NUMBERS.items()},
    },
    documented=Door,
    states=13,
    controls=5,
    backends=("mujoco",),
)

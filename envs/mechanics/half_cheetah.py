"""Half-cheetah: a runner in a plane, exactly Gymnasium's `HalfCheetah-v5`, stepped by MuJoCo.

The model is the file `half_cheetah.xml` of the installed package gymnasium: a torso with a head and
two legs of three links, capsules 0.046 m in radius and of 14 kg together; joints with springs,
dampers and soft stops; six motors. MuJoCo integrates by semi-implicit Euler steps of 0.01 s, five
to a control. A part of the body may have another size, as in continual learning: Y. Huang,
K. Xie, H. Bharadhwaj, F. Shkurti, Continual model-based reinforcement learning with hypernetworks,
Proc. ICRA (2021), arXiv:2009.11997, where it is 1.25 times as large.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from separatrix.envs.core.number_options import read_number_options
from separatrix.envs.core.registration import register, suggest

if TYPE_CHECKING:
    import torch

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment

FRAME_SKIP = 5
HIDDEN = 1
"""The first position, x, is not observed: nothing depends on it."""

BODIES = {
    "normal": (),
    "torso": ("torso",),
    "thighs": ("bthigh", "fthigh"),
    "shins": ("bshin", "fshin"),
    "feet": ("bfoot", "ffoot"),
}
"""Geometries of each part; the back leg's and the front leg's."""
SCALES = (0.5, 2.0)

# Far beyond what the motors reach, so that an unstable simulation alone leaves the box. Over all
# bodies at scales of 0.5 to 2, under bang-bang signals of many frequencies, random switching,
# pushing along the motion and against it, from starts with reset_noise_scale 0.1 the largest values
# found were z 1.5 m, joints 1.4 rad, 9 m/s, 22 rad/s of the torso and 42 rad/s of the joints; with
# 0.5, where parts start in the ground and are thrown out, 7 m, 16 m/s and 27 rad/s. Trained runners
# make up to some 20 m/s, 1 km in an episode. The torso's angle is not wrapped.
POSITION_LIMITS = (10_000.0, 50.0, 1000.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0)
VELOCITY_LIMITS = (50.0, 50.0, 100.0, 200.0, 200.0, 200.0, 200.0, 200.0, 200.0)

# Name: default, smallest and largest value. Starts beyond 0.5 are deep in the ground.
OPTIONS = {
    "forward_reward_weight": (1.0, -1e6, 1e6),
    "ctrl_cost_weight": (0.1, 0.0, 1e6),
    "reset_noise_scale": (0.1, 0.0, 0.5),
}


class HalfCheetah:
    """Run forward on two legs, exactly as Gymnasium's HalfCheetah-v5; parts of the body may grow.

    ## Description
    A torso with a back leg and a front leg of three links each stands on the ground, in a vertical
    plane. Motors turn the six joints, against springs and dampers. The task is to get far along x
    in 50 s. It may also roll on its back, from where few controllers get up.

    Of the normal body, physics, observations and rewards are those of `HalfCheetah-v5` of the
    installed Gymnasium, bit for bit in float64, so that returns can be compared; only the random
    numbers of the start are our own. So observations are in Gymnasium's units, not scaled. MuJoCo
    steps it on the CPU, without derivatives: a state or an action that requires a gradient is
    refused (detach it, or step under `torch.no_grad()`), and so is a controller that plans by
    gradients.

    Of other bodies one part, both legs' if it is of the legs, is `body_scale` times as large: the
    capsules in length and radius about their middles, the torso in radius alone, as it ends at the
    hips. The joints stay where they are. Masses and inertias follow the volumes, and as in the file
    of the model all of them are scaled to 14 kg together: a larger torso makes the legs lighter.

    ## Action space
    | Num | Name                | Min | Max | Unit    |
    |-----|---------------------|-----|-----|---------|
    | 0   | back thigh's motor  | -1  | 1   | 120 N m |
    | 1   | back shin's motor   | -1  | 1   | 90 N m  |
    | 2   | back foot's motor   | -1  | 1   | 60 N m  |
    | 3   | front thigh's motor | -1  | 1   | 120 N m |
    | 4   | front shin's motor  | -1  | 1   | 60 N m  |
    | 5   | front foot's motor  | -1  | 1   | 30 N m  |

    ## Observation space
    | Num | Name                                | Min   | Max  | Unit  |
    |-----|-------------------------------------|-------|------|-------|
    | 0   | height of the torso above its start | -50   | 50   | m     |
    | 1   | angle of the torso                  | -1000 | 1000 | rad   |
    | 2   | angle of the back thigh             | -3    | 3    | rad   |
    | 3   | angle of the back shin              | -3    | 3    | rad   |
    | 4   | angle of the back foot              | -3    | 3    | rad   |
    | 5   | angle of the front thigh            | -3    | 3    | rad   |
    | 6   | angle of the front shin             | -3    | 3    | rad   |
    | 7   | angle of the front foot             | -3    | 3    | rad   |
    | 8   | velocity along x                    | -50   | 50   | m/s   |
    | 9   | velocity upwards                    | -50   | 50   | m/s   |
    | 10  | angular velocity of the torso       | -100  | 100  | rad/s |
    | 11  | angular velocity of the back thigh  | -200  | 200  | rad/s |
    | 12  | angular velocity of the back shin   | -200  | 200  | rad/s |
    | 13  | angular velocity of the back foot   | -200  | 200  | rad/s |
    | 14  | angular velocity of the front thigh | -200  | 200  | rad/s |
    | 15  | angular velocity of the front shin  | -200  | 200  | rad/s |
    | 16  | angular velocity of the front foot  | -200  | 200  | rad/s |

    The torso starts 0.7 m above the ground. Its angle is not wrapped, and is positive with the
    head down; the angles of the links are those at their upper joints. The bounds are those of
    the safe box; stops, which are soft, are between 0.4 and 1.2 rad.

    ## Reward
    `forward_reward_weight` * dx / dt - `ctrl_cost_weight` * |action|^2, with x of the torso before
    and after the step of dt = 0.05 s. It lies between -50.6 and 50 by the largest velocity in the
    safe box. A diverged environment gets the lowest. The observation does not determine it: its
    velocity is that at the end of a step, not the mean over it.

    ## Starting state
    Upright and at rest at x = 0, but for deviations: those of the positions are independent and
    uniform within `reset_noise_scale` (m, rad), those of the velocities normal with that standard
    deviation (m/s, rad/s).

    ## Episode end
    Truncated after 1000 steps of 0.05 s (50 s). Nothing terminates it but divergence: a state
    outside |x| <= 10 km or the bounds of the observations. The hardest driving tried stays well
    inside.

    ## Metrics
    `forward_velocity`: dx / dt in m/s. `energy`: the mean squared action.

    ## Arguments
    System: `body` ("normal"), the part of another size: "normal" (none), "torso" (without the
    head), "thighs", "shins" or "feet"; `body_scale` (1.25, from 0.5 to 2), its size over the normal
    one, without effect on the normal body. Each is one for all or one for each environment.
    Task: `forward_reward_weight` (1), `ctrl_cost_weight` (0.1). Start: `reset_noise_scale` (0.1,
    at most 0.5). These are numbers, the same for all environments of a batch.

    ## References
    P. Wawrzynski, A cat-like robot real-time learning to run, Proc. ICANNGA (2009) 380.
    M. Towers et al., Gymnasium, arXiv:2407.17032 (2024). E. Todorov, T. Erez, Y. Tassa, MuJoCo,
    Proc. IROS (2012) 5026. Bodies: Y. Huang, K. Xie, H. Bharadhwaj, F. Shkurti, Continual
    model-based reinforcement learning with hypernetworks, Proc. ICRA (2021), arXiv:2009.11997.

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

    from separatrix.envs.core.stream import INITIAL_STATE
    from separatrix.envs.mechanics.half_cheetah_model import draw, half_cheetah_model
    from separatrix.envs.mechanics.move_forward import MoveForward
    from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment
    from separatrix.envs.mechanics.mujoco_system import MujocoSystem

    chosen = read_number_options(options, OPTIONS)
    noise = chosen.pop("reset_noise_scale")
    bodies = _bodies(options.get("body", "normal"), options.get("body_scale", 1.25), num_envs)

    def deviation(stream: Stream) -> tuple[torch.Tensor, Stream]:
        uniform, stream = stream.uniform(len(POSITION_LIMITS), torch.float64, INITIAL_STATE)
        normal, stream = stream.normal(len(VELOCITY_LIMITS), torch.float64, INITIAL_STATE)
        return noise * torch.cat((2 * uniform - 1, normal), 1), stream

    system = MujocoSystem(
        [half_cheetah_model(body, scale) for body, scale in bodies],
        (*POSITION_LIMITS, *VELOCITY_LIMITS),
        deviation,
        frame_skip=FRAME_SKIP,
        num_envs=num_envs,
        device=device,
        dtype=dtype,
        backend=backend,
    )
    task = MoveForward(**chosen, control_interval=system.control_interval, hidden=HIDDEN)
    return MujocoEnvironment(system, task, horizon, draw)


def _bodies(body: Any, scale: Any, num_envs: int) -> list[tuple[str, float]]:
    """Reads the options `body` and `body_scale`: one pair, or one for each environment."""
    from separatrix.envs.core.inputs import read_numbers

    values = body.tolist() if isinstance(body, np.ndarray) else body
    several = isinstance(values, list | tuple)
    names = list(values) if several else [values]
    if several and len(names) != num_envs:
        raise ValueError(f"body: got {len(names)}; allowed: a name, or {num_envs} of them")
    for name in names:
        if not isinstance(name, str) or name not in BODIES:
            raise ValueError(f"body: got {reprlib.repr(name)}; {suggest(name, BODIES)}")
    scales = read_numbers("body_scale", scale)
    low, high = SCALES
    fits = scales.shape in ((), (num_envs,)) and bool(((low <= scales) & (scales <= high)).all())
    if not fits:
        got = reprlib.repr(scale)
        raise ValueError(
            f"body_scale: got {got}; allowed: a number from {low:g} to {high:g}, or {num_envs} of "
            "them"
        )
    count = num_envs if several or scales.ndim else 1
    names = names if several else names * count
    sizes = scales.double().expand(count).tolist()
    # All normal bodies are one model.
    return [(n, 1.0 if n == "normal" else s) for n, s in zip(names, sizes, strict=True)]


register(
    "HalfCheetah-v0",
    build,
    horizon=1000,
    summary="Run forward on two legs, parts of which may grow",
    options={
        "body": "normal",
        "body_scale": 1.25,
        **{name: default for name, (default, _, _) in OPTIONS.items()},
    },
    documented=HalfCheetah,
    states=18,
    controls=6,
    backends=("mujoco",),
)

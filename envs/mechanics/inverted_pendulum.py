"""Inverted pendulum: a pole on a cart, Gymnasium's `InvertedPendulum-v5`, stepped by MuJoCo.

The model is the file `inverted_pendulum.xml` of the installed package gymnasium: a cart of 10.5 kg
on a rail of 2 m with soft stops, a pole 0.6 m long and of 5 kg on a damped hinge, and a motor of
100 N for each unit of its control, which goes to 3. MuJoCo integrates by Runge-Kutta steps of
0.02 s, two to a control.
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

MODEL = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "inverted_pendulum.xml"
FRAME_SKIP = 2
STRENGTH = 3.0
"""Control of MuJoCo at action 1; times 100 N."""

# Far beyond what the motor reaches, so that an unstable simulation alone leaves the box. Under
# bang-bang signals of many frequencies, random switching, noise, pushing along the motion of cart
# and pole and against it, for 40 s each whether the pole fell or not, the largest values found were
# 1.2 m and 1.8 rad, where soft stops are, 9.2 m/s and 10.8 rad/s.
POSITION_LIMITS = (3.0, 3.0)
VELOCITY_LIMITS = (50.0, 100.0)

# Name: default, smallest and largest value. The pole's stop is at 1.57 rad.
OPTIONS = {"healthy_angle": (0.2, 0.01, 1.5), "reset_noise_scale": (0.01, 0.0, 0.2)}
SCALE = 160
"""Pixels a metre."""
PAINT = {"rail": "#9a9a9a", "cart": "#30475e", "cpole": "#d1603d"}


class InvertedPendulum:
    """Keep a pole from falling off its cart, with the physics of Gymnasium's InvertedPendulum-v5.

    ## Description
    A cart moves along a rail with stops at its ends, 1 m from the middle, and carries a pole on a
    hinge. A motor pushes the cart. The task is to keep the pole within 0.2 rad of upright for 40 s.

    Physics, observations, rewards and ends of episodes are those of `InvertedPendulum-v5` of the
    installed Gymnasium, bit for bit in float64, so that returns can be compared. Two things differ:
    an action is in [-1, 1], not in [-3, 3], and times 3 it is Gymnasium's; and the random numbers
    of the start are our own. Observations are in Gymnasium's units, not scaled. MuJoCo steps it on
    the CPU, without derivatives: a state or an action that requires a gradient is refused (detach
    it, or step under `torch.no_grad()`), and so is a controller that plans by gradients.

    ## Action space
    | Num | Name          | Min | Max | Unit                                  |
    |-----|---------------|-----|-----|---------------------------------------|
    | 0   | force on cart | -1  | 1   | 300 N (3 of Gymnasium's units), along x |

    ## Observation space
    | Num | Name                         | Min  | Max | Unit  |
    |-----|------------------------------|------|-----|-------|
    | 0   | position of the cart         | -3   | 3   | m     |
    | 1   | angle of the pole            | -3   | 3   | rad   |
    | 2   | velocity of the cart         | -50  | 50  | m/s   |
    | 3   | angular velocity of the pole | -100 | 100 | rad/s |

    The angle is 0 upright and grows as the pole leans to growing x. The bounds are those of the
    safe box.

    ## Reward
    1 for every step after which the pole still stands, 0 for the one that ends the episode. An
    episode returns at most 1000. The observation determines it, so that `known_outcome` gives it to
    learned models; its derivatives are zero.

    ## Starting state
    Upright and at rest in the middle, but for deviations of all positions and velocities,
    independent and uniform within `reset_noise_scale` (m, rad, m/s, rad/s).

    ## Episode end
    Terminated when the pole leans by more than `healthy_angle`, 0.2 rad, or diverged: outside the
    bounds of the observations, where the hardest driving tried does not come near. Truncated after
    1000 steps of 0.04 s (40 s).

    ## Metrics
    `angle`: the magnitude of the pole's angle in rad. `energy`: the mean squared action.

    ## Arguments
    Task: `healthy_angle` (0.2, from 0.01 to 1.5; Gymnasium's is fixed). Start: `reset_noise_scale`
    (0.01, at most 0.2). They are numbers, the same for all environments of a batch.

    ## References
    A. Barto, R. Sutton, C. Anderson, IEEE Trans. Systems, Man, Cybernetics 13 (1983) 834. M. Towers
    et al., Gymnasium, arXiv:2407.17032 (2024). E. Todorov, T. Erez, Y. Tassa, MuJoCo, Proc. IROS
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
    from separatrix.envs.mechanics.balance_pole import BalancePole
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
    return MujocoEnvironment(system, BalancePole(**chosen, strength=STRENGTH), horizon, draw)


def draw(
    coordinates: Float64[np.ndarray, " 4"], model: mujoco.MjModel
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws cart and pole from the side, see `draw_capsules`.

    Args:
        coordinates: Positions in m and rad, and velocities, which are not drawn.
        model: The model of cart and pole, which is always the same.
    """
    from separatrix.envs.mechanics.side_view import draw_capsules

    return draw_capsules(coordinates, model, PAINT, SCALE)


register(
    "InvertedPendulum-v0",
    build,
    horizon=1000,
    summary="Keep a pole from falling off its cart",
    options={name: default for name, (default, _, _) in OPTIONS.items()},
    documented=InvertedPendulum,
    states=4,
    controls=1,
    backends=("mujoco",),
)

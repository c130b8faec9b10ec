"""Edge of reach: a walk in the plane, where short rollouts from the starts leave most unseen.

    x' = x + u      y' = y + v      u, v: steps in [-1, 1]

A prime is the next step; the unit of time is one step. After t steps from the starts, the square
|x|, |y| <= 2, the state can be anywhere in |x|, |y| <= 2 + t and nowhere else. The reward is seen
at the next state s = (x', y'),

    exp(-|s - c|^2 / (2 width^2)) + slope sqrt(1 + |s|^2)      c = (5, 5)

The kind of problem is that of A. Sims et al., The edge-of-reach problem in offline model-based
reinforcement learning, NeurIPS (2024), arXiv:2402.12527; all numbers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from separatrix.envs.core.registration import check_count
from separatrix.envs.steppers.component_task import Components, ComponentTask, Parameters
from separatrix.envs.steppers.distance_task import require_positive
from separatrix.envs.steppers.functions import Expression, absolute, exp, maximum, sqrt
from separatrix.envs.steppers.ode import difference_equation
from separatrix.envs.steppers.registration import register_map

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.ode_environment import OdeEnvironment
    from separatrix.envs.steppers.ode_system import OdeSystem

START = 2.0
"""Half the side of the square in which episodes start."""
LIMIT = 40.0
"""Of the safe box; an episode of 30 steps stays within 32."""
CENTRE = (5.0, 5.0)
"""Of the bump in the reward."""
SCALE = 8.0
"""Unit of the observation, a power of two, so that scaling rounds nothing."""


@dataclass(frozen=True)
class SquareStart:
    """Uniform in the square |x|, |y| <= 2."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        """Draws one initial state an environment, (batch, 2) in float64."""
        import torch

        from separatrix.envs.core.stream import INITIAL_STATE

        uniform, stream = stream.uniform(2, torch.float64, INITIAL_STATE)
        return START * (2 * uniform - 1), stream


@difference_equation(states="x y", controls="u v", start=SquareStart(), box=(-LIMIT, LIMIT))
def walk(x: Expression, y: Expression, u: Expression, v: Expression) -> tuple[Expression, ...]:
    """Returns the next x and y."""
    return x + u, y + v


@dataclass(frozen=True)
class FindBump(ComponentTask):
    """Rewards a bump near the starts, and slightly every distance from the middle.

    Metrics: `reach`, the larger of |x| and |y|.

    Attributes:
        slope: Of the reward, outwards.
        width: Of the bump.
    """

    slope: float
    width: float

    def __post_init__(self) -> None:
        require_positive(self, "slope", "width")

    @property
    def reward_range(self) -> tuple[float, float]:  # type: ignore[override]
        """Lowest and highest reward: none, and the bump in a corner of the safe box."""
        return 0.0, 1.0 + self.slope * (1 + 2 * LIMIT**2) ** 0.5

    def parameters(self, system: OdeSystem) -> dict[str, Tensor | float]:
        """Returns the numbers of the reward."""
        return {"slope": self.slope, "width": self.width}

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the bounds of the safe box, scaled."""
        return system.definition.bounds()[1] / SCALE

    def control(self, action: Components, parameters: Parameters) -> Components:
        """Returns the action: it is the step."""
        return action

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns the state, scaled."""
        return [component / SCALE for component in state]

    def state_of(self, observation: Components, parameters: Parameters) -> Components:
        """Returns the state."""
        return [SCALE * component for component in observation]

    def reward(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> Expression:
        """Returns the reward of a step, see above."""
        off = sum((s - c) ** 2 for s, c in zip(next_state, CENTRE, strict=True))
        distance = sqrt(1 + sum(s**2 for s in next_state))
        return exp(-off / (2 * parameters["width"] ** 2)) + parameters["slope"] * distance

    def metrics(
        self,
        state: Components,
        control: Components,
        next_state: Components,
        parameters: Parameters,
    ) -> dict[str, Expression]:
        """Returns how far out the state is."""
        x, y = next_state
        return {"reach": maximum(absolute(x), absolute(y))}


def edge_of_reach(observation: Tensor, rollout: int) -> Tensor:
    """Tells which states rollouts from the starts of episodes reach in their last step alone.

    Args:
        observation: Observations, (..., 2).
        rollout: Steps of a rollout, at least 1.

    Returns:
        Boolean (...), True for 1 + rollout < max(|x|, |y|) <= 2 + rollout.

    Raises:
        ValueError: The length is not a positive integer.
    """
    check_count("rollout", rollout)
    reach: Tensor = (SCALE * observation).abs().amax(-1)
    return (reach > START + rollout - 1) & (reach <= START + rollout)


class EdgeOfReach:
    """Walk to a bump in the reward, or outwards where nothing was ever learned.

    ## Description
    A point walks in the plane, by at most 1 along x and y in each step. Near the starts, at (5, 5),
    the reward has a smooth bump; elsewhere it rises slightly outwards, so that whoever looks only a
    step ahead walks outwards from most places. The best is to walk to the bump and to stay there.

    It is made to show what goes wrong in offline model-based reinforcement learning even with the
    true dynamics. After t steps from the starts the state can be anywhere within |x|, |y| <= 2 + t
    and nowhere else. States that rollouts of k steps reach in their last step alone, 1 + k <
    max(|x|, |y|) <= 2 + k, are at the edge of reach: a critic uses their values as targets, but
    nothing ever trains them. `edge_of_reach(observation, rollout)` of the module tells which they
    are, and `optimal_values` of `edge_of_reach_values` what values are true.

    ## Action space
    | Num | Name         | Min | Max | Unit |
    |-----|--------------|-----|-----|------|
    | 0   | step along x | -1  | 1   | 1    |
    | 1   | step along y | -1  | 1   | 1    |

    ## Observation space
    | Num | Name | Min | Max | Unit |
    |-----|------|-----|-----|------|
    | 0   | x    | -5  | 5   | 8    |
    | 1   | y    | -5  | 5   | 8    |

    The unit brings states within reach of 10 steps to size 1.5 at most, and rounds nothing. The
    bounds are those of the safe box.

    ## Reward
    exp(-|s - c|^2 / (2 `width`^2)) + `slope` sqrt(1 + |s|^2) at s = (x, y) after the step, with
    c = (5, 5): between 0 and 1.57 in the safe box, 1.07 at the top of the bump, and 0.45 at most
    where an episode gets elsewhere. A diverged environment gets 0.

    ## Starting state
    Uniform in the square |x|, |y| <= 2.

    ## Episode end
    Truncated after 30 steps. Nothing terminates it but divergence: |x| or |y| above 40, where an
    episode of 30 steps does not get.

    ## Metrics
    `reach`: the larger of |x| and |y|.

    ## Arguments
    Task `find`: `slope` (0.01), `width` (2), both positive.

    ## References
    A. Sims et al., The edge-of-reach problem in offline model-based reinforcement learning, NeurIPS
    (2024), arXiv:2402.12527: the problem. Its plane and its reward are not copied here.

    ## Version history
    - v0: first version.
    """


def draw(
    values: Float[np.ndarray, " 2"], environment: OdeEnvironment
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the state over the reward, with the square of the starts.

    A state outside the picture, beyond 16, is drawn at its rim.

    Args:
        values: x and y.
        environment: Has the reward.
    """
    import torch
    from PIL import Image, ImageDraw

    size, span, dark, light = 320, 16.0, np.array((58, 82, 110)), np.array((247, 247, 245))
    axis = torch.linspace(-span, span, 160)
    places = torch.cartesian_prod(-axis, axis).flip(1) / SCALE  # y falls down the picture
    reward, _ = environment.known_outcome(places, torch.zeros_like(places), places)
    shade = (reward / reward.max()).view(160, 160, 1).numpy()
    image = Image.fromarray((light + shade * (dark - light)).astype(np.uint8)).resize((size, size))
    canvas = ImageDraw.Draw(image)

    def box(x: float, y: float, radius: float) -> list[float]:
        across, down = size / 2 * (1 + x / span), size / 2 * (1 - y / span)
        return [across - radius, down - radius, across + radius, down + radius]

    canvas.rectangle(box(0.0, 0.0, START * size / (2 * span)), outline="#9a9a9a")
    x, y = values.clip(-span, span).tolist()
    canvas.ellipse(box(x, y, 5.0), fill="#d1603d")
    return np.asarray(image)


register_map(
    "EdgeOfReach-v0",
    walk,
    {"find": FindBump(slope=0.01, width=2.0)},
    horizon=30,
    summary="Walk to a bump in the reward; optimal values are known",
    draw=draw,
    documented=EdgeOfReach,
)

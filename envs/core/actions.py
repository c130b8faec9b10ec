"""Actions: numbers in [-1, 1], or choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from jaxtyping import Float, Int64
from torch import Tensor

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment

Action = Float[Tensor, "batch action"] | Int64[Tensor, "batch *choice"]
"""Actions in [-1, 1]; or choices, (batch,) or one column for each."""


def draw_actions(environment: Environment, rows: int, generator: torch.Generator) -> Action:
    """Draws actions uniformly: from [-1, 1], or among all choices.

    Args:
        environment: Where they go.
        rows: How many.
        generator: Source of randomness; what is drawn is on its device.
    """
    space, device = environment.action_space, generator.device
    if isinstance(space, Box):
        drawn = torch.empty((rows, *space.shape), dtype=environment.dtype, device=device)
        return drawn.uniform_(-1, 1, generator=generator)
    counts = [int(space.n)] if isinstance(space, Discrete) else space.nvec.tolist()
    columns = [torch.randint(n, (rows,), generator=generator, device=device) for n in counts]
    return columns[0] if isinstance(space, Discrete) else torch.stack(columns, 1)


def require_continuous(environment: Environment, who: str) -> Box:
    """Returns the space of actions.

    Args:
        environment: Whose.
        who: Cannot make choices.

    Raises:
        ValueError: Actions are choices.
    """
    space = environment.action_space
    if not isinstance(space, Box):
        name = type(environment).__name__
        raise ValueError(f"{who} needs continuous actions; those of this {name} are choices")
    return space


def action_box(size: int) -> Box:
    """Returns the space of actions, [-1, 1] in float32."""
    return Box(-1.0, 1.0, (size,), np.float32)

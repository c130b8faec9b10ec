"""True optimal values of the edge of reach, against which learned ones are judged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from separatrix.envs.core.registration import check_count
from separatrix.envs.mechanics.edge_of_reach import LIMIT, SCALE
from separatrix.envs.steppers.ode_environment import OdeEnvironment

SETTLED = 1e-12
"""Largest change of a value, relative to the largest value, at which the iteration ends."""


@dataclass(frozen=True)
class OptimalValues:
    """Optimal values of an infinite horizon, on a grid over the safe box.

    On the grid they are those of walks from grid point to grid point: never above the true ones,
    and below them by what rounding a walk to the grid costs.

    Attributes:
        environment: Edge of reach.
        discount: Of a step.
        points: Grid points a unit of length.
        grid: Values by x and y, both from -40 to 40.
    """

    environment: OdeEnvironment
    discount: float
    points: int
    grid: Float64[Tensor, "side side"]

    def value(self, observation: Float[Tensor, "rows 2"]) -> Float[Tensor, " rows"]:
        """Returns the values of states, bilinear between grid points; 0 outside the safe box."""
        place = observation.double() * (SCALE / LIMIT)
        found = torch.nn.functional.grid_sample(
            self.grid[None, None], place.flip(-1)[None, None], align_corners=True
        )
        inside = (place.abs() <= 1).all(-1)
        return torch.where(inside, found[0, 0, 0], 0.0).to(observation.dtype)

    def action_value(
        self, observation: Float[Tensor, "rows 2"], action: Float[Tensor, "rows 2"]
    ) -> Float[Tensor, " rows"]:
        """Returns the values of actions, clipped to [-1, 1], in states of the safe box.

        It is differentiable. A step out of the box is worth nothing.
        """
        following = observation + action.to(observation.dtype).clamp(-1.0, 1.0) / SCALE
        reward, _ = self.environment.known_outcome(observation, action, following)
        inside = (following.abs() <= LIMIT / SCALE).all(-1)
        return torch.where(inside, reward + self.discount * self.value(following), 0.0)

    def best_action(self, observation: Float[Tensor, "rows 2"]) -> Float[Tensor, "rows 2"]:
        """Returns actions of the highest value, among steps as wide as the grid's and half so."""
        side = torch.linspace(-1.0, 1.0, 4 * self.points + 1, dtype=observation.dtype)
        actions = torch.cartesian_prod(side, side).to(observation.device)
        count = len(actions)
        values = self.action_value(
            observation.repeat_interleave(count, 0), actions.repeat(len(observation), 1)
        )
        return actions[values.view(-1, count).argmax(1)]


def optimal_values(
    environment: OdeEnvironment, *, discount: float = 0.99, points: int = 4
) -> OptimalValues:
    """Computes optimal values by value iteration.

    It begins with the value of staying where one is, so that n iterations give the best of n steps
    and a rest for ever, and ends when another step changes nothing.

    Args:
        environment: Edge of reach.
        discount: Of a step, below 1.
        points: Grid points a unit of length, so that a step of 1 goes from point to point.

    Raises:
        ValueError: The discount is not in [0, 1), or the number of points not positive.
    """
    check_count("points", points)
    if not 0 <= discount < 1:
        raise ValueError(f"discount: got {discount!r}; allowed: a number >= 0 and < 1")
    axis = torch.linspace(-LIMIT, LIMIT, int(2 * LIMIT) * points + 1, dtype=torch.float64)
    states = torch.cartesian_prod(axis, axis) / SCALE
    reward, _ = environment.known_outcome(states, torch.zeros_like(states), states)
    reward = reward.view(len(axis), len(axis))
    values, change = reward / (1 - discount), torch.inf
    while change > SETTLED * float(values.max()):
        best = _best_neighbour(_best_neighbour(reward + discount * values, points).T, points).T
        values, change = best, float((best - values).abs().max())
    return OptimalValues(environment, discount, points, values)


def _best_neighbour(
    values: Float64[Tensor, "side side"], reach: int
) -> Float64[Tensor, "side side"]:
    """Returns the largest value among those at most so many places away in a row."""
    return torch.nn.functional.max_pool1d(values, 2 * reach + 1, stride=1, padding=reach)

"""How far a model can be trusted: errors of rollouts on data it has not seen, and its chaos."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.replay import Transitions, windows
from separatrix.agents.sindy_rl.forecast import Dynamics

MOST_WINDOWS = 256
"""Rollouts that are looked at."""

SEPARATION = 1e-3
"""Distance of the two trajectories that tell the Lyapunov exponent, in standard deviations."""


@torch.no_grad()
def rollout_errors(
    dynamics: Dynamics, transitions: Transitions, length: int, unit: Float[Tensor, " observation"]
) -> Float[Tensor, " length"]:
    """Rolls the model out under the recorded actions and compares with what was recorded.

    Args:
        dynamics: The model, which must not have been fitted to these data for an honest answer.
        transitions: (times, environments, ...) in the order of time.
        length: Steps of a rollout, at most; shorter if no episode in the data is as long.
        unit: Units of the observations, such as their standard deviations.

    Returns:
        Root mean square error over rollouts and components after each step; infinite from where
        a rollout is not finite.

    Raises:
        ValueError: There are no transitions.
    """
    starts = windows(transitions.last, length)
    while len(starts) == 0 and length > 1:
        length = (length + 1) // 2
        starts = windows(transitions.last, length)
    if len(starts) == 0:
        raise ValueError("transitions: got none; allowed: 1 or more")
    starts = starts[:: -(-len(starts) // MOST_WINDOWS)]
    times, columns = starts.T
    observation = transitions.observation[times, columns]
    errors = []
    for step in range(length):
        action = transitions.action[times + step, columns]
        observation = dynamics.forecast(observation, action).next_observation
        truth = transitions.next_observation[times + step, columns]
        errors.append(((observation - truth) / unit).square().mean().sqrt())
    return torch.stack(errors).nan_to_num(torch.inf, torch.inf)


def trusted_steps(errors: Float[Tensor, " length"], tolerance: float) -> int:
    """Returns the number of steps before the error exceeds a tolerance, 1 at least.

    Args:
        errors: See `rollout_errors`.
        tolerance: Largest error.
    """
    beyond = (errors > tolerance).nonzero()
    return max(1, int(beyond[0]) if len(beyond) else len(errors))


@torch.no_grad()
def lyapunov_exponent(
    dynamics: Dynamics,
    observation: Float[Tensor, "rows observation"],
    actions: int,
    unit: Float[Tensor, " observation"],
    *,
    steps: int = 500,
) -> float:
    """Estimates the model's largest Lyapunov exponent without control, per step.

    Two trajectories a small distance apart are brought back to it after every step (Benettin et
    al., Meccanica 15 (1980) 9); rows that leave the finite numbers are left out from there on.

    Args:
        dynamics: The model.
        observation: Where the trajectories start.
        actions: Components of an action, which is zero.
        unit: Units of the observations.
        steps: Steps; the first fifth only turns the separation into the direction that grows most.

    Returns:
        Mean growth rate of the separation; minus infinity if no row stays finite.
    """
    action = observation.new_zeros((len(observation), actions))
    direction = torch.linspace(-1.0, 1.0, observation.numel()).to(observation)
    offset = direction.cos().view_as(observation)
    first = observation
    total = observation.new_zeros(len(observation))
    count = torch.zeros_like(total)
    for step in range(steps):
        offset = offset / offset.norm(dim=1, keepdim=True) * SEPARATION
        second = dynamics.forecast(first + offset * unit, action).next_observation
        first = dynamics.forecast(first, action).next_observation
        offset = (second - first) / unit
        growth = (offset.norm(dim=1) / SEPARATION).log()
        counted = growth.isfinite() & (step >= steps // 5)
        total = total + torch.where(counted, growth, 0.0)
        count = count + counted
    alive = count > 0
    return (total[alive] / count[alive]).mean().item() if alive.any() else -torch.inf

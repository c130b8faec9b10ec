"""The weak form of x' = f(x): regression data from noisy trajectories without derivatives.

Against a test function phi that vanishes at both ends of a window, integration by parts gives

    integral phi(t) f(x(t)) dt = - integral phi'(t) x(t) dt

for every linear combination f of features: features and targets are weighted means over the window,
and the noisy states are never differentiated (D. A. Messenger and D. M. Bortz, Multiscale Model.
Simul. 19 (2021) 1474). With phi = (1 - s^2)^p, s from -1 to 1 across the window, the trapezoidal
rule is accurate to high order, as phi and its first p - 1 derivatives vanish at the ends.
"""

from __future__ import annotations

import reprlib

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.registration import check_count, is_positive

POWER = 6
"""p of the test function."""


def weak_form(
    theta: Float[Tensor, "*batch time features"],
    states: Float[Tensor, "*batch time states"],
    *,
    interval: float,
    half_width: int,
) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows states"]]:
    """Turns trajectories into rows of a regression, one for every place of the window.

    Both results are weighted means over a window, with weights that sum to one: coefficients,
    thresholds and units are those of x' = theta c.

    Args:
        theta: Features along each trajectory.
        states: The states whose equations are sought, at the same times.
        interval: Time between samples.
        half_width: Half the window in samples: the wider, the less noise, as long as the motion
            within the window is well resolved by the samples.

    Returns:
        Features and targets, of all windows of all trajectories.

    Raises:
        ValueError: The shapes do not match, or the trajectories are shorter than a window.
    """
    check_count("half_width", half_width)
    if not is_positive(interval):
        raise ValueError(f"interval: got {reprlib.repr(interval)}; allowed: a number > 0")
    if theta.ndim < 2 or theta.shape[:-1] != states.shape[:-1]:
        raise ValueError(
            f"got theta {tuple(theta.shape)} and states {tuple(states.shape)}; allowed: "
            "(..., time, features) and (..., time, states)"
        )
    if theta.shape[-2] <= 2 * half_width:
        raise ValueError(
            f"half_width: got {half_width}; allowed: less than half of {theta.shape[-2]} samples"
        )
    s = torch.linspace(-1.0, 1.0, 2 * half_width + 1, dtype=torch.float64)
    bump = (1 - s**2) ** POWER
    slope = -2 * POWER * s * (1 - s**2) ** (POWER - 1) / (half_width * interval)
    return _mean(theta, bump / bump.sum()), _mean(states, -slope / bump.sum())


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums over every window, of all trajectories in one axis."""
    rows = values.shape[-2] - len(weights) + 1
    result = torch.zeros_like(values.narrow(-2, 0, rows))
    for k, weight in enumerate(weights.tolist()):
        result.add_(values.narrow(-2, k, rows), alpha=weight)
    return result.flatten(0, -2)

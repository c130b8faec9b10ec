"""Localization: observations count less for components of the state that are far away.

G. Gaspari, S. E. Cohn, Q. J. R. Meteorol. Soc. 125 (1999) 723.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def gaspari_cohn(distance: Float[Tensor, "*shape"], half_width: float) -> Float[Tensor, "*shape"]:
    """Returns the compactly supported, nearly Gaussian correlation of eq. 4.10.

    It falls from 1 to 0 at twice the half width c and has the curvature at 0 of a Gaussian of
    standard deviation c / sqrt(10 / 3), which it has fallen to exp(-1 / 2) near.

    Args:
        distance: Distances, not negative.
        half_width: c, in the unit of the distances.

    Raises:
        ValueError: The half width is not above 0.
    """
    if not half_width > 0:
        raise ValueError(f"half_width: got {half_width!r}; allowed: numbers > 0")
    r = distance / half_width
    near = 1 + r**2 * (-5 / 3 + r * (5 / 8 + r * (1 / 2 - r / 4)))
    s = r.clamp(1, 2)  # no division by 0
    far = 4 - 5 * s + s**2 * (5 / 3 + s * (5 / 8 + s * (-1 / 2 + s / 12))) - 2 / (3 * s)
    return torch.where(r <= 1, near, torch.where(r < 2, far, 0)).clamp(0, 1)


def distances(
    points: Float[Tensor, " point"],
    others: Float[Tensor, " other"],
    period: float | None = None,
) -> Float[Tensor, "point other"]:
    """Returns the distances between places on a line.

    Args:
        points: Places.
        others: Other places.
        period: Length of the line if its ends meet.

    Raises:
        ValueError: The period is not above 0.
    """
    apart = (points[:, None] - others).abs()
    if period is None:
        return apart
    if not period > 0:
        raise ValueError(f"period: got {period!r}; allowed: numbers > 0")
    apart = apart % period
    return torch.minimum(apart, period - apart)


def line_weights(
    states: Float[Tensor, " state"],
    observations: Float[Tensor, " observation"],
    half_width: float,
    period: float | None = None,
) -> Float[Tensor, "state observation"]:
    """Returns the weights that `local_ensemble_transform` takes, on a line.

    Args:
        states: Places of the components of the state.
        observations: Places of the observations.
        half_width: Half the distance beyond which an observation does not count.
        period: Length of the line if its ends meet.

    Raises:
        ValueError: The half width or the period is not above 0.
    """
    return gaspari_cohn(distances(states, observations, period), half_width)

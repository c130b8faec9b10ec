"""Projections: what learned dynamics cannot know of where observations lie."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def unit_circle(
    *pairs: tuple[int, int],
) -> Callable[[Float[Tensor, "*rows observation"]], Float[Tensor, "*rows observation"]]:
    """Returns the projection that makes cosine and sine of angles lie on the unit circle.

    Args:
        pairs: Indices of cosine and sine among the components of the observation.
    """

    def project(observation: Float[Tensor, "*rows observation"]) -> Tensor:
        columns = list(observation.unbind(-1))
        for cosine, sine in pairs:
            square = columns[cosine] ** 2 + columns[sine] ** 2
            radius = square.clamp_min(1e-12).sqrt()  # finite gradients at the centre, too
            columns[cosine], columns[sine] = columns[cosine] / radius, columns[sine] / radius
        return torch.stack(columns, -1)

    return project


def wrap_angles(*indices: int) -> Callable[[Tensor], Tensor]:
    """Returns the projection that moves angles in radians into [-pi, pi), with unit gradients.

    Args:
        indices: Indices of the angles among the components of the observation.
    """

    def project(observation: Float[Tensor, "*rows observation"]) -> Tensor:
        columns = list(observation.unbind(-1))
        for index in indices:
            turns = ((columns[index].detach() + math.pi) / math.tau).floor()
            columns[index] = columns[index] - math.tau * turns
        return torch.stack(columns, -1)

    return project

"""A diagonal normal distribution over sequences of actions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Gaussian(NamedTuple):
    """Independent normal actions, with a mean and a deviation for each environment and step.

    Attributes:
        mean: The means, in [-1, 1].
        deviation: The standard deviations.
    """

    mean: Float[Tensor, "batch horizon action"]
    deviation: Float[Tensor, "batch horizon action"]

    @classmethod
    def around(cls, mean: Float[Tensor, "batch horizon action"], deviation: float) -> Gaussian:
        """The distribution with one deviation everywhere."""
        return cls(mean, torch.full_like(mean, deviation))

    def sample(
        self, noise: Float[Tensor, "batch population horizon action"]
    ) -> Float[Tensor, "batch population horizon action"]:
        """Turns standard normal noise into sequences, clipped to the bounds."""
        return torch.addcmul(self.mean[:, None], self.deviation[:, None], noise).clamp(-1.0, 1.0)

    def refit(
        self,
        elites: Float[Tensor, "batch elite horizon action"],
        returns: Float[Tensor, "batch elite"],
        smoothing: float,
        min_deviation: float,
    ) -> Gaussian:
        """Moves towards the mean and the deviation of elites.

        Elites whose return is -inf are left out; where all are, the distribution stays.

        Args:
            elites: The sequences to fit.
            returns: Their returns.
            smoothing: Share of the old mean and deviation in the new ones.
            min_deviation: Smallest deviation.
        """
        finite = returns.isfinite()
        weight = (finite / finite.sum(1, keepdim=True).clamp(min=1)).to(elites.dtype)
        mean = torch.einsum("be,beha->bha", weight, elites)
        variance = torch.einsum("be,beha->bha", weight, (elites - mean[:, None]).square())
        fitted = Gaussian(mean, variance.sqrt().clamp(min=min_deviation))
        known = finite.any(1)[:, None, None]
        return Gaussian(
            *(
                torch.where(known, torch.lerp(new, old, smoothing), old)
                for new, old in zip(fitted, self, strict=True)
            )
        )

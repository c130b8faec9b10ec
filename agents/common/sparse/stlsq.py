"""Sequentially thresholded least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.agents.common.sparse.least_squares import LeastSquares
from separatrix.agents.common.sparse.optimizer import Fit, Optimizer
from separatrix.envs.core.registration import check_count


@dataclass(frozen=True)
class STLSQ(Optimizer):
    """Sequentially thresholded least squares (Brunton, Proctor and Kutz, PNAS 113 (2016) 3932).

    Repeated until the support settles: ridge regression on the support,

        minimize  sum_i w_i (y_i - theta_i c)^2 + alpha |c|^2

    then features with |c| < threshold leave it. Threshold and alpha are those of the columns as
    given, whatever scaling is used inside, and mean what they do in PySINDy 2.

    Attributes:
        threshold: Smallest magnitude of a coefficient.
        alpha: Weight of the squared coefficients; the sum over rows is no mean.
        max_iter: Largest number of regressions.
        unbias: Whether the coefficients of the final support are fitted again without alpha.

    Raises:
        ValueError: A number is negative or not finite, or the count is not >= 1.
    """

    threshold: float = 0.1
    alpha: float = 0.05
    max_iter: int = 20
    unbias: bool = True

    def __post_init__(self) -> None:
        for name in ("threshold", "alpha"):
            if not 0 <= getattr(self, name) < math.inf:
                got = getattr(self, name)
                raise ValueError(f"{name}: got {got!r}; allowed: a finite number >= 0")
        check_count("max_iter", self.max_iter)

    def fit(
        self,
        theta: Float[Tensor, "rows features"],
        targets: Float[Tensor, "rows targets"],
        weights: Float[Tensor, "members rows"] | None = None,
        columns: Bool[Tensor, "members features"] | None = None,
    ) -> Fit:
        """Finds sparse coefficients; see `Optimizer.fit`."""
        problem = LeastSquares(theta, targets, weights, columns)
        support = problem.allowed.clone()
        coefficients = torch.zeros_like(problem.moment)
        moving = torch.arange(len(support), device=support.device)
        for _ in range(self.max_iter):
            found = problem.solve(moving, support[moving], self.alpha)
            kept = support[moving] & (found.abs() >= self.threshold)
            coefficients[moving] = torch.where(kept, found, 0.0)
            changed = (kept != support[moving]).any(1)
            support[moving] = kept
            moving = moving[changed]
            if len(moving) == 0:
                break
        if self.unbias:
            every = torch.arange(len(support), device=support.device)
            coefficients = torch.where(support, problem.solve(every, support, 0.0), 0.0)
        converged = torch.ones(len(support), dtype=torch.bool, device=support.device)
        converged[moving] = False
        return Fit(problem.arrange(coefficients), problem.arrange(converged))

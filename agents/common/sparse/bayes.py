"""Sparse Bayesian regression: coefficients with error bars, and no threshold on their size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.agents.common.sparse.least_squares import LeastSquares, factorize
from separatrix.agents.common.sparse.optimizer import Fit, Optimizer
from separatrix.envs.core.registration import check_count

BROADEST_PRIOR = 1e-12
"""Least ratio of prior to noise precision, for unit columns; keeps every system solvable."""

SMALLEST_RESIDUAL = 1e-14
"""Least ratio of the residual's sum of squares to the target's, which rounding can tell from 0."""


@dataclass(frozen=True)
class Posterior(Fit):
    """A fit with its uncertainty.

    Attributes:
        covariance: Posterior covariance of the coefficients, zero where a feature takes no part.
        noise_variance: Estimated variance of a row of weight 1 about the model.
    """

    covariance: Float[Tensor, "*members targets features features"]
    noise_variance: Float[Tensor, "*members targets"]


@dataclass(frozen=True)
class SparseBayes(Optimizer):
    """The relevance vector machine: automatic relevance determination by maximal evidence.

    Coefficient i has the prior N(0, 1 / a_i), the noise the precision b; both maximize the evidence
    by MacKay's fixed point (M. E. Tipping, J. Mach. Learn. Res. 1 (2001) 211, eqs. 12-18). A
    feature is judged by q_i^2 / s_i, its squared projection on what the others leave unexplained,
    over what noise would give (Tipping and Faul, AISTATS 2003): the evidence wants it out at 1 or
    below. Of a useless feature the ratio is distributed as chi^2 with one degree of freedom, so
    that rule would keep one in three; `relevance` asks for more. In every iteration the least
    relevant feature leaves, if it falls short.

    Attributes:
        relevance: Smallest ratio q_i^2 / s_i; a useless feature passes 9 with probability 0.3 %.
        max_iter: Largest number of iterations.
        tolerance: Relative change of a_i and b at which the iteration ends.

    Raises:
        ValueError: A number is not positive and finite, or relevance is below 1.
    """

    relevance: float = 9.0
    max_iter: int = 500
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if not 1 <= self.relevance < math.inf:
            raise ValueError(f"relevance: got {self.relevance!r}; allowed: a finite number >= 1")
        if not 0 < self.tolerance < math.inf:
            raise ValueError(f"tolerance: got {self.tolerance!r}; allowed: a finite number > 0")
        check_count("max_iter", self.max_iter)

    def fit(
        self,
        theta: Float[Tensor, "rows features"],
        targets: Float[Tensor, "rows targets"],
        weights: Float[Tensor, "members rows"] | None = None,
        columns: Bool[Tensor, "members features"] | None = None,
    ) -> Posterior:
        """Finds posterior means and covariances; see `Optimizer.fit`."""
        problem = LeastSquares(theta, targets, weights, columns)
        support = problem.allowed.clone()
        every = torch.arange(len(support), device=support.device)
        energy = torch.where(problem.energy > 0, problem.energy, 1.0)
        prior = (1 / energy)[:, None].expand_as(support).clone()
        noise = problem.count / energy
        mean, _ = self._posterior(problem, every, support, torch.zeros_like(prior), noise)
        freedom = (problem.count - support.sum(1)).clamp(min=1.0)
        noise = freedom / self._residual(problem, every, mean, energy)
        moving = every
        for _ in range(self.max_iter):
            chosen, a, b = support[moving], prior[moving], noise[moving]
            mean, covariance = self._posterior(problem, moving, chosen, a, b)
            variance = covariance.diagonal(dim1=1, dim2=2)
            determined = (1 - a * variance).clamp(min=torch.finfo(torch.float64).tiny)
            ratio = torch.where(chosen, mean**2 / (variance * determined), torch.inf)
            worst, place = ratio.min(1)
            leaving = worst < self.relevance
            next_a = torch.where(chosen, determined / mean**2, a)
            freedom = problem.count[moving] - torch.where(chosen, determined, 0.0).sum(1)
            next_b = freedom.clamp(min=1.0) / self._residual(problem, moving, mean, energy[moving])
            change = torch.where(chosen, (next_a / a).log().abs(), 0.0).amax(1)
            settled = ~leaving & (torch.maximum(change, (next_b / b).log().abs()) < self.tolerance)
            chosen[leaving, place[leaving]] = False
            support[moving] = chosen
            # A feature that leaves changes what the others stand for: they start afresh.
            start = (1 / energy[moving])[:, None]
            prior[moving] = torch.where(leaving[:, None], start, next_a)
            noise[moving] = next_b
            moving = moving[~settled]
            if len(moving) == 0:
                break
        converged = torch.ones(len(support), dtype=torch.bool, device=support.device)
        converged[moving] = False
        mean, covariance = self._posterior(problem, every, support, prior, noise)
        covariance = covariance / problem.scale[:, :, None] / problem.scale[:, None, :]
        return Posterior(
            coefficients=problem.arrange(mean / problem.scale),
            converged=problem.arrange(converged),
            covariance=problem.arrange(covariance),
            noise_variance=problem.arrange(1 / noise),
        )

    @staticmethod
    def _posterior(
        problem: LeastSquares, problems: Tensor, support: Tensor, prior: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and covariance for unit columns; zero outside the support."""
        ratio = (prior / noise[:, None]).clamp(min=BROADEST_PRIOR)
        gram = problem.gram[problems // problem.num_targets]
        factor, _ = factorize(gram + torch.diag_embed(ratio), support)
        both = support[:, :, None] & support[:, None, :]
        inverse = torch.where(both, torch.cholesky_inverse(factor), 0.0)
        mean = (inverse @ problem.moment[problems][..., None])[..., 0]
        return mean, inverse / noise[:, None, None]

    @staticmethod
    def _residual(problem: LeastSquares, problems: Tensor, mean: Tensor, energy: Tensor) -> Tensor:
        """Sum of squares that the mean leaves, as far as rounding lets it be told from zero."""
        gram = problem.gram[problems // problem.num_targets]
        image = (gram @ mean[..., None])[..., 0]
        explained = (mean * (2 * problem.moment[problems] - image)).sum(1)
        return torch.maximum(energy - explained, SMALLEST_RESIDUAL * energy)

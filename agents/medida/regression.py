"""The terms of an error, by sparse regression with one threshold, relative to what all explain."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.sparse.bayes import SparseBayes
from separatrix.agents.common.sparse.ensemble import fit_ensemble
from separatrix.agents.common.sparse.stlsq import STLSQ
from separatrix.agents.medida.config import MedidaConfig


def sparse_terms(
    theta: Float[Tensor, "row term"], target: Float[Tensor, " row"], config: MedidaConfig, seed: int
) -> tuple[Float[Tensor, " term"], Float[Tensor, " term"]]:
    """Returns coefficients and their standard errors, zero for terms that take no part.

    Columns are scaled to unit root mean square first, so that coefficients are what terms
    contribute; the threshold is in units of what least squares with all terms explains of the
    target, as the target itself may be mostly noise.

    Args:
        theta: Values of the terms.
        target: What they are to add up to.
        config: Kind of regression, and its threshold.
        seed: Of the resampling of ensemble SINDy.
    """
    scale = theta.square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    theta, targets = theta / scale, target[:, None]
    explained = theta @ torch.linalg.lstsq(theta, targets, driver="gelsd").solution
    threshold = config.threshold * float(explained.square().mean().sqrt())
    if config.regression == "bayes":
        found, errors = _bayes(theta, targets, threshold, config)
    else:
        found, errors = _ensemble(theta, targets, threshold, config, seed)
    return found / scale, errors / scale


def _bayes(
    theta: Tensor, targets: Tensor, threshold: float, config: MedidaConfig
) -> tuple[Tensor, Tensor]:
    """The relevance vector machine, again without the terms below the threshold while there are."""
    allowed = torch.ones((1, theta.shape[1]), dtype=torch.bool)
    while True:
        posterior = SparseBayes(relevance=config.relevance).fit(theta, targets, columns=allowed)
        found = posterior.coefficients[0, 0]
        kept = found.abs() > threshold
        if torch.equal(kept, found != 0):
            return found, posterior.covariance[0, 0].diagonal().sqrt()
        allowed = kept[None]


def _ensemble(
    theta: Tensor, targets: Tensor, threshold: float, config: MedidaConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """Ensemble SINDy: medians of the terms that most members have, and deviations."""
    optimizer = STLSQ(threshold=threshold, alpha=0.0)
    fit = fit_ensemble(optimizer, theta, targets, members=config.resamples, drop=0, seed=seed)
    members = fit.coefficients[:, 0]
    kept = (members != 0).double().mean(0) >= config.inclusion
    return torch.where(kept, members.median(0).values, 0.0), members.std(0) * kept

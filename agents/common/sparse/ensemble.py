"""Ensembles of sparse fits over resampled rows and libraries."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.sparse.optimizer import Fit, Optimizer
from separatrix.envs.core.registration import check_count


def fit_ensemble(
    optimizer: Optimizer,
    theta: Float[Tensor, "rows features"],
    targets: Float[Tensor, "rows targets"],
    *,
    members: int = 20,
    drop: int = 1,
    seed: int = 0,
) -> Fit:
    """Fits an ensemble: every member on rows drawn with replacement and on part of the library.

    Ensemble-SINDy (Fasel, Kutz, Brunton and Brunton, Proc. R. Soc. A 478 (2022) 20210904). A row
    drawn k times is a row of weight k, so that all members are solved in one batch. What is drawn
    depends on the seed alone, not on the device.

    Args:
        optimizer: Fits the members.
        theta: Values of the features.
        targets: What they are to add up to.
        members: Number of members.
        drop: Number of features that each member goes without, drawn at random; 0 for none.
        seed: Seed of all draws.

    Returns:
        The fit of every member, with a leading axis of members.

    Raises:
        ValueError: A count is not allowed, or the data are not.
    """
    check_count("members", members)
    rows, features = len(theta), theta.shape[-1]
    if isinstance(drop, bool) or not isinstance(drop, int) or not 0 <= drop < features:
        raise ValueError(
            f"drop: got {drop!r}; allowed: 0 to {features - 1}, of {features} features"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(rows, (members, rows), generator=generator)
    weights = torch.zeros((members, rows), dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(weights))
    order = torch.rand((members, features), generator=generator).argsort(1)
    columns = order >= drop
    return optimizer.fit(theta, targets, weights.to(theta.device), columns.to(theta.device))

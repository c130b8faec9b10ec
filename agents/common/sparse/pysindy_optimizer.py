"""PySINDy's optimizers behind the interface of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.agents.common.sparse.optimizer import Fit, Optimizer, check_data


@dataclass(frozen=True)
class PySINDyOptimizer(Optimizer):
    """Fits by an optimizer of PySINDy 2.1, such as `pysindy.STLSQ` or `pysindy.SR3`.

    Members are fitted one after the other, each by a fresh copy, so that nothing of an earlier fit
    remains. Ensembles are made by `fit_ensemble`, which takes a seed.

    Attributes:
        optimizer: The optimizer, which itself is left as it is.

    Raises:
        ValueError: It is no optimizer of PySINDy, or its EnsembleOptimizer, which draws from
            NumPy's global generator.
    """

    optimizer: Any

    def __post_init__(self) -> None:
        from pysindy.optimizers import BaseOptimizer, EnsembleOptimizer

        if isinstance(self.optimizer, EnsembleOptimizer):
            raise ValueError(
                "optimizer: got PySINDy's EnsembleOptimizer, which cannot be seeded; allowed: its "
                "inner optimizer, with fit_ensemble"
            )
        if not isinstance(self.optimizer, BaseOptimizer):
            got = type(self.optimizer).__name__
            raise ValueError(f"optimizer: got {got}; allowed: an optimizer of PySINDy")

    def fit(
        self,
        theta: Float[Tensor, "rows features"],
        targets: Float[Tensor, "rows targets"],
        weights: Float[Tensor, "members rows"] | None = None,
        columns: Bool[Tensor, "members features"] | None = None,
    ) -> Fit:
        """Finds sparse coefficients; see `Optimizer.fit`.

        `converged` is always True: PySINDy warns where it is not.
        """
        from sklearn.base import clone

        check_data(theta, targets, weights, columns)
        features, answers = theta.double().cpu(), targets.double().cpu().numpy()
        members = next((len(given) for given in (weights, columns) if given is not None), 1)
        found = torch.zeros((members, targets.shape[1], theta.shape[1]), dtype=torch.float64)
        for member in range(members):
            allowed = torch.ones(theta.shape[1], dtype=torch.bool)
            if columns is not None:
                allowed = columns[member].cpu()
            weight = None if weights is None else weights[member].double().cpu().numpy()
            fresh = clone(self.optimizer)
            fresh.fit(features[:, allowed].numpy(), answers, sample_weight=weight)
            found[member][:, allowed] = torch.as_tensor(fresh.coef_, dtype=torch.float64)
        found = found.to(theta.device)
        if weights is None and columns is None:
            found = found[0]
        return Fit(found, torch.ones(found.shape[:-1], dtype=torch.bool, device=theta.device))

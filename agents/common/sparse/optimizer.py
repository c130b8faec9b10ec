"""What every optimizer of sparse regression is: data in, sparse coefficients out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Fit:
    """What an optimizer found; without weights and columns there is no axis of members.

    Attributes:
        coefficients: One row a target, zero where a feature does not take part.
        converged: Whether the support had settled within the allowed iterations.
    """

    coefficients: Float[Tensor, "*members targets features"]
    converged: Bool[Tensor, "*members targets"]


class Optimizer(ABC):
    """Finds the coefficients of a sparse model."""

    @abstractmethod
    def fit(
        self,
        theta: Float[Tensor, "rows features"],
        targets: Float[Tensor, "rows targets"],
        weights: Float[Tensor, "members rows"] | None = None,
        columns: Bool[Tensor, "members features"] | None = None,
    ) -> Fit:
        """Finds sparse coefficients, for every member if there are weights or columns.

        Args:
            theta: Values of the features.
            targets: What they are to add up to.
            weights: Weights of the rows for every member, at least 0.
            columns: The features every member may use.

        Returns:
            Coefficients in float64. A support without a feature is a result, not an error.

        Raises:
            ValueError: A shape, a weight or a number is not allowed; the message names the rows.
        """


def check_data(
    theta: Tensor, targets: Tensor, weights: Tensor | None, columns: Tensor | None
) -> None:
    """Checks the data of a fit.

    Raises:
        ValueError: A shape, a weight or a number is not allowed; the message names the rows.
    """
    rows = len(theta) if theta.ndim else 0
    for name, values in (("theta", theta), ("targets", targets)):
        if values.ndim != 2 or len(values) != rows or values.numel() == 0:
            got = f"theta {tuple(theta.shape)} and targets {tuple(targets.shape)}"
            raise ValueError(f"got {got}; allowed: (rows, features) and (rows, targets), not empty")
        wrong = (~values.isfinite().all(1)).nonzero().flatten()
        if len(wrong):
            some = ", ".join(str(int(row)) for row in wrong[:5])
            raise ValueError(
                f"{name}: {len(wrong)} of {rows} rows hold NaN or infinity (first: {some}); "
                "allowed: finite numbers, leave such rows out"
            )
    if weights is not None:
        if weights.ndim != 2 or weights.shape[1] != rows or len(weights) == 0:
            raise ValueError(
                f"weights: got shape {tuple(weights.shape)}; allowed: (members, {rows})"
            )
        if not (weights.isfinite().all() and (weights >= 0).all() and (weights.sum(1) > 0).all()):
            raise ValueError(
                "weights: got a negative or infinite one, NaN, or a member with none above 0; "
                "allowed: finite numbers >= 0, some > 0 for every member"
            )
    if columns is not None:
        members = columns.shape[:1].numel() if weights is None else len(weights)
        expected = (max(members, 1), theta.shape[1])
        if columns.dtype != torch.bool or columns.shape != expected:
            raise ValueError(
                f"columns: got {columns.dtype} of shape {tuple(columns.shape)}; allowed: "
                f"torch.bool of shape (members, {theta.shape[1]}) for as many members as weights"
            )

"""Regression of clipped actions: which features, how many, and how well the data tell them apart.

A policy's action is clip(theta c, -1, 1), so a label at a bound only says that theta c lies at or
beyond it. With s the sign of such a label y, the loss of a row is

    (theta c - y)^2                    inside the bounds
    max(0, s (y - theta c))^2          at a bound

which is convex and piecewise quadratic, the squared hinge loss of S. S. Keerthi and D. DeCoste,
J. Mach. Learn. Res. 6 (2005) 341: Newton's method finds its minimum in a few ridge regressions, on
the rows inside and those at a bound that fall short of it. The first is the plain regression.

Sparsity is a path from all features to one by backward elimination: out goes the feature without
which the loss rises least, c_j^2 / (H^-1)_jj for half its matrix H of second derivatives (the
optimal brain surgeon of B. Hassibi and D. G. Stork, NIPS 1992), and the others are fitted again.
Unlike a threshold on c_j it is not misled by correlated features, which share large coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

SMALLEST_REMAINDER = 1e-4
"""Of a feature's norm, what the features before it must leave unexplained for it to take part."""

NEWTON_STEPS = 30
"""Steps of Newton's method for a set of features, at most; two or three are common."""

SHORTEST_STEP = 1e-4
"""Share of a step of Newton's method below which the loss counts as lowest."""


@dataclass(frozen=True)
class Columns:
    """The features that data tell apart, scaled to unit mean square.

    Attributes:
        kept: Numbers of the features.
        scale: Their root mean squares.
        values: The scaled features.
        singular_values: Of the scaled features over the square root of the rows, descending.
    """

    kept: Int64[Tensor, " kept"]
    scale: Float[Tensor, " kept"]
    values: Float[Tensor, "rows kept"]
    singular_values: Float[Tensor, " kept"]

    @classmethod
    def of(cls, theta: Float[Tensor, "rows features"]) -> Columns:
        """Leaves out every feature that is, on the data, a linear combination of earlier ones.

        Such as cos^2 after the constant and sin^2: its coefficient would be arbitrary.

        Args:
            theta: Values of the features, in order of preference, in float64.

        Raises:
            ValueError: There are fewer rows than features, or all features vanish.
        """
        rows, features = theta.shape
        if rows < features:
            raise ValueError(
                f"got {rows} samples for {features} features; allowed: as many samples or more, "
                "raise samples or episodes, or lower the degree"
            )
        triangle = torch.linalg.qr(theta, mode="r").R
        basis = triangle.new_zeros((features, 0))
        kept = []
        for j, column in enumerate(triangle.T):
            rest = column - basis @ (basis.T @ column)
            rest = rest - basis @ (basis.T @ rest)  # once more, against rounding
            if rest.norm() > SMALLEST_REMAINDER * column.norm():
                kept.append(j)
                basis = torch.cat([basis, (rest / rest.norm())[:, None]], 1)
        if not kept:
            raise ValueError("all features of the library are zero on the samples; use another")
        places = torch.tensor(kept, device=theta.device)
        scale = theta[:, places].square().mean(0).sqrt()
        singular_values = torch.linalg.svdvals(triangle[:, places] / scale / rows**0.5)
        return cls(places, scale, theta[:, places] / scale, singular_values)

    @property
    def condition(self) -> float:
        """Ratio of the largest to the smallest singular value."""
        return (self.singular_values[0] / self.singular_values[-1]).item()

    def spread(
        self, coefficients: Float[Tensor, "*some kept"], features: int
    ) -> Float[Tensor, "*some features"]:
        """Turns coefficients of the scaled features into those of all features as they are."""
        result = coefficients.new_zeros((*coefficients.shape[:-1], features))
        result[..., self.kept] = coefficients / self.scale
        return result


def elimination_path(
    values: Float[Tensor, "rows features"],
    labels: Float[Tensor, "rows action"],
    *,
    ridge: float,
    saturation: float,
    weights: Float[Tensor, " rows"] | None = None,
) -> Float[Tensor, "steps action features"]:
    """Fits every number of terms, from all features in all actions down to one in all.

    Args:
        values: Features, scaled to unit mean square, in float64.
        labels: Actions, in [-1, 1].
        ridge: Weight of the squared coefficients, for each row.
        saturation: Magnitude from which a label counts as at its bound.
        weights: Weights of the rows; None for ones.
    """
    weights = values.new_ones(len(values)) if weights is None else weights
    weights = weights / weights.sum()
    paths, rises = zip(
        *(_path(values, label, weights, ridge, saturation) for label in labels.T), strict=True
    )
    # The actions share nothing but the budget of terms: merge their paths by what a step costs.
    size, left = values.shape[1], [values.shape[1]] * len(paths)
    steps = []
    while sum(left):
        steps.append(torch.stack([path[size - n] for path, n in zip(paths, left, strict=True)]))
        costs = [rise[size - n] if n else torch.inf for rise, n in zip(rises, left, strict=True)]
        left[costs.index(min(costs))] -= 1
    return torch.stack(steps)


def _path(
    values: Tensor, label: Tensor, weights: Tensor, ridge: float, saturation: float
) -> tuple[Tensor, list[float]]:
    """Path of one action from all features to none, and what each step adds to the loss.

    Returns:
        Coefficients (features + 1, features), and as many steps as features.
    """
    features = values.shape[1]
    loss = _Loss(values, label, weights, ridge, saturation)
    path, rises = values.new_zeros((features + 1, features)), []
    support = torch.arange(features, device=values.device)
    start = values.new_zeros(features)  # from where the first step leads to the plain regression
    for step in range(features):
        found, hessian = loss.minimize(support, start)
        path[step, support] = found
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
        rise = found**2 / inverse.diagonal()
        least = rise.argmin()
        rises.append(rise[least].item())
        left = torch.arange(len(support), device=support.device) != least
        start = (found - inverse[least] * found[least] / inverse[least, least])[left]
        support = support[left]
    return path, rises


class _Loss:
    """The loss of one action, with the ridge.

    Args:
        values: Features.
        label: Labels.
        weights: Weights of the rows.
        ridge: Weight of the squared coefficients.
        saturation: Magnitude from which a label counts as at its bound.
    """

    def __init__(
        self, values: Tensor, label: Tensor, weights: Tensor, ridge: float, saturation: float
    ) -> None:
        bound = label.abs() >= saturation
        weighted = values[~bound] * weights[~bound, None]
        unit = torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
        self._gram = weighted.T @ values[~bound] + ridge * unit
        self._moment = weighted.T @ label[~bound]
        self._weights, self._sign = weights[bound], label[bound].sign()
        # A row at a bound counts while its shortfall, s (y - theta c), is positive.
        self._values, self._bound = values[bound], label[bound].abs()

    def minimize(self, support: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the coefficients of some features, and half the matrix of second derivatives."""
        gram, moment = self._gram[support][:, support], self._moment[support]
        signed = self._values[:, support] * self._sign[:, None]
        found, shortfall = start, self._bound - signed @ start
        value = self._value(gram, moment, found, shortfall)
        for _ in range(NEWTON_STEPS):
            active = shortfall > 0
            rows = signed[active]
            weighted = rows * self._weights[active, None]
            hessian = gram + weighted.T @ rows
            descent = moment - gram @ found + weighted.T @ shortfall[active]
            step = torch.cholesky_solve(descent[:, None], torch.linalg.cholesky(hessian))[:, 0]
            change, before, length = signed @ step, value, 1.0
            while length > SHORTEST_STEP:
                tried, left = found + length * step, shortfall - length * change
                value = self._value(gram, moment, tried, left)
                if value < before:
                    break
                length /= 2
            else:
                break  # rounding: it cannot be lowered any more
            found, shortfall = tried, left
            if length == 1.0 and torch.equal(shortfall > 0, active):
                break  # the minimum of the quadratic, which is that of the loss
        return found, hessian

    def _value(
        self, gram: Tensor, moment: Tensor, coefficients: Tensor, shortfall: Tensor
    ) -> float:
        """The loss but for a constant."""
        inside = coefficients @ (gram @ coefficients - 2 * moment)
        return (inside + self._weights @ shortfall.clamp_min(0.0).square()).item()

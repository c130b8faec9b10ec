"""Which parameters do the records determine, and which only together with others?

Everything is in standard deviations of the priors, so that a parameter that the records say nothing
of keeps a standard deviation of 1. A parameter is called identifiable if its posterior standard
deviation is below half the prior's, and if its error does not go with that of another one, which is
called so if their posterior correlation exceeds 0.95 in magnitude. Eigenvectors of the posterior
covariance with large eigenvalues are the combinations that the records leave open (sloppy
directions: R. N. Gutenkunst et al., PLoS Comput. Biol. 3 (2007) e189).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

LARGEST_RATIO = 0.5
"""Of the posterior to the prior standard deviation of what is identifiable."""
LARGEST_CORRELATION = 0.95
"""In magnitude, of the errors of what is identifiable with others."""


@dataclass(frozen=True)
class Identifiability:
    """What records tell of parameters.

    Attributes:
        names: Of the parameters.
        covariance: Posterior covariance in standard deviations of the priors.
    """

    names: tuple[str, ...]
    covariance: Float64[Tensor, "record unknown unknown"]

    def __post_init__(self) -> None:
        if self.covariance.shape[1:] != (len(self.names), len(self.names)):
            got, n = tuple(self.covariance.shape), len(self.names)
            raise ValueError(f"covariance: got shape {got}; allowed: (record, {n}, {n})")

    @cached_property
    def ratio(self) -> Float64[Tensor, "record unknown"]:
        """Posterior over prior standard deviation."""
        return self.covariance.diagonal(dim1=1, dim2=2).sqrt()

    @cached_property
    def correlation(self) -> Float64[Tensor, "record unknown unknown"]:
        """Posterior correlations."""
        return self.covariance / (self.ratio[:, :, None] * self.ratio[:, None, :])

    @cached_property
    def directions(
        self,
    ) -> tuple[Float64[Tensor, "record unknown"], Float64[Tensor, "record unknown unknown"]]:
        """Standard deviations along the axes of the posterior, and the axes, the sloppiest first.

        Axis i of a record is `axes[record, :, i]`.
        """
        found = torch.nan_to_num(self.covariance)
        values, vectors = torch.linalg.eigh(found)
        unknown = self.covariance.isnan().any(2).any(1)[:, None]
        deviations = torch.where(unknown, torch.nan, values.clamp(min=0).sqrt())
        return deviations.flip(1), vectors.flip(2)

    @cached_property
    def strongest(self) -> Float64[Tensor, "record unknown"]:
        """Largest magnitude of a parameter's correlations with others."""
        others = self.correlation.abs() * (1 - torch.eye(len(self.names), dtype=torch.float64))
        return others.amax(2)

    @cached_property
    def identifiable(self) -> Bool[Tensor, "record unknown"]:
        """Whether the records determine a parameter, by the rule of this module."""
        return (self.ratio < LARGEST_RATIO) & (self.strongest <= LARGEST_CORRELATION)

    def table(self, record: int = 0) -> str:
        """Returns the verdicts of a record and its sloppiest direction as text."""
        width = max(9, *(len(name) for name in self.names))
        title = f"{'parameter':{width}s}  posterior / prior  strongest correlation  identifiable"
        lines = [title]
        signless = self.correlation[record].abs().fill_diagonal_(-1)
        partner = signless.argmax(1).tolist()
        for i, name in enumerate(self.names):
            single = len(self.names) == 1
            value = 0.0 if single else float(self.correlation[record, i, partner[i]])
            other = "" if single else self.names[partner[i]]
            verdict = "yes" if self.identifiable[record, i] else "no"
            ratio = float(self.ratio[record, i])
            lines.append(f"{name:{width}s}  {ratio:17.3f}  {value:+6.2f} {other:14s}  {verdict}")
        deviations, axes = self.directions
        axis = axes[record, :, 0]
        order = axis.abs().argsort(descending=True).tolist()
        terms = [f"{float(axis[i]):+.2f} {self.names[i]}" for i in order if abs(axis[i]) >= 0.1]
        lines.append(f"sloppiest direction, {float(deviations[record, 0]):.3f} of the prior:")
        return "\n".join([*lines, "  " + " ".join(terms)])

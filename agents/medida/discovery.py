"""Discovery of a model's error: what its steps leave of the observations, as terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.medida.config import MedidaConfig
from separatrix.agents.medida.observations import Pairs
from separatrix.agents.medida.regression import sparse_terms
from separatrix.agents.medida.states import States, cut
from separatrix.agents.medida.terms import (
    LIBRARY,
    Model,
    Term,
    added,
    carried,
    equation,
    library,
    term_name,
)
from separatrix.envs.steppers.spectral_grid import Grid


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Attributes:
        model: The imperfect model.
        error: The terms that it lacks, to be added to its right-hand side, with coefficients.
        standard_errors: Of the coefficients: posterior deviations of the relevance vector machine,
            deviations over the resamples of ensemble SINDy.
        waves: Number of waves in the box up to which the regression went.
    """

    model: Model
    error: Model
    standard_errors: Model
    waves: int

    @property
    def corrected(self) -> dict[Term, float]:
        """The model with the terms added."""
        return added(self.model, self.error)

    @property
    def equation(self) -> str:
        """The corrected model as text."""
        return equation(self.corrected)

    def __str__(self) -> str:
        """Returns the terms that were found, with their errors, and the corrected model."""
        found = [
            f"{coefficient:+.4f} +- {self.standard_errors[term]:.4f}  {term_name(term)}"
            for term, coefficient in self.error.items()
        ]
        return "\n".join([*found, self.equation])


def residual(
    states: States, model: Model
) -> tuple[Float[Tensor, "row term"], Float[Tensor, " row"]]:
    """Returns the terms and the one-step error of a model, (observed - predicted) / interval.

    Terms are those of the field halfway through the interval, the mean of both ends, carried to its
    end by the linear part of the model. So both agree up to the square of the interval if the model
    is linear, and up to the interval otherwise; and the noise of the terms, half of either end, is
    independent of that of the error, their difference. Both are cut to the waves that the
    observations resolve, and given at as few points as hold these.

    Args:
        states: Both ends of the intervals.
        model: The model whose error is sought.
    """
    pairs = states.pairs
    forecast, second = states.forecast(model)
    grid, few = states.grid, Grid(2 * (states.waves + 1), 1)
    middle = cut(
        grid.transform(library((states.first + second) / 2, pairs.length)), states.waves, few
    )
    theta = few.synthesize(carried(middle, model, pairs.length, pairs.interval))
    error = cut(grid.transform((second - forecast) / pairs.interval), states.waves, few)
    return theta.mT.flatten(0, 1), few.synthesize(error).flatten()


def discover(pairs: Pairs, model: Model, config: MedidaConfig, seed: int = 0) -> Discovery:
    """Finds the terms that a model lacks or has too much of, with coefficients.

    Args:
        pairs: Observations of the true flow.
        model: The imperfect model.
        config: Filter and regression.
        seed: Of the ensembles and of the resampling.

    Raises:
        ValueError: No wave stands out of the noise.
    """
    states = States(pairs, config, torch.Generator().manual_seed(seed))
    return discover_from(states, model, config, seed)


def discover_from(states: States, model: Model, config: MedidaConfig, seed: int) -> Discovery:
    """As `discover`, from states that several models may share.

    In later rounds the error is that of the corrected model, and the regression is for both
    together, so that what does not change from round to round is right to any order of the
    interval, and unbiased by the filter's belief in the forecast.
    """
    found = errors = torch.zeros(len(LIBRARY), dtype=torch.float64)
    for _ in range(config.rounds):
        theta, target = residual(states, added(model, _terms(found)))
        if not (theta.isfinite().all() and target.isfinite().all()):
            break  # the model with what was found in noise blows up within one step
        found, errors = sparse_terms(theta, target + theta @ found, config, seed)
    error = _terms(found)
    values = dict(zip(LIBRARY, errors.tolist(), strict=True))
    return Discovery(model, error, {term: values[term] for term in error}, states.waves)


def _terms(coefficients: Tensor) -> dict[Term, float]:
    named = zip(LIBRARY, coefficients.tolist(), strict=True)
    return {term: coefficient for term, coefficient in named if coefficient}

"""Parameters of a system from records without derivatives: ensemble Kalman inversion.

Members drawn from the prior are moved by an ensemble Kalman analysis of all readings at once, in
several steps whose error variance is inflated by alpha, sum(1 / alpha) = 1. For a linear model and
a large ensemble that is the posterior (A. A. Emerick, A. C. Reynolds, Comput. Geosci. 55 (2013) 3);
otherwise, it is an approximation without guarantee. M. A. Iglesias, K. J. H. Law, A. M. Stuart,
Inverse Probl. 29 (2013) 045001.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from separatrix.envs.core.registration import check_count
from separatrix.envs.core.system import System
from separatrix.envs.twin.assimilate.calibration import Calibration, summarise
from separatrix.envs.twin.assimilate.ensemble_kalman import perturbed_observations
from separatrix.envs.twin.assimilate.misfit import Misfit
from separatrix.envs.twin.assimilate.priors import InitialFactor, Prior
from separatrix.envs.twin.assimilate.reading_error import ReadingError


@torch.no_grad()
def ensemble_inversion(
    system: System,
    initial: Any,
    controls: Any,
    observations: Any,
    *,
    parameters: Mapping[str, Prior],
    error: ReadingError,
    seed: int,
    observe: Any = None,
    factors: Mapping[str, InitialFactor] = MappingProxyType({}),
    members: int = 100,
    steps: int = 8,
    growth: float = 2.0,
) -> Calibration:
    """Estimates parameters of many records at once, each by an ensemble of its own.

    Args:
        system: As of `calibrate`, which has the arguments that are not named here; of any dtype.
        initial: States at the start, one a record.
        controls: (interval, record, control).
        observations: (interval, record, observation).
        parameters: Names of `system.parameters` to estimate, and their priors.
        error: What is known of the error of readings.
        seed: Of all that is drawn.
        observe: What is observed.
        factors: Factors of the initial states to estimate too.
        members: Size of each ensemble, more than there are unknowns.
        steps: Number of analyses.
        growth: Each analysis weighs the readings so many times more than the one before: the first
            ones, from the prior, are the least linear. 1 weighs all the same.

    Returns:
        Mean and covariance of the last ensembles; `converged` tells whose members are all finite.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """
    problem = Misfit(
        system, initial, controls, observations,
        parameters=parameters, factors=factors, error=error, operator=observe,
    )  # fmt: skip
    check_count("members", members)
    check_count("steps", steps)
    if members <= len(problem.names) + 1:
        least = len(problem.names) + 2
        raise ValueError(f"members: got {members}; allowed: {least} or more of these unknowns")
    if not 1 <= growth <= 100:
        raise ValueError(f"growth: got {reprlib.repr(growth)}; allowed: numbers from 1 to 100")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(problem.records)
    shape = (problem.records, members, len(problem.names))
    ensemble = torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = growth ** torch.arange(steps, dtype=torch.float64)
    for weight in (weights / weights.sum()).tolist():
        white = problem.white(problem.predictions(ensemble, rows), rows)
        ensemble, white = _replaced(ensemble, white, generator)
        reading = torch.where(problem.missing(rows), torch.nan, 0.0)
        variance = torch.full(reading.shape[1:], 1 / weight, dtype=torch.float64)
        ensemble = perturbed_observations(ensemble, white, reading, variance, generator)
    deviations = ensemble - ensemble.mean(1, keepdim=True)
    covariance = deviations.mT @ deviations / (members - 1)
    converged = ensemble.isfinite().all(2).all(1)
    return summarise(problem, ensemble.mean(1), covariance, converged, torch.full_like(rows, steps))


def _replaced(
    ensemble: Float64[Tensor, "record member unknown"],
    white: Float64[Tensor, "record member reading"],
    generator: torch.Generator,
) -> tuple[Float64[Tensor, "record member unknown"], Float64[Tensor, "record member reading"]]:
    """Puts copies of other members, drawn at random, in place of those that were not finite."""
    sound = white.isfinite().all(2)
    chance = torch.rand((*sound.shape, sound.shape[1]), generator=generator, dtype=torch.float64)
    other = (chance * sound[:, None]).argmax(2)
    own = torch.arange(sound.shape[1]).expand_as(other)
    chosen = torch.where(sound, own, other)[:, :, None]
    return ensemble.take_along_dim(chosen, 1), white.take_along_dim(chosen, 1)

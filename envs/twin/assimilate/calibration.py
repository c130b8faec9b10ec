"""Parameters of a system from records: the most probable ones, and how uncertain they are.

    minimise  |w(z)|^2 / 2 + |z|^2 / 2,    w = whitened (prediction - reading)

over unknowns z in standard deviations of their priors, by the method of Levenberg and Marquardt
(D. W. Marquardt, J. Soc. Ind. Appl. Math. 11 (1963) 431), for many records at once. The posterior
covariance is that of the linearised problem, (J'J + I)^-1 with J = dw/dz. J comes from central
differences, for which every record is simulated 2 n + 1 times in one batch, or from the gradients
of the stepper, one backward pass for each reading: for short records only.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from separatrix.envs.core.registration import check_count, is_positive
from separatrix.envs.core.system import System
from separatrix.envs.twin.assimilate.identifiability import Identifiability
from separatrix.envs.twin.assimilate.misfit import Misfit
from separatrix.envs.twin.assimilate.priors import InitialFactor, Prior
from separatrix.envs.twin.assimilate.reading_error import ReadingError

DERIVATIVES = ("differences", "autograd")
DIFFERENCE = 1e-3
"""Step of central differences, in standard deviations of the prior."""
EASIEST, HARDEST = 1e-9, 1e12
"""Damping of steps; a record whose damping passes the hardest is given up."""


@dataclass(frozen=True)
class Calibration:
    """Unknowns of records, estimated.

    Attributes:
        names: Of the unknowns.
        priors: Of the unknowns.
        center: The estimates in standard deviations of the priors.
        covariance: Of the posterior, in these units, as if there were no bounds.
        residuals: Reading less prediction, NaN where no reading was used.
        misfit: Mean square of the whitened residuals: about 1 if model and error are right.
        converged: Whether the estimates are final.
        simulations: How often each record was simulated, all copies at once.
    """

    names: tuple[str, ...]
    priors: tuple[Prior, ...]
    center: Float64[Tensor, "record unknown"]
    covariance: Float64[Tensor, "record unknown unknown"]
    residuals: Float64[Tensor, "interval record observation"]
    misfit: Float64[Tensor, " record"]
    converged: Bool[Tensor, " record"]
    simulations: Int64[Tensor, " record"]

    @property
    def estimates(self) -> dict[str, Float64[Tensor, " record"]]:
        """The most probable values by name."""
        return {name: values[:, 0] for name, values in self._decoded(self.center[:, None]).items()}

    def intervals(self, level: float = 0.9) -> dict[str, Float64[Tensor, "record 2"]]:
        """Returns the lower and upper end of central posterior intervals by name.

        Args:
            level: Probability of the interval.

        Raises:
            ValueError: The level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level: got {level!r}; allowed: numbers between 0 and 1")
        wide = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
        half = wide * self.identifiability.ratio
        return self._decoded(torch.stack((self.center - half, self.center + half), 1))

    def draws(
        self, count: int, generator: torch.Generator
    ) -> dict[str, Float64[Tensor, "record draw"]]:
        """Returns values drawn from the posterior, such as for the members of an ensemble.

        Args:
            count: For each record.
            generator: Draws them.
        """
        check_count("count", count)
        records, unknowns = self.center.shape
        noise = torch.randn((records, count, unknowns), generator=generator, dtype=torch.float64)
        factor = torch.linalg.cholesky(self.covariance)
        return self._decoded(self.center[:, None] + noise @ factor.mT)

    @cached_property
    def identifiability(self) -> Identifiability:
        """Which unknowns the records determine."""
        return Identifiability(self.names, self.covariance)

    def _decoded(self, z: Float64[Tensor, "record copy unknown"]) -> dict[str, Tensor]:
        pairs = zip(self.names, self.priors, strict=True)
        return {name: prior.decode(z[..., i]) for i, (name, prior) in enumerate(pairs)}


def calibrate(
    system: System,
    initial: Any,
    controls: Any,
    observations: Any,
    *,
    parameters: Mapping[str, Prior],
    error: ReadingError,
    observe: Any = None,
    factors: Mapping[str, InitialFactor] = MappingProxyType({}),
    derivative: str = "differences",
    iterations: int = 50,
    tolerance: float = 0.01,
) -> Calibration:
    """Estimates parameters of many records at once, each by itself.

    Args:
        system: The physics, of one environment for each record, or alike in all; in float64.
        initial: States at the start, one a record.
        controls: (interval, record, control), each held for a control interval.
        observations: (interval, record, observation), readings at the end of each interval; NaN
            where one is missing.
        parameters: Names of `system.parameters` to estimate, and their priors.
        error: What is known of the error of readings.
        observe: What is observed of the system's `values`: None for all of them, indices, or a
            matrix (observation, component); or a function of system and state.
        factors: Factors of the initial states to estimate too, by names of one's own.
        derivative: "differences", or "autograd": exact, and slow for long records.
        iterations: Largest number of simulations.
        tolerance: A record has converged if the next step is shorter, in posterior standard
            deviations.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """
    if not isinstance(derivative, str) or derivative not in DERIVATIVES:
        got = reprlib.repr(derivative)
        raise ValueError(f"derivative: got {got}; allowed: {', '.join(DERIVATIVES)}")
    if system.dtype != torch.float64:
        raise ValueError(f"system: got {system.dtype}; allowed: torch.float64, for differences")
    if derivative == "autograd" and not system.differentiable:
        raise ValueError("derivative: got 'autograd'; allowed for this system: differences")
    check_count("iterations", iterations)
    if not is_positive(tolerance):
        raise ValueError(f"tolerance: got {tolerance!r}; allowed: a number > 0")
    problem = Misfit(
        system, initial, controls, observations,
        parameters=parameters, factors=factors, error=error, operator=observe,
    )  # fmt: skip
    linearise = _by_autograd if derivative == "autograd" else _by_differences
    return _levenberg_marquardt(problem, linearise, iterations, tolerance)


def summarise(
    problem: Misfit,
    center: Float64[Tensor, "record unknown"],
    covariance: Float64[Tensor, "record unknown unknown"],
    converged: Bool[Tensor, " record"],
    simulations: Int64[Tensor, " record"],
) -> Calibration:
    """Returns the calibration whose residuals are those of the center."""
    rows = torch.arange(problem.records)
    with torch.no_grad():
        predictions = problem.predictions(torch.nan_to_num(center)[:, None], rows)
        lost = center.isnan().any(1)[:, None, None]
        predictions = torch.where(lost, torch.nan, predictions)
        white = problem.white(predictions, rows)[:, 0]
    readings = (~problem.missing(rows)).sum(1)
    return Calibration(
        problem.names, problem.priors, center, covariance,
        problem.residuals(predictions[:, :, 0]), white.square().sum(1) / readings,
        converged, simulations,
    )  # fmt: skip


def _levenberg_marquardt(
    problem: Misfit, linearise: Any, iterations: int, tolerance: float
) -> Calibration:
    records, n = problem.low.shape
    eye = torch.eye(n, dtype=torch.float64)
    best = torch.zeros((records, n), dtype=torch.float64).clamp(problem.low, problem.high)
    cost = torch.full((records,), torch.inf, dtype=torch.float64)
    slope, curvature = torch.zeros_like(best), eye.repeat(records, 1, 1)
    damping = torch.full((records,), 1e-2, dtype=torch.float64)
    converged = torch.zeros(records, dtype=torch.bool)
    simulations = torch.zeros(records, dtype=torch.int64)
    active, trial = torch.arange(records), best
    for _ in range(iterations):
        white, jacobian = linearise(problem, trial, active)
        simulations[active] += 1
        found = (white.square().sum(1) + trial.square().sum(1)) / 2
        sound = found.isfinite() & jacobian.isfinite().all(2).all(1)
        better = sound & (found < cost[active])
        rows = active[better]
        best[rows], cost[rows] = trial[better], found[better]
        transposed = jacobian[better].mT
        slope[rows] = (transposed @ white[better, :, None]).squeeze(2) + trial[better]
        curvature[rows] = transposed @ transposed.mT + eye
        damping[active] = torch.where(better, damping[active] / 10, damping[active] * 10)
        damping.clamp_(min=EASIEST)
        step = _step(problem, best, slope, curvature, torch.zeros_like(damping))
        length = (step[:, None] @ curvature @ step[:, :, None]).flatten().sqrt()
        converged = (length < tolerance) & cost.isfinite()
        active = (~converged & (damping < HARDEST) & ~(cost.isinf() & (simulations > 0))).nonzero()
        active = active[:, 0]
        if not len(active):
            break
        moved = best + _step(problem, best, slope, curvature, damping)
        trial = moved.clamp(problem.low, problem.high)[active]
    lost = cost.isinf()
    best = torch.where(lost[:, None], torch.nan, best)
    covariance = torch.where(lost[:, None, None], torch.nan, torch.linalg.inv(curvature))
    return summarise(problem, best, covariance, converged, simulations)


def _step(
    problem: Misfit, z: Tensor, slope: Tensor, curvature: Tensor, damping: Tensor
) -> Float64[Tensor, "record unknown"]:
    """Returns the damped step of what is not held at a bound by its slope, cut at the bounds."""
    held = ((z <= problem.low) & (slope > 0)) | ((z >= problem.high) & (slope < 0))
    free = ~held
    matrix = curvature + torch.diag_embed(damping[:, None] * curvature.diagonal(dim1=1, dim2=2))
    identity = torch.eye(z.shape[1], dtype=z.dtype)
    matrix = torch.where(free[:, :, None] & free[:, None, :], matrix, identity)
    step = -torch.linalg.solve(matrix, torch.where(free, slope, 0.0))
    return (z + step).clamp(problem.low, problem.high) - z


@torch.no_grad()
def _by_differences(
    problem: Misfit, z: Float64[Tensor, "record unknown"], rows: Int64[Tensor, " record"]
) -> tuple[Float64[Tensor, "record reading"], Float64[Tensor, "record reading unknown"]]:
    """Returns w and dw/dz from one simulation of 2 n + 1 copies."""
    n = z.shape[1]
    moves = DIFFERENCE * torch.eye(n, dtype=torch.float64)
    moves = torch.cat((torch.zeros_like(moves[:1]), moves, -moves))
    guesses = (z[:, None] + moves).clamp(problem.low[rows, None], problem.high[rows, None])
    white = problem.white(problem.predictions(guesses, rows), rows)
    up, down = white[:, 1 : n + 1], white[:, n + 1 :]
    apart = (guesses[:, 1 : n + 1] - guesses[:, n + 1 :]).diagonal(dim1=1, dim2=2)
    return white[:, 0], ((up - down) / apart[:, :, None]).mT


def _by_autograd(
    problem: Misfit, z: Float64[Tensor, "record unknown"], rows: Int64[Tensor, " record"]
) -> tuple[Float64[Tensor, "record reading"], Float64[Tensor, "record reading unknown"]]:
    """Returns w and dw/dz; records do not depend on each other, so one pass serves all of them."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        white = problem.white(problem.predictions(z[:, None], rows), rows)[:, 0]
        columns = [torch.autograd.grad(w, z, retain_graph=True)[0] for w in white.sum(0)]
    return white.detach(), torch.stack(columns, 1)

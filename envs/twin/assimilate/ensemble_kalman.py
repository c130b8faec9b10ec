"""Ensemble Kalman filters: an ensemble of forecasts becomes one of analyses, given an observation.

    E       ensemble (member, state), its anomalies A = E - mean
    Y       the same as the observation operator sees it (member, observation)
    S       anomalies of Y R^-1/2 / sqrt(N - 1), R the covariance of the observation error

Nothing larger than member x state, and no matrix larger than the smaller of member x member and
observation x observation, is made; only the random rotation and the local filter, for small
ensembles, work with member x member. All functions take leading batch axes, many ensembles at
once, and compute in float64. A missing observation is NaN and is left out; an ensemble that is not
finite gives NaN and leaves its neighbours alone.

Inflation comes after the analysis (`inflate`), and so does the rotation of the square root filters:
a random orthogonal mixture of the members that keeps their mean and covariance.

G. Evensen, J. Geophys. Res. 99 (1994) 10143; Ocean Dyn. 53 (2003) 343. G. Burgers et al., Mon.
Weather Rev. 126 (1998) 1719. C. H. Bishop et al., Mon. Weather Rev. 129 (2001) 420. B. R. Hunt et
al., Physica D 230 (2007) 112. P. Sakov, P. R. Oke, Mon. Weather Rev. 136 (2008) 1042.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor


def perturbed_observations(
    ensemble: Float[Tensor, "*batch member state"],
    observed: Float[Tensor, "*batch member observation"],
    observation: Float[Tensor, "*batch observation"],
    variance: Float[Tensor, " observation"] | Float[Tensor, "observation observation"],
    generator: torch.Generator,
) -> Float[Tensor, "*batch member state"]:
    """Returns the analysis of the stochastic filter (Burgers et al. 1998).

    Each member takes up the observation with a noise of its own. Together they have mean zero
    (Evensen 2003); each has covariance R. Over N - 1 degrees of freedom that is R N / (N - 1), so
    that the analysis of a small ensemble is a little wider than the Kalman filter's.

    Args:
        ensemble: The forecast.
        observed: What each member predicts for the observation.
        observation: The observation, NaN where it is missing.
        variance: Variances of the errors of observation, or their covariance matrix.
        generator: Draws the noise.

    Raises:
        ValueError: Shapes do not fit, there is one member only, or the variance is not positive.
    """
    mean, anomalies, scaled, innovation, sound = _prepare(ensemble, observed, observation, variance)
    members = ensemble.shape[-2]
    noise = _normal(innovation.shape, generator, innovation.device)
    noise = (noise - noise.mean(-2, keepdim=True)) * math.sqrt(members / (members - 1))
    gain = _gains(scaled)(lambda q: q**-2)
    change = (innovation + noise) @ (gain.mT @ anomalies) / math.sqrt(members - 1)
    return _finished(mean + anomalies + change, ensemble, sound)


def ensemble_transform(
    ensemble: Float[Tensor, "*batch member state"],
    observed: Float[Tensor, "*batch member observation"],
    observation: Float[Tensor, "*batch observation"],
    variance: Float[Tensor, " observation"] | Float[Tensor, "observation observation"],
    *,
    rotation: torch.Generator | None = None,
) -> Float[Tensor, "*batch member state"]:
    """Returns the analysis of the ensemble transform filter, with the symmetric square root.

    Mean and covariance are those of the Kalman filter whose prior is the ensemble's; nothing is
    drawn (Bishop et al. 2001; symmetric as in Hunt et al. 2007, which keeps the mean).

    Args:
        ensemble: The forecast.
        observed: What each member predicts for the observation.
        observation: The observation, NaN where it is missing.
        variance: Variances of the errors of observation, or their covariance matrix.
        rotation: Draws a rotation of the members as `rotate` does; None for none.

    Raises:
        ValueError: Shapes do not fit, there is one member only, or the variance is not positive.
    """
    mean, anomalies, scaled, innovation, sound = _prepare(ensemble, observed, observation, variance)
    gains = _gains(scaled)
    increment = gains(lambda q: q**-2).mT @ anomalies / math.sqrt(ensemble.shape[-2] - 1)
    mean = mean + innovation.mean(-2, keepdim=True) @ increment
    # (I + S S')^-1/2 = I - (S S') f(S S') with f = 1 / (q^2 + q)
    anomalies = anomalies - gains(lambda q: 1 / (q * q + q)) @ (scaled.mT @ anomalies)
    analysis = _finished(mean + anomalies, ensemble, sound)
    return analysis if rotation is None else rotate(analysis, rotation)


def local_ensemble_transform(
    ensemble: Float[Tensor, "*batch member state"],
    observed: Float[Tensor, "*batch member observation"],
    observation: Float[Tensor, "*batch observation"],
    variance: Float[Tensor, " observation"],
    weights: Float[Tensor, "state observation"],
    *,
    rotation: torch.Generator | None = None,
) -> Float[Tensor, "*batch member state"]:
    """Returns the analysis of the local ensemble transform filter (Hunt et al. 2007).

    Each state component has an analysis of its own, as by `ensemble_transform`, in which the
    inverse variance of every observation is multiplied by a weight that falls with the distance.

    Args:
        ensemble: The forecast.
        observed: What each member predicts for the observation.
        observation: The observation, NaN where it is missing.
        variance: Variances of the errors of observation.
        weights: Weight of each observation for each state component, from 0 to 1; see
            `separatrix.envs.twin.assimilate.localization`.
        rotation: Draws a rotation of the members, one for all components; None for none.

    Raises:
        ValueError: Shapes do not fit, there is one member only, the variance is not positive, or a
            weight is outside [0, 1].
    """
    if variance.ndim != 1:
        raise ValueError(f"variance: got shape {tuple(variance.shape)}; allowed: (observation,)")
    shape = (ensemble.shape[-1], observed.shape[-1])
    if weights.shape != shape or not ((weights >= 0) & (weights <= 1)).all():
        got = f"shape {tuple(weights.shape)}" if weights.shape != shape else "others"
        raise ValueError(f"weights: got {got}; allowed: shape {shape}, numbers from 0 to 1")
    mean, anomalies, scaled, innovation, sound = _prepare(ensemble, observed, observation, variance)
    weights = weights.double()
    products = scaled[..., :, None, :] * scaled[..., None, :, :]
    gram = (products @ weights.mT).movedim(-1, -3)  # (*batch, state, member, member)
    values, vectors = torch.linalg.eigh(gram)
    q = (1 + values.clamp(min=0)).sqrt()

    def in_eigenvectors(rows: Tensor) -> Tensor:
        return (rows[..., None, :] @ vectors).squeeze(-2)

    forcing = (scaled * innovation.mean(-2, keepdim=True)) @ weights.mT  # (*batch, member, state)
    a, b = in_eigenvectors(anomalies.mT), in_eigenvectors(forcing.mT)
    increment = (a * b / q**2).sum(-1) / math.sqrt(ensemble.shape[-2] - 1)
    transformed = (vectors @ (a / q)[..., None]).squeeze(-1).mT
    analysis = _finished(mean + increment[..., None, :] + transformed, ensemble, sound)
    return analysis if rotation is None else rotate(analysis, rotation)


def inflate(
    ensemble: Float[Tensor, "*batch member state"], factor: float
) -> Float[Tensor, "*batch member state"]:
    """Returns the ensemble with the anomalies multiplied by a factor, its mean kept."""
    mean = ensemble.mean(-2, keepdim=True)
    return mean + factor * (ensemble - mean)


def rotate(
    ensemble: Float[Tensor, "*batch member state"], generator: torch.Generator
) -> Float[Tensor, "*batch member state"]:
    """Returns random orthogonal mixtures of the members that keep mean and covariance.

    They undo the clustering that repeated square root analyses of a nonlinear system lead to
    (Sakov and Oke 2008). The cost grows with the cube of the number of members.
    """
    *batch, members, _ = ensemble.shape
    size = (*batch, members - 1, members - 1)
    q, r = torch.linalg.qr(_normal(size, generator, ensemble.device))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]  # uniform over all rotations
    # The reflection that takes the first axis to the diagonal (1, ..., 1) spans the rest with it.
    axis = torch.full((members,), -1 / math.sqrt(members), device=q.device, dtype=q.dtype)
    axis[0] += 1
    basis = torch.eye(members, device=q.device, dtype=q.dtype)
    basis = (basis - 2 / (axis @ axis) * torch.outer(axis, axis))[:, 1:]
    mean = ensemble.double().mean(-2, keepdim=True)
    return (mean + basis @ (q @ (basis.mT @ (ensemble - mean)))).to(ensemble.dtype)


class _Problem(NamedTuple):
    """One analysis in float64: R^-1/2 is in `scaled` and `innovation`, zero where missing."""

    mean: Float64[Tensor, "*batch 1 state"]
    anomalies: Float64[Tensor, "*batch member state"]
    scaled: Float64[Tensor, "*batch member observation"]
    innovation: Float64[Tensor, "*batch member observation"]
    sound: Bool[Tensor, "*batch 1 1"]


def _prepare(ensemble: Tensor, observed: Tensor, observation: Tensor, variance: Tensor) -> _Problem:
    *batch, members, _ = ensemble.shape
    seen = (*batch, members, observed.shape[-1])
    for name, value, shape in (
        ("observed", observed, seen),
        ("observation", observation, (*batch, seen[-1])),
        ("variance", variance, (seen[-1],) * max(variance.ndim, 1)),
    ):
        if value.shape != shape:
            raise ValueError(f"{name}: got shape {tuple(value.shape)}; allowed: {shape}")
    if members < 2:
        raise ValueError(f"ensemble: got {members} members; allowed: 2 or more")
    present = ~observation.isnan()[..., None, :]
    finite = (observed.isfinite() & ~observation.isinf()[..., None, :]) | ~present
    sound = (ensemble.isfinite().all(-1) & finite.all(-1)).all(-1)[..., None, None]
    clean = torch.where(sound, ensemble, 0).double()
    mean = clean.mean(-2, keepdim=True)
    difference = observation.double()[..., None, :] - observed.double()
    difference = torch.where(present & sound, difference, 0)
    innovation = _whitened(difference, variance.double(), present)
    scaled = (innovation.mean(-2, keepdim=True) - innovation) / math.sqrt(members - 1)
    return _Problem(mean, clean - mean, scaled, innovation, sound)


def _whitened(difference: Tensor, variance: Tensor, present: Tensor) -> Tensor:
    """Multiplies by R^-1/2; the rows and columns of missing observations become those of I."""
    if variance.ndim == 1:
        if not ((variance > 0) & variance.isfinite()).all():
            raise ValueError("variance: got a number that is not; allowed: finite numbers > 0")
        return difference / variance.sqrt()
    both = present & present.mT
    identity = torch.eye(len(variance), device=variance.device, dtype=variance.dtype)
    factor, failed = torch.linalg.cholesky_ex(torch.where(both, variance, identity))
    if failed.any() or not factor.isfinite().all() or not torch.equal(variance, variance.mT):
        raise ValueError("variance: got another matrix; allowed: symmetric, positive definite")
    return torch.linalg.solve_triangular(factor, difference.mT, upper=False).mT


def _gains(scaled: Tensor) -> Callable[[Callable[[Tensor], Tensor]], Tensor]:
    """Returns the map of functions f(q), q^2 = I + S'S, to S f = f S, through the smaller Gram."""
    tall = scaled.shape[-2] > scaled.shape[-1]
    values, vectors = torch.linalg.eigh(scaled.mT @ scaled if tall else scaled @ scaled.mT)
    q = (1 + values.clamp(min=0)).sqrt()

    def gain(function: Callable[[Tensor], Tensor]) -> Tensor:
        matrix = (vectors * function(q)[..., None, :]) @ vectors.mT
        return scaled @ matrix if tall else matrix @ scaled

    return gain


def _normal(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Float64[Tensor, ...]:
    """Draws on the generator's device, so that a seed means the same wherever the ensemble is."""
    noise = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return noise.to(device)


def _finished(analysis: Tensor, ensemble: Tensor, sound: Tensor) -> Tensor:
    return torch.where(sound, analysis, torch.nan).to(ensemble.dtype)

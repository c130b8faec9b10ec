"""Sparse models of the dynamics: fitting them to transitions, and what they forecast.

With observation x, action u and features theta(x, u), one row of coefficients a component:

    change       x_{k+1} - x_k = Xi theta(x_k, u_k)
    next         x_{k+1}       = Xi theta(x_k, u_k)
    derivative   dx/dt         = Xi theta(x, u),  u held; fitted in the trapezoidal form
                 (x_{k+1} - x_k) / dt = Xi (theta(x_k, u_k) + theta(x_{k+1}, u_k)) / 2

E-SINDy: U. Fasel, J. N. Kutz, B. W. Brunton and S. L. Brunton, Proc. R. Soc. A 478 (2022) 20210904.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.agents.common.replay import Transitions
from separatrix.agents.common.sparse.ensemble import fit_ensemble
from separatrix.agents.common.sparse.libraries import (
    FourierLibrary,
    PolynomialLibrary,
    control_affine_library,
)
from separatrix.agents.common.sparse.library import Library, SelectedLibrary
from separatrix.agents.common.sparse.model import SparseModel
from separatrix.agents.common.sparse.stlsq import STLSQ
from separatrix.agents.sindy_rl.config import SparseModelConfig
from separatrix.agents.sindy_rl.forecast import Dynamics, Forecast, Projection

SUBSTEPS = 2
"""Runge-Kutta steps of a control interval, for derivatives."""

TRIM_ROUNDS = 4
"""How often a fit and the choice of the transitions that it is fitted to alternate."""

RANK_TOLERANCE = 1e-10
"""Of the largest eigenvalue of the features' correlation: smaller ones count as zero."""


@dataclass(frozen=True)
class FitReport:
    """How a fit went."""

    transitions: int
    """Transitions that were fitted."""

    trimmed: int
    """Transitions that were left out."""

    terms: int
    """Coefficients of the model that are not zero."""

    condition: float
    """Condition number of the scaled features, of the directions that the data determine."""


class SparseDynamics(Dynamics):
    """An ensemble of sparse models as one forecast.

    Args:
        model: What the components of the observation become.
        reward: The reward of an observation and the action; None if it is not learned.
        reward_at: Of which observation, see `SparseModelConfig.reward_at`.
        target: What the model's targets are, see `SparseModelConfig.target`.
        interval: Control interval.
        project: Moves observations to where the true ones lie.
        root: Matrix W such that |W theta|^2 is the leverage.
        typical_change: Root mean square of the change of each component.
    """

    def __init__(
        self,
        model: SparseModel,
        reward: SparseModel | None,
        reward_at: str,
        target: str,
        interval: float,
        project: Projection,
        root: Float[Tensor, "features features"],
        typical_change: Float[Tensor, " observation"],
    ) -> None:
        self.model, self.reward, self.target, self.interval = model, reward, target, interval
        self._project, self._reward_at = project, reward_at
        # Everything that multiplies the features, so that a step has one product of matrices.
        unit = typical_change / interval if target == "derivative" else typical_change
        self._parts = (model.coefficients, _deviation_root(model.members, unit), root)
        self._stacked = torch.cat(self._parts)

    def forecast(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
    ) -> Forecast:
        """Predicts one control interval, differentiably."""
        features = self._features(observation, action)
        rows = self._stacked.to(features) @ features
        change, apart, far = rows.split([len(part) for part in self._parts])
        if self.target == "derivative":
            next_observation = self._integrate(observation, action, change.T)
        else:
            next_observation = change.T if self.target == "next" else observation + change.T
        next_observation = self._project(next_observation)
        return Forecast(
            next_observation,
            self._reward(observation, action, next_observation),
            # Where members agree, a root of zero would have no finite gradient.
            apart.square().sum(0).clamp_min(torch.finfo(apart.dtype).tiny).sqrt(),
            far.square().sum(0),
        )

    def equations(self) -> str:
        """Returns the equations of the model, and of the reward if it is learned."""
        lines = self.model.equations()
        return "\n".join(lines if self.reward is None else (*lines, *self.reward.equations()))

    def to_json(self) -> str:
        """Returns dynamics and reward as JSON that holds every coefficient exactly."""
        parts = {"target": self.target, "interval": self.interval}
        parts["dynamics"] = json.loads(self.model.to_json())
        if self.reward is not None:
            parts |= {"reward_at": self._reward_at, "reward": json.loads(self.reward.to_json())}
        return json.dumps(parts)

    def _features(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.model.library.flat_rows(torch.cat((observation, action), -1))

    def _reward(
        self, observation: Tensor, action: Tensor, next_observation: Tensor
    ) -> Tensor | None:
        if self.reward is None:
            return None
        seen = reward_argument(self._reward_at, observation, next_observation)
        return self.reward.predict(torch.cat((seen, action), -1))[:, 0]

    def _integrate(self, observation: Tensor, action: Tensor, first: Tensor) -> Tensor:
        """Classical Runge-Kutta under a held action; `first` is the derivative at the start."""
        coefficients, step = self.model.coefficients.to(observation), self.interval / SUBSTEPS

        def derivative(at: Tensor) -> Tensor:
            return (coefficients @ self._features(at, action)).T

        for number in range(SUBSTEPS):
            one = first if number == 0 else derivative(observation)
            two = derivative(observation + step / 2 * one)
            three = derivative(observation + step / 2 * two)
            four = derivative(observation + step * three)
            observation = observation + step / 6 * (one + 2 * two + 2 * three + four)
        return observation


def reward_argument(at: str, observation: Tensor, next_observation: Tensor) -> Tensor:
    """Returns the observation that a learned reward depends on, for the fit and for forecasts."""
    return next_observation if at == "next" else (observation + next_observation) / 2


def make_library(
    config: SparseModelConfig, states: tuple[str, ...], controls: tuple[str, ...], circles: Tensor
) -> Library:
    """Makes the library of a configuration.

    On a circle the square of the sine is 1 minus that of the cosine, so that features with it are
    left out: their coefficients would be undetermined.

    Args:
        config: The model's configuration.
        states: Names of the components of the observation.
        controls: Names of the actions.
        circles: Pairs of components that are cosine and sine, (pairs, 2).
    """
    drift: Library = PolynomialLibrary(config.degree, states, interactions=config.interactions)
    influence: Library = PolynomialLibrary(
        config.influence_degree, states, interactions=config.interactions
    )
    if config.angles:
        waves = FourierLibrary(tuple(states[i] for i in config.angles))
        drift, influence = drift + waves, influence + waves
    return without_squares(
        control_affine_library(drift, influence, controls), [states[int(s)] for _, s in circles]
    )


def without_squares(library: Library, names: list[str]) -> Library:
    """Returns the features of a library that have no higher power of some inputs than the first."""
    import sympy

    kept = []
    for number, feature in enumerate(library.expressions()):
        powers = feature.as_powers_dict()
        if all(powers.get(sympy.Symbol(name, real=True), 0) < 2 for name in names):
            kept.append(number)
    return library if len(kept) == library.num_features else SelectedLibrary(library, tuple(kept))


def fit_sparse_dynamics(
    transitions: Transitions,
    config: SparseModelConfig,
    *,
    interval: float,
    project: Projection,
    circles: tuple[tuple[int, int], ...] = (),
    difference: Projection | None = None,
    seed: int = 0,
) -> tuple[SparseDynamics, FitReport]:
    """Fits an ensemble of sparse models from scratch.

    Args:
        transitions: (rows, ...), in any order.
        config: How.
        interval: Control interval.
        project: Moves observations to where the true ones lie.
        circles: Pairs of components that are cosine and sine of an angle.
        difference: Applied to changes, such as wrapping those of angles; None for nothing.
        seed: Seed of the ensemble.

    Returns:
        The dynamics, in the dtype of the data, and how it went.

    Raises:
        ValueError: There are fewer transitions than features, or some are not finite.
    """
    observation, action = transitions.observation.double(), transitions.action.double()
    following, reward = transitions.next_observation.double(), transitions.reward.double()
    size, actions = observation.shape[1], action.shape[1]
    states = config.names or tuple(f"x{i}" for i in range(size))
    if len(states) != size:
        raise ValueError(f"model.names: got {len(states)} names; allowed: {size}, one a component")
    controls = ("u",) if actions == 1 else tuple(f"u{i}" for i in range(actions))
    library = make_library(config, states, controls, torch.tensor(circles).reshape(-1, 2))
    if len(observation) < library.num_features:
        raise ValueError(
            f"got {len(observation)} transitions for a library of {library.num_features} features; "
            "collect as many at least, or take a lower degree"
        )
    change = following - observation
    change = change if difference is None else difference(change)
    theta = library(torch.cat((observation, action), -1))
    target = {"change": change, "next": following, "derivative": change / interval}[config.target]
    if config.target == "derivative":
        theta = (theta + library(torch.cat((following, action), -1))) / 2
    scale = _root_mean_square(theta) if config.scaled else torch.ones_like(theta[0])
    unit = _root_mean_square(target) if config.scaled else torch.ones_like(target[0])
    optimizer = STLSQ(
        config.threshold, config.alpha * len(theta) if config.scaled else config.alpha
    )
    kept = _without_outliers(optimizer, theta / scale, target / unit, config.trim)
    theta = theta[kept]
    members = fit_ensemble(
        optimizer,
        theta / scale,
        target[kept] / unit,
        members=config.members,
        drop=min(config.drop, library.num_features - 1),
        seed=seed,
    ).coefficients
    names = {"change": "change_of_{}", "next": "next_{}", "derivative": "d_{}_dt"}[config.target]
    model = SparseModel(
        library,
        members * unit[:, None] / scale,
        tuple(names.format(name) for name in states),
        controls,
        config.aggregate,
    )
    _warn_of_empty(model, target[kept])
    learned = None
    if config.reward == "learned":
        seen = reward_argument(config.reward_at, observation, following)
        inputs = torch.cat((seen, action), -1)[kept]
        learned = _fit_reward(inputs, reward[kept], config, (*states, *controls), seed)
    root, condition = _leverage_root(theta)
    dtype = transitions.observation.dtype
    device = transitions.observation.device
    dynamics = SparseDynamics(
        model.to(device, dtype),
        None if learned is None else learned.to(device, dtype),
        config.reward_at,
        config.target,
        interval,
        project,
        root.to(dtype),
        _root_mean_square(change[kept]).to(dtype),
    )
    terms = int((model.coefficients != 0).sum())
    return dynamics, FitReport(int(kept.sum()), int((~kept).sum()), terms, condition)


def _root_mean_square(values: Tensor) -> Tensor:
    found = values.square().mean(0).sqrt()
    return torch.where(found > 0, found, 1.0)


def _without_outliers(
    optimizer: STLSQ, theta: Tensor, target: Tensor, trim: float
) -> Bool[Tensor, " rows"]:
    """Tells which rows a fit describes: least trimmed squares (Rousseeuw, JASA 79 (1984) 871)."""
    kept = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
    for _ in range(TRIM_ROUNDS if trim else 0):
        found = optimizer.fit(theta[kept], target[kept]).coefficients
        residual = (target - theta @ found.T).abs()
        deviation = 1.4826 * residual.median(0).values  # of a normal distribution
        bound = trim * deviation.clamp_min(1e-9 * target.abs().amax(0))
        now = (residual <= bound).all(1)
        if now.sum() < max(len(theta) // 2, theta.shape[1]) or (now == kept).all():
            break
        kept = now
    return kept


def _fit_reward(
    inputs: Tensor, reward: Tensor, config: SparseModelConfig, names: tuple[str, ...], seed: int
) -> SparseModel:
    library = PolynomialLibrary(config.reward_degree, names, interactions=config.interactions)
    theta, target = library(inputs), reward[:, None]
    scale, unit = _root_mean_square(theta), _root_mean_square(target)
    fit = fit_ensemble(
        STLSQ(config.reward_threshold, config.alpha * len(theta)),
        theta / scale,
        target / unit,
        members=config.members,
        drop=min(config.drop, library.num_features - 1),
        seed=seed,
    )
    members = fit.coefficients * unit / scale
    return SparseModel(library, members, ("reward",), aggregate=config.aggregate)


def _deviation_root(
    members: Float[Tensor, "members targets features"], unit: Float[Tensor, " targets"]
) -> Float[Tensor, "rows features"]:
    """Returns R such that |R theta| is the deviation of the members' predictions.

    It is the triangle of their differences from the mean: as many rows as features, at most, which
    members times targets may be more than.
    """
    apart = (members - members.mean(0)).double() / unit.double()[:, None]
    rows = apart.flatten(0, 1) / (len(members) * len(unit)) ** 0.5
    return torch.linalg.qr(rows, mode="r").R.to(members)


def _leverage_root(theta: Tensor) -> tuple[Tensor, float]:
    """Returns W of |W theta|^2 = theta' G^-1 theta / rank, whose mean over the rows is 1.

    G is the mean of theta theta'. Directions without data in them, such as those of a collinear
    library, are left out.
    """
    scale = _root_mean_square(theta)
    scaled = theta / scale
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(theta))
    determined = values > RANK_TOLERANCE * values[-1]
    rank = int(determined.sum())
    if rank < theta.shape[1]:
        warnings.warn(
            f"the library has {theta.shape[1]} features, of which the data determine only {rank} "
            "combinations: some features depend on others. The fit takes the smallest "
            "coefficients; take a lower degree, name the circles, or explore more",
            RuntimeWarning,
            stacklevel=4,
        )
    inverse = torch.where(determined, (values * rank).clamp_min(1e-300).rsqrt(), 0.0)
    condition = (values[-1] / values[determined][0]).sqrt().item()
    return (inverse[:, None] * vectors.T) / scale, condition


def _warn_of_empty(model: SparseModel, target: Float[Tensor, "rows targets"]) -> None:
    empty = (model.coefficients == 0).all(1) & (target != 0).any(0)
    if empty.any():
        names = ", ".join(model.targets[int(i)] for i in empty.nonzero())
        warnings.warn(
            f"no feature is left in {names}: the model says that it is zero; take a lower "
            "threshold, or more members if they disagree",
            RuntimeWarning,
            stacklevel=3,
        )

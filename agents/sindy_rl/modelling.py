"""The model of a run: when it is fitted, how far it is trusted, and the surrogate made of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.projections import unit_circle, wrap_angles
from separatrix.agents.common.replay import Transitions
from separatrix.agents.sindy_rl.config import SindyRLConfig, SparseModelConfig
from separatrix.agents.sindy_rl.forecast import Dynamics, Unfitted
from separatrix.agents.sindy_rl.neural_dynamics import fit_neural_dynamics
from separatrix.agents.sindy_rl.sparse_dynamics import fit_sparse_dynamics
from separatrix.agents.sindy_rl.surrogate import Starts, SurrogateEnvironment
from separatrix.agents.sindy_rl.validation import (
    lyapunov_exponent,
    rollout_errors,
    trusted_steps,
)
from separatrix.envs.core.environment import Environment

CHECKED_STEPS = 100
"""Steps of the rollouts by which a model is checked on new data."""

LARGEST_DISCOUNT = 0.9999
"""Of the lowest reward that leaving the limits of a surrogate is charged with for ever."""


class Modelling:
    """The model and what it was fitted to.

    Args:
        agent: The configuration.
        environment: The real environment.
        seed: Seed of the run.

    Attributes:
        dynamics: The model.
        surrogate: The environment that it makes.
        errors: Its errors on data that it had not seen, see `rollout_errors`; None before any.
    """

    def __init__(self, agent: SindyRLConfig, environment: Environment, seed: int) -> None:
        self._agent, self._environment, self._seed = agent, environment, seed
        self._fitted_times, self._fitted_round = 0, 0
        self.dynamics: Dynamics = Unfitted()
        self.errors: Float[Tensor, " steps"] | None = None
        _, observation = environment.reset(0)
        self.surrogate = self._make(observation, observation, agent.surrogate.horizon)

    def project(self, observation: Tensor) -> Tensor:
        """Moves observations to where the true ones lie."""
        surrogate = self._agent.surrogate
        return wrap_angles(*surrogate.wrapped)(unit_circle(*surrogate.circles)(observation))

    def fit(self, data: Transitions, round: int) -> dict[str, float]:
        """Fits the model, if it is due, and makes the surrogate of it.

        Args:
            data: All real transitions, (times, environments, ...).
            round: Number of the round, for the seed.

        Returns:
            Scalars for the log.
        """
        begin, scalars = time.perf_counter(), {}
        limit = self._agent.uncertainty.refit_above
        if not limit or self.errors is None or self.errors[0] > limit * self._fitted_error(data):
            self._fitted_times, self._fitted_round = len(data.reward), round
            scalars = self._refit(data)
        scalars["model/fitted_error_1"] = self._fitted_error(data)
        self.surrogate = self.make_surrogate(data)
        return {
            **scalars,
            "surrogate/horizon": self.surrogate.horizon,
            "time/fit": time.perf_counter() - begin,
        }

    def check(self, fresh: Transitions, data: Transitions) -> dict[str, float]:
        """Compares the model with data that it has not seen.

        Args:
            fresh: The new transitions.
            data: All transitions, for the units.

        Returns:
            Scalars for the log.
        """
        self.errors = rollout_errors(self.dynamics, fresh, CHECKED_STEPS, _unit(data))
        return {
            "model/new_error_1": self.errors[0].item(),
            f"model/new_error_{CHECKED_STEPS}": self.errors[-1].item(),
        }

    def make_surrogate(
        self,
        data: Transitions,
        *,
        initial_share: float | None = None,
        horizon: int | None = None,
    ) -> SurrogateEnvironment:
        """Makes the environment of the model.

        Args:
            data: All real transitions: where episodes start.
            initial_share: Share of the episodes that start where real ones did; None for the
                configured one.
            horizon: Steps of an episode; None for as many as the model is trusted for.
        """
        first = torch.cat((torch.ones_like(data.last[:1]), data.last[:-1]))
        initial, everything = data.observation[first], data.observation[torch.ones_like(data.last)]
        steps = self._horizon(everything) if horizon is None else horizon
        return self._make(initial, everything, steps, data.reward.min().item(), initial_share)

    def _refit(self, data: Transitions) -> dict[str, float]:
        """Fits the model from scratch to the data of the round that it was, or is, fitted in."""
        surrogate, model = self._agent.surrogate, self._agent.model
        data = data[: self._fitted_times]
        seed = self._seed * 100_003 + self._fitted_round
        if not isinstance(model, SparseModelConfig):
            self.dynamics = fit_neural_dynamics(data, model, project=self.project, seed=seed)
            return {}
        # An environment that diverged is held where it was: that is no step of the dynamics and,
        # far from the other data, spoils a fit.
        held = data.terminated & (data.next_observation == data.observation).all(-1)
        self.dynamics, report = fit_sparse_dynamics(
            data[~held],
            model,
            interval=self._environment.control_interval,
            project=self.project,
            circles=surrogate.circles,
            difference=wrap_angles(*surrogate.wrapped) if surrogate.wrapped else None,
            seed=seed,
        )
        return {f"model/{name}": float(value) for name, value in vars(report).items()}

    def _fitted_error(self, data: Transitions) -> float:
        data = data[: self._fitted_times]
        return rollout_errors(self.dynamics, data, 1, _unit(data))[0].item()

    def _horizon(self, observation: Float[Tensor, "rows observation"]) -> int:
        """Steps of a surrogate episode: as far as the model can be trusted."""
        settings = self._agent.surrogate
        horizon = settings.horizon
        if settings.tolerance and self.errors is not None:
            horizon = min(horizon, trusted_steps(self.errors, settings.tolerance))
        if settings.lyapunov_times:
            some = observation[:: -(-len(observation) // 64)]
            actions = self._environment.action_shape[0]
            exponent = lyapunov_exponent(self.dynamics, some, actions, _deviation(observation))
            if exponent > 0:
                horizon = min(horizon, max(1, round(settings.lyapunov_times / exponent)))
        return horizon

    def _make(
        self,
        initial: Tensor,
        everything: Tensor,
        horizon: int,
        lowest_reward: float | None = None,
        share: float | None = None,
    ) -> SurrogateEnvironment:
        settings, doubts = self._agent.surrogate, self._agent.uncertainty
        share = settings.initial_share if share is None else share
        return SurrogateEnvironment(
            self.dynamics,
            self._environment,
            Starts(initial, everything, share),
            num_envs=settings.num_envs,
            horizon=horizon,
            limits=everything.new_tensor(settings.limits) if settings.limits else None,
            lowest_reward=lowest_reward,
            discount=min(self._agent.policy.gamma, LARGEST_DISCOUNT),
            penalty=doubts.penalty,
            deviation_limit=doubts.deviation_limit or torch.inf,
            leverage_limit=doubts.leverage_limit or torch.inf,
        )

    def state(self) -> dict[str, Any]:
        """Returns what, with the data, determines the model and what comes of it."""
        errors = [] if self.errors is None else self.errors.tolist()
        return {
            "fitted": [self._fitted_times, self._fitted_round],
            # JSON has no infinity.
            "errors": [error if math.isfinite(error) else None for error in errors],
        }

    def restore(self, data: Transitions, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned; the same data and seed give the same model."""
        self._fitted_times, self._fitted_round = state["fitted"]
        if state["errors"]:
            errors = [math.inf if error is None else error for error in state["errors"]]
            self.errors = torch.tensor(errors)
        if self._fitted_times:
            self._refit(data)
            self.surrogate = self.make_surrogate(data)


def _unit(data: Transitions) -> Float[Tensor, " observation"]:
    return _deviation(data.observation.flatten(0, 1))


def _deviation(observation: Float[Tensor, "rows observation"]) -> Tensor:
    """Standard deviations, 1 where there is none."""
    deviation = observation.std(0)
    return torch.where(deviation > 0, deviation, 1.0)

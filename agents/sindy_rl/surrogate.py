"""The environment that a model of the dynamics makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from separatrix.agents.sindy_rl.forecast import Dynamics
from separatrix.envs.core.divergence import GradientGuard
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.registration import check_count
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.core.system import System


@dataclass(frozen=True)
class SurrogateState(State):
    """State of a surrogate: what it observes."""

    values: Float[Tensor, "batch observation"]


@dataclass(frozen=True)
class Starts:
    """Where surrogate episodes start.

    Attributes:
        initial: Observations at the start of real episodes.
        any: Observations from anywhere in the data.
        initial_share: Share of the episodes that start from one of the first.
    """

    initial: Float[Tensor, "initial observation"]
    any: Float[Tensor, "any observation"]
    initial_share: float

    def __post_init__(self) -> None:
        for name in ("initial", "any"):
            if len(getattr(self, name)) == 0:
                raise ValueError(f"starts.{name}: got no observation; allowed: 1 or more")

    def within(self, limits: Float[Tensor, " observation"]) -> Starts:
        """Returns those within limits, of which an episode would not end at once.

        Args:
            limits: Largest magnitude of each component.

        Raises:
            ValueError: There are none.
        """
        initial, anywhere = (
            values[(values.abs() <= limits).all(-1)] for values in (self.initial, self.any)
        )
        if not len(initial) or not len(anywhere):
            raise ValueError(f"limits: got {limits.tolist()}; allowed: some that hold a start")
        return replace(self, initial=initial, any=anywhere)


class SurrogateSystem(System):
    """The size, the time and the random starts of a surrogate."""

    def __init__(self, like: Environment, num_envs: int, starts: Starts) -> None:
        self.num_envs, self.control_interval = num_envs, like.control_interval
        self.device, self.dtype = starts.any.device, starts.any.dtype
        self.starts = starts

    def initial_state(self, stream: Stream) -> SurrogateState:
        """Draws observations of the data."""
        starts = self.starts
        uniform, stream = stream.uniform(1, self.dtype, INITIAL_STATE)
        first, stream = stream.integers(len(starts.initial), INITIAL_STATE)
        other, stream = stream.integers(len(starts.any), INITIAL_STATE)
        real_start = uniform < starts.initial_share
        values = torch.where(real_start, starts.initial[first], starts.any[other])
        return SurrogateState(stream, torch.zeros_like(stream.seed), values)

    def advance(self, state: SurrogateState, control: Tensor) -> SurrogateState:
        """Not defined: the step of a surrogate is that of its environment."""
        raise TypeError("a surrogate is stepped by SurrogateEnvironment.step")

    def inside(self, state: SurrogateState) -> Bool[Tensor, " batch"]:
        """Tells which observations are finite."""
        return state.values.isfinite().all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns itself: the model is shared."""
        return self


class SurrogateEnvironment(Environment):
    """A model as an environment: batched, differentiable, for every shell, planner and agent.

    An observation that is not finite or leaves the limits ends the episode. So that this never
    pays, the reward of that step is what the lowest reward adds up to from there on under the
    discount: nothing where it is 0, and -1 / (1 - discount) where it is -1. Where the model is too
    uncertain the episode is truncated: its value is not known there, and agents estimate it, as at
    every time limit.

    Args:
        dynamics: The model.
        like: The environment that it is a model of; the spaces and the range of rewards are its.
        starts: Where episodes start; the tensors fix device and dtype.
        num_envs: Size of the batch. Any size can be stepped.
        horizon: Steps of an episode.
        limits: Largest magnitude of each component; None for the space of observations.
        lowest_reward: The lowest reward; None for that of the range, which may be far below any
            that occurs.
        discount: Of the agent that trains here; for the reward of leaving the limits alone.
        penalty: Reward that is taken for each unit of deviation.
        deviation_limit: Deviation at which episodes are truncated.
        leverage_limit: Leverage at which episodes are truncated.

    Raises:
        ValueError: A number is not allowed, or the model predicts no reward and that of `like` is
            not known from observations.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        like: Environment,
        starts: Starts,
        *,
        num_envs: int = 256,
        horizon: int = 200,
        limits: Float[Tensor, " observation"] | None = None,
        lowest_reward: float | None = None,
        discount: float = 0.99,
        penalty: float = 0.0,
        deviation_limit: float = float("inf"),
        leverage_limit: float = float("inf"),
    ) -> None:
        check_count("num_envs", num_envs)
        check_count("horizon", horizon)
        if not 0 <= discount < 1:
            raise ValueError(f"discount: got {discount!r}; allowed: from 0 to below 1")
        self.observation_space, self.action_space = like.observation_space, like.action_space
        self.reward_range, self.metric_names = like.reward_range, ("deviation", "leverage")
        self.dynamics, self.like, self.horizon = dynamics, like, horizon
        space = like.observation_space
        largest = np.maximum(np.abs(space.low), np.abs(space.high)).astype(np.float64)
        most = torch.from_numpy(largest).to(starts.any)
        self._limits = most if limits is None else torch.minimum(limits.to(most), most)
        self.system = SurrogateSystem(like, num_envs, starts.within(self._limits))
        lowest = like.reward_range[0] if lowest_reward is None else lowest_reward
        self._worst_return, self._penalty = lowest / (1 - discount), penalty
        self._deviation_limit, self._leverage_limit = deviation_limit, leverage_limit

    def observe(self, state: SurrogateState) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return state.values.clone()

    def step(self, state: SurrogateState, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval of the model."""
        guard = GradientGuard()
        observation = guard(state.values)
        control = guard(action.clamp(-1.0, 1.0).to(observation.dtype))
        forecast = self.dynamics.forecast(observation, control)
        following = forecast.next_observation
        inside = guard.inside = (following.abs() <= self._limits).all(-1)
        following = torch.where(inside[:, None], following, observation)
        low, high = self.reward_range
        terminated = ~inside
        if forecast.reward is None:
            reward, ended = self.like.known_outcome(observation, control, following)
            terminated = terminated | ended
        else:
            reward = forecast.reward
            reward = reward + (reward.clamp(low, high) - reward).detach()
        if self._penalty:
            reward = reward - (self._penalty * forecast.deviation).clamp_max(high - low)
        reward = torch.where(inside, reward, self._worst_return)
        interval = state.interval + 1
        if min(self._deviation_limit, self._leverage_limit) < torch.inf:
            unsure = (forecast.deviation > self._deviation_limit) | (
                forecast.leverage > self._leverage_limit
            )
            interval = torch.where(unsure, self.horizon, interval)
        info = {
            "deviation": forecast.deviation,
            "leverage": forecast.leverage,
            "diverged": ~inside,
        }
        next_state = SurrogateState(state.stream, interval, following)
        return Transition(next_state, following.clone(), reward, terminated, info)

    def state_from(self, observation: Float[Tensor, "batch observation"], state: Any) -> Any:
        """Returns the state in which an observation was made; the true state stays unread."""
        values = observation.to(self.dtype)
        return SurrogateState(state.stream, torch.zeros_like(state.interval), values)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns itself: the model is shared."""
        return self

    def render(self, state: SurrogateState, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Raises: a surrogate has observations alone.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a surrogate has no drawing; render the real environment")

"""A learned ensemble as an environment, which every planner, agent and shell can step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.agents.common.dynamics.model import DynamicsEnsemble, Prediction
from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.core.registration import check_count
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import INITIAL_STATE, PROCESS_NOISE, Stream
from separatrix.envs.core.system import System
from separatrix.envs.core.task import Task

PROPAGATIONS = ("mean", "members", "sampled")

Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Rewards (rows,) of observations, actions and next observations, (rows, ...) each."""

Terminated = Callable[[Tensor], Tensor]
"""Whether observations, (rows, observation), end their episode, (rows,)."""

Projection = Callable[[Tensor], Tensor]
"""Moves observations, (rows, observation), to where the true ones lie."""

MARGIN = 0.2
"""By how much a state may leave the box of observations, as a fraction of the box."""


@runtime_checkable
class Predictor(Protocol):
    """What a learned system needs: a `DynamicsEnsemble`, or what stands in for one.

    Attributes:
        elites: Indices of the members that make the predictions.
    """

    elites: Tensor

    @property
    def config(self) -> Any:
        """Has the number of `members`, and whether there is a `reward_head`."""

    def predict(
        self, observation: Tensor, action: Tensor, members: Tensor | None = None
    ) -> Prediction:
        """Predicts one control interval, (members, rows, ...)."""


@dataclass(frozen=True)
class LearnedState(State):
    """State of learned dynamics.

    Attributes:
        particles: Observations: one, or one for each elite.
        reward: Predicted reward of the interval that led here.
        termination: Predicted probability that the episode ended here.
    """

    particles: Float[Tensor, "batch particles observation"]
    reward: Float[Tensor, "batch particles"]
    termination: Float[Tensor, "batch particles"]


class LearnedSystem(System):
    """Learned dynamics of observations.

    Args:
        ensemble: Trained. It is not copied: training it further changes the system.
        like: The environment that the ensemble was trained on.
        num_envs: Size of the batch.
        starts: Observations from which episodes start.
        propagation: See `learned_environment`.
        project: See `learned_environment`.
    """

    def __init__(
        self,
        ensemble: Predictor,
        like: Environment,
        num_envs: int,
        starts: Float[Tensor, "starts observation"],
        propagation: str,
        project: Projection | None,
    ) -> None:
        self.ensemble, self._propagation, self._project = ensemble, propagation, project
        self.num_envs, self.control_interval = num_envs, like.control_interval
        self.device, self.dtype = starts.device, starts.dtype
        self._starts = starts
        low, high = (
            torch.from_numpy(bound.astype(np.float64)).to(starts)
            for bound in (like.observation_space.low, like.observation_space.high)
        )
        margin = MARGIN * (high - low)
        self._low, self._high = low - margin, high + margin

    def state_at(
        self, stream: Stream, interval: Int64[Tensor, " batch"], observation: Tensor
    ) -> LearnedState:
        """Returns the state in which an observation, (batch, observation), was made."""
        count = len(self.ensemble.elites) if self._propagation == "members" else 1
        particles = observation.to(self.dtype)[:, None].expand(-1, count, -1)
        zeros = torch.zeros_like(particles[..., 0])
        return LearnedState(stream, interval, particles, zeros, zeros)

    def initial_state(self, stream: Stream) -> LearnedState:
        """Draws one of the observations from which episodes start."""
        drawn, stream = stream.integers(len(self._starts), INITIAL_STATE)
        return self.state_at(stream, torch.zeros_like(stream.seed), self._starts[drawn])

    def advance(self, state: LearnedState, control: Float[Tensor, "batch control"]) -> LearnedState:
        """Advances all environments by one control interval."""
        elites = None if self._all_elite else self.ensemble.elites
        count, stream = len(self.ensemble.elites), state.stream
        predicted = self.ensemble.predict(
            state.particles.movedim(1, 0).expand(count, -1, -1),
            control.expand(count, -1, -1),
            elites,
        )
        values, reward, termination = (
            predicted.next_observation.movedim(0, 1),
            predicted.reward.T,
            predicted.termination.T,
        )
        if self._propagation == "mean":
            values, reward = values.mean(1, keepdim=True), reward.mean(1, keepdim=True)
            termination = termination.mean(1, keepdim=True)
        elif self._propagation == "sampled":
            member, stream = stream.integers(count, PROCESS_NOISE)
            normal, stream = stream.normal(values.shape[-1], values.dtype, PROCESS_NOISE)
            deviation = predicted.observation_deviation.movedim(0, 1)
            row = torch.arange(len(member), device=member.device)
            values = (values[row, member] + deviation[row, member] * normal)[:, None]
            reward, termination = reward[row, member][:, None], termination[row, member][:, None]
        if self._project is not None:
            values = self._project(values.flatten(0, 1)).view_as(values)
        return LearnedState(stream, state.interval + 1, values, reward, termination)

    def inside(self, state: LearnedState) -> Bool[Tensor, " batch"]:
        """Tells which states are finite and near the box of observations."""
        particles = state.particles
        near = (particles >= self._low) & (particles <= self._high)
        return near.all(-1).all(-1) & state.reward.isfinite().all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns itself: the network is shared."""
        return self

    @property
    def _all_elite(self) -> bool:
        return len(self.ensemble.elites) == self.ensemble.config.members


class LearnedTask(Task):
    """Observations, rewards and ends of episodes of learned dynamics.

    Args:
        like: The environment that the ensemble was trained on.
        reward: Rewards; None for the predicted ones.
        terminated: Ends of episodes; None for the predicted ones.
    """

    def __init__(
        self, like: Environment, reward: Reward | None, terminated: Terminated | None
    ) -> None:
        self.observation_space = like.observation_space
        self.action_space = require_continuous(like, "a learned model")
        self.reward_range = like.reward_range
        self._reward, self._terminated = reward, terminated

    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Returns the action: the network learned what it does."""
        return action

    def observe(self, state: LearnedState) -> Float[Tensor, "batch observation"]:
        """Returns the mean of the particles."""
        return state.particles.mean(1)

    def reward(
        self,
        state: LearnedState,
        control: Float[Tensor, "batch control"],
        next_state: LearnedState,
    ) -> Float[Tensor, " batch"]:
        """Returns the mean reward of the particles.

        Predicted rewards are clipped to the range of the environment, so that an error cannot
        promise more than there is; gradients flow as if they were not.
        """
        if self._reward is None:
            reward = next_state.reward
            reward = reward + (reward.clamp(*self.reward_range) - reward).detach()
        else:
            before, after = state.particles, next_state.particles
            action = control[:, None].expand(-1, before.shape[1], -1)
            rows = [tensor.flatten(0, 1) for tensor in (before, action, after)]
            reward = self._reward(*rows).view_as(next_state.reward)
        return reward.mean(1)

    def terminated(self, state: LearnedState) -> Bool[Tensor, " batch"]:
        """Tells where more than half of the particles end their episode."""
        if self._terminated is None:
            return state.termination.mean(1) > 0.5
        ended = self._terminated(state.particles.flatten(0, 1))
        return ended.view_as(state.termination).to(state.termination.dtype).mean(1) > 0.5


class LearnedEnvironment(ComposedEnvironment):
    """Learned dynamics with a task; see `learned_environment`, which makes one."""

    system: LearnedSystem

    def state_from(self, observation: Float[Tensor, "batch observation"], state: Any) -> Any:
        """Returns the state in which an observation was made; the true state stays unread."""
        return self.system.state_at(state.stream, state.interval, observation)


def learned_environment(
    ensemble: DynamicsEnsemble,
    like: Environment,
    *,
    starts: Float[Tensor, "starts observation"],
    num_envs: int | None = None,
    horizon: int | None = None,
    propagation: str = "members",
    reward: Reward | None = None,
    terminated: Terminated | None = None,
    project: Projection | None = None,
) -> LearnedEnvironment:
    """Makes an environment of an ensemble.

    How uncertainty propagates (Chua et al., NeurIPS 2018, section 5): "mean" goes on from the mean
    of the elites' predictions; "members" gives every elite a particle of its own for the whole
    episode, and observation and reward are means over the particles; "sampled" draws at every step
    one elite and, if it is probabilistic, the next observation from its distribution. All three
    evaluate the network once a step for every elite.

    A state further outside the box of observations than a fifth of its size has diverged.

    Args:
        ensemble: The ensemble. It is not copied: training it further changes the environment.
        like: The environment that it was trained on, whose spaces and range of rewards it has.
        starts: Observations from which episodes start, such as a replay buffer's; they fix device
            and dtype.
        num_envs: Size of the batch; None for that of `like`. Any batch size can be stepped.
        horizon: Steps of an episode; None for that of `like`.
        propagation: "mean", "members" or "sampled".
        reward: Rewards as a function of observation, action and next observation; None for the
            reward head. Where the observation determines them, `like.known_outcome` gives the true
            ones: `lambda *rows: like.known_outcome(*rows)[0]`.
        terminated: Ends of episodes as a function of the observation; None for the termination
            head, or for episodes that never terminate if there is none. `like.known_outcome` gives
            these, too.
        project: Moves predicted observations to where the true ones lie, see
            `separatrix.agents.common.projections`.

    Raises:
        ValueError: The sizes do not fit, there is neither a reward nor a head for it, or an
            argument is not allowed.
    """
    if propagation not in PROPAGATIONS:
        raise ValueError(f"propagation: got {propagation!r}; allowed: {', '.join(PROPAGATIONS)}")
    sizes = (ensemble.observation_size, ensemble.action_size)
    spaces = (*like.observation_space.shape, *like.action_shape)
    if sizes != spaces:
        raise ValueError(f"ensemble: got sizes {sizes} of observation and action; allowed {spaces}")
    if starts.ndim != 2 or len(starts) == 0 or starts.shape[1] != sizes[0]:
        raise ValueError(
            f"starts: got shape {tuple(starts.shape)}; allowed: (1 or more, {sizes[0]})"
        )
    if reward is None and not ensemble.config.reward_head:
        raise ValueError("reward: got None and an ensemble without a reward head; give either")
    num_envs = like.num_envs if num_envs is None else num_envs
    horizon = like.horizon if horizon is None else horizon
    check_count("num_envs", num_envs)
    check_count("horizon", horizon)
    system = LearnedSystem(ensemble, like, num_envs, starts, propagation, project)
    return LearnedEnvironment(system, LearnedTask(like, reward, terminated), horizon)

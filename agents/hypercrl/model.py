"""The learned dynamics of many tasks as an environment, in which planners plan for all at once."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from separatrix.agents.common.dynamics.environment import LearnedState, LearnedSystem
from separatrix.agents.hypercrl.dynamics import TaskDynamics
from separatrix.envs.core.environment import Environment, Transition


class TaskSystem(LearnedSystem):
    """Learned dynamics with the networks of its task for each environment.

    Args:
        dynamics: The networks.
        like: The environment whose dynamics they are.
    """

    ensemble: TaskDynamics

    def __init__(self, dynamics: TaskDynamics, like: Environment) -> None:
        starts = torch.zeros((1, dynamics.observation_size), dtype=like.dtype, device=like.device)
        super().__init__(dynamics, like, like.num_envs, starts, "members", None)

    @property
    def _all_elite(self) -> bool:
        return True

    def advance_particles(
        self,
        particles: Float[Tensor, "members rows observation"],
        action: Float[Tensor, "rows action"],
    ) -> tuple[Float[Tensor, "members rows observation"], Float[Tensor, "members rows"]]:
        """Returns where particles go, and the rewards that are predicted, if any are."""
        found = self.ensemble.predict(particles, action.expand(len(particles), -1, -1))
        return found.next_observation, found.reward

    def near(self, particles: Float[Tensor, "*any observation"]) -> Bool[Tensor, "*any"]:
        """Tells which observations are finite and near the box of observations."""
        return ((particles >= self._low) & (particles <= self._high)).all(-1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the dynamics of some of the environments; itself if all have one task."""
        dynamics = self.ensemble.select(rows)
        if dynamics is self.ensemble:
            return self
        selected = copy.copy(self)
        selected.ensemble, selected.num_envs = dynamics, len(rows)
        return selected


class TaskModel(Environment):
    """The model of a batch of environments of a stream.

    Every member of the ensemble follows a particle of its own, from the same observation;
    observation and reward are their means.

    Args:
        dynamics: Networks of the task of each environment.
        like: The true environments, of the same tasks in the same order.
        known_reward: Whether rewards and ends of episodes are those of `like`, as functions of
            observations; else the dynamics predict rewards, and nothing ends an episode.

    Raises:
        ValueError: The numbers of environments differ, or rewards are not known.
    """

    system: TaskSystem

    def __init__(self, dynamics: TaskDynamics, like: Environment, *, known_reward: bool) -> None:
        if len(dynamics.rows) not in (1, like.num_envs):
            got = len(dynamics.rows)
            raise ValueError(f"dynamics: got {got} tasks; allowed: 1 or {like.num_envs}")
        self.system, self.horizon = TaskSystem(dynamics, like), like.horizon
        self._like, self._known = like, known_reward
        self.observation_space, self.action_space = like.observation_space, like.action_space
        self.reward_range, self.metric_names = like.reward_range, ()
        if known_reward:
            check_known_outcome(like)

    def state_from(self, observation: Float[Tensor, "batch observation"], state: Any) -> Any:
        """Returns the state in which an observation was made; the true state stays unread."""
        return self.system.state_at(state.stream, state.interval, observation)

    def observe(self, state: LearnedState) -> Float[Tensor, "batch observation"]:
        """Returns the mean of the particles."""
        return state.particles.mean(1)

    def step(self, state: LearnedState, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval."""
        rewards, ended, last = self._follow(state, action[None])
        diverged = ~self.system.near(last).all(0)
        particles = last.movedim(0, 1)
        # As in the true environments, what has diverged stays where it was.
        particles = torch.where(diverged[:, None, None], state.particles, particles)
        next_state = replace(state, particles=particles, interval=state.interval + 1)
        return Transition(
            next_state, self.observe(next_state), rewards[0], ended[0], {"diverged": diverged}
        )

    def sequence(
        self, state: LearnedState, actions: Float[Tensor, "horizon batch action"]
    ) -> tuple[Float[Tensor, "horizon batch"], Bool[Tensor, "horizon batch"]]:
        """Returns rewards and ends along a sequence of actions, see `Environment.sequence`.

        The networks go step by step; rewards of all steps are then evaluated at once.
        """
        return self._follow(state, actions)[:2]

    def _follow(
        self, state: LearnedState, actions: Float[Tensor, "horizon batch action"]
    ) -> tuple[Tensor, Tensor, Float[Tensor, "members batch observation"]]:
        actions = actions.clamp(-1.0, 1.0)
        particles = state.particles.movedim(1, 0)
        visited, predicted = [particles], []
        for action in actions:
            particles, reward = self.system.advance_particles(particles, action)
            visited.append(particles)
            predicted.append(reward)
        path = torch.stack(visited)  # (horizon + 1, members, rows, observation)
        rewards, ended = torch.stack(predicted).clamp(*self.reward_range).mean(1), None
        if self._known:
            rewards, ended = self._outcomes(path, actions)
        outside = ~self.system.near(path[1:]).all(1)
        rewards = torch.where(outside, self.reward_range[0], rewards)
        return rewards, outside if ended is None else ended | outside, particles

    def _outcomes(
        self,
        path: Float[Tensor, "times members batch observation"],
        actions: Float[Tensor, "horizon batch action"],
    ) -> tuple[Float[Tensor, "horizon batch"], Bool[Tensor, "horizon batch"]]:
        """Evaluates the true reward and the true end at every step of every particle."""
        shape = (len(actions), *path.shape[1:3])
        rows = torch.arange(shape[2], device=path.device).repeat(shape[0] * shape[1])
        reward, ended = self._like.select(rows).known_outcome(
            path[:-1].flatten(0, 2),
            actions[:, None].expand(-1, shape[1], -1, -1).flatten(0, 2),
            path[1:].flatten(0, 2),
        )
        majority = ended.view(shape).to(path.dtype).mean(1) > 0.5
        return reward.view(shape).mean(1), majority

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the model of some of the environments; itself if all have one task."""
        system, like = self.system.select(rows), self._like.select(rows)
        if system is self.system and like is self._like:
            return self
        selected = copy.copy(self)
        selected.system, selected._like = system, like
        return selected

    def with_tasks(self, rows: Int64[Tensor, " batch"]) -> Self:
        """Returns the model with the networks of other tasks.

        Args:
            rows: The task of each environment; where all have the same true parameters, of any
                number of environments.
        """
        changed = copy.copy(self)
        changed.system = copy.copy(self.system)
        changed.system.ensemble = self.system.ensemble.with_rows(rows)
        changed.system.num_envs = len(rows)
        return changed

    def render(self, state: Any, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws nothing.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("learned dynamics have no drawing")


def check_known_outcome(environment: Environment) -> None:
    """Asks an environment once for rewards of observations, which its `select` then knows, too.

    Raises:
        ValueError: Its observations do not determine them.
    """
    shape = (environment.num_envs, *environment.observation_space.shape)
    observation = torch.zeros(shape, dtype=environment.dtype, device=environment.device)
    action = observation.new_zeros((environment.num_envs, *environment.action_shape))
    environment.known_outcome(observation, action, observation)

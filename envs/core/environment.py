"""Environments: a system and a task as one pure, differentiable function."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from separatrix.envs.core.actions import Action
from separatrix.envs.core.divergence import GradientGuard
from separatrix.envs.core.state import map_tensors
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System
from separatrix.envs.core.task import Task

Draw = Callable[[np.ndarray], np.ndarray]


class Transition(NamedTuple):
    """What a step returns; every tensor has one row an environment.

    `info` holds the task's metrics and `diverged`, a boolean.
    """

    state: Any
    observation: Float[Tensor, "batch observation"]
    reward: Float[Tensor, " batch"]
    terminated: Bool[Tensor, " batch"]
    info: dict[str, Tensor]


class ArrayStepper(ABC):
    """Steps one environment in numpy, where crossing into torch would take most of a step's time.

    Attributes:
        state: The state, a batch of one; setting it goes on from another.
    """

    state: Any

    @abstractmethod
    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, float | bool]]:
        """Advances by one control interval, as `Environment.step` does, to the same numbers.

        Args:
            action: (1, action), contiguous and of the environment's dtype.

        Returns:
            The observation (observation,) in fresh memory, the reward, whether the episode is
            terminated, and the info.
        """


class Environment(ABC):
    """A decision process as pure functions of batches, usable without any Gymnasium shell.

    With shared parameters the functions take batches of any size; with a parameter row for each
    environment, batches of `num_envs`.

    An environment whose state turns non-finite or leaves the safe box has diverged: its episode
    is terminated with the lowest reward of the range, it stays at its last sound state, and no
    gradient flows through that step. Actions outside [-1, 1] are clipped. Where actions are
    choices, they are integers, (batch,) or one column for each choice.

    Attributes:
        system: The physics.
        observation_space: Observations of one environment.
        action_space: Actions of one environment.
        reward_range: Lowest and highest reward of a step.
        metric_names: Keys of `Transition.info` beside `diverged`.
        horizon: Steps after which the shells truncate an episode.
    """

    system: System
    observation_space: Box
    action_space: Box | Discrete | MultiDiscrete
    reward_range: tuple[float, float]
    metric_names: tuple[str, ...]
    horizon: int

    @property
    def unwrapped(self) -> Environment:
        """The environment inside all wrappers; itself if it has none."""
        return self

    @property
    def num_envs(self) -> int:
        """Size of the batch that the environment was made for."""
        return self.system.num_envs

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of the action of one environment; () for a single choice."""
        return self.action_space.shape or ()

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.system.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the real numbers."""
        return self.system.dtype

    @property
    def control_interval(self) -> float:
        """Time of one step, in the system's unit of time."""
        return self.system.control_interval

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow through `step`; where not, it refuses what requires one."""
        return self.system.differentiable

    def reset(
        self, seeds: Int64[Tensor, " batch"] | int, episode: int = 0
    ) -> tuple[Any, Float[Tensor, "batch observation"]]:
        """Starts an episode in every environment.

        Args:
            seeds: Seed of each environment; a number s stands for s, s + 1, ... of `num_envs`.
            episode: Number of the episode in each environment's random stream.

        Returns:
            The states and the observations.

        Raises:
            ValueError: A seed is negative, or the seeds are not a 1-D int64 tensor.
        """
        if isinstance(seeds, int):
            seeds = torch.arange(seeds, seeds + self.num_envs)
        return self.restart(Stream.start(seeds.to(self.device), episode))

    def restart(self, stream: Stream) -> tuple[Any, Float[Tensor, "batch observation"]]:
        """Starts an episode at given positions of the random streams."""
        state = self.system.initial_state(stream)
        return state, self.observe(state)

    @abstractmethod
    def observe(self, state: Any) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""

    @abstractmethod
    def step(self, state: Any, action: Action) -> Transition:
        """Advances every environment by one control interval."""

    def allowed_actions(self, state: Any) -> Bool[Tensor, "batch choices"] | None:
        """Tells which choices make sense in states; None where all do.

        Others are taken as well, and say in the docstring of the environment what they do. For
        several choices at once the columns of the first stand before those of the second.
        """
        return None

    def sequence(
        self, state: Any, actions: Float[Tensor, "horizon batch action"]
    ) -> tuple[Float[Tensor, "horizon batch"], Bool[Tensor, "horizon batch"]]:
        """Advances every environment by several control intervals.

        What counts after the end of an episode is up to the caller. A model may override this where
        it has a faster way to the same numbers.

        Args:
            state: Where to begin.
            actions: Actions of each interval.

        Returns:
            The rewards, and whether the steps end their episodes.
        """
        rewards, ends = [], []
        for action in actions:
            state, _, reward, terminated, _ = self.step(state, action)
            rewards.append(reward)
            ends.append(terminated)
        return torch.stack(rewards), torch.stack(ends)

    def state_from(self, observation: Float[Tensor, "batch observation"], state: Any) -> Any:
        """Returns the state of this environment that stands for a moment of the one it models.

        A planner asks its model for it. A true model takes the state of the physics; a learned one
        (`separatrix.agents.common.dynamics`) overrides this and reads the observation alone.

        Args:
            observation: What the modelled environment shows.
            state: Its state.
        """
        return state.unwrapped

    def known_outcome(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> tuple[Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Returns reward and termination of steps of which only the observations are known.

        For learned models of the observation: what is known of the task need not be learned. It is
        differentiable, and sees nothing of divergence: of the step of an environment that diverged
        it returns what the held state would get, not the lowest reward and the end that it gets.

        Args:
            observation: Observations before the steps, in the scaling of this environment, of any
                number. With a parameter row for each environment, one for each of them.
            action: Actions, clipped to [-1, 1] as in a step.
            next_observation: Observations after the steps.

        Returns:
            The rewards, and whether the steps end their episodes.

        Raises:
            ValueError: The observation does not determine them, as that of a wrapped environment
                by default; or the shapes do not fit.
        """
        raise ValueError(
            f"the observation of this {type(self).__name__} does not determine its reward and "
            "termination; they must be learned instead"
        )

    def known_termination(
        self, next_observation: Float[Tensor, "rows observation"]
    ) -> Bool[Tensor, " rows"]:
        """Returns the termination of `known_outcome` alone, known even where a reward is not.

        Args:
            next_observation: Observations after the steps; see `known_outcome`.

        Raises:
            ValueError: The observation does not determine it; or the shape does not fit.
        """
        action = next_observation.new_zeros((len(next_observation), *self.action_shape))
        return self.known_outcome(next_observation, action, next_observation)[1]

    def state_of(self, observation: Float[Tensor, "rows observation"], stream: Stream) -> Any:
        """Returns states that show observations, at interval 0.

        They have what reward and termination need. Steps from them are those of the environment
        only where the observation tells all that the physics and the task go by.

        Args:
            observation: Observations in the scaling, the dtype and on the device of this
                environment.
            stream: Where each row begins to draw.

        Raises:
            ValueError: The observation does not determine a state, as that of a wrapped
                environment by default.
        """
        raise ValueError(
            f"the observation of this {type(self).__name__} does not determine its state"
        )

    def array_stepper(self, state: Any) -> ArrayStepper | None:
        """Returns a faster way to step one environment from a state on; None if there is none."""
        return None

    @abstractmethod
    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the environment of some rows of the batch; itself if parameters are shared."""

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the environment with other physics under the same task.

        The task keeps its numbers: what is wanted, and the units of what is seen, remain those of
        the parameters that the environment was made with.

        Args:
            parameters: As for `System.with_parameters`; gradients flow through the values.
            num_envs: Size of the new batch.

        Raises:
            ValueError: A parameter is unknown, values have another size, or the parameters of this
                environment cannot be changed.
        """
        raise ValueError(f"the parameters of this {type(self).__name__} cannot be changed")

    @abstractmethod
    def render(self, state: Any, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the state of one environment."""


class ComposedEnvironment(Environment):
    """Any system with any torch task.

    Args:
        system: The physics.
        task: The decision process on it.
        horizon: Steps of an episode.
        draw: Draws one environment from its state and itself, both a batch of one; None if it
            cannot.
    """

    def __init__(
        self,
        system: System,
        task: Task,
        horizon: int,
        draw: Callable[[Any, ComposedEnvironment], np.ndarray] | None = None,
    ) -> None:
        self.system, self.task, self.horizon, self._draw = system, task, horizon, draw
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self.reward_range, self.metric_names = task.reward_range, task.metric_names

    def observe(self, state: Any) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return self.task.observe(state).clone()  # not the state itself: shells hand it out

    def step(self, state: Any, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval."""
        guard = GradientGuard()
        state = map_tensors(guard, state)
        control = self.task.control(guard(action.clamp(-1.0, 1.0)))
        advanced = self.system.advance(state, control)
        inside = guard.inside = self.system.inside(advanced)

        def hold(new: Tensor, old: Tensor) -> Tensor:
            if not new.is_floating_point():  # time and random streams go on
                return new
            return torch.where(inside.view(-1, *[1] * (new.ndim - 1)), new, old)

        next_state = map_tensors(hold, advanced, state)
        reward = self.task.reward(state, control, next_state)
        metrics = self.task.metrics(state, control, next_state)
        info = {name: value.clone() for name, value in metrics.items()}
        return Transition(
            next_state,
            self.observe(next_state),
            torch.where(inside, reward, self.reward_range[0]),
            self.task.terminated(next_state) | ~inside,
            {**info, "diverged": ~inside},
        )

    def known_outcome(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> tuple[Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Returns reward and termination of steps of which only the observations are known."""
        state, next_state = self.task.state_of(observation), self.task.state_of(next_observation)
        control = self.task.control(action.to(observation.dtype).clamp(-1.0, 1.0))
        return self.task.reward(state, control, next_state), self.task.terminated(next_state)

    def state_of(self, observation: Float[Tensor, "rows observation"], stream: Stream) -> Any:
        """Returns states that show observations, at interval 0."""
        interval = torch.zeros_like(stream.seed)
        return replace(self.task.state_of(observation), stream=stream, interval=interval)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the environment of some rows of the batch; itself if parameters are shared."""
        system, task = self.system.select(rows), self.task.select(rows)
        if system is self.system and task is self.task:
            return self
        selected = copy.copy(self)
        selected.system, selected.task = system, task
        return selected

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the environment with other physics under the same task."""
        changed = copy.copy(self)
        changed.system = self.system.with_parameters(parameters, num_envs)
        changed.task = self.task.with_system(changed.system)
        return changed

    def render(self, state: Any, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the state of one environment.

        Raises:
            NotImplementedError: This environment has no drawing.
        """
        if self._draw is None:
            raise NotImplementedError(f"{type(self.system).__name__} has no drawing")
        drawn = self.select(torch.tensor([row], device=self.device))
        shown = map_tensors(lambda tensor: tensor[row : row + 1].detach().cpu(), state)
        return self._draw(shown, drawn)

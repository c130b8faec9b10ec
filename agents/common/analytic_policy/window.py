"""Short windows of parallel episodes, and the gradient of what they return by the actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.core.environment import Environment
from separatrix.envs.core.state import copied, from_tensors, map_tensors, put, take, tensors
from separatrix.envs.core.stream import Stream

Act = Callable[[Tensor, Tensor], Tensor]
"""Actions of observations and noise."""

Value = Callable[[Tensor], Tensor]
"""Values (rows,) of observations (rows, observation)."""


class Outcome(NamedTuple):
    """What a step of all episodes came to; gradients flow to the actions.

    The observations are those at the end of the step, before episodes that ended start again.
    Where they or the reward are not finite, a row is not `sound`: its episode is terminated.
    """

    reward: Float[Tensor, " batch"]
    observation: Float[Tensor, "batch observation"]
    terminated: Bool[Tensor, " batch"]
    truncated: Bool[Tensor, " batch"]
    sound: Bool[Tensor, " batch"]


class Episodes:
    """Episodes of a batch that start again where they end.

    The first episode of each row is truncated early, at a random step: rows that all started at
    once would otherwise be in the same phase of their episodes for ever.

    Args:
        environment: Where they take place.
        stream: Random streams of the first episodes.
        generator: Draws the lengths of the first episodes.
    """

    def __init__(
        self, environment: Environment, stream: Stream, generator: torch.Generator
    ) -> None:
        self._environment = environment
        with torch.no_grad():
            self.state, self.observation = environment.restart(stream)
        shape, device = stream.seed.shape, generator.device
        drawn = torch.randint(environment.horizon, shape, generator=generator, device=device)
        self._limit = 1 + drawn.to(self.observation.device)
        self._returns = torch.zeros_like(self._limit, dtype=torch.float64)
        self._finished: list[float] = []

    def detach(self) -> None:
        """Cuts the graph: what follows does not know what it comes from."""
        self.state = map_tensors(Tensor.detach, self.state)
        self.observation = self.observation.detach()

    def step(self, action: Float[Tensor, "batch action"]) -> Outcome:
        """Takes one step in every environment."""
        environment = self._environment
        transition = environment.step(self.state, action.to(environment.dtype))
        self.state, self.observation = transition.state, transition.observation
        sound = transition.observation.isfinite().all(1) & transition.reward.isfinite()
        terminated = transition.terminated | ~sound
        truncated = (self.state.interval >= self._limit) & ~terminated
        self._returns = self._returns + transition.reward.detach().double()
        ended = terminated | truncated
        if ended.any():
            self._start_again(ended, sound)
        return Outcome(transition.reward, transition.observation, terminated, truncated, sound)

    def pop_finished(self) -> list[float]:
        """Returns and forgets the returns of the episodes that ended.

        Those that were truncated early or left out are not among them.
        """
        finished, self._finished = self._finished, []
        return finished

    def state_dict(self) -> dict[str, Tensor]:
        """Returns where the episodes stand, as copies, when the finished ones are popped."""
        found = tensors(self.state, "state.") | {
            "observation": self.observation,
            "limit": self._limit,
            "returns": self._returns,
        }
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in found.items()}

    def load_state_dict(self, found: Mapping[str, Tensor]) -> None:
        """Goes on from what `state_dict` returned, for an environment made the same way.

        Raises:
            ValueError: A tensor is missing or has another shape.
        """
        self.state = from_tensors(self.state, found, "state.")
        self._limit = copied(found, "limit", self._limit)
        self._returns = copied(found, "returns", self._returns)
        self.observation = copied(found, "observation", self.observation)

    def _start_again(self, ended: Bool[Tensor, " batch"], sound: Bool[Tensor, " batch"]) -> None:
        horizon = self._environment.horizon
        self._finished += self._returns[ended & sound & (self._limit == horizon)].tolist()
        self._returns = self._returns.masked_fill(ended, 0.0)
        self._limit = self._limit.masked_fill(ended, horizon)
        rows = ended.nonzero()[:, 0]
        with torch.no_grad():
            streams = take(self.state.stream, rows).next_episode()
            state, observation = self._environment.select(rows).restart(streams)
        self.state = put(self.state, rows, state)
        self.observation = self.observation.index_copy(0, rows, observation)


class Window(NamedTuple):
    """Consecutive steps of a batch, without a graph."""

    observation: Float[Tensor, "steps batch observation"]
    noise: Float[Tensor, "steps batch action"]
    gradient: Float[Tensor, "steps batch action"]
    """Derivative of a row's objective by its actions, through all that follows in the window."""
    reward: Float[Tensor, "steps batch"]
    next_observation: Float[Tensor, "steps batch observation"]
    """At the end of the step, before an episode that ended started again."""
    terminated: Bool[Tensor, "steps batch"]
    ended: Bool[Tensor, "steps batch"]
    """Terminated or truncated."""

    def rows(self, kept: Bool[Tensor, " batch"]) -> Window:
        """Returns the window of some environments only."""
        return Window(*(tensor[:, kept] for tensor in self))


def play_window(
    act: Act,
    value: Value,
    episodes: Episodes,
    noise: Float[Tensor, "steps batch action"],
    gamma: float,
) -> Window:
    """Plays a window and differentiates the objective of each row.

    The objective is (Xu et al. 2022, section 3.2; for each episode that a window holds a part of)

        sum_k gamma^k r_k + gamma^h value(observation after h steps)

    with k counted from the start of the window or of the episode, whichever is later. A terminated
    episode has no value after its end, one that is truncated or goes on has. Nothing flows to
    weights: the derivatives by the actions include how later actions depend on earlier ones, and
    are all that it takes to train a policy on observations and noise of the window, in one batch.

    Args:
        act: The policy.
        value: The critic.
        episodes: Where the window starts; they go on from its end.
        noise: The policy's.
        gamma: Discount.

    Returns:
        The window of the sound rows. Those with a reward, an observation or a derivative that is
        not finite are left out; rows do not meet, so that they spoil no other.

    Raises:
        ValueError: The environment is not differentiable.
    """
    episodes.detach()
    sound = torch.ones_like(noise[0, :, 0], dtype=torch.bool)
    discount = torch.ones_like(noise[0, :, 0])
    objective = torch.zeros_like(discount, requires_grad=True)
    actions, steps = [], []
    for k, step_noise in enumerate(noise):
        observation = episodes.observation.to(noise)
        action = act(observation, step_noise)
        outcome = episodes.step(action)
        reward, following = outcome.reward.to(noise), outcome.observation.to(noise)
        if not (reward.requires_grad or following.requires_grad):
            raise ValueError("environment: got one without gradients; allowed: differentiable ones")
        objective = objective + discount * reward
        discount = gamma * discount
        cut = ~outcome.terminated if k == len(noise) - 1 else outcome.truncated
        if cut.any():
            objective = objective + torch.where(cut, discount * value(following), 0.0)
        ended = outcome.terminated | outcome.truncated
        discount = discount.masked_fill(ended, 1.0)
        sound = sound & outcome.sound
        actions.append(action)
        steps.append((observation, reward, following, outcome.terminated, ended))
    gradient = torch.stack(
        torch.autograd.grad(objective.sum(), actions, allow_unused=True, materialize_grads=True)
    )
    observations, rewards, after, terminated, ends = (
        torch.stack(found).detach() for found in zip(*steps, strict=True)
    )
    window = Window(observations, noise, gradient, rewards, after, terminated, ends)
    return window.rows(sound & gradient.isfinite().all(2).all(0))


def critic_targets(
    window: Window, next_value: Float[Tensor, "steps batch"], gamma: float, td_lambda: float
) -> Float[Tensor, "steps batch"]:
    """Returns the targets of TD(lambda).

    Args:
        window: The steps.
        next_value: Values of `window.next_observation`.
        gamma: Discount.
        td_lambda: Weight of longer returns.
    """
    targets = torch.empty_like(window.reward)
    target = next_value[-1]
    for k in reversed(range(len(targets))):
        following = torch.lerp(next_value[k], target, td_lambda)
        following = torch.where(window.ended[k], next_value[k], following)
        following = torch.where(window.terminated[k], 0.0, following)
        target = targets[k] = window.reward[k] + gamma * following
    return targets

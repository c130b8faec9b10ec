"""What the environments of language models share: candidates, observations, rewards."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.core.system import System
from separatrix.envs.language.checks import require
from separatrix.envs.language.drawing import draw_text
from separatrix.envs.language.instances import Instances
from separatrix.envs.language.language_model import LanguageModel
from separatrix.envs.language.reading import FEATURES, LOWEST, SCALES, Goal, limits

BONUS = 1.0
"""Reward of a hit."""


@dataclass(frozen=True)
class TextState(State):
    """A text with its target, and what the model says of it."""

    text: Int64[Tensor, "batch text"]
    target: Int64[Tensor, "batch count"]
    wanted: Float[Tensor, "batch wanted"]
    """Logarithms of the probabilities that the next token is to have; of no token for a target."""
    uncontrolled: Float[Tensor, "batch vocabulary"]
    """Logarithms of the probabilities of the first token of the target at the start."""
    features: Float[Tensor, "batch feature"]
    """Those of `separatrix.envs.language.reading.FEATURES`."""
    forward_tokens: Int64[Tensor, " batch"]
    """Tokens that the model read for this."""


class TextSystem(System):
    """A system of texts.

    Attributes:
        instances: What texts and targets are drawn from.
        model: The plant.
        capacity: Tokens that may be written, at most.
    """

    control_interval = 1.0
    differentiable = False
    instances: Instances
    model: LanguageModel
    capacity: int

    def __init__(self, instances: Instances, capacity: int, num_envs: int) -> None:
        self.instances, self.capacity, self.num_envs = instances, capacity, num_envs
        self.model = instances.arrangement.model
        self.device, self.dtype = self.model.device, self.model.dtype
        sink = 0 if instances.arrangement.sink is None else 1
        tokens = sink + capacity + instances.text_tokens + instances.target_tokens - 1
        if tokens > self.model.context:
            raise ValueError(
                f"got {tokens} tokens of sink, text, what is written, and target; allowed for the "
                f"model {self.model.name}: {self.model.context}"
            )

    def goal(self, state: TextState) -> Goal:
        """Returns what the texts are to be followed by."""
        wanted = state.wanted if state.wanted.shape[1] else None
        return Goal(state.target, wanted, self.instances.tolerance)

    def inside(self, state: Any) -> Bool[Tensor, " batch"]:
        """Tells that all is well: a frozen model cannot diverge."""
        return state.features.isfinite().all(1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns itself: all environments share the plant."""
        return self


@dataclass(frozen=True)
class Terms:
    """What is written, seen and paid.

    Attributes:
        candidates: Tokens that may be written: how many, drawn once from those of the model; None
            for the whole vocabulary.
        forbid_target: Whether tokens of the target may not be written.
        observation: "features", or "tokens" for these with all tokens of the state.
        reward: "gain" in the logarithm of the target's probability, with 1 for a hit, or the "hit"
            alone.
        price: Reward that a written token costs.
    """

    candidates: int | None
    forbid_target: bool
    observation: str
    reward: str
    price: float

    def tokens(self, model: LanguageModel) -> Int64[Tensor, " candidate"]:
        """Returns the tokens that actions stand for.

        Raises:
            ValueError: There are not as many.
        """
        if self.candidates is None:
            return torch.arange(model.vocabulary, device=model.device)
        known = model.writable.nonzero()[:, 0]
        allowed = f"None, or an integer from 1 to {len(known)}"
        require(self.candidates <= len(known), "candidates", self.candidates, allowed)
        keys, _ = Stream.start(torch.zeros(1, dtype=torch.int64)).uniform(
            len(known), torch.float64, INITIAL_STATE
        )
        return known[keys[0].argsort()[: self.candidates].to(known.device)].sort().values


class LanguageEnvironment(Environment):
    """A text, and a target that the model is to continue it with.

    Args:
        system: The plant.
        terms: What is written, seen and paid.
        horizon: Steps of an episode.

    Attributes:
        candidates: The tokens that actions stand for.
        shows_left: Whether observations tell which share of the capacity is left.
        token_columns: How many of the last columns of observations are tokens.
    """

    system: TextSystem
    shows_left: bool = True

    def __init__(self, system: TextSystem, terms: Terms, horizon: int) -> None:
        self.system, self.horizon, self._terms = system, horizon, terms
        model, instances = system.model, system.instances
        self.candidates = terms.tokens(model)
        self._usable = model.writable[self.candidates]
        low, high = limits(model.vocabulary, instances.target_tokens)
        if self.shows_left:
            low, high = [*low, 0.0], [*high, 1.0]
        self.token_columns = 0
        if terms.observation == "tokens":
            self.token_columns = tokens = (
                instances.text_tokens + system.capacity + instances.target_tokens
            )
            low, high = low + tokens * [-1 / model.vocabulary], high + tokens * [1.0]
        kind = np.float32 if system.dtype is torch.float32 else np.float64
        bounds = np.array(low, kind), np.array(high, kind)
        self.observation_space = Box(*bounds, dtype=kind)  # type: ignore[arg-type]
        self._bounds = tuple(torch.from_numpy(bound).to(system.device) for bound in bounds)
        gain = terms.reward == "gain"
        self.reward_range = (
            (LOWEST if gain else 0.0) - terms.price * system.capacity,
            (-LOWEST if gain else 0.0) + BONUS,
        )
        self.metric_names = ("hit", *FEATURES, "written", "forward_tokens")

    def observe(self, state: Any) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        scale = torch.tensor(SCALES, dtype=self.dtype, device=self.device)
        parts = [state.features / scale]
        if self.shows_left:
            parts.append(1 - self._used(state).to(self.dtype)[:, None] / self.system.capacity)
        if self._terms.observation == "tokens":
            parts.append(self._tokens(state).to(self.dtype) / self.system.model.vocabulary)
        return torch.cat(parts, 1).clamp(*self._bounds)

    @abstractmethod
    def _used(self, state: Any) -> Int64[Tensor, " batch"]:
        """Returns how much of the capacity is used."""

    @abstractmethod
    def _tokens(self, state: Any) -> Int64[Tensor, "batch token"]:
        """Returns all tokens of a state, -1 for none."""

    def tokens_allowed(self, state: TextState) -> Bool[Tensor, "batch candidate"]:
        """Tells which of the candidates may be written."""
        allowed = self._usable.expand(len(state.target), -1)
        if self._terms.forbid_target:
            own = (self.candidates == state.target[..., None]).any(1)
            allowed = allowed & ~own
        return allowed

    def _transition(
        self,
        state: TextState,
        following: TextState,
        hit: Bool[Tensor, " batch"],
        written: Int64[Tensor, " batch"],
    ) -> Transition:
        """Returns what a step returns.

        Args:
            state: Before it.
            following: After it.
            hit: Whether the target is reached.
            written: Tokens that it cost.
        """
        cost = written.to(self.dtype)
        reward = BONUS * hit.to(self.dtype) - self._terms.price * cost
        if self._terms.reward == "gain":
            # The difference of a potential, which is 0 where the episode has ended.
            potential = torch.where(hit, 0.0, following.features[:, 0])
            reward = reward + potential - state.features[:, 0]
        info = {"hit": hit.to(self.dtype)}
        info |= {name: following.features[:, i].clone() for i, name in enumerate(FEATURES)}
        info |= {"written": cost, "forward_tokens": following.forward_tokens.to(self.dtype)}
        info["diverged"] = ~self.system.inside(following)
        return Transition(following, self.observe(following), reward, hit.clone(), info)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns itself: all environments share the plant."""
        return self

    @abstractmethod
    def parts(self, state: Any, row: int = 0) -> list[tuple[str, bool]]:
        """Returns the text of an environment in pieces, and whether each was written by actions."""

    def render(self, state: Any, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the text, what was written into it, and the target with its probability."""
        target = self.system.model.decode(state.target[row].tolist())
        return draw_text(self.parts(state, row), target, state.features[row, 0].exp().item())

"""A prompt of vectors in the place of tokens, as a differentiable system and its task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.envs.core.actions import action_box
from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.task import Task
from separatrix.envs.language.checks import require
from separatrix.envs.language.drawing import draw_text
from separatrix.envs.language.instances import Instances
from separatrix.envs.language.language_environment import BONUS, TextState, TextSystem
from separatrix.envs.language.reading import FEATURES, LOWEST, SCALES, limits, read

SAFE = 100.0
"""Largest component of a vector, in units of the root mean square of embeddings."""


@dataclass(frozen=True)
class SoftPromptState(TextState):
    """A text under vectors."""

    vectors: Float[Tensor, "batch component"]
    """One vector after the other, in units of the root mean square of embeddings."""
    hit: Bool[Tensor, " batch"]
    """Whether the model's first choice is the target."""


class SoftPromptSystem(TextSystem):
    """The plant under vectors, which a control moves.

    Args:
        instances: What texts and targets are drawn from; its prompts stand before the text.
        capacity: Vectors.
        num_envs: Size of the batch.

    Raises:
        ValueError: The model cannot read as many tokens.
    """

    differentiable = True

    def __init__(self, instances: Instances, capacity: int, num_envs: int) -> None:
        super().__init__(instances, capacity, num_envs)
        self.unit = self.model.embedding.square().mean().sqrt()

    def initial_state(self, stream: Stream) -> SoftPromptState:
        """Draws texts and targets, and begins with the mean of all embeddings."""
        drawn, stream = self.instances.draw(stream)
        mean = self.model.embedding.mean(0) / self.unit
        vectors = mean.repeat(self.capacity).expand(len(drawn.text), -1)
        none = torch.zeros_like(stream.seed)
        blank = vectors.new_zeros((len(drawn.text), len(FEATURES)))
        read = drawn.text, drawn.goal.target, drawn.wanted, drawn.uncontrolled, blank, none
        state = SoftPromptState(stream, none, *read, vectors.clone(), none.bool())
        return self._read(state)

    def advance(
        self, state: SoftPromptState, control: Float[Tensor, "batch component"]
    ) -> SoftPromptState:
        """Moves the vectors.

        Args:
            state: Where they are.
            control: What is added, in units of the root mean square of embeddings.
        """
        moved = replace(state, interval=state.interval + 1, vectors=state.vectors + control)
        return self._read(moved)

    def _read(self, state: SoftPromptState) -> SoftPromptState:
        model, batch = self.model, len(state.text)
        vectors = (state.vectors * self.unit).view(batch, self.capacity, -1)
        parts = [vectors, model.embedding[state.text], model.embedding[state.target[:, :-1]]]
        sink = self.instances.arrangement.sink
        if sink is not None:
            parts.insert(0, model.embedding[sink].expand(batch, 1, -1))
        embeddings = torch.cat(parts, 1)
        lengths = torch.full((batch,), embeddings.shape[1], device=self.device)
        found = model.log_probabilities_of(embeddings, lengths, state.target.shape[1])
        reading = read(found, self.goal(state), state.uncontrolled)
        return replace(state, features=reading.features, forward_tokens=lengths, hit=reading.hit)

    def inside(self, state: SoftPromptState) -> Bool[Tensor, " batch"]:
        """Tells which vectors are finite and not too far off."""
        return (state.vectors.abs() <= SAFE).all(1)


class SoftPromptTask(Task):
    """Makes a target likely.

    Args:
        system: The plant.
        directions: Principal directions of the embeddings along which each vector is moved; None
            for all components.
        authority: Largest move along a direction, or of a component, in a step, in units of the
            root mean square of embeddings.
        observation: "vectors" for features and vectors, "features" for the features alone.
        price: Reward that the mean square of an action costs.

    Raises:
        ValueError: There are not as many directions.
    """

    metric_names = ("hit", *FEATURES, "energy")

    def __init__(
        self,
        system: SoftPromptSystem,
        directions: int | None,
        authority: float,
        observation: str,
        price: float,
    ) -> None:
        self._authority, self._price, self._system = authority, price, system
        embedding = system.model.embedding
        width = embedding.shape[1]
        self._directions: Tensor | None = None
        if directions is not None:
            most = min(embedding.shape)
            require(directions <= most, "directions", directions, f"None, or 1 to {most}")
            off = embedding - embedding.mean(0)
            self._directions = torch.linalg.svd(off, full_matrices=False)[2][:directions]
        self.action_space = action_box(system.capacity * (directions or width))
        self._shows_vectors = observation == "vectors"
        size = system.capacity * width if self._shows_vectors else 0
        low, high = limits(system.model.vocabulary, system.instances.target_tokens)
        low, high = [*low, *size * [-SAFE]], [*high, *size * [SAFE]]
        kind = np.float32 if system.dtype is torch.float32 else np.float64
        bounds = np.array(low, kind), np.array(high, kind)
        self.observation_space = Box(*bounds, dtype=kind)  # type: ignore[arg-type]
        self._bounds = tuple(torch.from_numpy(bound).to(system.device) for bound in bounds)
        self.reward_range = (LOWEST - price, -LOWEST + BONUS)

    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Turns actions in [-1, 1] into moves."""
        moves = self._authority * action
        if self._directions is None:
            return moves
        return (moves.view(len(moves), self._system.capacity, -1) @ self._directions).flatten(1)

    def observe(self, state: SoftPromptState) -> Float[Tensor, "batch observation"]:
        """Returns the scaled features, and the vectors."""
        found = state.features / state.features.new_tensor(SCALES)
        if self._shows_vectors:
            found = torch.cat((found, state.vectors), 1)
        return found.clamp(*self._bounds)

    def reward(
        self,
        state: SoftPromptState,
        control: Float[Tensor, "batch control"],
        next_state: SoftPromptState,
    ) -> Float[Tensor, " batch"]:
        """Returns the gain in the logarithm of the target's probability, less the price, and 1."""
        gain = next_state.features[:, 0] - state.features[:, 0]
        return gain + BONUS * next_state.hit - self._price * self._energy(control)

    def state_of(self, observation: Float[Tensor, "batch observation"]) -> SoftPromptState:
        """Returns states with these features and vectors, of no text."""
        instances, rows = self._system.instances, len(observation)
        count = len(FEATURES)
        features = observation[:, :count] * observation.new_tensor(SCALES)
        vectors = observation[:, count:]
        if not self._shows_vectors:
            size = self._system.capacity * self._system.model.embedding.shape[1]
            vectors = observation.new_zeros((rows, size))
        none = torch.zeros(rows, dtype=torch.int64, device=observation.device)
        text = none[:, None].expand(-1, instances.text_tokens)
        target = none[:, None].expand(-1, instances.target_tokens)
        unknown = observation.new_zeros((1, self._system.model.vocabulary)).expand(rows, -1)
        if instances.by_distribution:
            wanted, hit = unknown, features[:, 0] >= -instances.tolerance
        else:  # no token is likelier than the target's
            wanted, hit = unknown[:, :0], features[:, 3] >= 0
        return SoftPromptState(
            Stream.start(none),
            none,
            text,
            target,
            wanted,
            unknown,
            features,
            none,
            vectors,
            hit,
        )

    def terminated(self, state: SoftPromptState) -> Bool[Tensor, " batch"]:
        """Tells where the model's first choice is the target."""
        return state.hit

    def metrics(
        self,
        state: SoftPromptState,
        control: Float[Tensor, "batch control"],
        next_state: SoftPromptState,
    ) -> dict[str, Float[Tensor, " batch"]]:
        """Returns the features, and the mean square of the actions."""
        found: dict[str, Any] = {"hit": next_state.hit.to(control.dtype)}
        found |= {name: next_state.features[:, i] for i, name in enumerate(FEATURES)}
        return found | {"energy": self._energy(control)}

    def _energy(self, control: Tensor) -> Tensor:
        """Mean square of the actions that moves stand for."""
        size = self.action_space.shape[0]
        return (control / self._authority).square().sum(1) / size


def draw_soft(state: SoftPromptState, environment: ComposedEnvironment) -> np.ndarray:
    """Draws the text, one block for each vector, and the target with its probability."""
    system = environment.system
    assert isinstance(system, SoftPromptSystem)
    decode = system.model.decode
    parts = [("#" * system.capacity, True), (decode(state.text[0].tolist()), False)]
    probability = state.features[0, 0].exp().item()
    return draw_text(parts, decode(state.target[0].tolist()), probability)

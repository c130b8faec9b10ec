"""A text that a controller and a language model write in turns, as a system and its environment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from gymnasium.spaces import Discrete
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from separatrix.envs.core.environment import Transition
from separatrix.envs.core.stream import PROCESS_NOISE, Stream
from separatrix.envs.language.instances import Instances
from separatrix.envs.language.language_environment import (
    LanguageEnvironment,
    Terms,
    TextState,
    TextSystem,
)

YIELD = -1
"""Control that leaves the next token to the model."""


@dataclass(frozen=True)
class DialogueState(TextState):
    """A text that grows; of its tokens `length` count."""

    length: Int64[Tensor, " batch"]
    following: Float[Tensor, "batch vocabulary"]
    """Logarithms of the probabilities of the next token now."""
    heard: Int64[Tensor, "batch count"]
    """The last tokens that the model has written, as many as a target has; -1 for none."""
    memory: Shaped[Tensor, "batch ..."]
    """What the model remembers of the text, see `LanguageModel.begin`."""


class DialogueSystem(TextSystem):
    """The language-model system of A. Bhargava et al., definition 1 (arXiv:2310.04444).

    A control is a token, which is appended to the text, or `YIELD`: then the model appends one that
    it draws from its own distribution at a temperature.

    Args:
        instances: What texts and targets are drawn from.
        temperature: Of the model's draws; 0 takes the likeliest token.
        capacity: Tokens that may be appended.
        num_envs: Size of the batch.

    Raises:
        ValueError: The model cannot read as many tokens.
    """

    def __init__(
        self, instances: Instances, temperature: float, capacity: int, num_envs: int
    ) -> None:
        super().__init__(instances, capacity, num_envs)
        self.temperature = temperature

    def initial_state(self, stream: Stream) -> DialogueState:
        """Draws texts and targets."""
        drawn, stream = self.instances.draw(stream)
        room = self.capacity + drawn.goal.target.shape[1] - 1
        memory, read = self.instances.arrangement.begin(drawn.text, room)
        none = torch.zeros_like(stream.seed)
        blank = none[:, None].expand(-1, self.capacity)
        return DialogueState(
            stream,
            none,
            torch.cat((drawn.text, blank), 1),
            drawn.goal.target.clone(),
            drawn.wanted,
            drawn.uncontrolled,
            drawn.reading.features,
            drawn.forward_tokens + read,
            none + drawn.text.shape[1],
            drawn.uncontrolled.clone(),
            torch.full_like(drawn.goal.target, YIELD),
            memory,
        )

    def advance(self, state: DialogueState, control: Int64[Tensor, " batch"]) -> DialogueState:
        """Appends a token to every text.

        Args:
            state: Where the texts are.
            control: A token, or `YIELD`.
        """
        uniform, stream = state.stream.uniform(1, torch.float64, PROCESS_NOISE)
        drawn = self._drawn(state.following, uniform[:, 0])
        yields = control == YIELD
        token = torch.where(yields, drawn, control)[:, None]
        shifted = torch.cat((state.heard[:, 1:], token), 1)
        # Behind its capacity, where no episode gets, a text has its last token replaced.
        end = state.text.shape[1]
        place = state.length.clamp_max(end - 1)
        reading, found, memory, count = self.instances.arrangement.go_on(
            state.memory, place, token[:, 0], self.goal(state), state.uncontrolled
        )
        return replace(
            state,
            stream=stream,
            interval=state.interval + 1,
            text=state.text.scatter(1, place[:, None], token),
            length=place + 1,
            heard=torch.where(yields[:, None], shifted, state.heard),
            following=found[:, 0].clone(),
            features=reading.features,
            memory=memory,
            forward_tokens=count,
        )

    def _drawn(self, following: Tensor, uniform: Tensor) -> Int64[Tensor, " batch"]:
        """Draws tokens: the first one whose cumulated probability is above a uniform number."""
        if self.temperature == 0:
            return following.argmax(1)
        # Their largest first, so that no temperature is too low.
        off = following.double() - following.amax(1, keepdim=True)
        probability = (off / self.temperature).softmax(1)
        below = probability.cumsum(1) <= uniform[:, None]
        return below.sum(1).clamp_max(following.shape[1] - 1)


class DialogueEnvironment(LanguageEnvironment):
    """A dialogue whose controller wants the model to write the target.

    Args:
        system: The plant.
        terms: What is written, seen and paid.
        horizon: Steps of an episode.
    """

    system: DialogueSystem
    action_space: Discrete

    def __init__(self, system: DialogueSystem, terms: Terms, horizon: int) -> None:
        super().__init__(system, terms, horizon)
        self.action_space = Discrete(len(self.candidates) + 1)

    def step(self, state: DialogueState, action: Int64[Tensor, " batch"]) -> Transition:
        """Appends a token to every text."""
        allowed = self.allowed_actions(state).gather(1, action[:, None])[:, 0]
        last = len(self.candidates)
        yields = (action == last) | ~allowed
        token = self.candidates[action.clamp_max(last - 1)]
        following = self.system.advance(state, torch.where(yields, YIELD, token))
        hit = yields & (following.heard == state.target).all(1)
        return self._transition(state, following, hit, (~yields).long())

    def allowed_actions(self, state: DialogueState) -> Bool[Tensor, "batch choices"]:
        """Tells which tokens may be written; any other yields, as the last action does."""
        allowed = self.tokens_allowed(state)
        return torch.cat((allowed, torch.ones_like(allowed[:, :1])), 1)

    def _used(self, state: DialogueState) -> Int64[Tensor, " batch"]:
        return state.length - self.system.instances.text_tokens

    def _tokens(self, state: DialogueState) -> Int64[Tensor, "batch token"]:
        unused = torch.arange(state.text.shape[1], device=self.device) >= state.length[:, None]
        return torch.cat((state.text.masked_fill(unused, -1), state.target), 1)

    def parts(self, state: DialogueState, row: int = 0) -> list[tuple[str, bool]]:
        """Returns the text at the start and what followed, in runs of the same writer."""
        decode, begin = self.system.model.decode, self.system.instances.text_tokens
        found = [(decode(state.text[row, :begin].tolist()), False)]
        end = int(state.length[row])
        return [*found, (decode(state.text[row, begin:end].tolist()), True)]

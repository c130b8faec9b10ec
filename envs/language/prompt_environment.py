"""Environments in which actions write the prompt of a text, and the system that answers it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields, replace

import torch
from gymnasium.spaces import Discrete, MultiDiscrete
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from separatrix.envs.core.actions import Action
from separatrix.envs.core.environment import Transition
from separatrix.envs.core.stream import PROCESS_NOISE, Stream
from separatrix.envs.language.language_environment import (
    LanguageEnvironment,
    Terms,
    TextState,
    TextSystem,
)


@dataclass(frozen=True)
class PromptState(TextState):
    """A text under a prompt."""

    prompt: Int64[Tensor, "batch prompt"]
    """Tokens in the order in which they are read; 0 from `length` on."""
    length: Int64[Tensor, " batch"]
    hit: Bool[Tensor, " batch"]
    """Whether the model's first choice is the target."""


class PromptSystem(TextSystem):
    """The plant under a prompt. It has no time of its own: it answers the prompt that it is given.

    Args:
        instances: What texts and targets are drawn from.
        capacity: Tokens of a prompt, at most.
        num_envs: Size of the batch.

    Raises:
        ValueError: The model cannot read as many tokens.
    """

    def initial_state(self, stream: Stream) -> PromptState:
        """Draws texts and targets, under an empty prompt."""
        drawn, stream = self.instances.draw(stream)
        none = torch.zeros_like(stream.seed)
        prompt = none[:, None].expand(-1, self.capacity).clone()
        return PromptState(
            stream,
            none,
            drawn.text,
            drawn.goal.target,
            drawn.wanted,
            drawn.uncontrolled,
            drawn.reading.features,
            drawn.forward_tokens,
            prompt,
            none.clone(),
            drawn.reading.hit,
        )

    def advance(self, state: PromptState, control: Int64[Tensor, "batch control"]) -> PromptState:
        """Puts prompts in place.

        Args:
            state: Where the texts are.
            control: The length of each prompt, and its tokens up to the capacity.
        """
        length, prompt = control[:, 0].clone(), control[:, 1:]
        used = torch.arange(self.capacity, device=self.device) < length[:, None]
        prompt = prompt.masked_fill(~used, 0)
        following = replace(state, interval=state.interval + 1, prompt=prompt, length=length)
        return self._answered(following)

    def _answered(self, state: PromptState) -> PromptState:
        """Returns the state with what the model says of its prompt."""
        reading, _, lengths = self.instances.arrangement.read(
            state.prompt, state.length, state.text, self.goal(state), state.uncontrolled
        )
        return replace(state, features=reading.features, hit=reading.hit, forward_tokens=lengths)


@dataclass(frozen=True)
class AppendedState(PromptState):
    """A prompt behind a text."""

    memory: Shaped[Tensor, "batch ..."]
    """What the model remembers of both, see `LanguageModel.begin`."""


class AppendingSystem(PromptSystem):
    """The plant under a prompt behind the text, to which tokens are appended, one at a time.

    What was read before is not read again.
    """

    def initial_state(self, stream: Stream) -> AppendedState:
        """Draws texts and targets, under an empty prompt."""
        state = super().initial_state(stream)
        room = self.capacity + state.target.shape[1] - 1
        memory, read = self.instances.arrangement.begin(state.text, room)
        parts = {each.name: getattr(state, each.name) for each in fields(state)}
        parts["forward_tokens"] = state.forward_tokens + read
        return AppendedState(**parts, memory=memory)

    def _answered(self, state: PromptState) -> PromptState:
        assert isinstance(state, AppendedState)
        # The last token is read, also where it is an old one: that changes nothing.
        last = state.text.shape[1] + state.length - 1
        token = torch.cat((state.text, state.prompt), 1).gather(1, last[:, None])[:, 0]
        reading, _, memory, count = self.instances.arrangement.go_on(
            state.memory, last, token, self.goal(state), state.uncontrolled
        )
        return replace(
            state,
            features=reading.features,
            hit=reading.hit,
            forward_tokens=count,
            memory=memory,
        )


class PromptEnvironment(LanguageEnvironment):
    """A text under a prompt that actions change, until the model's first choice is the target."""

    system: PromptSystem

    @abstractmethod
    def _prompt(
        self, state: PromptState, action: Action
    ) -> tuple[Int64[Tensor, "batch prompt"], Int64[Tensor, " batch"]]:
        """Returns the prompts that actions make, and their lengths."""

    def step(self, state: PromptState, action: Action) -> Transition:
        """Changes every prompt."""
        prompt, length = self._prompt(state, action)
        following = self.system.advance(state, torch.cat((length[:, None], prompt), 1))
        return self._transition(state, following, following.hit, length - state.length)

    def _used(self, state: PromptState) -> Int64[Tensor, " batch"]:
        return state.length

    def _tokens(self, state: PromptState) -> Int64[Tensor, "batch token"]:
        unused = torch.arange(self.system.capacity, device=self.device) >= state.length[:, None]
        return torch.cat((state.text, state.prompt.masked_fill(unused, -1), state.target), 1)

    def parts(self, state: PromptState, row: int = 0) -> list[tuple[str, bool]]:
        """Returns prompt and text of an environment, and which of them actions wrote."""
        decode, length = self.system.model.decode, int(state.length[row])
        prompt = (decode(state.prompt[row, :length].tolist()), True)
        text = (decode(state.text[row].tolist()), False)
        before = self.system.instances.arrangement.place == "before"
        return [prompt, text] if before else [text, prompt]


class TokenEnvironment(PromptEnvironment):
    """Each step writes one token: in front of a prompt before the text, at the end of one after it.

    Args:
        system: The plant.
        terms: What is written, seen and paid.
        horizon: Steps of an episode.
    """

    action_space: Discrete

    def __init__(self, system: PromptSystem, terms: Terms, horizon: int) -> None:
        super().__init__(system, terms, horizon)
        self.action_space = Discrete(len(self.candidates))

    def allowed_actions(self, state: PromptState) -> Bool[Tensor, "batch choices"]:
        """Tells which tokens may be written; any other writes nothing."""
        return self.tokens_allowed(state)

    def _prompt(
        self, state: PromptState, action: Int64[Tensor, " batch"]
    ) -> tuple[Int64[Tensor, "batch prompt"], Int64[Tensor, " batch"]]:
        token, capacity = self.candidates[action][:, None], self.system.capacity
        writes = self.tokens_allowed(state).gather(1, action[:, None])
        writes &= state.length[:, None] < capacity
        if self.system.instances.arrangement.place == "before":
            prompt = torch.cat((token, state.prompt[:, :-1]), 1)
        else:
            end = state.length.clamp_max(capacity - 1)[:, None]
            prompt = state.prompt.scatter(1, end, token)
        return torch.where(writes, prompt, state.prompt), state.length + writes[:, 0]


class EditEnvironment(PromptEnvironment):
    """Each step replaces one token of a prompt of fixed length, which begins with random ones.

    Args:
        system: The plant.
        terms: What is written, seen and paid.
        horizon: Steps of an episode.
    """

    action_space: MultiDiscrete
    shows_left = False

    def __init__(self, system: PromptSystem, terms: Terms, horizon: int) -> None:
        super().__init__(system, terms, horizon)
        self.action_space = MultiDiscrete([system.capacity, len(self.candidates)])

    def restart(self, stream: Stream) -> tuple[PromptState, Float[Tensor, "batch observation"]]:
        """Starts an episode at given positions of the random streams."""
        state = self.system.initial_state(stream)
        stream, allowed, columns = state.stream, self.tokens_allowed(state), list[Tensor]()
        for _ in range(self.system.capacity):
            scores, stream = stream.uniform(len(self.candidates), torch.float64, PROCESS_NOISE)
            columns.append(self.candidates[scores.masked_fill(~allowed, -1.0).argmax(1)])
        length = torch.full_like(state.length, self.system.capacity)
        begun = self.system.advance(state, torch.stack((length, *columns), 1))
        begun = replace(begun, stream=stream, interval=state.interval)
        return begun, self.observe(begun)

    def allowed_actions(self, state: PromptState) -> Bool[Tensor, "batch choices"]:
        """Tells which positions and tokens may be chosen; any other token changes nothing."""
        tokens = self.tokens_allowed(state)
        positions = torch.ones_like(tokens[:, :1]).expand(-1, self.system.capacity)
        return torch.cat((positions, tokens), 1)

    def _prompt(
        self, state: PromptState, action: Int64[Tensor, "batch 2"]
    ) -> tuple[Int64[Tensor, "batch prompt"], Int64[Tensor, " batch"]]:
        position, choice = action[:, :1], action[:, 1:]
        writes = self.tokens_allowed(state).gather(1, choice)
        prompt = state.prompt.scatter(1, position, self.candidates[choice])
        return torch.where(writes, prompt, state.prompt), state.length

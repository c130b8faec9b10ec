"""Controllers that look one token ahead, and ones that have made up their mind before."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.state import map_tensors
from separatrix.envs.language.dialogue import DialogueEnvironment
from separatrix.envs.language.language_environment import LanguageEnvironment
from separatrix.envs.language.prompt_environment import EditEnvironment


class GreedyPrompt(Controller):
    """Writes the token after which the target is likeliest, or yields if it is likelier as it is.

    In `PromptToken-v0` it is the greedy back-generation of A. Bhargava et al. (arXiv:2310.04444,
    appendix C), in `PromptEdit-v0` it tries every replacement, and in `PromptDialogue-v0` it writes
    only where that makes the target likelier by the factor `patience`, and yields otherwise: a
    feedback on what the model has written.

    Args:
        environment: Where it acts; its plant is asked about every choice at every step.
        patience: Factor by which a token must make the target likelier than yielding; of
            `PromptDialogue-v0` alone.

    Raises:
        ValueError: The environment has no tokens to write, or the patience is no positive number.
    """

    def __init__(self, environment: Environment, patience: float = 2.0) -> None:
        inner = environment.unwrapped
        if not isinstance(inner, LanguageEnvironment):
            got = type(inner).__name__
            raise ValueError(
                f"greedy_prompt: got {got}; allowed: PromptToken-v0, PromptEdit-v0, "
                "PromptDialogue-v0"
            )
        if not 0 < patience < math.inf:
            raise ValueError(f"patience: got {patience}; allowed: positive numbers")
        self._environment, self._patience = inner, patience

    @torch.no_grad()
    def act(self, observation: Float[Tensor, "batch observation"], state: Any) -> Tensor:
        """Returns the choices; the observation stays unread."""
        state, environment = state.unwrapped, self._environment
        choices = torch.arange(len(environment.candidates), device=environment.device)
        if isinstance(environment, EditEnvironment):
            positions = torch.arange(environment.system.capacity, device=environment.device)
            choices = torch.cartesian_prod(positions, choices)
        # One environment at a time: there are as many rows as choices for each.
        rows = [self._best(state, row, choices) for row in range(len(state.target))]
        return torch.stack(rows)

    def _best(self, state: Any, row: int, choices: Tensor) -> Tensor:
        """Returns the best choice of one environment."""
        environment, found = self._environment, list[Tensor]()
        allowed = environment.tokens_allowed(state)[row]
        for part in environment.system.model.parts(len(choices), state.text.shape[1]):
            some = choices[part]
            repeated = map_tensors(partial(_repeat, row, len(some)), state)
            value = environment.step(repeated, some).state.features[:, 0]
            written = some if some.ndim == 1 else some[:, 1]
            found.append(value.masked_fill(~allowed[written], -torch.inf))
        values = torch.cat(found)
        best = values.argmax()
        if isinstance(environment, DialogueEnvironment):
            needed = state.features[row, 0] + math.log(self._patience)
            if values[best] < needed:
                return torch.tensor(len(environment.candidates), device=environment.device)
        return choices[best]


def _repeat(row: int, count: int, tensor: Tensor) -> Tensor:
    return tensor[row : row + 1].expand(count, *tensor.shape[1:])


class WrittenPrompt(Controller):
    """Acts as it was told before: an open loop.

    Args:
        choices: What each environment does in each step; after the last one it yields or, where
            nobody can, makes the first choice.
        after: The choice after the last one.
    """

    def __init__(self, choices: Int64[Tensor, "batch steps"], after: int = 0) -> None:
        self._choices, self._after = choices, after
        self._step = torch.zeros(len(choices), dtype=torch.int64, device=choices.device)

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Begins anew."""
        self._step = torch.where(mask, 0, self._step)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Int64[Tensor, " batch"]:
        """Returns the choices; observation and state stay unread."""
        last = self._choices.shape[1] - 1
        found = self._choices.gather(1, self._step.clamp_max(last)[:, None])[:, 0]
        found = torch.where(self._step > last, self._after, found)
        self._step = self._step + 1
        return found

"""A policy of choices, and the policy that a run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from gymnasium.spaces import Discrete, MultiDiscrete
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from separatrix.agents.common.checkpoint import Checkpoint, with_prefix
from separatrix.agents.common.training import described_misfit
from separatrix.agents.experiment import ExperimentConfig
from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.controllers.controller import Controller

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment


Rows = Int64[Tensor, "rows *choice"]
"""Choices, one row for each observation."""


class ChoicePolicy(nn.Module):
    """Independent categorical choices, given an observation.

    Tokens among the observation, its last columns, are embedded; see
    `separatrix.envs.language.language_environment.LanguageEnvironment.token_columns`.

    Args:
        environment: Gives spaces, tokens and device.
        config: Sizes.
        seed: Seed of the weights.
    """

    def __init__(self, environment: Environment, config: GroupRelativeConfig, seed: int) -> None:
        super().__init__()
        space = environment.action_space
        assert isinstance(space, Discrete | MultiDiscrete)
        self._several = isinstance(space, MultiDiscrete)
        self.counts: list[int] = (
            space.nvec.tolist() if isinstance(space, MultiDiscrete) else [int(space.n)]
        )
        self._tokens, self._vocabulary = token_columns(environment)
        size = environment.observation_space.shape[0] - self._tokens
        torch_state = torch.random.get_rng_state()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(self._vocabulary + 1, config.embedding_size)
        inputs = size + self._tokens * config.embedding_size
        sizes = (inputs, *config.layers, sum(self.counts))
        modules = list[nn.Module]()
        for before, after in pairwise(sizes):
            modules += [nn.Linear(before, after), nn.Tanh()]
        self.network = nn.Sequential(*modules[:-1])
        torch.random.set_rng_state(torch_state)
        last = modules[-2]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():  # so that all choices are about equally likely at first
            last.weight.mul_(0.01)
            last.bias.zero_()
        self.to(environment.device)

    def forward(
        self,
        observation: Float[Tensor, "rows observation"],
        allowed: Bool[Tensor, "rows choices"] | None,
    ) -> list[Float[Tensor, "rows _"]]:
        """Returns the log-probabilities of each choice; those that make no sense have none.

        Args:
            observation: Observations.
            allowed: Which make sense; None for all.
        """
        observation = observation.float()
        if self._tokens:
            seen, scaled = observation[:, : -self._tokens], observation[:, -self._tokens :]
            # Blanks are -1 and become the last row.
            tokens = (scaled * self._vocabulary).round().long() % (self._vocabulary + 1)
            observation = torch.cat((seen, self.embedding(tokens).flatten(1)), 1)
        logits = self.network(observation)
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -1e9)
        return [part.log_softmax(1) for part in logits.split(self.counts, 1)]

    def sample(
        self, log_probabilities: Sequence[Float[Tensor, "rows _"]], generator: torch.Generator
    ) -> Rows:
        """Draws choices."""
        columns = [
            torch.multinomial(part.exp(), 1, generator=generator) for part in log_probabilities
        ]
        return torch.cat(columns, 1) if self._several else columns[0][:, 0]

    def mode(self, log_probabilities: Sequence[Float[Tensor, "rows _"]]) -> Rows:
        """Returns the likeliest choices."""
        columns = [part.argmax(1) for part in log_probabilities]
        return torch.stack(columns, 1) if self._several else columns[0]

    def log_probability(
        self,
        log_probabilities: Sequence[Float[Tensor, "rows _"]],
        action: Rows,
    ) -> Float[Tensor, " rows"]:
        """Returns the log-probability of choices made together."""
        columns = action.view(len(action), -1).unbind(1)
        parts = zip(log_probabilities, columns, strict=True)
        return sum(part.gather(1, column[:, None])[:, 0] for part, column in parts)  # type: ignore[return-value]


def token_columns(environment: Environment) -> tuple[int, int]:
    """Returns how many of the last columns of an observation are tokens, and of how many kinds."""
    from separatrix.envs.language.language_environment import LanguageEnvironment

    inner = environment.unwrapped
    if environment is inner and isinstance(inner, LanguageEnvironment):
        return inner.token_columns, inner.system.model.vocabulary
    return 0, 0


class ChoiceController(Controller):
    """The likeliest choices of a policy.

    Args:
        policy: The policy, whose weights may go on changing.
        environment: Tells which choices make sense.
    """

    def __init__(self, policy: ChoicePolicy, environment: Environment) -> None:
        self._policy, self._environment = policy, environment

    @torch.no_grad()
    def act(self, observation: Float[Tensor, "batch observation"], state: Any) -> Rows:
        """Returns the choices."""
        allowed = self._environment.allowed_actions(state)
        return self._policy.mode(self._policy(observation, allowed))


def load_policy(
    config: ExperimentConfig, checkpoint: Checkpoint, environment: Environment
) -> ChoiceController:
    """Makes the policy of a checkpoint, see `separatrix.agents.catalog.load_policy`."""
    assert isinstance(config.agent, GroupRelativeConfig)
    with described_misfit(config, checkpoint):
        policy = ChoicePolicy(environment, config.agent, config.seed)
        policy.load_state_dict(with_prefix("policy", checkpoint.tensors))
    return ChoiceController(policy.requires_grad_(False), environment)

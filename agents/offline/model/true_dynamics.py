"""The environment itself as dynamics of its observation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.offline.model.dynamics import Candidates, Dynamics
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.stream import Stream

TOLERANCE = 0.01
"""How far a step from a state made of an observation may miss the true one, as a fraction of what
is to be told: the change of the observation in a step, and the reward."""
PROBES, PROBED_STEPS = 16, 3
"""Episodes, and steps of each, in which that is tried."""


class TrueDynamics(Dynamics):
    """The environment, stepped from the states that its observations show.

    Noise of the physics is drawn anew for every row. An environment that diverges stays where it
    is, terminates, and gets the lowest reward, as in its own steps.

    Args:
        environment: The environment.
        name: What errors call it.

    Raises:
        ValueError: The observation does not determine the state: the environment says so, or steps
            from states made of observations miss its own, see `TOLERANCE`; or its parameters are
            not shared by all of a batch.
    """

    def __init__(self, environment: Environment, name: str) -> None:
        self._environment = environment
        self.notes = f"Steps, rewards and ends are those of {name} itself."
        try:
            self._check()
        except ValueError as error:
            raise ValueError(f"model.source: true dynamics of {name}: {error}") from error

    def prepare(self, generator: torch.Generator) -> dict[str, float]:
        """Returns nothing: there is nothing to learn."""
        return {}

    @torch.no_grad()
    def propose(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        samples: int,
        generator: torch.Generator,
    ) -> Candidates:
        """Takes a step; there is one candidate, whatever the number of samples."""
        environment, device = self._environment, generator.device
        seeds = torch.randint(2**62, (len(observation),), generator=generator, device=device)
        seen = observation.to(environment.device, environment.dtype)
        state = environment.state_of(seen, Stream.start(seeds.to(environment.device)))
        step = environment.step(state, action.to(environment.device))
        return Candidates(
            step.observation.to(observation)[None],
            step.reward.to(observation)[None],
            step.terminated.to(observation.device)[None],
            observation.new_zeros(len(observation)),
        )

    def members(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        samples: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "members samples rows observation"]:
        """Takes a step, as one member with one sample."""
        return self.propose(observation, action, 1, generator).next_observation[None]

    def state_dict(self) -> dict[str, Tensor]:
        """Returns nothing."""
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes nothing."""

    @torch.no_grad()
    def _check(self) -> None:
        """Compares steps from states made of observations with those from the true states."""
        environment, device = self._environment, self._environment.device
        one = torch.zeros(1, dtype=torch.int64, device=device)
        if environment.num_envs > 1 and environment.select(one) is not environment:
            raise ValueError("got parameters for each environment; allowed: shared ones")
        generator = torch.Generator().manual_seed(0)
        state, observation = environment.reset(torch.arange(PROBES))
        for _ in range(PROBED_STEPS):
            drawn = torch.rand((PROBES, *environment.action_shape), generator=generator)
            action = (2 * drawn - 1).to(device)
            true = environment.step(state, action)
            found = environment.step(environment.state_of(observation, state.stream), action)
            change = true.observation - observation
            for what, miss, size in (
                ("the observation", found.observation - true.observation, change),
                ("the reward", found.reward - true.reward, true.reward),
            ):
                error, scale = (part.square().mean().sqrt().item() for part in (miss, size))
                if not error <= TOLERANCE * scale:
                    raise ValueError(
                        f"the observation does not determine the state: a step from it misses "
                        f"{what} by {error:.3g}; allowed: {TOLERANCE * scale:.3g}"
                    )
            state, observation = true.state, true.observation

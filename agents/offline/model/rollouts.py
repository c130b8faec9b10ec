"""Rollouts of a policy in dynamics, which end where they are not believed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.offline.model.buffer import ModelBuffer, ModelTransitions
from separatrix.agents.offline.model.dynamics import Dynamics
from separatrix.agents.offline.model_config import FilterConfig
from separatrix.agents.offline.morec.transition_filter import Choice

Act = Callable[[Tensor], Tensor]
"""Actions (rows, action) of observations (rows, observation)."""


@runtime_checkable
class Filter(Protocol):
    """Chooses among candidates, as `TransitionFilter` of `separatrix.agents.offline.morec` does."""

    @property
    def config(self) -> FilterConfig:
        """How many candidates there are, and what becomes of one that is not believed."""

    def choose(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        candidates: Float[Tensor, "candidates rows observation"],
        generator: torch.Generator,
    ) -> Choice:
        """Chooses a candidate for each row."""


@torch.no_grad()
def roll_out(
    dynamics: Dynamics,
    act: Act,
    starts: Float[Tensor, "rows observation"],
    length: int,
    buffer: ModelBuffer,
    generator: torch.Generator,
    *,
    penalty: float = 0.0,
    transition_filter: Filter | None = None,
) -> dict[str, float]:
    """Rolls a policy out from observations, and adds all transitions to a buffer.

    Without a filter each row follows one sample of one elite, drawn anew at every step, and all is
    believed (M. Janner et al., NeurIPS 2019). With one it follows what the filter chooses, with the
    reward that was predicted with it. Where that is not believed the rollout ends; an end of the
    episode that is not believed is none.

    Args:
        dynamics: What proposes.
        act: The policy.
        starts: Observations that rollouts start from.
        length: Steps of a rollout, at most.
        buffer: Where transitions go.
        generator: Source of randomness.
        penalty: What is taken off rewards for each unit of doubt.
        transition_filter: What chooses among candidates; see its `FilterConfig` for their number,
            and for what becomes of a transition that is not believed.

    Returns:
        `model/rollout_length`, the mean number of steps; the shares of rollouts that ended as they
        were `model/cut` or `model/terminated`; and the means over steps of `model/reward`, before
        the penalty, of `model/doubt` and, with a filter, of `model/dynamics_reward`.
    """
    rules = FilterConfig(samples=1) if transition_filter is None else transition_filter.config
    observation, sums = starts, defaultdict[str, float](float)
    for position in range(length):
        rows, device = len(observation), observation.device
        if rows == 0:
            break
        action = act(observation)
        candidates = dynamics.propose(observation, action, rules.samples, generator)
        if transition_filter is None:
            count = len(candidates.reward)
            index = torch.randint(count, (rows,), generator=generator, device=device)
            believed = torch.ones(rows, dtype=torch.bool, device=device)
        else:
            found = candidates.next_observation
            choice = transition_filter.choose(observation, action, found, generator)
            index, believed = choice.index, choice.believed
            sums["dynamics_reward"] += choice.reward.sum().item()
        row = torch.arange(rows, device=device)
        following, reward, ended = (part[index, row] for part in candidates[:3])
        ended = ended & believed
        transitions = ModelTransitions(
            observation,
            action,
            reward - penalty * candidates.doubt,
            following,
            ended | ~believed if rules.on_cut == "terminate" else ended,
            ~believed if rules.on_cut == "lowest_value" else torch.zeros_like(believed),
            torch.full_like(row, position),
        )
        buffer.add(transitions[believed] if rules.on_cut == "drop" else transitions)
        observation = following[believed & ~ended]
        sums["steps"] += rows
        sums["reward"] += reward.sum().item()
        sums["doubt"] += candidates.doubt.sum().item()
        sums["cut"] += int((~believed).sum())
        sums["terminated"] += int(ended.sum())
    rates = {name: sums[name] / len(starts) for name in ("cut", "terminated")}
    rates["rollout_length"] = sums["steps"] / len(starts)
    means = ("reward", "doubt", "dynamics_reward")
    rates |= {name: sums[name] / sums["steps"] for name in means if name in sums}
    return {f"model/{name}": value for name, value in rates.items()}

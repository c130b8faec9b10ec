"""What tells whether values on transitions of a model can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from separatrix.agents.offline.model.buffer import ModelTransitions
from separatrix.agents.offline.soft_actor_critic import SoftActorCritic
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ValuesByPosition:
    """Values of next observations, under the policy's actions, by their place in rollouts."""

    value: Float[Tensor, " positions"]
    """Mean of the smallest value of the critics; NaN where there is no transition."""

    spread: Float[Tensor, " positions"]
    """Mean of the standard deviation over the critics; NaN where there is no transition."""

    count: Int64[Tensor, " positions"]
    """Transitions."""

    def scalars(self) -> dict[str, float]:
        """Returns what tells the last step of rollouts from those before it, for the log.

        The next observation of the last step is at the edge of reach: it enters targets and is
        never itself the start of a transition (A. Sims et al., NeurIPS 2024, arXiv:2402.12527). If
        values there are larger, and critics differ more, than within, values feed on the edge.

        Returns:
            `model/edge_value`, `model/edge_spread`, `model/inner_value` and `model/inner_spread`;
            a pair is left out if it has no transition.
        """
        found = {}
        for name, part in (("inner", slice(0, -1)), ("edge", slice(-1, None))):
            count = self.count[part]
            if count.sum() > 0:
                share = count / count.sum()
                for kind, values in (("value", self.value), ("spread", self.spread)):
                    mean = (values[part].nan_to_num() * share).sum()
                    found[f"model/{name}_{kind}"] = mean.item()
        return found


@torch.no_grad()
def values_by_position(
    learner: SoftActorCritic, transitions: ModelTransitions, length: int
) -> ValuesByPosition:
    """Evaluates the critics at the next observations of transitions.

    Args:
        learner: Has critics and a policy, whose deterministic actions are taken.
        transitions: Of rollouts. Those that ended their rollout are left out.
        length: Steps of a whole rollout.
    """
    whole = transitions[(~(transitions.terminated | transitions.cut)).nonzero()[:, 0]]
    seen = learner.normalizer(whole.next_observation)
    values = learner.critics(seen, learner.policy.mode(seen))
    count = torch.bincount(whole.position, minlength=length)

    def mean(of: Tensor) -> Tensor:
        return of.new_zeros(length).index_add(0, whole.position, of) / count

    spread = (values - values.mean(0)).square().mean(0).sqrt()
    return ValuesByPosition(mean(values.amin(0)), mean(spread), count)


def draw_values(found: ValuesByPosition) -> Figure:
    """Draws the values by position, with the spread over critics as a band."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step of the rollout", ylabel="value of the next observation")
    value, spread = found.value.cpu().numpy(), found.spread.cpu().numpy()
    steps = range(1, len(value) + 1)
    axes.plot(steps, value, "o-", label="smallest of the critics")
    axes.fill_between(
        steps, value, value + spread, alpha=0.3, label="one standard deviation over them"
    )
    axes.legend()
    return figure


@dataclass(frozen=True)
class Overestimation:
    """What critics promise at the start of episodes, and what the policy then gets."""

    value: Float[Tensor, " episodes"]
    """Smallest value of the critics of the first observation and action."""

    discounted_return: Float[Tensor, " episodes"]
    """Sum of the discounted rewards of the episode, up to the horizon of the environment."""

    @property
    def mean(self) -> float:
        """Mean of value minus discounted return."""
        return (self.value - self.discounted_return).mean().item()


def overestimation(
    learner: SoftActorCritic, environment: Environment, seeds: Int64[Tensor, " episodes"]
) -> Overestimation:
    """Rolls the deterministic policy out in the true environment, from where episodes start.

    What comes after the horizon counts nothing in the returns: for a fair comparison the discount
    should have fallen to next to nothing by then. Values of SAC hold the entropy to come, if
    targets do; returns do not.

    Args:
        learner: Has critics and a policy.
        environment: Where the data are from.
        seeds: Of the episodes.
    """
    steps = list(rollout(environment, learner.controller(), seeds))
    rewards = torch.stack([torch.where(s.alive, s.transition.reward, 0.0) for s in steps])
    discount = learner.config.gamma ** torch.arange(len(steps), device=rewards.device)
    seen = learner.normalizer(steps[0].observation.to(learner.normalizer.mean))
    with torch.no_grad():
        value = learner.critics(seen, steps[0].action.to(seen)).amin(0)
    return Overestimation(value, (discount[:, None] * rewards).sum(0).to(value))

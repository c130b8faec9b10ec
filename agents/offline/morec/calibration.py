"""How well a dynamics reward tells good transitions from bad ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.dynamics.network import Normalizer
from separatrix.agents.common.replay import Transitions
from separatrix.agents.offline.morec.dynamics_reward import DynamicsReward


def ranks(values: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Returns ranks from 1, float64; equal values share the mean of their ranks."""
    _, group, count = values.unique(return_inverse=True, return_counts=True)
    count = count.double()
    return (count.cumsum(0) - (count - 1) / 2)[group]


def rank_correlation(first: Float[Tensor, " rows"], second: Float[Tensor, " rows"]) -> float:
    """Returns Spearman's rank correlation, in [-1, 1]; 0 where one side is constant."""
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    size = (a.square().sum() * b.square().sum()).sqrt()
    return (a @ b / size).item() if size > 0 else 0.0


def area_under_curve(above: Float[Tensor, " more"], below: Float[Tensor, " fewer"]) -> float:
    """Returns how often a value of the first set is above one of the second; ties count half.

    It is the area under the receiver operating characteristic (J. Hanley and B. McNeil, Radiology
    1982): 1 tells the sets apart, 0.5 tells nothing, as it does where a set is empty.
    """
    more, fewer = len(above), len(below)
    if more == 0 or fewer == 0:
        return 0.5
    total = ranks(torch.cat((above, below)))[:more].sum()
    return ((total - more * (more + 1) / 2) / (more * fewer)).item()


@torch.no_grad()
def calibrate(
    reward: DynamicsReward,
    transitions: Transitions,
    candidates: Float[Tensor, "candidates rows observation"],
    generator: torch.Generator,
) -> dict[str, float]:
    """Compares the dynamics reward with the truth, on transitions that it was not learned from.

    Errors of candidates are root mean squares over the components, each in units of the standard
    deviation of its recorded changes. They hold the noise of the environment and of the candidates.

    Args:
        reward: The dynamics reward, trained.
        transitions: Recorded ones, (rows, ...).
        candidates: What a model proposes for their next observations.
        generator: Source of randomness, on the device of the rows.

    Returns:
        `morec/rank_correlation`: between reward, negated, and error of the candidates of all rows.
        `morec/auc_error`: of a candidate with an error above the median and one with another, how
        often the second has the larger reward. `morec/auc_perturbed`: how often a recorded next
        observation has a larger reward than one with normal noise of one standard deviation of the
        changes. `morec/chosen_error`: mean error of the candidates of largest reward over that of
        all candidates, which is what choosing by it brings; 1 if none errs.
        `morec/reward_recorded` and `morec/reward_proposed`: mean rewards of recorded next
        observations and of candidates.
    """
    before = transitions.observation, transitions.action
    truth = transitions.next_observation
    changes = Normalizer(truth.shape[1]).to(truth.device)
    changes.fit(truth - transitions.observation)
    unit = changes.deviation
    noise = torch.randn(truth.shape, generator=generator, device=truth.device, dtype=truth.dtype)
    recorded, perturbed = reward.reward(*before, torch.stack((truth, truth + unit * noise)))
    proposed = reward.reward(*before, candidates)
    error = ((candidates - truth) / unit).square().mean(-1).sqrt()
    chosen = error.gather(0, proposed.argmax(0)[None])
    large = error > error.median()
    return {
        "morec/rank_correlation": rank_correlation(-proposed.flatten(), error.flatten()),
        "morec/auc_error": area_under_curve(proposed[~large], proposed[large]),
        "morec/auc_perturbed": area_under_curve(recorded, perturbed),
        "morec/chosen_error": (chosen.mean() / error.mean()).nan_to_num(1.0).item(),
        "morec/reward_recorded": recorded.mean().item(),
        "morec/reward_proposed": proposed.mean().item(),
    }

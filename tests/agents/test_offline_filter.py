"""MOREC's transition filter: what is chosen, how often, and what is believed."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from torch import Tensor

from separatrix.agents.offline.model.rollouts import Filter
from separatrix.agents.offline.model_config import DynamicsRewardConfig, FilterConfig
from separatrix.agents.offline.morec.dynamics_reward import DynamicsReward
from separatrix.agents.offline.morec.transition_filter import Choice, TransitionFilter

ROWS = 20_000


class Known(DynamicsReward):
    """The first component of the next observation, as reward."""

    def __init__(self) -> None:
        super().__init__(1, 1, DynamicsRewardConfig(layers=(2,)))

    def reward(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> Tensor:
        return next_observation[..., 0]


def choose(config: FilterConfig, rewards: Tensor, seed: int = 0) -> Choice:
    """Chooses among candidates of these rewards, (candidates, rows)."""
    rows = torch.zeros(rewards.shape[1], 1)
    generator = torch.Generator().manual_seed(seed)
    return TransitionFilter(Known(), config).choose(rows, rows, rewards[..., None], generator)


def rewards(candidates: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return 0.3133 + torch.rand(candidates, rows, generator=generator)


def test_argmax_takes_the_best() -> None:
    given = rewards(6, 300)
    found = choose(FilterConfig(choice="argmax"), given)
    assert torch.equal(found.index, given.argmax(0))
    assert torch.equal(found.reward, given.amax(0))
    assert torch.equal(found.believed, given.amax(0) >= 0.6)


def test_of_several_best_one_is_drawn() -> None:
    one = torch.tensor([0.7, 0.5, 0.7, 0.7])
    found = choose(FilterConfig(choice="argmax"), one[:, None].expand(-1, ROWS))
    count = torch.bincount(found.index, minlength=4)
    assert count[1] == 0
    assert scipy.stats.chisquare(count[[0, 2, 3]].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("choice", ["argmax", "softmax"])
def test_only_what_reaches_the_threshold_is_believed(choice: str) -> None:
    given = torch.tensor([[0.59, 0.6, 0.61, 1.3]]).expand(3, -1)
    found = choose(FilterConfig(choice=choice, threshold=0.6), given)  # type: ignore[arg-type]
    assert found.believed.tolist() == [False, True, True, True]
    assert torch.equal(found.reward, given[0])


def test_a_random_choice_is_always_believed() -> None:
    given = rewards(5, ROWS)
    found = choose(FilterConfig(choice="random", threshold=2.0), given)
    assert found.believed.all()
    assert torch.equal(found.reward, given.gather(0, found.index[None])[0])
    count = torch.bincount(found.index, minlength=5)
    assert scipy.stats.chisquare(count.numpy()).pvalue > 1e-3
    assert not choose(FilterConfig(threshold=2.0), given).believed.any()


def test_softmax_frequencies() -> None:
    one = torch.tensor([0.40, 0.50, 0.55, 0.70])
    found = choose(FilterConfig(choice="softmax", temperature=0.1), one[:, None].expand(-1, ROWS))
    assert torch.equal(found.reward, one[found.index])
    count = torch.bincount(found.index, minlength=4).numpy()

    def agreement(temperature: float) -> float:
        weight = (one.double() / temperature).exp()
        return scipy.stats.chisquare(count, (ROWS * weight / weight.sum()).numpy()).pvalue

    assert agreement(0.1) > 1e-3
    # The test would tell a temperature that is a tenth off.
    assert agreement(0.11) < 1e-6
    assert agreement(0.09) < 1e-6


def test_softmax_of_a_low_temperature_is_the_argmax() -> None:
    given = rewards(6, 300)
    sharp = choose(FilterConfig(choice="softmax", temperature=1e-6), given)
    assert torch.equal(sharp.index, given.argmax(0))


@pytest.mark.parametrize("choice", ["softmax", "random"])
def test_choices_are_reproducible(choice: str) -> None:
    config, given = FilterConfig(choice=choice), rewards(6, 300)  # type: ignore[arg-type]
    first, second, third = (choose(config, given, seed) for seed in (1, 1, 2))
    assert torch.equal(first.index, second.index)
    assert not torch.equal(first.index, third.index)


def test_a_single_candidate_is_chosen_by_all() -> None:
    for choice in ("argmax", "softmax", "random"):
        found = choose(FilterConfig(choice=choice), rewards(1, 40))
        assert not found.index.any()


def test_rollouts_accept_the_filter() -> None:
    assert isinstance(TransitionFilter(Known(), FilterConfig()), Filter)

"""Recording: what was done in every environment, one episode after the other."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.replay import Transitions
from separatrix.agents.offline.data.collect import (
    from_transitions,
    joined,
    record,
    whole_episodes,
)
from separatrix.agents.offline.data.dataset import Dataset, Metadata
from separatrix.controllers.controller import Controller
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment
from tests.agents.linear_environments import Sum, integrator
from tests.agents.offline_datasets import METADATA, assert_same, make_dataset


class Gain(Controller):
    """Three times the first component of the observation, which may be out of bounds."""

    def act(self, observation: Float[Tensor, "batch observation"], state: Any) -> Tensor:
        return 3 * observation[:, :1]


def columns(dataset: Dataset, num_envs: int) -> list[dict[str, Tensor]]:
    """The rows of each environment."""
    parts = {name: tensor.chunk(num_envs) for name, tensor in dataset.tensors().items()}
    return [{name: part[number] for name, part in parts.items()} for number in range(num_envs)]


def test_gymnasium_goes_through_the_same_episodes() -> None:
    """Each environment on its own, with the recorded actions: observations, rewards and ends."""
    environment = make_environment("DampedPendulum-v0", 3, horizon=7)
    dataset = record(environment, RandomController(environment, 1), 3 * 17, 5)
    assert dataset.episode.bincount().tolist() == [7, 7, 3] * 3
    assert torch.equal(dataset.truncated, dataset.last)
    for number, rows in enumerate(columns(dataset, 3)):
        single = gymnasium.make("separatrix/DampedPendulum-v0", max_episode_steps=7)
        observation, _ = single.reset(seed=5 + number)
        for row in range(17):
            assert np.allclose(observation, rows["observation"][row], atol=1e-5)
            observation, reward, _, truncated, _ = single.step(rows["action"][row].numpy())
            assert np.allclose(observation, rows["next_observation"][row], atol=1e-5)
            assert reward == pytest.approx(rows["reward"][row].item(), abs=1e-5)
            assert truncated == (bool(rows["truncated"][row]) and row < 16)
            if truncated:
                observation, _ = single.reset()


def test_batch_and_singles_agree_where_episodes_differ_in_length() -> None:
    def recorded(num_envs: int, seed: int) -> Dataset:
        return record(integrator(num_envs, Sum(1, 1)), Gain(), 40 * num_envs, seed)

    together = recorded(6, 3)
    apart = joined([recorded(1, 3 + number) for number in range(6)], Metadata())
    assert_same(apart, together)
    lengths = together.episode.bincount()
    assert together.terminated.any() and len(lengths.unique()) > 3
    assert together.observation.dtype == torch.float64


def test_every_environment_gives_as_many_rows_whatever_its_episodes() -> None:
    environment = integrator(50, Sum(1, 1))
    dataset = record(environment, RandomController(environment), 50 * 30, 0)
    for rows in columns(dataset, 50):
        assert rows["step"][0] == 0
        assert rows["terminated"][-1] or rows["truncated"][-1]
        assert not rows["truncated"][:-1].any()  # the horizon is far
    cut = ~whole_episodes(dataset, environment.horizon)
    assert torch.equal(cut, dataset.truncated[dataset.last])
    # Of steps that are counted evenly, a first step and the start of an episode are the same.
    assert (dataset.step == 0).sum() == dataset.episodes


def test_actions_are_recorded_as_the_environment_takes_them() -> None:
    dataset = record(integrator(8, Sum(1, 1)), Gain(), 8 * 20, 0)
    assert (dataset.action.abs() == 1).any() and (dataset.action.abs() < 1).any()
    moved = (dataset.next_observation - dataset.observation)[~dataset.terminated]
    assert torch.allclose(moved, dataset.action[~dataset.terminated])


def test_numbers_must_be_shared_evenly() -> None:
    environment = integrator(4, Sum(1, 1))
    for transitions in (10, 0, -4):
        with pytest.raises(ValueError, match=f"transitions: got {transitions}; .* of 4"):
            record(environment, Gain(), transitions, 0)


@settings(max_examples=40)
@given(data=st.data(), times=st.integers(1, 9), num_envs=st.integers(1, 4))
def test_environments_follow_each_other(data: Any, times: int, num_envs: int) -> None:
    """Of each row it is known where it was: time and environment are among its numbers."""
    flags = st.lists(st.sampled_from("-TE"), min_size=times * num_envs, max_size=times * num_envs)
    drawn = np.array(data.draw(flags)).reshape(times, num_envs)
    terminated, last = torch.from_numpy(drawn == "E"), torch.from_numpy(drawn != "-")
    time, column = torch.meshgrid(torch.arange(times), torch.arange(num_envs), indexing="ij")
    # An episode is a line, which jumps where the next one begins.
    jumps = torch.cat((torch.zeros_like(last[:1]), last[:-1])).cumsum(0)
    observation = torch.stack((time + 100 * jumps, column), 2).float()
    after = observation + torch.tensor([1.0, 0.0])
    action = torch.zeros((times, num_envs, 1))
    given = Transitions(observation, action, 1.0 * time, after, terminated, last)
    before = last.clone()
    found = from_transitions(given, METADATA)
    assert torch.equal(last, before)
    assert found.metadata == METADATA
    assert found.observation[:, 1].tolist() == [c for c in range(num_envs) for _ in range(times)]
    assert found.reward.tolist() == list(range(times)) * num_envs
    assert torch.equal(found.terminated.view(num_envs, times), terminated.T)
    ends = last.clone()
    ends[-1] = True
    assert torch.equal(found.last.view(num_envs, times), ends.T)
    assert torch.equal(found.truncated, found.last & ~found.terminated)


def test_parts_are_joined_in_order() -> None:
    parts = [make_dataset(seed=1), make_dataset([2, 3], [True, False], seed=2)]
    whole = joined(parts, METADATA)
    assert len(whole) == 20 and whole.episodes == 7
    assert torch.equal(whole.reward, torch.cat([part.reward for part in parts]))
    assert whole.episode[-1] == 6 and whole.step[-3:].tolist() == [0, 1, 2]


def test_episodes_that_were_cut_short_are_known() -> None:
    dataset = make_dataset([4, 2, 4, 3], [False, True, True, False])
    assert whole_episodes(dataset, 4).tolist() == [True, True, True, False]

"""The replay buffer: order, wrap-around, windows, and what a collector puts into it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.collector import Collector
from separatrix.agents.common.replay import ReplayBuffer, Transitions, windows
from separatrix.controllers.controller import Controller
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment


def numbered(number: int, num_envs: int = 2, last: bool = False) -> Transitions:
    value = torch.full((num_envs,), float(number))
    flag = torch.full((num_envs,), last)
    return Transitions(
        value[:, None], -value[:, None], value, value[:, None] + 1, torch.zeros_like(flag), flag
    )


def test_the_oldest_transitions_are_overwritten_and_order_is_kept() -> None:
    buffer = ReplayBuffer(1, 1, capacity=6, num_envs=2)
    for number in range(5):
        buffer.add(numbered(number))
        kept = buffer.ordered().reward[:, 0].tolist()
        assert kept == [float(n) for n in range(max(0, number - 2), number + 1)]
    assert len(buffer) == 6 and buffer.added == 10


def test_samples_are_stored_transitions_seeded_and_even() -> None:
    buffer = ReplayBuffer(1, 1, capacity=200, num_envs=2)
    for number in range(10):
        buffer.add(numbered(number))
    drawn = [buffer.sample(10_000, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(drawn[0].reward, drawn[1].reward)
    assert torch.equal(drawn[0].next_observation[:, 0], drawn[0].reward + 1)
    share = torch.bincount(drawn[0].reward.long(), minlength=10) / 10_000
    assert (share - 0.1).abs().max() < 4 * (0.1 * 0.9 / 10_000) ** 0.5


@settings(max_examples=60)
@given(data=st.data(), times=st.integers(1, 12), length=st.integers(1, 5))
def test_windows_are_all_that_cross_no_end(data: Any, times: int, length: int) -> None:
    flags = st.lists(
        st.lists(st.booleans(), min_size=2, max_size=2), min_size=times, max_size=times
    )
    last = torch.tensor(data.draw(flags))
    expected = [
        [time, column]
        for time in range(times - length + 1)
        for column in range(2)
        if not last[time : time + length - 1, column].any()
    ]
    assert windows(last, length).tolist() == expected


def test_a_buffer_goes_on_from_a_checkpoint() -> None:
    buffer, other = (ReplayBuffer(1, 1, capacity=6, num_envs=2) for _ in range(2))
    for number in range(4):
        buffer.add(numbered(number))
    other.load_state_dict(buffer.state_dict())
    for each in (buffer, other):
        each.add(numbered(4))
    assert torch.equal(buffer.ordered().reward, other.ordered().reward)
    with pytest.raises(ValueError, match="allowed"):
        ReplayBuffer(2, 1, capacity=6, num_envs=2).load_state_dict(buffer.state_dict())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity: got 7; allowed: multiples of 2"):
        ReplayBuffer(1, 1, capacity=7, num_envs=2)
    buffer = ReplayBuffer(1, 1, capacity=6, num_envs=2)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1, torch.Generator())
    with pytest.raises(ValueError, match=r"observation: got shape \(3, 1\); allowed: \(2, 1\)"):
        buffer.add(numbered(0, num_envs=3))


class Remembering(Controller):
    """Random, and keeps the masks with which it was reset."""

    def __init__(self, environment: Any) -> None:
        self.random = RandomController(environment, 0)
        self.masks: list[list[bool]] = []

    def act(self, observation: torch.Tensor, state: Any) -> torch.Tensor:
        return self.random.act(observation, state)

    def reset(self, mask: torch.Tensor) -> None:
        self.masks.append(mask.tolist())


def test_a_collector_stores_whole_episodes_across_calls() -> None:
    environment = make_environment("Lorenz-v0", 3, horizon=5)
    buffer = ReplayBuffer(3, 1, capacity=60, num_envs=3)
    collector, controller = Collector(environment, buffer, seed=7), Remembering(environment)
    returns = torch.cat([collector.collect(controller, steps) for steps in (3, 9)])
    stored = buffer.ordered()
    assert stored.last.nonzero()[:, 0].tolist() == [4] * 3 + [9] * 3
    assert not stored.terminated.any()
    inside = ~stored.last[:-1]
    assert torch.equal(stored.next_observation[:-1][inside], stored.observation[1:][inside])
    torch.testing.assert_close(
        returns, torch.cat([stored.reward[:5].sum(0), stored.reward[5:10].sum(0)])
    )
    assert controller.masks == [[True] * 3] * 4  # two calls, two ends of all episodes
    state, observation = environment.reset(7)
    assert torch.equal(stored.observation[0], observation)
    second = environment.restart(state.stream.next_episode())[1]
    assert torch.equal(stored.observation[5], second)


def test_a_collector_goes_on_from_a_checkpoint() -> None:
    environment = make_environment("Lorenz-v0", 3, horizon=5)
    buffers = [ReplayBuffer(3, 1, capacity=60, num_envs=3) for _ in range(2)]
    one, other = (
        Collector(environment, buffer, seed) for buffer, seed in zip(buffers, (7, 99), strict=True)
    )
    one.collect(RandomController(environment, 0), 7)
    other.load_state_dict(one.state_dict())
    returns = [c.collect(RandomController(environment, 1), 4) for c in (one, other)]
    assert torch.equal(returns[0], returns[1]) and len(returns[0]) == 3
    assert torch.equal(buffers[0].ordered().observation[7:], buffers[1].ordered().observation)

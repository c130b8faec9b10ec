"""Rollouts in models: what is kept, and where they end."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separatrix.agents.offline.config import (
    MopoConfig,
)
from separatrix.agents.offline.learner import Batch
from separatrix.agents.offline.model.buffer import ModelBuffer
from separatrix.agents.offline.model.rollouts import roll_out
from separatrix.agents.offline.model_config import (
    OnCut,
)
from tests.agents.offline_models import (
    LOWEST,
    Adder,
    BelievesNothing,
    UpToThree,
    buffer_of,
    generator,
    learner_of,
    numbered,
    ones,
)


@settings(max_examples=40)
@given(
    capacity=st.integers(1, 9), sizes=st.lists(st.integers(0, 12), max_size=8), seed=st.integers(0)
)
def test_the_buffer_keeps_the_latest_in_order(capacity: int, sizes: list[int], seed: int) -> None:
    buffer, expected = buffer_of(capacity), list[int]()
    for size in sizes:
        numbers = range(len(expected), len(expected) + size)
        buffer.add(numbered(list(numbers)))
        expected.extend(numbers)
    kept = expected[-capacity:]
    assert len(buffer) == len(kept)
    found, truth = buffer.ordered(), numbered(kept)
    other = buffer_of(capacity)
    other.load_state_dict(buffer.state_dict())
    for name in ("observation", "action", "reward", "next_observation", "terminated", "cut"):
        assert torch.equal(getattr(found, name), getattr(truth, name))
    assert torch.equal(found.position, truth.position)
    if not kept:
        with pytest.raises(ValueError, match="is empty"):
            buffer.sample(1, generator())
        return
    drawn = (one.sample(20, generator(seed % 1000)).position for one in (buffer, other))
    first, second = drawn
    assert torch.equal(first, second)  # whatever was overwritten before
    assert set(first.tolist()) <= set(kept)


STARTS = torch.tensor([[-3.0], [0.0], [1.0]])


# By the choice of UpToThree, x goes up by 2: -3 -> -1 -> 1 -> 3 -> 5, not believed, and so on.
BELIEVED = [(-3, -1, 0), (0, 2, 0), (1, 3, 0), (-1, 1, 1), (1, 3, 2)]


DOUBTED = [(2, 4, 1), (3, 5, 1), (3, 5, 3)]


@pytest.mark.parametrize("on_cut", ["lowest_value", "drop", "terminate"])
def test_rollouts_end_where_they_are_not_believed(on_cut: OnCut) -> None:
    buffer = buffer_of()
    scalars = roll_out(
        Adder(),
        ones,
        STARTS,
        6,
        buffer,
        generator(),
        penalty=0.5,
        transition_filter=UpToThree(on_cut),
    )
    found = buffer.ordered()
    rows = [
        (*map(int, (before, after, position)), bool(cut), bool(ended))
        for before, after, position, cut, ended in zip(
            found.observation[:, 0],
            found.next_observation[:, 0],
            found.position,
            found.cut,
            found.terminated,
            strict=True,
        )
    ]
    expected = [(*row, False, False) for row in BELIEVED]
    if on_cut != "drop":
        flags = (on_cut == "lowest_value", on_cut == "terminate")
        expected += [(*row, *flags) for row in DOUBTED]
    assert sorted(rows) == sorted(expected)
    # The reward is the chosen candidate's, less half of |x|.
    torch.testing.assert_close(found.reward, -2 - 0.5 * found.observation[:, 0].abs())
    assert scalars == {
        "model/rollout_length": pytest.approx(8 / 3),
        "model/cut": 1.0,
        "model/terminated": 0.0,
        "model/reward": pytest.approx(-2.0),
        "model/doubt": pytest.approx((3 + 0 + 1 + 1 + 2 + 3 + 1 + 3) / 8),
        "model/dynamics_reward": pytest.approx(0.7),
    }


def test_an_end_that_is_not_believed_is_none() -> None:
    buffer = buffer_of()
    starts = torch.tensor([[9.0]])
    scalars = roll_out(
        Adder(), ones, starts, 3, buffer, generator(), transition_filter=BelievesNothing()
    )
    found = buffer.ordered()
    assert found.cut.tolist() == [True] and found.terminated.tolist() == [False]
    assert scalars["model/terminated"] == 0 and scalars["model/cut"] == 1


def test_without_a_filter_all_is_believed_and_elites_take_turns() -> None:
    buffer = buffer_of(4000)
    scalars = roll_out(Adder(), ones, torch.zeros(1000, 1), 3, buffer, generator())
    found = buffer.ordered()
    assert len(found) == 3000 and not found.cut.any() and not found.terminated.any()
    step = found.next_observation - found.observation
    assert set(step.flatten().tolist()) == {1.0, 2.0}
    assert step.mean().item() == pytest.approx(1.5, abs=4 * 0.5 / 3000**0.5)
    torch.testing.assert_close(found.reward, -step[:, 0])  # of the same candidate
    follows = found.observation[1000:] == found.next_observation[:2000]
    assert follows.all()
    assert scalars["model/rollout_length"] == 3.0 and "model/dynamics_reward" not in scalars


def test_rollouts_end_with_their_episodes() -> None:
    buffer = buffer_of()
    scalars = roll_out(Adder(), ones, torch.tensor([[9.5], [-50.0]]), 4, buffer, generator())
    found = buffer.ordered()
    assert len(found) == 5 and int(found.terminated.sum()) == 1 and not found.cut.any()
    assert found.observation[found.terminated].item() == 9.5
    assert scalars["model/terminated"] == 0.5 and scalars["model/rollout_length"] == 2.5


def batch_of(buffer: ModelBuffer) -> Batch:
    found = buffer.ordered()
    before, after = (found.observation, found.action, found.reward), found.next_observation
    return Batch(*before, after, found.terminated, found.cut, 0)


def test_with_negative_rewards_an_end_is_a_prize_and_the_lowest_value_is_none() -> None:
    """The reward is -2: an end promises -2, what is cut is worth -2 + 0.9 * -50."""
    targets = {}
    learner = learner_of(MopoConfig())
    rules: tuple[OnCut, ...] = ("lowest_value", "terminate")
    for on_cut in rules:
        buffer = buffer_of()
        choice = BelievesNothing(on_cut)
        roll_out(Adder(), ones, STARTS, 1, buffer, generator(), transition_filter=choice)
        targets[on_cut] = learner._target(batch_of(buffer))
    torch.testing.assert_close(targets["terminate"], torch.full((3,), -2.0))
    torch.testing.assert_close(targets["lowest_value"], torch.full((3,), -2 + 0.9 * LOWEST))
    value = learner.targets(STARTS, ones(STARTS)).amin(0)
    assert (targets["terminate"] < value).all()  # and yet far above what a policy can get,
    assert (targets["terminate"] > -2 / (1 - 0.9)).all()  # -20 at -2 a step

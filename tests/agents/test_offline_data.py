"""Data sets in memory: what they say of themselves, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.offline.data.collect import record
from separatrix.agents.offline.data.dataset import Dataset, DatasetError, References, numbered
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import make_environment
from tests.agents.offline_datasets import LENGTHS, TERMINATED, make_dataset


def test_what_a_dataset_says_of_itself() -> None:
    dataset = make_dataset()
    assert len(dataset) == sum(LENGTHS) and dataset.episodes == len(LENGTHS)
    assert dataset.episode.bincount().tolist() == list(LENGTHS)
    assert dataset.step.tolist() == [step for length in LENGTHS for step in range(length)]
    assert dataset.terminated[dataset.last].tolist() == list(TERMINATED)
    parts = dataset.reward.double().split(list(LENGTHS))
    assert torch.allclose(dataset.returns, torch.stack([part.sum() for part in parts]))
    assert dataset.returns.dtype == torch.float64
    transitions = dataset.transitions()
    assert torch.equal(transitions.last, dataset.terminated | dataset.truncated)
    assert torch.equal(transitions.next_observation, dataset.next_observation)


def test_scores_are_0_at_random_and_100_at_the_expert() -> None:
    references = References(random=-20.0, expert=60.0, episodes=100, policy="")
    returns = torch.tensor([-20.0, 60.0, 20.0, 100.0], dtype=torch.float64)
    assert references.score(returns).tolist() == [0.0, 100.0, 50.0, 150.0]


def test_the_environment_must_have_the_same_sizes() -> None:
    dataset = make_dataset()  # 3 observations, 2 actions
    with pytest.raises(DatasetError, match="action: the data have 2 components; allowed: 1"):
        dataset.check_fits(make_environment("Lorenz-v0"))


def test_observations_must_lie_in_the_space_of_the_environment() -> None:
    """Lorenz' system and a pendulum have as many observations and actions."""
    environment = make_environment("Lorenz-v0", 4)
    dataset = record(environment, RandomController(environment, 0), 1600, 0)
    dataset.check_fits(environment)
    message = r"row \d+ \(episode 0, step \d+\): observation\[\d\]: got .*; allowed: numbers of the"
    with pytest.raises(DatasetError, match=message):
        dataset.check_fits(make_environment("DampedPendulum-v0"))


@pytest.mark.parametrize("last", [[True], [False, False, True], [True, True, False, True]])
def test_rows_are_numbered_within_episodes(last: list[bool]) -> None:
    episode, step, expected = 0, 0, []
    for end in last:
        expected.append((episode, step))
        episode, step = (episode + 1, 0) if end else (episode, step + 1)
    found = numbered(torch.tensor(last))
    assert list(zip(*(tensor.tolist() for tensor in found), strict=True)) == expected


def put(name: str, row: int, value: float) -> Callable[[Dataset], dict[str, Tensor]]:
    def change(dataset: Dataset) -> dict[str, Tensor]:
        tensor = getattr(dataset, name).clone()
        tensor[row] = value
        return {name: tensor}

    return change


def cut(name: str) -> Callable[[Dataset], dict[str, Tensor]]:
    return lambda dataset: {name: getattr(dataset, name)[:-1]}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put("observation", 4, torch.nan), ["row 4 (episode 2, step 0): observation[0]: got nan"]),
        (put("next_observation", 14, torch.inf), ["row 14 (episode 4, step 3): next_observation"]),
        (put("reward", 0, -torch.inf), ["row 0 (episode 0, step 0): reward: got -inf"]),
        (put("action", 9, 1.25), ["row 9 (episode 3, step 0): action[0]: got 1.25", "[-1, 1]"]),
        (put("observation", 5, 0.0), ["row 4 (episode 2, step 0): next_observation", "next row"]),
        (put("truncated", 6, True), ["row 7", "episode: got 2"]),
        (put("terminated", 14, False), ["row 14", "last episode has no end"]),
        (put("episode", 3, 7), ["row 3", "episode: got 7"]),
        (put("step", 1, 0), ["row 1", "step: got 0"]),
        (cut("reward"), ["observation: got shape (15, 3); allowed: (14, observation)"]),
        (cut("action"), ["action: got shape (14, 2); allowed: (15, action)"]),
        (cut("terminated"), ["terminated: got shape (14,); allowed: (15,)"]),
        (lambda d: {"truncated": d.truncated.long()}, ["truncated", "int64", "bool"]),
        (lambda d: {"step": d.step.int()}, ["step", "int32", "int64"]),
        (lambda d: {"reward": d.reward.long()}, ["reward", "floating point"]),
        (lambda d: {"next_observation": d.next_observation[:, :2]}, ["got 2 components", "3"]),
        (lambda d: {name: t[:0] for name, t in d.tensors().items()}, ["reward", "one row"]),
    ],
)
def test_faults_are_refused_with_their_place(
    change: Callable[[Dataset], dict[str, Tensor]], parts: list[str]
) -> None:
    dataset = make_dataset()
    # Built by hand: the types that are checked in tests would be refused before.
    faulty = object.__new__(Dataset)
    vars(faulty).update({**vars(dataset), **change(dataset)})
    with pytest.raises(DatasetError) as caught:
        faulty.__post_init__()
    for part in parts:
        assert part in str(caught.value)

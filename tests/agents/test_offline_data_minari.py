"""Minari data sets: Minari reads what we write, and we read what it writes."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector.episode_buffer import EpisodeBuffer

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.offline.data.dataset import DatasetError, Metadata, References
from separatrix.agents.offline.data.files import load_dataset
from separatrix.agents.offline.data.minari_files import save_minari
from tests.agents.offline_datasets import LENGTHS, METADATA, assert_same, make_dataset

ID = "pendulum/medium-v3"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@settings(max_examples=8)
@given(data=st.data(), lengths=st.lists(st.integers(1, 6), min_size=4, max_size=12))
def test_nothing_is_lost(
    data: Any, lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """More than ten episodes, too: their groups are not read in the order of their names."""
    count = len(lengths)
    terminated = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    dataset = make_dataset(lengths, terminated)
    folder = save_minari(dataset, tmp_path_factory.mktemp("data"), ID)
    assert_same(dataset, load_dataset(folder))


def test_minari_reads_our_numbers(root: Path) -> None:
    dataset = make_dataset()
    assert save_minari(dataset, root, ID) == root / ID
    found = minari.load_dataset(ID)
    assert (found.total_episodes, found.total_steps) == (len(LENGTHS), sum(LENGTHS))
    begin = 0
    for number, (episode, length) in enumerate(zip(found.iterate_episodes(), LENGTHS, strict=True)):
        rows = slice(begin, begin + length)
        assert episode.id == number and len(episode.observations) == length + 1
        assert np.array_equal(episode.observations[:-1], dataset.observation[rows])
        assert np.array_equal(episode.observations[1:], dataset.next_observation[rows])
        assert np.array_equal(episode.actions, dataset.action[rows])
        assert np.array_equal(episode.rewards, dataset.reward[rows])
        assert np.array_equal(episode.terminations, dataset.terminated[rows])
        assert np.array_equal(episode.truncations, dataset.truncated[rows])
        begin += length
    assert begin == len(dataset)  # the last episode was among them
    assert all(found.observation_space.contains(row) for row in episode.observations)
    assert all(found.action_space.contains(row) for row in episode.actions)


def test_minari_knows_statistics_scores_and_environment(root: Path) -> None:
    dataset = make_dataset()
    save_minari(dataset, root, ID)
    assert list(minari.list_local_datasets()) == [ID]
    found = minari.load_dataset(ID)
    statistics = list(found.storage.get_episode_metadata(range(len(LENGTHS))))
    sums = [episode["rewards_sum"] for episode in statistics]
    assert np.allclose(sums, dataset.returns, rtol=1e-5)
    last = dataset.reward[-LENGTHS[-1] :].numpy()
    for name in ("min", "max", "mean", "std"):
        expected = getattr(last, name)()
        assert statistics[-1][f"rewards_{name}"] == pytest.approx(expected, rel=1e-5)
    assert METADATA.references is not None
    scores = METADATA.references.score(dataset.returns)
    assert np.allclose(100 * minari.get_normalized_score(found, dataset.returns.numpy()), scores)
    environment = found.recover_environment()
    assert environment.spec is not None and environment.spec.id == METADATA.environment
    assert environment.spec.kwargs["authority"] == METADATA.options["authority"]


def test_what_minari_writes_is_read(root: Path) -> None:
    """Episodes in float64, an unfinished one, scores, another environment."""
    generator = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            observations=generator.normal(size=(length + 1, 3)),
            actions=generator.uniform(-1, 1, size=(length, 2)),
            rewards=list(generator.normal(size=length)),
            terminations=[end and step == length - 1 for step in range(length)],
            truncations=[False] * length,
        )
        for length, end in ((4, True), (2, False), (3, True), (6, False))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants an author, an e-mail address, ...
        minari.create_dataset_from_buffers(
            "theirs-v0",
            buffers,
            env="Pendulum-v1",
            observation_space=Box(-np.inf, np.inf, (3,), np.float64),
            action_space=Box(-1, 1, (2,), np.float64),
            ref_min_score=-5.0,
            ref_max_score=5.0,
        )
    found = load_dataset(root / "theirs-v0")
    assert found.episode.bincount().tolist() == [4, 2, 3, 6]
    assert found.terminated[found.last].tolist() == [True, False, True, False]
    for name, part in {"observation": slice(0, -1), "next_observation": slice(1, None)}.items():
        expected = np.concatenate([buffer.observations[part] for buffer in buffers])
        assert np.array_equal(getattr(found, name), expected.astype(np.float32))
    assert found.metadata.references == References(-5.0, 5.0, 100, "reference of the Minari data")
    assert (found.metadata.environment, found.metadata.recipe) == ("Pendulum-v1", "theirs-v0")


def test_the_root_may_be_relative(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert_same(make_dataset(), load_dataset(save_minari(make_dataset(), "sets", ID)))


def test_data_of_no_environment_need_none(root: Path) -> None:
    dataset = dataclasses.replace(make_dataset(), metadata=Metadata())
    save_minari(dataset, root, "a-v0")
    assert minari.load_dataset("a-v0").env_spec is None
    assert_same(dataset, load_dataset(root / "a-v0"))


def test_another_type_becomes_float32(root: Path) -> None:
    dataset = make_dataset(dtype=torch.float64)
    save_minari(dataset, root, "a-v0")
    assert minari.load_dataset("a-v0")[0].observations.dtype == np.float64
    assert torch.equal(load_dataset(root / "a-v0").reward, dataset.reward.float())


def test_existing_data_and_bad_names_are_refused(root: Path) -> None:
    save_minari(make_dataset(), root, ID)
    with pytest.raises(FileExistsError, match="exists already"):
        save_minari(make_dataset(seed=1), root, ID)
    assert_same(make_dataset(), load_dataset(root / ID))
    for name in ("medium", "a b-v0", "", "x.y-v0"):
        with pytest.raises(DatasetError, match="a Minari data set; allowed: letters"):
            save_minari(make_dataset(), root, name)
    assert [path.name for path in root.iterdir()] == ["pendulum"]


def change(folder: Path, name: str, array: Any) -> None:
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        del file[name]
        if array is not None:
            file[name] = array


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("episode_2/observations", np.zeros((5, 3)), "episode_2: observations: got 5 rows; .* 6"),
        ("episode_2/actions", np.zeros((4, 2)), r"episode_2: actions: got shape \(4, 2\)"),
        ("episode_4/rewards", [0, 0, np.nan, 0], "episode_4: row 2: rewards: got nan"),
        ("episode_4/terminations", [1, 0, 0, 1], "episode_4: row 0: terminations or truncations"),
        ("episode_3/rewards", None, "episode_3: rewards: missing"),
        ("episode_3/observations/position", np.zeros(3), "episode_3: observations: missing"),
        ("episode_3", None, "episode_3: missing; found 4 episodes"),
        ("episode_0/actions", np.full((3, 2), 2.0), r"row 0: action\[0\]: got 2\.0"),
    ],
)
def test_faulty_data_are_refused(root: Path, name: str, array: Any, problem: str) -> None:
    folder = save_minari(make_dataset(), root, ID)
    group, _, deeper = name.partition("/observations/")
    if deeper:  # the space is a dictionary
        change(folder, f"{group}/observations", None)
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            file[name] = array
    else:
        change(folder, name, array)
    with pytest.raises(DatasetError, match=problem):
        load_dataset(folder)


def test_damaged_files_are_refused(root: Path) -> None:
    folder = save_minari(make_dataset(), root, ID)
    metadata = folder / "data" / "metadata.json"
    document = json.loads(metadata.read_text())
    for text in ("", "[]", json.dumps(document | {"separatrix": {"version": "x"}})):
        metadata.write_text(text)
        with pytest.raises(DatasetError, match=r"metadata\.json: unreadable"):
            load_dataset(folder)
    metadata.unlink()
    with pytest.raises(DatasetError, match=r"metadata\.json: unreadable"):
        load_dataset(folder)
    main = folder / "data" / "main_data.hdf5"
    main.write_bytes(main.read_bytes()[:3000])
    with pytest.raises(DatasetError, match=r"main_data\.hdf5: unreadable"):
        load_dataset(folder)


def test_the_extra_is_named_where_minari_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r"the package minari: pip install 'separatrix\[offline"):
        save_minari(make_dataset(), root, ID)
    assert not list(root.iterdir())

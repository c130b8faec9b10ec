"""D4RL and NeoRL files: rows stay aligned, and what a file does not say is not made up."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separatrix.agents.offline.data.dataset import Dataset, DatasetError, Metadata
from separatrix.agents.offline.data.files import load_dataset
from tests.agents.offline_datasets import LENGTHS, assert_same, make_dataset

Arrays = dict[str, np.ndarray]


def without_metadata(dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, metadata=Metadata())


def d4rl(dataset: Dataset, next_observations: bool = True) -> Arrays:
    arrays = {
        "observations": dataset.observation,
        "actions": dataset.action,
        "rewards": dataset.reward,
        "terminals": dataset.terminated,
        "timeouts": dataset.truncated,
    }
    if next_observations:
        arrays["next_observations"] = dataset.next_observation
    return {name: tensor.numpy().copy() for name, tensor in arrays.items()}


def write_d4rl(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file["infos/qpos"] = np.zeros(3)  # the rest of such files is not read
        file["metadata/algorithm"] = "SAC"
    return path


def neorl(dataset: Dataset, ends: bool = False, truncated: bool = False) -> Arrays:
    arrays = {
        "obs": dataset.observation.numpy(),
        "next_obs": dataset.next_observation.numpy(),
        "action": dataset.action.numpy(),
        "reward": dataset.reward.numpy()[:, None],
        "done": dataset.terminated.numpy().astype(np.float32)[:, None],
        "index": (dataset.last if ends else dataset.step == 0).numpy().nonzero()[0] + ends,
    }
    return arrays | ({"truncated": dataset.truncated.numpy()} if truncated else {})


def write_neorl(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@settings(max_examples=15)
@given(data=st.data(), lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_rows_stay_aligned(
    data: Any, lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    count, folder = len(lengths), tmp_path_factory.mktemp("data")
    terminated = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    dataset = without_metadata(make_dataset(lengths, terminated))
    assert_same(dataset, load_dataset(write_d4rl(folder / "a.hdf5", d4rl(dataset))))
    for name, arrays in {
        "starts": neorl(dataset),
        "ends": neorl(dataset, ends=True),
        "truncated": neorl(dataset, truncated=True),
    }.items():
        assert_same(dataset, load_dataset(write_neorl(folder / f"{name}.npz", arrays)))


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_without_next_observations_the_last_rows_are_dropped(
    lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    dataset = make_dataset(lengths, [False] * len(lengths))
    arrays = d4rl(dataset, next_observations=False)
    path = write_d4rl(tmp_path_factory.mktemp("data") / "a.hdf5", arrays)
    kept = ~dataset.last
    if not kept.any():
        with pytest.raises(DatasetError, match="no episode is longer than one row"):
            load_dataset(path)
        return
    found = load_dataset(path)
    for name in ("observation", "action", "reward", "next_observation"):
        assert torch.equal(getattr(found, name), getattr(dataset, name)[kept])
    assert found.episode.bincount().tolist() == [length - 1 for length in lengths if length > 1]
    assert torch.equal(found.truncated, found.last) and not found.terminated.any()


def test_an_unfinished_episode_is_truncated(tmp_path: Path) -> None:
    dataset = without_metadata(make_dataset(LENGTHS, [True, False, False, True, False]))
    arrays = d4rl(dataset)
    arrays["timeouts"][-1] = False
    assert_same(dataset, load_dataset(write_d4rl(tmp_path / "a.hdf5", arrays)))


def test_termination_counts_more_than_time(tmp_path: Path) -> None:
    dataset = without_metadata(make_dataset())
    arrays = d4rl(dataset)
    arrays["timeouts"][2] = True  # the row is terminated, too
    assert_same(dataset, load_dataset(write_d4rl(tmp_path / "a.hdf5", arrays)))


def test_bounds_of_actions_become_those_of_ours(tmp_path: Path) -> None:
    arrays = d4rl(make_dataset())
    unscaled = arrays["actions"].astype(np.float64)
    arrays["actions"] = np.stack([3 * unscaled[:, 0], 0.2 + 0.2 * unscaled[:, 1]], 1)
    arrays["actions"][:2] = [[3, 0.4], [-3, 0]]
    path = write_d4rl(tmp_path / "a.hdf5", arrays)
    with pytest.raises(DatasetError, match=r"row 0: action\[0\]: got 3\.0; .* action_low"):
        load_dataset(path)
    found = load_dataset(path, action_low=[-3, 0], action_high=[3, 0.4])
    assert found.action[:2].tolist() == [[1, 1], [-1, -1]]
    assert np.allclose(found.action[2:], unscaled[2:], atol=1e-6)
    with pytest.raises(DatasetError, match=r"row 0: action\[0\]: got 3\.0; allowed: from -2"):
        load_dataset(path, action_low=-2.0, action_high=2.0)
    clipped = load_dataset(path, action_low=-2.0, action_high=2.0, clip_actions=True)
    assert np.allclose(clipped.action, (arrays["actions"] / 2).clip(-1, 1), atol=1e-6)
    for low, high, problem in (
        ([-3.0] * 3, 3.0, r"action_low: got \[-3.0, -3.0, -3.0\]; allowed: a number, or 2"),
        (1.0, 1.0, "action_low: got 1.0; allowed: finite numbers below action_high"),
        (-np.inf, 1.0, "finite numbers"),
    ):
        with pytest.raises(DatasetError, match=problem):
            load_dataset(path, action_low=low, action_high=high)


def test_actions_in_their_bounds_are_not_rounded(tmp_path: Path) -> None:
    arrays = d4rl(make_dataset())
    arrays["actions"][0] = [1e-20, -1.0]
    found = load_dataset(write_d4rl(tmp_path / "a.hdf5", arrays))
    assert np.array_equal(found.action, arrays["actions"])


def put(name: str, row: int, value: float) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][row] = value

    return change


def drop(name: str) -> Callable[[Arrays], Any]:
    return lambda arrays: arrays.pop(name)


def cut(name: str) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: arrays[name][:-1]})


def replace(name: str, array: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: np.asarray(array)})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("observations", 4, np.nan), r"row 4: observations\[0\]: got nan; allowed: finite"),
        (put("rewards", 7, np.inf), "row 7: rewards: got inf"),
        (put("next_observations", 5, 9), r"row 5 \(episode 2, step 1\): next_observation\[0\]"),
        (drop("timeouts"), "timeouts: missing; found: observations, actions"),
        (drop("rewards"), "rewards: missing"),
        (cut("rewards"), r"rewards: got shape \(14,\); allowed: \(15,\), for observations has 15"),
        (cut("next_observations"), r"next_observations: got shape \(14, 3\)"),
        (replace("actions", np.zeros(15)), r"actions: got shape \(15,\); allowed: \(15, comp"),
        (replace("observations", np.zeros((0, 3))), "observations: got no rows"),
        (replace("observations", 3.0), "observations: got no rows"),
        (replace("terminals", [2.0] * 15), "row 0: terminals: got 2.0; allowed: 0 and 1"),
        (replace("rewards", [1e300] * 15), "row 0: rewards: got inf"),
        (replace("rewards", np.full(15, b"x")), "rewards: got .*; allowed: real numbers"),
        (drop("next_observations"), "row 2: terminals: got True; .* without the last row"),
    ],
)
def test_faulty_d4rl_files_are_refused(
    change: Callable[[Arrays], None], problem: str, tmp_path: Path
) -> None:
    arrays = d4rl(make_dataset())
    change(arrays)
    path = write_d4rl(tmp_path / "a.hdf5", arrays)
    with pytest.raises(DatasetError, match=rf"a\.hdf5: {problem}"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (put("obs", 4, np.nan), r"row 4: obs\[0\]: got nan"),
        (put("done", 5, 1), "row 5: done: got True; allowed: False within an episode of index"),
        (put("truncated", 9, True), "row 9: truncated: got True; allowed: False within"),
        (replace("index", [0, 4]), r"row 2: done: got True"),
        (replace("index", [0, 16]), r"index: got \[ 0 16\]; allowed: integers from 0 to 15"),
        (replace("index", [-1]), "index: got"),
        (replace("index", [0.0]), "index: got"),
        (drop("index"), "index: missing"),
        (drop("next_obs"), "next_obs: missing"),
        (cut("action"), r"action: got shape \(14, 2\)"),
        (put("action", 3, -2), r"row 3: action\[0\]: got -2\.0; allowed: from -1\.0 to 1\.0"),
    ],
)
def test_faulty_neorl_files_are_refused(
    change: Callable[[Arrays], None], problem: str, tmp_path: Path
) -> None:
    arrays = neorl(make_dataset(), truncated=True)
    change(arrays)
    with pytest.raises(DatasetError, match=rf"a\.npz: {problem}"):
        load_dataset(write_neorl(tmp_path / "a.npz", arrays))


@pytest.mark.parametrize("name", ["a.hdf5", "a.npz"])
def test_truncated_and_missing_files_are_refused(name: str, tmp_path: Path) -> None:
    path, dataset = tmp_path / name, make_dataset()
    with pytest.raises(DatasetError, match=rf"{name}: unreadable"):
        load_dataset(path)
    if name == "a.npz":
        write_neorl(path, neorl(dataset))
    else:
        write_d4rl(path, d4rl(dataset))
    content = path.read_bytes()
    for share in (0, 0.3, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DatasetError, match=rf"{name}: "):
            load_dataset(path)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays: dict[str, Any] = neorl(make_dataset()) | {"obs": np.array([print], dtype=object)}
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=r"unreadable: .*allow_pickle=False"):
        load_dataset(path)


def test_the_extra_is_named_where_a_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_d4rl(tmp_path / "a.hdf5", d4rl(make_dataset()))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"needs the package h5py: pip install 'separatrix\[off"):
        load_dataset(path)

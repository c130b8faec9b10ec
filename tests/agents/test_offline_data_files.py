"""Data sets in folders of ours: nothing is lost, and damage is found."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separatrix.agents.common import files as common_files
from separatrix.agents.offline.data.dataset import DatasetError, Metadata
from separatrix.agents.offline.data.files import METADATA, TRANSITIONS, load_dataset, save_dataset
from tests.agents.offline_datasets import assert_same, make_dataset


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    data=st.data(),
    double=st.booleans(),
)
def test_nothing_is_lost(
    lengths: list[int], data: Any, double: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    count = len(lengths)
    terminated = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    dtype = torch.float64 if double else torch.float32
    dataset = make_dataset(lengths, terminated, dtype=dtype)
    folder = tmp_path_factory.mktemp("data") / "set"
    save_dataset(dataset, folder)
    assert_same(dataset, load_dataset(folder))
    assert sorted(path.name for path in folder.iterdir()) == [METADATA, TRANSITIONS]


def test_numpy_and_json_read_the_files(tmp_path: Path) -> None:
    dataset = make_dataset()
    save_dataset(dataset, tmp_path / "set")
    with np.load(tmp_path / "set" / TRANSITIONS) as arrays:
        assert set(arrays.files) == dataset.tensors().keys()
        assert np.array_equal(arrays["next_observation"], dataset.next_observation.numpy())
    header = json.loads((tmp_path / "set" / METADATA).read_text())
    assert header["tensors"]["action"] == {"shape": [15, 2], "dtype": "float32"}
    assert header["metadata"]["references"]["expert"] == 7.5


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    dataset = make_dataset()
    save_dataset(dataset, tmp_path / "set")
    with pytest.raises(FileExistsError, match="set exists already"):
        save_dataset(make_dataset(seed=1), tmp_path / "set")
    assert_same(dataset, load_dataset(tmp_path / "set"))


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    unwritable = dataclasses.replace(dataset, metadata=Metadata(origin={"when": object()}))
    with pytest.raises(TypeError, match="JSON"):
        save_dataset(unwritable, tmp_path / "set")
    with pytest.raises(ValueError, match="JSON"):
        infinite = dataclasses.replace(dataset, metadata=Metadata(origin={"loss": torch.inf}))
        save_dataset(infinite, tmp_path / "set")

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(common_files, "flush", full)
    with pytest.raises(OSError, match="No space left"):
        save_dataset(dataset, tmp_path / "set")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, sys
from separatrix.agents.common import files
from separatrix.agents.offline.data.files import load_dataset, save_dataset

dataset = load_dataset(sys.argv[1])
files.flush = lambda path: os._exit(9)  # all is written but the name
save_dataset(dataset, sys.argv[2])
"""


def test_what_a_kill_left_is_no_obstacle(tmp_path: Path) -> None:
    save_dataset(make_dataset(seed=1), tmp_path / "other")
    killed = [sys.executable, "-c", KILLED, str(tmp_path / "other"), str(tmp_path / "set")]
    assert subprocess.run(killed).returncode == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.new", "other"]
    with pytest.raises(DatasetError, match="got nothing"):
        load_dataset(tmp_path / "set")
    save_dataset(make_dataset(), tmp_path / "set")
    assert_same(make_dataset(), load_dataset(tmp_path / "set"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "set"]


@settings(max_examples=60)
@given(data=st.data())
def test_damage_is_refused_or_harmless(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of metadata.json, whose own bytes have no checksum, numbers and names may change."""
    dataset = make_dataset()
    folder = tmp_path_factory.mktemp("data") / "set"
    save_dataset(dataset, folder)
    name = data.draw(st.sampled_from([TRANSITIONS, METADATA]))
    content = bytearray((folder / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content)
    try:
        found = load_dataset(folder)
    except DatasetError as error:
        assert str(folder) in str(error)
    else:
        assert name == METADATA
        assert_same(dataset, dataclasses.replace(found, metadata=dataset.metadata))


@pytest.mark.parametrize("name", [TRANSITIONS, METADATA])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    (tmp_path / "set" / name).unlink()
    with pytest.raises(DatasetError, match=rf"set/{name}: unreadable"):
        load_dataset(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"sha256": "0" * 64}, "transitions.npz: got SHA-256"),
        ({"sha256": 3}, "metadata.json: sha256"),
        ({"form": 2}, "metadata.json: form"),
        ({"metadata": {"version": "x"}}, "metadata.json: metadata.version"),
        ({"tensors": {}}, "transitions.npz: got"),
        ({"tensors": {"reward": {"shape": [3], "dtype": "float32"}}}, "transitions.npz: got"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    change: dict[str, Any], place: str, tmp_path: Path
) -> None:
    save_dataset(make_dataset(), tmp_path / "set")
    path = tmp_path / "set" / METADATA
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=place):
        load_dataset(tmp_path / "set")


def test_what_is_no_dataset_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("1,2\n")
    for path, got in {
        tmp_path / "table.csv": "something else",
        tmp_path / "none": "nothing",
    }.items():
        with pytest.raises(DatasetError, match=rf"{path.name}: got {got}; allowed: a folder"):
            load_dataset(path)
    save_dataset(make_dataset(), tmp_path / "set")
    with pytest.raises(DatasetError, match="got bounds of actions"):
        load_dataset(tmp_path / "set", action_low=-2.0, action_high=2.0)

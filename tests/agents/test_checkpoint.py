import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from separatrix.agents.common.checkpoint import (
    CheckpointError,
    read_checkpoint,
    read_latest,
    write_checkpoint,
)

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "generator": torch.arange(5, dtype=torch.uint8),
    "count": torch.tensor(3, dtype=torch.int64),
    "empty": torch.zeros(0, 4),
}
STATE = {"text": "x", "nested": {"list": [1, 2.5, None, True]}}
FILES = ["tensors.safetensors", "state.json", "SHA256SUMS"]


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(folder, step, TENSORS, {**STATE, "written_at": step})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_reading_gives_what_was_written(tmp_path: Path) -> None:
    write(tmp_path, 100)
    checkpoint = read_latest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 100
    assert checkpoint.state == {**STATE, "written_at": 100}
    assert checkpoint.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert checkpoint.tensors[name].dtype == tensor.dtype
        assert torch.equal(checkpoint.tensors[name], tensor)


def test_tensors_that_are_not_contiguous_or_need_gradients(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    write_checkpoint(tmp_path, 0, {"a": tensor}, {})
    checkpoint = read_latest(tmp_path)
    assert checkpoint is not None
    assert torch.equal(checkpoint.tensors["a"], tensor)


def test_the_last_two_stay(tmp_path: Path) -> None:
    write(tmp_path, 9, 10, 100, 1000)
    assert names(tmp_path) == {"step_100", "step_1000"}


def test_an_earlier_step_rewrites_the_past(tmp_path: Path) -> None:
    write(tmp_path, 100, 200, 150)
    assert names(tmp_path) == {"step_100", "step_150"}


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, 100, 200)
    write_checkpoint(tmp_path, 200, TENSORS, {"second": True})
    assert names(tmp_path) == {"step_100", "step_200"}
    assert read_checkpoint(tmp_path / "step_200").state == {"second": True}


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert read_latest(tmp_path / "missing") is None
    (tmp_path / ".step_5.half").mkdir()
    assert read_latest(tmp_path) is None


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".step_5.half").mkdir()
    write(tmp_path, 6)
    assert names(tmp_path) == {"step_6"}


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    write(tmp_path, 1)
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("needs sha256sum")
    command = [tool, "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path / "step_1", capture_output=True).returncode == 0


def test_a_step_under_another_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "step_1").rename(tmp_path / "step_2")
    with pytest.raises(CheckpointError, match="holds a checkpoint of step 1"):
        read_checkpoint(tmp_path / "step_2")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_falls_back(tmp_path: Path, name: str) -> None:
    write(tmp_path, 1, 2)
    (tmp_path / "step_2" / name).unlink()
    with pytest.warns(RuntimeWarning, match="step_2"):
        checkpoint = read_latest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 1


def test_all_damaged_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "step_1" / "state.json").write_text("{}")
    message = r"none of the 1 checkpoints .*step_1.state\.json does not match its checksum"
    with pytest.raises(CheckpointError, match=message):
        read_latest(tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_falls_back_or_changes_nothing(tmp_path: Path, data: st.DataObject) -> None:
    """A byte changed or a file cut, anywhere: the previous checkpoint is read, or the same."""
    shutil.rmtree(tmp_path)
    write(tmp_path, 1, 2)
    path = tmp_path / "step_2" / data.draw(st.sampled_from(FILES))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= data.draw(st.integers(1, 255))
    else:
        del content[position:]
    path.write_bytes(content)
    try:
        checkpoint = read_checkpoint(path.parent)
    except CheckpointError:
        with pytest.warns(RuntimeWarning, match="skipping"):
            latest = read_latest(tmp_path)
        assert latest is not None
        assert latest.step == 1
    else:
        # Only a final line break of SHA256SUMS may be missing or differ without harm.
        assert path.name == "SHA256SUMS"
        assert position == len(path.read_bytes()) or position >= len(content) - 1
        assert checkpoint.state == {**STATE, "written_at": 2}


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite"):
        write_checkpoint(tmp_path, 1, {}, {"loss": float("nan")})
    with pytest.raises(ValueError, match="-1"):
        write_checkpoint(tmp_path, -1, {}, {})
    assert names(tmp_path) == set()


def test_a_failed_write_leaves_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, 2)
    monkeypatch.undo()
    checkpoint = read_latest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert json.loads((tmp_path / "step_1" / "state.json").read_text())["step"] == 1

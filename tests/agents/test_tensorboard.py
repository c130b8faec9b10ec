import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from separatrix.agents.common.tensorboard import EventWriter, encode_gif


def frames(count: int = 4) -> np.ndarray:
    """Frames that differ: a white column that wanders."""
    result = np.zeros((count, 12, 16, 3), np.uint8)
    for index in range(count):
        result[index, :, index] = 255
    return result


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Steps and values of a scalar as TensorBoard shows it."""
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_gif_holds_all_frames_and_repeats() -> None:
    image = Image.open(io.BytesIO(encode_gif(frames(), fps=20)))
    assert image.format == "GIF"
    assert image.n_frames == 4  # type: ignore[attr-defined]
    assert image.info["duration"] == 50
    assert image.info["loop"] == 0
    for index, frame in enumerate(frames()):
        image.seek(index)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frame)


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 4, 3), np.uint8), np.zeros((2, 3, 4, 3)), np.zeros((0, 3, 4, 3), "u1")]
)
def test_gif_of_something_else_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="got frames of shape"):
        encode_gif(wrong, 20)
    with pytest.raises(ValueError, match="got fps 0"):
        encode_gif(frames(), 0)


def test_events_are_read_back(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.scalars({"eval/return": 0.5, "train/loss": 2.0}, 100)
    writer.image("eval/rollout", encode_gif(frames(), 20), 100)
    writer.close()
    assert scalars(tmp_path, "eval/return") == [(100, 0.5)]
    assert scalars(tmp_path, "train/loss") == [(100, 2.0)]
    (image,) = read(tmp_path).Images("eval/rollout")
    assert (image.step, image.width, image.height) == (100, 16, 12)
    assert image.encoded_image_string.startswith(b"GIF89a")


def test_hparams_are_in_the_same_folder(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.hparams({"agent.learning_rate": 1e-3, "seed": 3, "device": "cpu"}, ["eval/return"])
    writer.close()
    assert [path.is_file() for path in tmp_path.iterdir()] == [True]
    metadata = read(tmp_path).summary_metadata["_hparams_/session_start_info"]
    content = metadata.plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["agent.learning_rate"].number_value == 1e-3
    assert start.hparams["device"].string_value == "cpu"


@pytest.mark.parametrize("opened_before", range(3))
def test_a_resumed_run_overwrites_what_came_after(tmp_path: Path, opened_before: int) -> None:
    """Also if the count of files in this process, part of their names, gets another digit."""
    for other in range(4 * opened_before):
        EventWriter(tmp_path / f"other{other}").close()
    writer = EventWriter(tmp_path)
    for step in (10, 20, 30):
        writer.scalars({"a": step}, step)
    writer.close()
    writer = EventWriter(tmp_path, first_step=11)
    writer.scalars({"a": -20.0}, 20)
    writer.close()
    assert scalars(tmp_path, "a") == [(10, 10.0), (20, -20.0)]


def test_files_from_the_future_do_not_hide_what_a_resumed_run_writes(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.scalars({"a": 1.0}, 10)
    writer.scalars({"a": 2.0}, 20)
    writer.close()
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "events.out.tfevents.4000000000.host.1")
    (tmp_path / "events.out.tfevents.old.backup").touch()
    writer = EventWriter(tmp_path, first_step=11)
    writer.scalars({"a": -2.0}, 20)
    writer.close()
    assert scalars(tmp_path, "a") == [(10, 1.0), (20, -2.0)]

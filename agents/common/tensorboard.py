"""TensorBoard events: scalars, figures, animations and hyper-parameters in one folder."""

import io
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries
from torch.utils.tensorboard.summary import scalar as scalar_summary
from torch.utils.tensorboard.summary import text as text_summary

from separatrix.agents.common.files import named_in_errors

RGB = 3  # the value of `colorspace` in an image summary
FILE_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")


def encode_png(figure: Figure) -> bytes:
    """Draw a figure as PNG, without touching pyplot's global state.

    Args:
        figure: The figure.

    Returns:
        Contents of a PNG file.
    """
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def encode_gif(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames as an animated GIF that repeats.

    Args:
        frames: RGB frames, uint8 of shape (time, height, width, 3), at least one.
        fps: Frames a second; GIF rounds the time of a frame to 10 ms.

    Returns:
        Contents of a GIF file.

    Raises:
        ValueError: If the frames are not uint8 of shape (time, height, width, 3), or fps is not
            positive.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0 or frames.dtype != np.uint8:
        raise ValueError(
            f"got frames of shape {frames.shape} and type {frames.dtype}; "
            "allowed are uint8 frames of shape (time, height, width, 3)"
        )
    if not fps > 0:
        raise ValueError(f"got fps {fps}; allowed are positive numbers")
    first, *rest = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


class EventWriter:
    """Writes the events of one run into its folder.

    It writes at once and in this thread, unlike SummaryWriter: what was logged survives a kill, and
    a full disk is an error where it is met.
    """

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        """Open a new event file.

        Args:
            folder: Folder of the run.
            first_step: Step at which a resumed run goes on; TensorBoard then forgets what earlier
                files of the folder say about this step and later ones.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / _later_name(folder)
        self._records = RecordWriter(self._path.open("xb"))
        self._write(file_version="brain.Event:2")
        if first_step is not None:
            self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Write one point of each tag's curve."""
        for tag, value in scalars.items():
            self._write(step=step, summary=scalar_summary(tag, value))

    def image(self, tag: str, encoded: bytes, step: int) -> None:
        """Write a PNG, or a GIF, which TensorBoard shows moving.

        Args:
            tag: Tag of the image.
            encoded: Contents of the PNG or GIF file.
            step: Environment steps taken.
        """
        width, height = Image.open(io.BytesIO(encoded)).size
        image = Summary.Image(
            height=height, width=width, colorspace=RGB, encoded_image_string=encoded
        )
        self._write(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def text(self, tag: str, text: str, step: int) -> None:
        """Write text, which TensorBoard shows as Markdown.

        Args:
            tag: Tag of the text.
            text: The text.
            step: Environment steps taken.
        """
        self._write(step=step, summary=text_summary(tag, text))

    def hparams(self, hparams: Mapping[str, bool | float | str], metrics: Sequence[str]) -> None:
        """Write the hyper-parameters and name the scalars that are their outcome.

        They go into the run's own event file: SummaryWriter's add_hparams opens a run within the
        run, which TensorBoard then lists as a second one.

        Args:
            hparams: Name and value of each hyper-parameter.
            metrics: Tags of scalars of this run.
        """
        for summary in hparams_summaries(dict(hparams), dict.fromkeys(metrics, 0.0)):
            self._write(summary=summary)

    def close(self) -> None:
        """Close the file."""
        with named_in_errors(self._path):
            self._records.close()

    def _write(self, **content: Any) -> None:
        event = Event(wall_time=time.time(), **content)
        with named_in_errors(self._path):
            self._records.write(event.SerializeToString())
            self._records.flush()


def _later_name(folder: Path) -> str:
    """A name for an event file that sorts behind those of the folder.

    TensorBoard reads the files in the order of their names, events.out.tfevents.<second>.<host>...,
    also where two were opened in one second, or a clock was set back.
    """
    matches = [FILE_NAME.match(path.name) for path in folder.iterdir()]
    seconds = max([int(time.time()), *(int(match[1]) + 1 for match in matches if match)])
    return f"events.out.tfevents.{seconds:010}.{socket.gethostname()}.{os.getpid()}"

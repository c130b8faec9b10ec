"""The folder of one run: everything that went in, everything that came out.

runs/<environment>/<agent>/<time>_s<seed>/ holds

- config.yaml: the resolved experiment; loading it gives the same experiment again
- command.txt: the command lines that started and resumed the run
- git.json: the commit, whether it was changed, and the changes
- versions.json: versions of the packages and names of the processors
- metrics.csv: every scalar, as step,tag,value,wall_time
- events.*: the same for TensorBoard, with figures and videos
- checkpoints/: see `separatrix.agents.common.checkpoint`
- figures/, videos/, texts/: PNG, GIF and text files
- .lock: held by the process that trains; the system lets go of it however the process ends

config.yaml is written last: without it, the process was killed before the run began.
"""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self, SupportsFloat

import numpy as np
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from torch import Tensor

from separatrix.agents.common import provenance
from separatrix.agents.common.checkpoint import Checkpoint, read_latest, write_checkpoint
from separatrix.agents.common.configuration import dump_experiment, load_experiment
from separatrix.agents.common.files import named_in_errors, write_whole
from separatrix.agents.common.metrics import MetricsFile
from separatrix.agents.common.tensorboard import EventWriter, encode_gif, encode_png
from separatrix.agents.experiment import ExperimentConfig


class RunInUseError(RuntimeError):
    """Another process trains this run."""


class Run:
    """One run and its folder; made by `create`, `open` or `resume`, closed by `close` or `with`."""

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        """Attach to a folder that exists; use `create`, `open` or `resume` instead."""
        self.folder = folder
        self._first_step = first_step
        self._last_step = 0
        self._lock = FileLock(folder / ".lock", timeout=0)

    @classmethod
    def create(
        cls, root: Path | str, environment_id: str, agent: str, seed: int, config: ExperimentConfig
    ) -> Self:
        """Make the folder `<root>/<environment>/<agent>/<time>_s<seed>` and record what goes in.

        Args:
            root: Folder of all runs.
            environment_id: Registered id; the folder is named without its namespace.
            agent: Name of the agent.
            seed: Seed of the run.
            config: The resolved experiment.

        Returns:
            The run.

        Raises:
            OSError: If the folder cannot be made or written; nothing stays of it then.
        """
        parent = Path(root) / environment_id.rpartition("/")[2] / agent
        parent.mkdir(parents=True, exist_ok=True)
        name = f"{time.strftime('%Y%m%d_%H%M%S')}_s{seed}"
        candidates = [name, *(f"{name}_{number}" for number in range(2, 1000))]
        for candidate in candidates:
            folder = parent / candidate
            try:
                folder.mkdir()
                break
            except FileExistsError:
                continue
        else:
            raise FileExistsError(f"{parent / name} and its numbered neighbours exist already")
        run = cls(folder)
        try:
            run._lock.acquire()
            _write_json(folder / "git.json", provenance.git_state())
            _write_json(folder / "versions.json", provenance.versions())
            run._record_command()
            write_whole(folder / "config.yaml", dump_experiment(config).encode())
        except BaseException:
            run.close()
            shutil.rmtree(folder)
            raise
        return run

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Attach to a run, to read from it or to add to it.

        Args:
            folder: Folder of the run.

        Returns:
            The run.

        Raises:
            FileNotFoundError: If the folder is not that of a run.
        """
        folder = Path(folder)
        if not (folder / "config.yaml").is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a run: it has no config.yaml")
        return cls(folder)

    @classmethod
    def resume(cls, folder: Path | str) -> Self:
        """Attach to a run whose training is to go on from its last checkpoint.

        Scalars after that checkpoint are removed; the training writes them again.

        Args:
            folder: Folder of the run.

        Returns:
            The run.

        Raises:
            FileNotFoundError: If the folder is not that of a run.
            RunInUseError: If another process trains it.
            CheckpointError: If there are checkpoints and none is whole.
        """
        run = cls.open(folder)
        try:
            run._lock.acquire()
        except Timeout as error:
            raise RunInUseError(f"{folder} is being trained by another process") from error
        try:
            checkpoint = run.latest_checkpoint()
            step = checkpoint.step if checkpoint else -1
            run._metrics.cut(step)
            run._first_step = step + 1
            run._record_command()
        except BaseException:
            run.close()
            raise
        return run

    @property
    def config(self) -> ExperimentConfig:
        """The resolved experiment."""
        return load_experiment(self.folder / "config.yaml")

    def log(self, scalars: Mapping[str, SupportsFloat], step: int) -> None:
        """Write scalars to metrics.csv and TensorBoard.

        Args:
            scalars: Value of each tag, such as `eval/return`.
            step: Environment steps taken.
        """
        values = {tag: float(value) for tag, value in scalars.items()}
        self._metrics.append(values, step)
        self._events.scalars(values, step)
        self._last_step = step

    def log_figure(self, tag: str, figure: Figure, step: int) -> Path:
        """Write a figure to figures/ and TensorBoard.

        Args:
            tag: Tag of the figure.
            figure: The figure.
            step: Environment steps taken.

        Returns:
            The PNG file.
        """
        return self._log_image("figures", tag, encode_png(figure), step, "png")

    def log_video(self, tag: str, frames: np.ndarray, step: int, fps: float) -> Path:
        """Write an animation to videos/ and TensorBoard.

        Args:
            tag: Tag of the animation.
            frames: RGB frames, uint8 of shape (time, height, width, 3).
            step: Environment steps taken.
            fps: Frames a second.

        Returns:
            The GIF file.
        """
        return self._log_image("videos", tag, encode_gif(frames, fps), step, "gif")

    def log_text(self, tag: str, text: str, step: int) -> Path:
        """Write text to texts/ and, as it stands, line by line, to TensorBoard.

        Args:
            tag: Tag of the text.
            text: The text.
            step: Environment steps taken.

        Returns:
            The text file.
        """
        path = self.folder / "texts" / f"{tag.replace('/', '_')}_{step}.txt"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, f"{text}\n".encode())
        self._events.text(tag, f"```\n{text}\n```", step)
        return path

    def log_hparams(
        self, hparams: Mapping[str, bool | float | str], metrics: Mapping[str, SupportsFloat]
    ) -> None:
        """Write the hyper-parameters with their outcome, once, when the run ends.

        Args:
            hparams: Name and value of each hyper-parameter.
            metrics: Tag and final value of each outcome, logged at the last step.
        """
        self._events.hparams(hparams, list(metrics))
        self.log(metrics, self._last_step)

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Write a checkpoint and keep the last two, see `write_checkpoint`.

        Args:
            step: Environment steps taken.
            tensors: Named tensors.
            state: JSON values.

        Returns:
            Folder of the checkpoint.
        """
        return write_checkpoint(self.folder / "checkpoints", step, tensors, state)

    def latest_checkpoint(self) -> Checkpoint | None:
        """Read the newest whole checkpoint, None if there is none yet, see `read_latest`."""
        return read_latest(self.folder / "checkpoints")

    def close(self) -> None:
        """Write what is pending, close the files and let another process train."""
        try:
            for name in ("_metrics", "_events"):
                if name in self.__dict__:
                    self.__dict__.pop(name).close()
        finally:
            self._lock.release()

    def discard_unused(self) -> None:
        """Remove the folder of a closed run if nothing was logged or saved in it."""
        used = ("metrics.csv", "checkpoints", "figures", "texts", "videos")
        if not any((self.folder / name).exists() for name in used):
            shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        """Enter a `with` statement, at whose end the run is closed."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the run."""
        self.close()

    @cached_property
    def _metrics(self) -> MetricsFile:
        return MetricsFile(self.folder / "metrics.csv")

    @cached_property
    def _events(self) -> EventWriter:
        return EventWriter(self.folder, self._first_step)

    def _log_image(self, folder: str, tag: str, encoded: bytes, step: int, suffix: str) -> Path:
        path = self.folder / folder / f"{tag.replace('/', '_')}_{step}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        write_whole(path, encoded)
        self._events.image(tag, encoded, step)
        return path

    def _record_command(self) -> None:
        path = self.folder / "command.txt"
        with named_in_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(f"{shlex.join(sys.argv)}\n")


def _write_json(path: Path, data: Any) -> None:
    write_whole(path, f"{json.dumps(data, indent=2, allow_nan=False)}\n".encode())

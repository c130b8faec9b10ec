"""Data sets of others: D4RL files and NeoRL files, and what all of them become.

D4RL (Fu et al. 2020, arXiv:2004.07219), one .hdf5 file: `observations`, `actions`, `rewards`,
`terminals` and `timeouts`, a row for each step, and in some files `next_observations`; the rest is
not read. An episode ends where either flag is set; the last one is truncated if it has no end.
Where there are no `next_observations`, the one of a row is the observation of the next row, and the
last row of an episode has none. It is dropped, and the row before becomes the truncated end. An
episode that was terminated would lose that it was; such a file is refused.

NeoRL (Qin et al. 2022, arXiv:2102.00714) and NeoRL-2 (Gao et al. 2025, arXiv:2503.19267), one .npz
file: `obs`, `next_obs`, `action`, `reward`, `done`, and `index`, the rows at which episodes begin
(NeoRL-2) or before which they end (NeoRL); NeoRL-2 has `truncated` as well. `done` is taken for
termination; an episode that ends without it is truncated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32

from separatrix.agents.offline.data.dataset import Dataset, DatasetError, Metadata, numbered
from separatrix.agents.offline.data.reading import Reader, opened, read_arrays

NO_METADATA = Metadata()

Bound = float | Sequence[float]
"""A bound of all components of the action, or one for each."""


@dataclass(frozen=True)
class Scaling:
    """What becomes of actions whose bounds are not -1 and 1.

    Raises:
        DatasetError: A bound is not finite, or the lower one is not below the upper one.
    """

    low: Bound = -1.0
    """What becomes -1."""

    high: Bound = 1.0
    """What becomes 1."""

    clip: bool = False
    """Whether actions outside their bounds are clipped, as many environments take them."""

    def __post_init__(self) -> None:
        """Looks for bounds that make no sense."""
        low, high = np.broadcast_arrays(self.low, self.high)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise DatasetError(
                f"action_low: got {self.low}; allowed: finite numbers below action_high, which is "
                f"{self.high}"
            )

    def scaled(
        self, action: Float32[np.ndarray, "rows action"]
    ) -> Float32[np.ndarray, "rows action"]:
        """Returns actions in bounds of -1 and 1.

        Raises:
            DatasetError: There are not as many bounds as components.
        """
        size = action.shape[1]
        for name, bound in {"action_low": self.low, "action_high": self.high}.items():
            if np.shape(bound) not in ((), (size,)):
                raise DatasetError(f"{name}: got {bound}; allowed: a number, or {size} numbers")
        low, high = np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
        scaled = ((action - (low + high) / 2) / ((high - low) / 2)).astype(np.float32)
        return scaled.clip(-1, 1) if self.clip else scaled


@dataclass(frozen=True)
class Columns:
    """Steps of episodes, one after the other, as they are written in a file."""

    observation: Float32[np.ndarray, "rows observation"]
    """Before the step."""

    action: Float32[np.ndarray, "rows action"]
    """Of the step, in its own bounds."""

    reward: Float32[np.ndarray, " rows"]
    """Of the step."""

    next_observation: Float32[np.ndarray, "rows observation"]
    """After the step."""

    terminated: Bool[np.ndarray, " rows"]
    """Whether the episode was terminated here."""

    last: Bool[np.ndarray, " rows"]
    """Whether it ended here, for whatever reason."""

    metadata: Metadata = NO_METADATA
    """What the file says beside."""


def read_d4rl(path: Path) -> Columns:
    """Reads a D4RL file.

    Raises:
        DatasetError: The file is missing, damaged or faulty.
        ImportError: The package h5py is not installed.
    """
    names = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    with opened(path) as file:
        found = {name: file[name][()] for name in names if name in file}
    reader = Reader(path, found, "observations")
    observation, action = reader.numbers("observations", 2), reader.numbers("actions", 2)
    reward = reader.numbers("rewards", 1)
    terminated = reader.flags("terminals")
    last = terminated | reader.flags("timeouts")
    last[-1] = True
    if "next_observations" in found:
        after = reader.numbers("next_observations", 2)
        return Columns(observation, action, reward, after, terminated, last)
    if terminated.any():
        reader.refuse(
            int(terminated.argmax()),
            "terminals",
            "True",
            "False where the file has no next_observations: without the last row of an episode, "
            "that it was terminated is lost",
        )
    kept = ~last[:-1]
    if not kept.any():
        raise DatasetError(f"{path}: no episode is longer than one row; allowed: next_observations")
    columns = (
        observation[:-1],
        action[:-1],
        reward[:-1],
        observation[1:],
        terminated[:-1],
        last[1:],
    )
    return Columns(*(column[kept] for column in columns))


def read_neorl(path: Path) -> Columns:
    """Reads a NeoRL or NeoRL-2 file.

    Raises:
        DatasetError: The file is missing, damaged or faulty.
    """
    found = read_arrays(path)
    reader = Reader(path, found, "obs")
    observation, after = reader.numbers("obs", 2), reader.numbers("next_obs", 2)
    action, reward = reader.numbers("action", 2), reader.numbers("reward", 1)
    terminated = reader.flags("done")
    rows = len(reward)
    index = reader.array("index").ravel()
    if not np.issubdtype(index.dtype, np.integer) or (index < 0).any() or (index > rows).any():
        raise DatasetError(f"{path}: index: got {index}; allowed: integers from 0 to {rows}")
    last = np.zeros(rows + 1, dtype=bool)
    last[index] = True  # rows at which episodes begin, or have ended just before
    last = last[1:]
    last[-1] = True
    for name in ("done", "truncated"):
        inside = reader.flags(name) & ~last if name in found else ~last[:0]
        if inside.any():
            row = int(inside.argmax())
            reader.refuse(row, name, "True", "False within an episode of index")
    return Columns(observation, action, reward, after, terminated, last)


def to_dataset(
    path: Path, columns: Columns, device: torch.device | str, scaling: Scaling
) -> Dataset:
    """Makes a data set of what was read.

    Args:
        path: The file, for error messages.
        columns: What was read.
        device: Where the tensors are to live.
        scaling: What becomes of the actions.

    Raises:
        DatasetError: The data are faulty, or actions lie outside their bounds.
    """
    action = scaling.scaled(columns.action)
    outside = np.argwhere(np.abs(action) > 1)
    if len(outside):
        row, component = outside[0].tolist()
        raise DatasetError(
            f"{path}: row {row}: action[{component}]: got {columns.action[row, component]}; "
            f"allowed: from {scaling.low} to {scaling.high}; other bounds are named by action_low "
            "and action_high, and clip_actions=True clips"
        )
    terminated, last = (torch.from_numpy(flags) for flags in (columns.terminated, columns.last))
    episode, step = numbered(last)
    try:
        return Dataset(
            torch.from_numpy(columns.observation).to(device),
            torch.from_numpy(action).to(device),
            torch.from_numpy(columns.reward).to(device),
            torch.from_numpy(columns.next_observation).to(device),
            terminated.to(device),
            (last & ~terminated).to(device),
            episode.to(device),
            step.to(device),
            columns.metadata,
        )
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error

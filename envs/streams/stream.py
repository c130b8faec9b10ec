"""Streams of tasks: the same spaces and the same goal, task after task with other physics.

Light: torch loads when numbers are asked for, an environment when one is made.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int64

from separatrix.envs.core.registration import NAMESPACE, find, register, suggest
from separatrix.envs.streams.documentation import complete

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.environment import Environment

FEWEST, MOST = 5, 50
"""Tasks of a stream."""
REFERENCES = Path(__file__).parent / "data" / "references.json"
"""Mean returns of random actions and of a good controller, by `benchmarks/stream_references.py`."""


@dataclass(frozen=True)
class TaskStream:
    """A fixed sequence of tasks, each an environment with other values of some options.

    Attributes:
        id: Full id, such as "separatrix/LorenzStream-v0".
        base: Full id of the environment whose options vary.
        parameters: The options that vary, and their value in each task.
        fixed: Options of the base that are the same in all tasks, but not as the base has them.
        horizon: Steps after which an episode is truncated.
    """

    id: str
    base: str
    parameters: Mapping[str, tuple[float | str, ...]]
    horizon: int
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    @property
    def labels(self) -> tuple[str, ...]:
        """A short name of each task, such as "rho = 31.2"; of a task that is a name, that."""
        return tuple(
            ", ".join(
                value if isinstance(value, str) else f"{name} = {value:.4g}"
                for name, value in zip(self.parameters, values, strict=True)
            )
            for values in zip(*self.parameters.values(), strict=True)
        )

    @property
    def references(self) -> Mapping[str, Any]:
        """What was measured: mean returns `random` and `reference` of the first tasks, and how.

        Empty if nothing was.
        """
        return _references().get(self.id, {})

    def options(self, task: int | Sequence[int]) -> dict[str, Any]:
        """Returns the options of the base for a task, or for one in each environment."""
        return {
            **self.fixed,
            **{
                name: values[task] if isinstance(task, int) else [values[i] for i in task]
                for name, values in self.parameters.items()
            },
        }

    def features(self) -> Float[Tensor, "tasks features"]:
        """Returns what the tasks are as numbers, in float64, for models that are told.

        A parameter that is a number is scaled to [-1, 1] over the stream; of one that is a name
        there is a column for each name, in the order in which they come, 1 where it is that, else
        0. Parameters stand in the order of `parameters`.
        """
        import torch

        columns: list[list[float]] = []
        for values in self.parameters.values():
            numbers = [value for value in values if not isinstance(value, str)]
            if numbers:
                low, high = min(numbers), max(numbers)
                columns.append([2 * ((number - low) / (high - low)) - 1 for number in numbers])
            else:
                columns += [[float(v == name) for v in values] for name in dict.fromkeys(values)]
        return torch.tensor(columns, dtype=torch.float64).T

    def scores(
        self, returns: Float[Tensor, "*any tasks"], tasks: Sequence[int] | Int64[Tensor, " tasks"]
    ) -> Float[Tensor, "*any tasks"]:
        """Returns what returns are worth: 0 as random actions, 1 as the controller of reference.

        That is (R - R_random) / (R_reference - R_random); worse than random is negative, better
        than the reference above 1.

        Args:
            returns: Of episodes of `horizon` steps; float64 comes back.
            tasks: The task of each of the last axis.

        Raises:
            ValueError: A task does not exist, or none of its references was measured.
        """
        import torch

        positions = _positions(self, list(tasks), returns.shape[-1])
        found = self.references
        known = len(found.get("reference", ()))
        missing = [task for task in positions if task >= known]
        if missing:
            measured = f"0 to {known - 1}" if known else "none"
            raise ValueError(
                f"task {missing[0]} of {self.id} has no reference returns; measured: {measured} "
                "(benchmarks/stream_references.py measures them)"
            )
        random, reference = (
            torch.tensor(found[name], dtype=torch.float64, device=returns.device)[positions]
            for name in ("random", "reference")
        )
        return (returns.double() - random) / (reference - random)


STREAMS: dict[str, TaskStream] = {}


def find_stream(stream_id: str) -> TaskStream:
    """Looks a stream up by its id, with or without the namespace.

    Raises:
        ValueError: There is no such stream.
    """
    full = stream_id if "/" in stream_id else f"{NAMESPACE}/{stream_id}"
    if full not in STREAMS:
        raise ValueError(f"unknown stream {stream_id!r}; {suggest(full, STREAMS)}")
    return STREAMS[full]


def register_stream(
    name: str,
    base: str,
    parameters: Mapping[str, Sequence[float | str]],
    *,
    horizon: int,
    summary: str,
    documented: type,
    fixed: Mapping[str, Any] | None = None,
) -> TaskStream:
    """Registers a stream under an id whose one option is `task`.

    Args:
        name: Name with version, such as "LorenzStream-v0".
        base: Id of the environment whose options vary, which is registered.
        parameters: See `TaskStream`; all numbers or all names, 5 to 50 of them.
        horizon: Steps after which an episode is truncated.
        summary: One line.
        documented: The class whose docstring has a title, a description and references of its own;
            what all streams share is put between them, see `complete`.
        fixed: See `TaskStream`.

    Raises:
        ValueError: The base has no such option, or values are too few, too many or not all of a
            kind.
    """
    entry = find(base)
    fixed = dict(fixed or {})
    for option in (*parameters, *fixed):
        if option not in entry.options:
            hint = suggest(option, entry.options)
            raise ValueError(f"unknown option {option!r} of {entry.id}; {hint}")
    counts = {len(values) for values in parameters.values()}
    kinds = {len({isinstance(v, str) for v in values}) for values in parameters.values()}
    if len(counts) != 1 or kinds != {1} or not FEWEST <= min(counts) <= MOST:
        raise ValueError(
            f"parameters of {name}: got {sorted(counts)} values; allowed: as many of each "
            f"parameter, {FEWEST} to {MOST}, all numbers or all names"
        )
    values = {option: tuple(found) for option, found in parameters.items()}
    stream = TaskStream(f"{NAMESPACE}/{name}", entry.id, values, horizon, fixed)

    def build(
        *, num_envs: int, device: Any, dtype: Any, backend: str, horizon: int, options: dict
    ) -> Environment:
        from separatrix.envs.streams.environment import StreamEnvironment

        task = options.get("task", 0)
        several = _several(task)
        one = several is None
        tasks = _positions(stream, [task] if several is None else several, 1 if one else num_envs)
        inner = entry.build(
            num_envs=num_envs,
            device=device,
            dtype=dtype,
            backend=backend,
            horizon=horizon,
            options=stream.options(tasks[0] if one else tasks),
        )
        return StreamEnvironment(inner, stream, tasks * (num_envs // len(tasks)))

    register(
        name,
        build,
        horizon=horizon,
        summary=summary,
        options={"task": 0},
        documented=documented,
        states=entry.states,
        controls=entry.controls,
        backends=entry.backends,
    )
    complete(documented, stream, entry)
    STREAMS[stream.id] = stream
    return stream


def _several(task: Any) -> list[Any] | None:
    """Returns the values of a list of tasks; None if it is a single one."""
    if hasattr(task, "tolist"):  # of numpy and torch
        task = task.tolist()
    return list(task) if isinstance(task, list | tuple) else None


def _positions(stream: TaskStream, tasks: Sequence[Any], count: int) -> list[int]:
    """Reads the positions of tasks in a stream, of which there are to be so many."""
    if len(tasks) != count:
        raise ValueError(
            f"task: got {len(tasks)} of {stream.id}; allowed: one, or one for each of {count}"
        )
    positions = [task.item() if hasattr(task, "item") else task for task in tasks]
    for position in positions:
        whole = isinstance(position, int) and not isinstance(position, bool)
        if not whole or not 0 <= position < len(stream):
            raise ValueError(
                f"task: got {reprlib.repr(position)} of {stream.id}; allowed: a whole number from "
                f"0 to {len(stream) - 1}, or a list with one for each environment"
            )
    return positions


@cache
def _references() -> dict[str, dict[str, Any]]:
    """Returns the references of all streams that were measured, by id."""
    found: dict[str, dict[str, Any]] = json.loads(REFERENCES.read_text(encoding="utf-8"))
    return found

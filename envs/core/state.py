"""States: dataclasses of tensors with a leading batch axis, and how to pick and replace rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self, TypeVar

from jaxtyping import Int64
from torch import Tensor

from separatrix.envs.core.stream import Stream

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class State:
    """What every state carries; systems add the tensors of their physics.

    Attributes:
        stream: Position of each environment in its random stream.
        interval: Number of control intervals since the start of the episode; times the control
            interval it is the time.
    """

    stream: Stream
    interval: Int64[Tensor, " batch"]

    @property
    def unwrapped(self) -> Self:
        """The state inside all wrappers; itself, as it has none."""
        return self


def map_tensors(function: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """Applies a function to corresponding tensors of dataclasses of the same kind.

    Args:
        function: Takes one tensor of each tree.
        tree: A dataclass whose fields are tensors, such dataclasses, or constants (kept).
        others: Dataclasses of the same type.
    """

    def apply(values: list[Any]) -> Any:
        first = values[0]
        if isinstance(first, Tensor):
            return function(*values)
        if is_dataclass(first) and not isinstance(first, type):
            changes = {f.name: apply([getattr(v, f.name) for v in values]) for f in fields(first)}
            return replace(first, **changes)
        return first

    return apply([tree, *others])


def take(tree: Tree, rows: Int64[Tensor, " rows"]) -> Tree:
    """Returns the given rows of every tensor."""
    return map_tensors(lambda tensor: tensor.index_select(0, rows), tree)


def put(tree: Tree, rows: Int64[Tensor, " rows"], part: Tree) -> Tree:
    """Returns a copy in which the given rows are those of `part`, in order."""
    return map_tensors(lambda tensor, new: tensor.index_copy(0, rows, new), tree, part)


def tensors(tree: Any, prefix: str = "") -> dict[str, Tensor]:
    """Returns the tensors of a dataclass by dotted name, for checkpoints."""
    found: dict[str, Tensor] = {}
    for f in fields(tree):
        value = getattr(tree, f.name)
        if isinstance(value, Tensor):
            found[prefix + f.name] = value
        elif is_dataclass(value):
            found |= tensors(value, f"{prefix}{f.name}.")
    return found


def copied(found: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Returns a copy of a named tensor, of the dtype and on the device of another.

    Raises:
        ValueError: The tensor is missing or has another shape.
    """
    got = tuple(found[name].shape) if name in found else None
    if got != tuple(like.shape):
        raise ValueError(f"{name}: got shape {got}; allowed: {tuple(like.shape)}")
    return found[name].to(like, copy=True)


def from_tensors(like: Tree, found: Mapping[str, Tensor], prefix: str = "") -> Tree:
    """Returns a dataclass like the given one with copies of the tensors that `tensors` gave.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    changes: dict[str, Any] = {}
    for f in fields(like):  # type: ignore[arg-type]
        value = getattr(like, f.name)
        if isinstance(value, Tensor):
            changes[f.name] = copied(found, prefix + f.name, value)
        elif is_dataclass(value):
            changes[f.name] = from_tensors(value, found, f"{prefix}{f.name}.")
    return replace(like, **changes)  # type: ignore[type-var]

"""What a continual learner has to store, counted exactly, and what else the bytes could hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from separatrix.agents.hypercrl.target import target_shape
from separatrix.envs.core.registration import check_count

CATEGORIES = (
    "hypernetwork",
    "embeddings",
    "regulariser targets",
    "networks",
    "data",
    "importance",
    "normalisers",
    "optimiser",
)
"""What tensors are stored for."""


@dataclass(frozen=True)
class Storage:
    """How much is stored, by category; categories without tensors are left out."""

    floats: dict[str, int]
    """Numbers, of whatever type."""

    bytes: dict[str, int]
    """Bytes of these numbers."""

    @property
    def total_floats(self) -> int:
        """Numbers of all categories."""
        return sum(self.floats.values())

    @property
    def total_bytes(self) -> int:
        """Bytes of all categories."""
        return sum(self.bytes.values())

    def table(self) -> str:
        """Lays the numbers out as text."""
        names = [*self.floats, "total"]
        floats = [*self.floats.values(), self.total_floats]
        sizes = [*self.bytes.values(), self.total_bytes]
        width = max(len(name) for name in [*names, "category"])
        rows = [
            f"{name:<{width}} {count:>15,} {size:>15,}"
            for name, count, size in zip(names, floats, sizes, strict=True)
        ]
        return "\n".join([f"{'category':<{width}} {'floats':>15} {'bytes':>15}", *rows])


def count_storage(tensors: Mapping[str, Mapping[str, Tensor]]) -> Storage:
    """Counts tensors.

    Args:
        tensors: For each category its tensors by name.

    Returns:
        The counts, in the order of `CATEGORIES`.

    Raises:
        ValueError: A category is none of `CATEGORIES`, or two tensors begin at the same memory, so
            that it would be counted twice.
    """
    if unknown := [category for category in tensors if category not in CATEGORIES]:
        raise ValueError(f"tensors: got category {unknown[0]!r}; allowed: {', '.join(CATEGORIES)}")
    owner: dict[int, str] = {}
    for category, named in tensors.items():
        for name, tensor in named.items():
            full = f"{category}: {name}"
            if tensor.numel() and (first := owner.setdefault(tensor.data_ptr(), full)) != full:
                raise ValueError(
                    f"tensors: got the memory of {first!r} again as {full!r}; allowed: once"
                )
    present = {name: tensors[name].values() for name in CATEGORIES if tensors.get(name)}
    return Storage(
        {name: sum(tensor.numel() for tensor in found) for name, found in present.items()},
        {name: sum(tensor.nbytes for tensor in found) for name, found in present.items()},
    )


def coreset_size_for(
    size: int,
    observation_size: int,
    action_size: int,
    *,
    tasks: int,
    reward: bool = False,
    number_bytes: int = 4,
) -> int:
    """Returns how many transitions of each task fit into a memory that all tasks share.

    A transition is an observation, an action, the next observation and, if wanted, the reward.

    Args:
        size: Bytes for all tasks, as of `Storage.bytes`.
        observation_size: Components of an observation.
        action_size: Components of an action.
        tasks: Number of tasks.
        reward: Whether rewards are stored.
        number_bytes: Bytes of a number.

    Raises:
        ValueError: Not even one transition of each task fits.
    """
    for name, value in {"observation_size": observation_size, "action_size": action_size}.items():
        check_count(name, value)
    check_count("tasks", tasks)
    check_count("number_bytes", number_bytes)
    transition = number_bytes * (2 * observation_size + action_size + reward)
    if size < tasks * transition:
        raise ValueError(
            f"size: got {size} bytes; allowed: {tasks * transition} or more, for one transition "
            f"of each of {tasks} tasks"
        )
    return size // (tasks * transition)


def hidden_width_for(parameters: int, inputs: int, outputs: int, layers: int) -> int:
    """Returns the width of the largest fully connected network within a number of parameters.

    Args:
        parameters: Most weights and biases.
        inputs: Number of inputs.
        outputs: Number of outputs.
        layers: Hidden layers, all of the same width.

    Raises:
        ValueError: Not even hidden layers of width one fit.
    """
    for name, value in {"inputs": inputs, "outputs": outputs, "layers": layers}.items():
        check_count(name, value)
    least = target_shape(inputs, (1,) * layers, outputs).parameters
    if parameters < least:
        raise ValueError(f"parameters: got {parameters}; allowed: {least} or more")
    low, high = 1, parameters  # the number of parameters exceeds the width
    while low < high:
        middle = (low + high + 1) // 2
        if target_shape(inputs, (middle,) * layers, outputs).parameters <= parameters:
            low = middle
        else:
            high = middle - 1
    return low

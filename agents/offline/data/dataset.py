"""Recorded transitions in one flat form; faults are found before anything learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.agents.common.replay import Transitions
from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import Environment

ROUNDING = 1e-5
"""Relative error of numbers that were stored, by which they may lie beyond a bound."""


class DatasetError(ValueError):
    """Recorded data are faulty or do not fit; the message names the place."""


@dataclass(frozen=True)
class References:
    """Mean returns between which the returns of a data set are scaled.

    They are measured once, when the data are recorded, and belong to this version of the data.
    """

    random: float
    """Mean return of uniformly random actions."""

    expert: float
    """Mean return of the best policy of the recording."""

    episodes: int
    """Episodes of each mean."""

    policy: str
    """What the expert is."""

    def score(self, returns: Float[Tensor, " *any"]) -> Float[Tensor, " *any"]:
        """Returns 0 for the random policy's mean return, 100 for the expert's."""
        return 100 * (returns - self.random) / (self.expert - self.random)


@dataclass(frozen=True)
class Metadata:
    """What is known of recorded data beside the numbers."""

    environment: str = ""
    """Registered id; empty where the data come from elsewhere."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the environment that are not its defaults."""

    recipe: str = ""
    """Which policies acted, such as "medium-replay"."""

    version: int = 1
    """Version of the data, raised when they are recorded anew in another way."""

    references: References | None = None
    """Returns that scores are scaled by."""

    origin: Mapping[str, Any] = field(default_factory=dict)
    """Seeds, policies, versions of packages, command: JSON values."""


@dataclass(frozen=True)
class Dataset:
    """Transitions of whole episodes, one after the other, on one device.

    Nothing is inferred by shifting rows: the next observation of every row is its own.

    Raises:
        DatasetError: A shape or type is another, a number is not finite, an action lies outside
            [-1, 1], episodes or steps are not counted 0, 1, 2, ..., an episode ends within itself
            or has no end, or a row does not begin where the one before it ended.
    """

    observation: Float[Tensor, "rows observation"]
    """Before the control interval."""

    action: Float[Tensor, "rows action"]
    """Held during the interval, in [-1, 1]."""

    reward: Float[Tensor, " rows"]
    """Of the interval."""

    next_observation: Float[Tensor, "rows observation"]
    """After the interval, before any reset."""

    terminated: Bool[Tensor, " rows"]
    """Whether the episode ended here by failure or success of the physics."""

    truncated: Bool[Tensor, " rows"]
    """Whether the recording of the episode ended here for another reason, such as time."""

    episode: Int64[Tensor, " rows"]
    """Number of the episode, from 0."""

    step: Int64[Tensor, " rows"]
    """Control intervals of the episode before this one."""

    metadata: Metadata = field(default_factory=Metadata)
    """Where the data come from."""

    def __post_init__(self) -> None:
        """Looks for faults."""
        self._check_shapes()
        self._check_numbers()
        self._check_episodes()

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.reward)

    @property
    def last(self) -> Bool[Tensor, " rows"]:
        """Where episodes end, terminated or truncated."""
        return self.terminated | self.truncated

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.episode[-1]) + 1

    @property
    def returns(self) -> Float[Tensor, " episodes"]:
        """Sum of the rewards of each episode, float64."""
        zeros = self.reward.new_zeros(self.episodes, dtype=torch.float64)
        return zeros.index_add(0, self.episode, self.reward.double())

    def transitions(self) -> Transitions:
        """Returns the same tensors as transitions that are not numbered."""
        return Transitions(
            self.observation,
            self.action,
            self.reward,
            self.next_observation,
            self.terminated,
            self.last,
        )

    def to(self, device: torch.device | str) -> Self:
        """Returns the data on a device."""
        return type(self)(
            **{name: tensor.to(device) for name, tensor in self.tensors().items()},
            metadata=self.metadata,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "metadata"}

    def check_fits(self, environment: Environment) -> None:
        """Refuses an environment with other spaces.

        Raises:
            DatasetError: Observations or actions have another size, or observations lie outside of
                the space.
        """
        try:
            actions = require_continuous(environment, "a data set").shape[0]
        except ValueError as error:
            raise DatasetError(f"action: {error}") from error
        sizes = {"observation": environment.observation_space.shape[0], "action": actions}
        for name, allowed in sizes.items():
            size = getattr(self, name).shape[1]
            if size != allowed:
                raise DatasetError(
                    f"{name}: the data have {size} components; allowed: {allowed}, those of the "
                    "environment"
                )
        space = environment.observation_space
        for name in ("observation", "next_observation"):
            values = getattr(self, name)
            low, high = (torch.as_tensor(b).to(values) for b in (space.low, space.high))
            wrong = (values < low - ROUNDING * low.abs()) | (values > high + ROUNDING * high.abs())
            self._refuse(wrong, name, values, "numbers of the environment's observation space")

    def _check_shapes(self) -> None:
        if self.reward.ndim != 1 or len(self.reward) == 0:
            shape = tuple(self.reward.shape)
            raise DatasetError(f"reward: got shape {shape}; allowed: (rows,), at least one row")
        rows, tensors = len(self.reward), self.tensors()
        wide = ("observation", "action", "next_observation")
        for name, tensor in tensors.items():
            axes = 2 if name in wide else 1
            if tensor.ndim != axes or len(tensor) != rows:
                expected = f"({rows}, {name})" if axes == 2 else f"({rows},)"
                raise DatasetError(f"{name}: got shape {tuple(tensor.shape)}; allowed: {expected}")
            if name in ("terminated", "truncated"):
                kind, right = "bool", tensor.dtype == torch.bool
            elif name in ("episode", "step"):
                kind, right = "int64", tensor.dtype == torch.int64
            else:
                kind, right = "a floating point type", tensor.is_floating_point()
            if not right:
                raise DatasetError(f"{name}: got type {tensor.dtype}; allowed: {kind}")
        before, after = self.observation.shape[1], self.next_observation.shape[1]
        if before != after:
            raise DatasetError(f"next_observation: got {after} components; allowed: {before}")

    def _check_numbers(self) -> None:
        for name in ("observation", "action", "reward", "next_observation"):
            values = getattr(self, name)
            wrong = ~values.isfinite()
            self._refuse(wrong, name, values, "finite numbers")
        self._refuse(self.action.abs() > 1, "action", self.action, "numbers in [-1, 1]")

    def _check_episodes(self) -> None:
        episode, step = numbered(self.last)
        self._refuse(
            self.episode != episode,
            "episode",
            self.episode,
            "0, 1, 2, ..., one more after each row that is terminated or truncated, and only there",
        )
        self._refuse(self.step != step, "step", self.step, "0, 1, 2, ... within an episode")
        if not self.last[-1]:
            raise DatasetError(
                f"{self._place(len(self) - 1)}: the last episode has no end; allowed: terminated "
                "or truncated in its last row"
            )
        inside = ~self.last[:-1, None]
        torn = inside & (self.next_observation[:-1] != self.observation[1:])
        padded = torch.cat((torn, torch.zeros_like(torn[:1])))
        self._refuse(
            padded, "next_observation", self.next_observation, "the observation of the next row"
        )

    def _refuse(self, wrong: Tensor, name: str, values: Tensor, allowed: str) -> None:
        if wrong.any():
            where = wrong.nonzero()[0].tolist()
            raise DatasetError(
                f"{self._place(where[0])}: {name}{where[1:] or ''}: got "
                f"{values[tuple(where)].item()}; allowed: {allowed}"
            )

    def _place(self, row: int) -> str:
        return f"row {row} (episode {int(self.episode[row])}, step {int(self.step[row])})"


def numbered(last: Bool[Tensor, " rows"]) -> tuple[Int64[Tensor, " rows"], Int64[Tensor, " rows"]]:
    """Returns the number of the episode and of the step of every row.

    Args:
        last: Where episodes end.
    """
    first = torch.ones_like(last)
    first[1:] = last[:-1]
    episode = first.long().cumsum(0) - 1
    start = first.nonzero()[:, 0]
    return episode, torch.arange(len(last), device=last.device) - start[episode]

"""The kinds of wrappers, as data; what they do is imported when they wrap an environment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from separatrix.envs.core.registration import check_count, suggest

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment

STRICT = {"extra": "forbid"}
"""Tells pydantic, where a configuration holds wrappers, to refuse unknown keys."""


@dataclass(frozen=True)
class ObservationNoise:
    """Adds normal noise to every component of the observation.

    The noise of a step is a function of the seed, the episode and the step: observing a state
    twice gives the same noise, and the draws of the physics stay what they are without it.

    Attributes:
        standard_deviation: Of the noise, in the unit of the observation.

    Raises:
        ValueError: The standard deviation is negative or not a finite number.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    standard_deviation: float
    kind: Literal["observation_noise"] = field(
        default="observation_noise", kw_only=True, repr=False
    )

    def __post_init__(self) -> None:
        _check_number("standard_deviation", self.standard_deviation, zero_allowed=True)

    def wrap(self, environment: Environment) -> Environment:
        """Returns the environment with noise."""
        from separatrix.envs.core.wrappers.observation_noise import NoisyObservation

        return NoisyObservation(environment, self.standard_deviation)


@dataclass(frozen=True)
class PartialObservation:
    """Shows some components of the observation only.

    Attributes:
        indices: Of the components that are seen, in the order in which they are seen.

    Raises:
        ValueError: There are no indices, one is repeated, or one is not an integer >= 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    indices: Sequence[int]
    kind: Literal["partial_observation"] = field(
        default="partial_observation", kw_only=True, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", tuple(self.indices))
        sound = all(type(index) is int and index >= 0 for index in self.indices)
        if not self.indices or not sound or len(set(self.indices)) < len(self.indices):
            raise ValueError(f"indices: got {self.indices}; allowed: distinct integers >= 0")

    def wrap(self, environment: Environment) -> Environment:
        """Returns the environment with fewer observations.

        Raises:
            ValueError: The environment has no component of one of these indices.
        """
        from separatrix.envs.core.wrappers.partial_observation import SelectedObservation

        return SelectedObservation(environment, tuple(self.indices))


@dataclass(frozen=True)
class ActionDelay:
    """Applies the action that was given some steps ago; at the start of an episode zero.

    Attributes:
        steps: Control intervals from an action to its effect.

    Raises:
        ValueError: The number of steps is not an integer >= 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    steps: int
    kind: Literal["action_delay"] = field(default="action_delay", kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if type(self.steps) is not int or self.steps < 0:
            raise ValueError(f"steps: got {self.steps!r}; allowed: an integer >= 0")

    def wrap(self, environment: Environment) -> Environment:
        """Returns the environment with delayed actions."""
        from separatrix.envs.core.wrappers.action_delay import DelayedAction

        return DelayedAction(environment, self.steps)


@dataclass(frozen=True)
class RateLimit:
    """Lets the applied action follow the given one by a limited change a step, from zero on.

    Attributes:
        largest_change: Of each component of the action, in one control interval.

    Raises:
        ValueError: The change is not a finite number > 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    largest_change: float
    kind: Literal["rate_limit"] = field(default="rate_limit", kw_only=True, repr=False)

    def __post_init__(self) -> None:
        _check_number("largest_change", self.largest_change, zero_allowed=False)

    def wrap(self, environment: Environment) -> Environment:
        """Returns the environment with an actuator that takes its time."""
        from separatrix.envs.core.wrappers.rate_limit import LimitedAction

        return LimitedAction(environment, self.largest_change)


@dataclass(frozen=True)
class FrameStack:
    """Shows the last observations one after the other, the oldest first.

    At the start of an episode all of them are the first.

    Attributes:
        frames: Number of observations.

    Raises:
        ValueError: The number is not an integer >= 1.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    frames: int
    kind: Literal["frame_stack"] = field(default="frame_stack", kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_count("frames", self.frames)

    def wrap(self, environment: Environment) -> Environment:
        """Returns the environment with stacked observations."""
        from separatrix.envs.core.wrappers.frame_stack import StackedObservation

        return StackedObservation(environment, self.frames)


Wrapper = ObservationNoise | PartialObservation | ActionDelay | RateLimit | FrameStack

KINDS: dict[str, Any] = {member.kind: member for member in get_args(Wrapper)}


def read_wrappers(values: Any) -> tuple[Wrapper, ...]:
    """Returns wrappers from themselves, or from mappings such as {"kind": ..., "steps": 2}.

    Gymnasium writes the arguments of an environment as JSON, in which wrappers are mappings.

    Raises:
        ValueError: One is something else, or its kind or its numbers are not allowed.
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"wrap: got {values!r}; allowed: a list of wrappers")
    return tuple(map(_read, values))


def _read(value: Any) -> Wrapper:
    if isinstance(value, get_args(Wrapper)):
        return value
    if not isinstance(value, Mapping):
        names = ", ".join(member.__name__ for member in KINDS.values())
        raise ValueError(f"wrap: got {value!r}; allowed: {names}")
    kind = value.get("kind")
    if kind not in KINDS:
        raise ValueError(f"wrap: got kind {kind!r}; {suggest(kind, KINDS)}")
    needed = {f.name for f in fields(KINDS[kind])}
    if set(value) != needed:
        found = ", ".join(map(str, value))
        raise ValueError(f"wrap: got {found}; {kind} needs {', '.join(sorted(needed))}")
    return KINDS[kind](**value)


def _check_number(name: str, value: Any, *, zero_allowed: bool) -> None:
    """Raises ValueError if a value is no finite number or too small."""
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not real or value < 0 or (value == 0 and not zero_allowed):
        sign = ">=" if zero_allowed else ">"
        raise ValueError(f"{name}: got {value!r}; allowed: a finite number {sign} 0")

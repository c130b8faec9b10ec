"""The kinds of wrappers, as data; what they do is imported when they wrap an environment."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
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


DISTRIBUTIONS = ("log_normal", "uniform")
COURSES = ("ramp", "sine", "random_walk", "jump")


@dataclass(frozen=True)
class ParameterMismatch:
    """Gives the physics other parameters than the nominal ones, new in every episode.

    Each parameter is its nominal value times a factor from the environment's own random stream.
    `environment.system` and `environment.unwrapped` stay nominal, as the model that a user would
    have; the task, too, keeps its numbers. The true values stand in the infos, `parameter_` and
    the name, and in the state, but not in the observation. Where parameters are compiled into the
    system, as in PDEs, an episode that begins costs as much as making the system.

    Attributes:
        spread: Of each parameter, by name: for "log_normal" the standard deviation of the factor,
            whose mean is 1; for "uniform" its largest difference from 1, below 1.
        distribution: Of the factors, "log_normal" or "uniform".

    Raises:
        ValueError: There is no parameter, a spread is no number in its range, or the distribution
            is unknown.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    spread: Mapping[str, float]
    distribution: str = "log_normal"
    kind: Literal["parameter_mismatch"] = field(
        default="parameter_mismatch", kw_only=True, repr=False
    )

    def __post_init__(self) -> None:
        _check_member("distribution", self.distribution, DISTRIBUTIONS)
        if not isinstance(self.spread, Mapping) or not self.spread:
            got = reprlib.repr(self.spread)
            raise ValueError(f"spread: got {got}; allowed: a number for each of some parameters")
        object.__setattr__(self, "spread", dict(self.spread))
        for name, value in self.spread.items():
            _check_number(f"spread of {name!r}", value, zero_allowed=True)
            if self.distribution == "uniform" and value >= 1:
                raise ValueError(f"spread of {name!r}: got {value!r}; allowed: a number < 1")

    def wrap(self, environment: Environment) -> Environment:
        """Returns the environment with a truth that differs from its model.

        Raises:
            ValueError: A parameter is unknown or 0, or those of the environment cannot be changed.
        """
        from separatrix.envs.core.wrappers.changed_parameters import MismatchedParameters

        return MismatchedParameters(environment, self.spread, self.distribution)


@dataclass(frozen=True)
class ParameterDrift:
    """Moves a parameter of the physics during an episode, from its nominal value on.

    The parameter is its nominal value times a factor, a function of seed, episode and step: over
    the first `steps` steps a "ramp" goes from 1 to 1 + size and stays there; a "sine" is
    1 + size sin(2 pi step / steps); a "jump" turns 1 to 1 + size at once, at step `steps`; the
    logarithm of a "random_walk" has the standard deviation size sqrt(step / steps). What is said
    of truth and model at `ParameterMismatch` holds here; both together multiply.

    Attributes:
        parameter: Its name.
        course: "ramp", "sine", "random_walk" or "jump".
        size: Relative size of the change; above -1, for a sine within (-1, 1).
        steps: Control intervals that the course takes.

    Raises:
        ValueError: The course is unknown, or a number is out of its range.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    parameter: str
    course: str
    size: float
    steps: int
    kind: Literal["parameter_drift"] = field(default="parameter_drift", kw_only=True, repr=False)

    def __post_init__(self) -> None:
        _check_member("course", self.course, COURSES)
        check_count("steps", self.steps)
        limit = 1.0 if self.course == "sine" else math.inf
        if not _is_real(self.size) or not -1 < self.size < limit:
            raise ValueError(
                f"size: got {self.size!r}; allowed: a number > -1, of a sine < 1, so that the "
                "parameter keeps its sign"
            )

    def wrap(self, environment: Environment) -> Environment:
        """Returns the environment with a parameter that moves.

        Raises:
            ValueError: The parameter is unknown or 0, or those of the environment cannot be changed
                in every step.
        """
        from separatrix.envs.core.wrappers.changed_parameters import DriftingParameter

        return DriftingParameter(environment, self.parameter, self.course, self.size, self.steps)


Wrapper = (
    ObservationNoise
    | PartialObservation
    | ActionDelay
    | RateLimit
    | FrameStack
    | ParameterMismatch
    | ParameterDrift
)

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
    known = fields(KINDS[kind])
    needed = {"kind", *(f.name for f in known if f.default is MISSING)}
    if not needed <= set(value) <= {f.name for f in known}:
        found = ", ".join(map(str, value))
        raise ValueError(f"wrap: got {found}; {kind} needs {', '.join(sorted(needed))}")
    return KINDS[kind](**value)


def _check_number(name: str, value: Any, *, zero_allowed: bool) -> None:
    """Raises ValueError if a value is no finite number or too small."""
    if not _is_real(value) or value < 0 or (value == 0 and not zero_allowed):
        sign = ">=" if zero_allowed else ">"
        raise ValueError(f"{name}: got {value!r}; allowed: a finite number {sign} 0")


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_member(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raises ValueError if a value is not one of some words."""
    if not isinstance(value, str) or value not in allowed:
        got = reprlib.repr(value)
        raise ValueError(f"{name}: got {got}; {suggest(value, allowed)}")

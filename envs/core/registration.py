"""The registry: every id, how its environment is built, and its two Gymnasium entry points."""

from __future__ import annotations

import copy
import difflib
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium

from separatrix.envs.core.forks import keep_forks_alive

if TYPE_CHECKING:
    from separatrix.envs.core.environment import Environment
    from separatrix.envs.core.wrappers import Wrapper

NAMESPACE = "separatrix"

LONGEST_LIST = 350
"""Characters of the names that an error message shows."""

Builder = Callable[..., "Environment"]


@dataclass(frozen=True)
class Registration:
    """One registered environment.

    Attributes:
        id: Full id, such as "separatrix/Lorenz-v0".
        build: Makes the environment from `num_envs`, `device`, `dtype`, `backend`, `horizon` and
            a mapping of `options`.
        horizon: Steps after which an episode is truncated.
        summary: One line.
        options: Names of the options and their default values.
        documented: The class whose docstring describes the environment.
        states: Number of state components.
        controls: Number of control components.
        backends: Names of its backends, beside "auto".
    """

    id: str
    build: Builder
    horizon: int
    summary: str
    options: Mapping[str, Any]
    documented: type
    states: int
    controls: int
    backends: tuple[str, ...]


REGISTRY: dict[str, Registration] = {}


def register(
    name: str,
    build: Builder,
    *,
    horizon: int,
    summary: str,
    options: Mapping[str, Any],
    documented: type,
    states: int,
    controls: int,
    backends: tuple[str, ...] = (),
) -> None:
    """Registers an environment with the registry and with Gymnasium, single and batched.

    Args:
        name: Name with version, such as "Lorenz-v0".
        build: See `Registration`.
        horizon: Steps after which an episode is truncated.
        summary: One line.
        options: Names of the options and their default values.
        documented: The class whose docstring describes the environment.
        states: Number of state components.
        controls: Number of control components.
        backends: Names of its backends, beside "auto".
    """
    full = f"{NAMESPACE}/{name}"
    REGISTRY[full] = Registration(
        full, build, horizon, summary, options, documented, states, controls, backends
    )
    gymnasium.register(
        full,
        entry_point="separatrix.envs.core.single_env:SingleEnv",
        vector_entry_point="separatrix.envs.core.batched_env:BatchedEnv",
        max_episode_steps=horizon,
        kwargs={"environment_id": full},
    )


def suggest(name: object, allowed: Iterable[str]) -> str:
    """Returns what is allowed, and the nearest name if one is near, for an error message.

    Of a list too long for a message the names that are most alike are shown.
    """
    allowed = list(allowed)
    near = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(allowed)
    if len(shown) > LONGEST_LIST:
        alike = difflib.get_close_matches(str(name), allowed, n=5, cutoff=0.0)
        shown = f"{', '.join(alike)} and {len(allowed) - len(alike)} others"
    return f"{hint}allowed: {shown}"


def find(environment_id: str) -> Registration:
    """Looks an id up, with or without the namespace.

    Raises:
        ValueError: The id is unknown.
    """
    full = environment_id if "/" in str(environment_id) else f"{NAMESPACE}/{environment_id}"
    if full not in REGISTRY:
        raise ValueError(f"unknown environment {environment_id!r}; {suggest(full, REGISTRY)}")
    return REGISTRY[full]


def make_environment(
    environment_id: str | Environment,
    num_envs: int = 1,
    *,
    device: Any = "cpu",
    dtype: Any = "float32",
    backend: str = "auto",
    horizon: int | None = None,
    wrap: Iterable[Wrapper | Mapping[str, Any]] = (),
    **options: Any,
) -> Environment:
    """Makes the pure environment of an id.

    Args:
        environment_id: Such as "separatrix/Lorenz-v0"; the namespace may be left out. Or an
            environment made before, such as a learned one, so that the shells take it as well;
            then only `horizon` and `wrap` may follow.
        num_envs: Size of the batch.
        device: A torch device, or its name.
        dtype: "float32" or "float64".
        backend: "auto", or a backend of the environment's stepper.
        horizon: Steps of an episode; None for the registered number.
        wrap: Wrappers of `separatrix.envs.core.wrappers`, applied in order.
        options: Parameters of the system (a number, or one for each environment) and options of
            the task; `separatrix list` shows them.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """
    keep_forks_alive()
    check_count("num_envs", num_envs)
    if horizon is not None:
        check_count("max_episode_steps", horizon)
    from separatrix.envs.core.wrappers import read_wrappers

    wrappers = read_wrappers(wrap)
    if isinstance(environment_id, str):
        entry = find(environment_id)
        for name in options:
            if name not in entry.options:
                hint = suggest(name, [*entry.options, "wrap"])
                raise ValueError(f"unknown option {name!r} of {entry.id}; {hint}")
        environment = entry.build(
            num_envs=num_envs,
            device=_device(device),
            dtype=_dtype(dtype),
            backend=backend,
            horizon=entry.horizon if horizon is None else horizon,
            options=options,
        )
    else:
        environment = _made_before(environment_id, num_envs, horizon, options)
    for wrapper in wrappers:
        environment = wrapper.wrap(environment)
    return environment


def _made_before(
    environment: Any, num_envs: int, horizon: int | None, options: Mapping[str, Any]
) -> Environment:
    from separatrix.envs.core.environment import Environment

    if not isinstance(environment, Environment):
        got = reprlib.repr(environment)
        raise ValueError(f"unknown environment {got}; allowed: an id or an Environment")
    if options:
        raise ValueError(f"option {next(iter(options))!r} comes too late for an environment made")
    if environment.num_envs != num_envs:
        raise ValueError(f"num_envs: got {num_envs}; allowed: {environment.num_envs}, as made")
    environment = copy.copy(environment)
    environment.horizon = environment.horizon if horizon is None else horizon
    return environment


def check_count(name: str, value: Any) -> None:
    """Raises ValueError if a value is not a positive integer of 31 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        got = reprlib.repr(value)
        raise ValueError(f"{name}: got {got}; allowed: an integer >= 1 and < 2^31")


def is_positive(value: Any) -> bool:
    """Tells whether a value is one finite number above 0, as float64 holds it."""
    return isinstance(value, int | float) and 0 < value <= sys.float_info.max


def _device(device: Any) -> Any:
    import torch

    try:
        chosen = torch.device(device)
        available = chosen.type in ("cpu", "cuda")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError, ValueError, OverflowError):
        available = False
    if not available:
        allowed = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ValueError(
            f"device {reprlib.repr(device)} is not available; allowed here: {', '.join(allowed)}"
        )
    return chosen


def _dtype(dtype: Any) -> Any:
    import torch

    for name, chosen in (("float32", torch.float32), ("float64", torch.float64)):
        if dtype is chosen or (isinstance(dtype, str) and dtype == name):
            return chosen
    raise ValueError(f"dtype: got {reprlib.repr(dtype)}; allowed: float32, float64")

"""Linear models of environments, exact at a point.

In discrete time, one step of the environment near a state x and an action a:

    x_{k+1} = A x_k + B a_k + drift,    observation_k = C x_k + D a_k + constant,

with deviations x_k and a_k from the point. In continuous time, for ODE systems, x' takes the place
of x_{k+1}. The drift vanishes where the point is an equilibrium. Observations are functions of the
state alone, so D, the direct feedthrough, is zero.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.analysis.coordinates import flatten, unflatten
from separatrix.envs.analysis.equilibria import is_shared
from separatrix.envs.analysis.tangent import advance_tangents, gradient
from separatrix.envs.core.actions import require_continuous
from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.wrappers.observation_noise import NoisyObservation
from separatrix.envs.core.wrappers.partial_observation import SelectedObservation
from separatrix.envs.core.wrappers.wrapped_environment import (
    RememberingEnvironment,
    WrappedEnvironment,
    WrappedState,
)
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.spectral_system import FieldState, SpectralSystem

STILL = 1e-5
"""A target that a step moves by more than this, relative to its size, is no equilibrium."""
CHUNK = 512
"""Directions that are carried at once, to spare memory."""
MOST_COORDINATES = 16384
"""Of a state that is linearized: matrices of that size take 2 GiB in float64."""


@runtime_checkable
class TargetTask(Protocol):
    """A task that wants fields to be a target."""

    def target(self, state: Any) -> Tensor | None:
        """Returns the fields (rows, field, *grid) that are wanted; None if there are none."""
        ...


@dataclass(frozen=True)
class StateSpace:
    """A linear model; one row for all environments, or one for each; float64 on the CPU.

    Attributes:
        a, b, c, d: The matrices A, B, C and D.
        state: Coordinates of the point.
        action: Action at the point.
        drift: What a step adds to the state at the point, or its time derivative there.
        observation: At the point, without the noise of wrappers.
        interval: Time of a step; None in continuous time.
    """

    a: Float[Tensor, "rows state state"]
    b: Float[Tensor, "rows state action"]
    c: Float[Tensor, "rows observation state"]
    d: Float[Tensor, "rows observation action"]
    state: Float[Tensor, "rows state"]
    action: Float[Tensor, "rows action"]
    drift: Float[Tensor, "rows state"]
    observation: Float[Tensor, "rows observation"]
    interval: float | None

    def eigenvalues(self) -> Tensor:
        """Returns the eigenvalues of A, complex (rows, state), the most unstable first."""
        values = torch.linalg.eigvals(self.a)
        growth = values.real if self.interval is None else values.abs()
        return values.gather(1, growth.argsort(dim=1, descending=True))


def linearize(
    environment: Environment,
    state: Float[Tensor, "rows state"] | None = None,
    action: Float[Tensor, "rows action"] | None = None,
    *,
    time: str = "discrete",
) -> StateSpace:
    """Linearizes an environment.

    ODE systems, maps and PDEs are differentiated symbolically, in float64 whatever their own dtype.
    Others are differentiated automatically in their own dtype. So are wrappers; what a wrapper
    remembers is part of the state, and the noise that it adds to observations is left out.

    Args:
        environment: The environment; if it has a row of parameters for each environment, so has
            the model.
        state: Coordinates of the point as `separatrix.envs.analysis.coordinates.flatten` lays them
            out (of an ODE system: its values), a row for each environment or one for all; None for
            the equilibrium of the task, of a PDE its target.
        action: Action at the point, likewise; None for zero.
        time: "discrete" for the step of the environment, "continuous" for its vector field.

    Raises:
        ValueError: Actions are choices; the task has no equilibrium and no state is given, or its
            target is none; an argument has the wrong size; the step leaves the safe box; continuous
            time is asked of a map, of another kind of environment, or of a wrapper with a memory;
            or the state is too large for matrices of its size.
    """
    require_continuous(environment, "a linear model")
    environment = _silent(environment)
    stepped = environment  # what shows less of a state steps it all the same
    while isinstance(stepped, SelectedObservation):
        stepped = stepped.inner
    ode = stepped if isinstance(stepped, OdeEnvironment) else None
    stepped = in_double(stepped)
    if time not in ("discrete", "continuous"):
        raise ValueError(f"time: got {time!r}; allowed: 'discrete', 'continuous'")
    if time == "continuous" and (ode is None or ode.system.definition.discrete):
        raise ValueError(
            f"time: got 'continuous' for {_name(environment)}, which is no ODE system or has "
            "wrappers with a memory; allowed: 'discrete'"
        )
    dtype = stepped.dtype if ode is None else torch.float64
    point = _equilibrium(stepped, dtype) if state is None else _placed(stepped, state, dtype)
    values = flatten(point)
    rows, n, m = *values.shape, environment.action_shape[0]
    if n > MOST_COORDINATES:
        raise ValueError(
            f"linear models have matrices of the state's size, which is {n} for "
            f"{_name(environment)}; allowed: up to {MOST_COORDINATES}"
        )
    held = _rows("action", values.new_zeros((1, m)) if action is None else action, rows, m)
    held = held.to(values)
    if ode is not None and time == "continuous":
        drift = ode.system.vector_field(values, ode.control(held))
        a, b = ode.system.jacobian(values, ode.control(held))
        b = b @ ode.control_jacobian(held)
    else:
        directions = torch.eye(n + m).to(values).expand(rows, -1, -1)
        parts = [
            advance_tangents(stepped, point, held, part[:, :n], part[:, n:])
            for part in directions.split(CHUNK, 2)
        ]
        following, carried = parts[0][0], torch.cat([part for _, part in parts], 2)
        if not carried.isfinite().all():
            row = int((~carried.isfinite()).flatten(1).any(1).nonzero()[0])
            raise ValueError(f"state: in row {row} a step from it leaves the safe box")
        drift, a, b = flatten(following) - values, carried[..., :n], carried[..., n:]
    moved = float(drift.abs().max())
    if ode is None and state is None and moved > STILL * (1 + float(values.abs().max())):
        raise ValueError(
            f"state: got None, and the target of the task moves by {moved:.3g} in a step; allowed: "
            "None where the target stays as it is without control"
        )
    rounded = unflatten(values.to(environment.device, environment.dtype), point)
    observation = environment.observe(rounded)
    if isinstance(environment, OdeEnvironment):
        c = environment.observation_jacobian(values)
    else:
        c = _observed(environment, rounded)
    found = (a, b, c, c.new_zeros((rows, c.shape[1], m)), values, held, drift, observation)
    a, b, c, d, values, held, drift, observation = (tensor.double().cpu() for tensor in found)
    interval = environment.control_interval if time == "discrete" else None
    return StateSpace(a, b, c, d, values, held, drift, observation, interval)


def _name(environment: Environment) -> str:
    physics = environment.unwrapped
    if isinstance(physics, OdeEnvironment):
        return physics.system.definition.name
    return type(physics).__name__


def _rows(name: str, tensor: Tensor, rows: int, size: int) -> Tensor:
    """Returns a tensor with a row for each environment."""
    if tensor.shape not in ((1, size), (rows, size)):
        got, one = tuple(tensor.shape), "" if rows == 1 else f" or (1, {size})"
        raise ValueError(f"{name}: got shape {got}; allowed: ({rows}, {size}){one}")
    return tensor.expand(rows, -1)


def _placed(environment: Environment, coordinates: Tensor, dtype: torch.dtype) -> Any:
    """Returns the states with given coordinates."""
    rows = len(coordinates) if is_shared(environment) else environment.num_envs
    like, _ = environment.reset(torch.zeros(rows, dtype=torch.int64))
    values = _rows("state", coordinates, rows, flatten(like).shape[1])
    return unflatten(values.to(environment.device, dtype), like)


def _equilibrium(environment: Environment, dtype: torch.dtype) -> Any:
    """Returns the states of the task's equilibrium.

    Wrappers remember of it what they remember at the start of an episode.
    """
    if isinstance(environment, WrappedEnvironment):
        inner = _equilibrium(environment.inner, dtype)
        if not isinstance(environment, RememberingEnvironment):
            return inner
        return WrappedState(inner, environment.initial_memory(environment.inner.observe(inner)))
    if isinstance(environment, OdeEnvironment):
        return _placed(environment, environment.task.equilibrium(environment.system), dtype)
    if isinstance(environment, ComposedEnvironment) and isinstance(environment.task, TargetTask):
        return target_state(environment, environment.task, dtype)
    raise ValueError(f"state: got None, and {_name(environment)} has no equilibrium of its own")


def target_state(
    environment: ComposedEnvironment, task: TargetTask, dtype: torch.dtype
) -> FieldState:
    """Returns the states of a task's target at the start of an episode.

    Raises:
        ValueError: The task has no target.
    """
    system = environment.system
    assert isinstance(system, SpectralSystem)
    rows = 1 if system.shared else system.num_envs
    zeros = torch.zeros(rows, dtype=torch.int64, device=system.device)
    field = torch.zeros((rows, len(system.definition.fields), *system.grid.shape), dtype=dtype)
    state = FieldState(Stream.start(zeros, 0), zeros, field.to(system.device))
    wanted = task.target(state)
    if wanted is None:
        raise ValueError("the task has no target field")
    return replace(state, field=state.field + wanted.to(state.field))


def in_double(environment: Environment) -> Environment:
    """Returns a PDE's environment with its physics in float64 on the CPU; others as they are."""
    system = environment.system
    if not (isinstance(environment, ComposedEnvironment) and isinstance(system, SpectralSystem)):
        return environment
    precise = copy.copy(environment)
    precise.system = system.in_double()
    return precise


def _silent(environment: Environment) -> Environment:
    """Returns the environment without the noise of its observations."""
    if isinstance(environment, NoisyObservation):
        return _silent(environment.inner)
    if not isinstance(environment, WrappedEnvironment):
        return environment
    silent = copy.copy(environment)
    silent.inner = _silent(environment.inner)
    return silent


def _observed(environment: Environment, state: Any) -> Float[Tensor, "rows observation state"]:
    """Differentiates the observation automatically."""
    with torch.enable_grad():
        coordinates = flatten(state).detach().requires_grad_()
        observation = environment.observe(unflatten(coordinates, state))
        return torch.stack([gradient(each, coordinates) for each in observation.unbind(1)], 1)

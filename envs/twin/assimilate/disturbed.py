"""Systems that are pushed by what the model does not know, and seen with errors that last.

A disturbance d is a random process with a memory, d <- r d + s sqrt(1 - r^2) n in every control
interval with a standard normal n, so that its standard deviation is s and its correlation from one
interval to the next r. It is a component of the state, behind those of the system, which a filter
estimates with them: the error of a sensor (B. Friedland, IEEE Trans. Autom. Control 14 (1969) 359),
which an observation operator adds to what is seen, or a push, added to a component of the system.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.registration import is_positive
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import DISTURBANCE, Stream
from separatrix.envs.core.system import System


@dataclass(frozen=True)
class Disturbance:
    """A random process with a memory.

    Attributes:
        deviation: Standard deviation, in the unit of what it is added to.
        correlation: From one control interval to the next, 0 for white noise.
        component: What it is added to at the end of every interval, by its place in
            `System.values`; None for nothing, if an observation operator adds it to what is seen.
    """

    deviation: float
    correlation: float = 0.0
    component: int | None = None

    def __post_init__(self) -> None:
        if not is_positive(self.deviation):
            raise ValueError(f"deviation: got {self.deviation!r}; allowed: a number > 0")
        if not 0 <= self.correlation < 1:
            got = self.correlation
            raise ValueError(f"correlation: got {got!r}; allowed: numbers from 0, less than 1")


@dataclass(frozen=True)
class DisturbedState(State):
    """State of a disturbed system.

    Attributes:
        inner: State of the system itself.
        disturbances: In the order in which they were given.
    """

    inner: Any
    disturbances: Float[Tensor, "batch disturbance"]


class DisturbedSystem(System):
    """A system with disturbances, whose `values` are those of the system and then these.

    Args:
        inner: The system itself.
        disturbances: By names of one's own.

    Raises:
        ValueError: A component does not exist.
    """

    def __init__(self, inner: System, disturbances: Mapping[str, Disturbance]) -> None:
        self.disturbances = dict(disturbances)
        self._set_inner(inner)
        seeds = torch.zeros(inner.num_envs, dtype=torch.int64, device=inner.device)
        components = inner.values(inner.initial_state(Stream.start(seeds))).shape[1]
        for name, found in self.disturbances.items():
            if found.component is not None and not 0 <= found.component < components:
                got = f"{name!r}: got component {found.component!r}"
                raise ValueError(f"{got}; allowed: None, 0 to {components - 1}")

    def initial_state(self, stream: Stream) -> DisturbedState:
        """Draws states of the system, and disturbances from their stationary distribution."""
        noise, advanced = self._noise(stream)
        interval = torch.zeros_like(stream.seed)
        inner = self.inner.initial_state(stream)
        return DisturbedState(advanced, interval, inner, self._each("deviation") * noise)

    def advance(
        self, state: DisturbedState, control: Float[Tensor, "batch control"]
    ) -> DisturbedState:
        """Advances the system under held controls, and then pushes it."""
        noise, stream = self._noise(state.stream)
        kept = self._each("correlation")
        drawn = self._each("deviation") * (1 - kept**2).sqrt() * noise
        disturbances = kept * state.disturbances + drawn
        inner = self.inner.advance(state.inner, control)
        values = self.inner.values(inner).clone()
        for i, found in enumerate(self.disturbances.values()):
            if found.component is not None:
                values[:, found.component] = values[:, found.component] + disturbances[:, i]
        inner = self.inner.with_values(inner, values)
        return DisturbedState(stream, state.interval + 1, inner, disturbances)

    def inside(self, state: DisturbedState) -> Bool[Tensor, " batch"]:
        """Tells which states of the system are within its safe box."""
        return self.inner.inside(state.inner) & state.disturbances.isfinite().all(1)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if parameters are shared."""
        chosen = self.inner.select(rows)
        return self if chosen is self.inner else self._around(chosen)

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the system with other values of some parameters."""
        return self._around(self.inner.with_parameters(parameters, num_envs))

    def values(self, state: DisturbedState) -> Float[Tensor, "batch component"]:
        """Returns the values of the system, and the disturbances."""
        return torch.cat((self.inner.values(state.inner), state.disturbances), 1)

    def with_values(
        self, state: DisturbedState, values: Float[Tensor, "batch component"]
    ) -> DisturbedState:
        """Returns states with other values and disturbances."""
        inside = values.shape[1] - len(self.disturbances)
        inner = self.inner.with_values(state.inner, values[:, :inside])
        return replace(state, inner=inner, disturbances=values[:, inside:])

    def _noise(self, stream: Stream) -> tuple[Tensor, Stream]:
        count = max(len(self.disturbances), 1)
        noise, advanced = stream.normal(count, torch.float64, DISTURBANCE)
        return noise[:, : len(self.disturbances)].to(self.dtype), advanced

    def _each(self, attribute: str) -> Float[Tensor, " disturbance"]:
        found = [getattr(value, attribute) for value in self.disturbances.values()]
        return torch.tensor(found, dtype=self.dtype, device=self.device)

    def _around(self, inner: System) -> Self:
        other = copy.copy(self)
        other._set_inner(inner)
        return other

    def _set_inner(self, inner: System) -> None:
        self.inner = inner
        self.num_envs, self.device, self.dtype = inner.num_envs, inner.device, inner.dtype
        self.control_interval, self.differentiable = inner.control_interval, inner.differentiable
        self.parameters, self.quick_parameters = inner.parameters, inner.quick_parameters

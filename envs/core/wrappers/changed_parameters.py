"""Physics whose parameters are not those of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.actions import Action
from separatrix.envs.core.environment import Environment, Transition
from separatrix.envs.core.registration import suggest
from separatrix.envs.core.stream import PARAMETERS, Stream
from separatrix.envs.core.wrappers.wrapped_environment import (
    RememberingEnvironment,
    WrappedEnvironment,
    WrappedState,
)


class ChangedParameters(RememberingEnvironment):
    """Multiplies parameters by factors, which the state remembers for the coming interval.

    Args:
        inner: The environment inside; its parameters are the nominal ones.
        names: Of the parameters.

    Raises:
        ValueError: A parameter is unknown or 0, or those of the environment cannot be changed.
    """

    def __init__(self, inner: Environment, names: Sequence[str]) -> None:
        super().__init__(inner)
        inner.with_parameters({}, inner.num_envs)  # raises where parameters cannot be changed
        nominal = inner.system.parameters
        for name in names:
            if name not in nominal:
                raise ValueError(f"unknown parameter {name!r}; {suggest(name, nominal)}")
            if (nominal[name] == 0).any():
                raise ValueError(f"parameter {name!r}: got 0, of which any factor makes 0")
        self._names = tuple(names)
        own = tuple(f"parameter_{name}" for name in names)
        inside = inner.metric_names
        self.metric_names = (*inside, *(name for name in own if name not in inside))
        self._purpose = PARAMETERS
        below = inner
        while isinstance(below, WrappedEnvironment):  # change upon change must be another change
            self._purpose += isinstance(below, ChangedParameters)
            below = below.inner
        self._last: tuple[Tensor, Environment] | None = None

    def first_factor(
        self, stream: Stream, nominal: Float[Tensor, "batch parameter"]
    ) -> Float[Tensor, "batch parameter"]:
        """Returns the factors at the start of an episode; by default those of nominal parameters.

        Args:
            stream: The random numbers of this step.
            nominal: Ones.
        """
        return nominal

    def next_factor(
        self, stream: Stream, last: Float[Tensor, "batch parameter"]
    ) -> Float[Tensor, "batch parameter"]:
        """Returns the factors of the coming interval; by default those of the last one.

        Args:
            stream: The random numbers of this step, whose draw is the number of the step.
            last: The factors of the interval before.
        """
        return last

    def initial_memory(
        self, observation: Float[Tensor, "batch observation"]
    ) -> Float[Tensor, "batch parameter"]:
        """Returns the factors of the nominal parameters, 1."""
        shape = (observation.shape[0], len(self._names))
        return observation.new_ones(shape, dtype=self.dtype)

    def restart(self, stream: Stream) -> tuple[WrappedState, Float[Tensor, "batch observation"]]:
        """Starts an episode of the true physics at given positions of the random streams."""
        ones = torch.ones((len(stream.seed), len(self._names)))
        numbers = Stream(stream.seed, stream.episode, torch.zeros_like(stream.draw))
        factor = self.first_factor(numbers, ones.to(self.device, self.dtype))
        inner, observation = self._truth(self._nominal * factor).restart(stream)
        return WrappedState(inner, factor), observation

    def observe(self, state: WrappedState) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return self._truth(self._values(state)).observe(state.inner)

    def step(self, state: WrappedState, action: Action) -> Transition:
        """Advances every environment by one control interval."""
        values = self._values(state)
        result = self._truth(values).step(state.inner, action)
        # The step is the number of the draw: nothing taken from the numbers of the physics.
        inner = result.state
        numbers = Stream(inner.stream.seed, inner.stream.episode, inner.interval)
        next_state = WrappedState(inner, self.next_factor(numbers, state.memory))
        # Where another wrapper below changes the same parameter, it knows the truth.
        info = {f"parameter_{name}": column for name, column in self._named(values).items()}
        return result._replace(state=next_state, info=info | result.info)

    def around(self, inner: Environment) -> Self:
        """Returns the same wrapper around an environment, whose parameters are the nominal ones."""
        other = super().around(inner)
        other.__dict__.pop("_nominal", None)
        other._last = None
        return other

    @cached_property
    def _nominal(self) -> Float[Tensor, "rows parameter"]:
        columns = [self.system.parameters[name] for name in self._names]
        return torch.stack(torch.broadcast_tensors(*columns), 1).to(self.device, self.dtype)

    def _values(self, state: WrappedState) -> Float[Tensor, "batch parameter"]:
        return self._nominal * state.memory

    def _named(self, values: Float[Tensor, "batch parameter"]) -> dict[str, Tensor]:
        return {name: values[:, i].clone() for i, name in enumerate(self._names)}

    def _truth(self, values: Float[Tensor, "batch parameter"]) -> Environment:
        """Returns the environment inside with true parameters, the last one if they are as last."""
        if values.requires_grad:  # what belongs to one graph must not enter another
            return self.inner.with_parameters(self._named(values), len(values))
        last = self._last
        if last is None or not torch.equal(last[0], values):
            made = self.inner.with_parameters(self._named(values), len(values))
            last = self._last = values.clone(), made
        return last[1]


class MismatchedParameters(ChangedParameters):
    """See `separatrix.envs.core.wrappers.ParameterMismatch`."""

    def __init__(self, inner: Environment, spread: Mapping[str, float], distribution: str) -> None:
        super().__init__(inner, tuple(spread))
        self._spread, self._distribution = tuple(spread.values()), distribution

    def first_factor(
        self, stream: Stream, nominal: Float[Tensor, "batch parameter"]
    ) -> Float[Tensor, "batch parameter"]:
        """Draws the factors of the episode."""
        count, dtype = nominal.shape[1], nominal.dtype
        spread = nominal.new_tensor(self._spread)
        if self._distribution == "uniform":
            number, _ = stream.uniform(count, dtype, self._purpose)
            return 1 + spread * (2 * number - 1)
        number, _ = stream.normal(count, dtype, self._purpose)
        variance = torch.log1p(spread.square())  # of the logarithm, for a mean of 1
        return torch.exp(variance.sqrt() * number - variance / 2)


class DriftingParameter(ChangedParameters):
    """See `separatrix.envs.core.wrappers.ParameterDrift`."""

    def __init__(self, inner: Environment, name: str, course: str, size: float, steps: int) -> None:
        super().__init__(inner, (name,))
        if not inner.system.quick_parameters:
            raise ValueError(
                f"parameter {name!r}: got a drift in {type(inner.system).__name__}, whose "
                "parameters are compiled into coefficients, which takes longer than a step; "
                "allowed: ParameterMismatch, one value an episode"
            )
        self._course, self._size, self._steps = course, size, steps

    def next_factor(
        self, stream: Stream, last: Float[Tensor, "batch parameter"]
    ) -> Float[Tensor, "batch parameter"]:
        """Returns the factor at the step of each environment."""
        if self._course == "random_walk":
            number, _ = stream.normal(1, last.dtype, self._purpose)
            return last * torch.exp(self._size / math.sqrt(self._steps) * number)
        time = (stream.draw.to(last.dtype) / self._steps)[:, None]
        return 1 + self._size * SHAPES[self._course](time)


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "ramp": lambda time: time.clamp(max=1.0),
    "sine": lambda time: torch.sin(2 * math.pi * time),
    "jump": lambda time: (time >= 1).to(time.dtype),
}
"""Courses of a drift from 0 at time 0, in units of its duration."""

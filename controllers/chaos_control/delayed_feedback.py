"""Chaos control by feedback of the past, after Pyragas.

On an orbit of period tau, what is observed now was observed a period ago. Feeding back the
difference pushes a state towards an orbit that need not be known, and vanishes on it:

    a(t) = K [ (1 - R) sum_{k >= 1} R^(k-1) s(t - k tau)  -  s(t) ],

with s the output. Without memory, R = 0, this is K. Pyragas, Phys. Lett. A 170 (1992) 421; with it
the extended form of J. E. S. Socolar, D. W. Sukow, D. J. Gauthier, Phys. Rev. E 50 (1994) 3245,
which holds more unstable orbits. The sum w obeys w(t) = v(t - tau), v = (1 - R) s + R w, hence one
delay line, of v, is enough.

An orbit with an odd number of real multipliers above 1, such as those of Lorenz' flow, cannot
usually be held (H. Nakajima, Phys. Lett. A 232 (1997) 207).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.inputs import read_numbers
from separatrix.envs.steppers.ode_environment import OdeEnvironment

WHOLE = 1e-9
"""A delay that differs from a whole number of control intervals by less than this is one."""


class DelayedFeedback(Controller):
    """Extended time-delayed feedback, saturated to [-1, 1]; it reads the observation alone.

    The action is zero until the delay line of an environment is filled, that is for the first
    period of an episode. Between samples the delayed signal is interpolated cubically.

    Args:
        environment: Where it acts.
        period: Delay tau, in the system's unit of time; at least one control interval.
        gain: K.
        memory: R, from 0 to below 1.
        output: Weights of the observation in s, (action, observation), or (observation,) for one
            action. None for the state in the equation that the action acts on, divided by what
            action 1 adds to it: with it K (s(t - tau) - s(t)) of that state itself enters its
            equation, as Pyragas wrote it. That needs a bare ODE system or map whose task has an
            equilibrium to linearize the observation at.

    Raises:
        ValueError: An argument is out of range or has the wrong shape, or there is no default
            output.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        period: float,
        gain: float,
        memory: float = 0.0,
        output: Sequence[float] | Sequence[Sequence[float]] | None = None,
    ) -> None:
        if not 0 <= memory < 1:
            raise ValueError(f"memory: got {memory!r}; allowed: a number >= 0 and < 1")
        if not math.isfinite(gain):
            raise ValueError(f"gain: got {gain!r}; allowed: a finite number")
        delay = period / environment.control_interval
        if not (math.isfinite(delay) and delay >= 1 - WHOLE):
            allowed = f"allowed: at least the control interval, {environment.control_interval}"
            raise ValueError(f"period: got {period!r}; {allowed}")
        found = _default_output(environment) if output is None else _read(output, environment)
        self._output = found.to(environment.device, environment.dtype)
        self._gain, self._memory = gain, memory
        self._stencil = stencil(delay)
        self._length = max(age for age, _ in self._stencil)
        self._line = self._output.new_zeros((self._length, 0, self._output.shape[1]))
        self._newest = 0  # place of the last sample in the ring
        self._filled = torch.zeros(0, dtype=torch.int64, device=environment.device)

    def reset(self, mask: Bool[Tensor, " batch"]) -> None:
        """Empties the delay lines of the environments that start anew."""
        if len(self._filled) != len(mask):
            shape = (self._length, len(mask), self._output.shape[1])
            self._line = self._output.new_zeros(shape)
            self._filled = torch.zeros_like(mask, dtype=torch.int64)
        self._filled = torch.where(mask, 0, self._filled)

    def act(
        self, observation: Float[Tensor, "batch observation"], state: Any
    ) -> Float[Tensor, "batch action"]:
        """Returns the saturated feedback, and keeps the observation for later."""
        if len(self._filled) != len(observation):
            self.reset(observation.new_ones(len(observation), dtype=torch.bool))
        signal = (self._output @ observation.detach()[..., None])[..., 0]
        past = sum(
            weight * self._line[(self._newest + 1 - age) % self._length]
            for age, weight in self._stencil
        )
        ready = (self._filled >= self._length)[:, None]
        past = torch.where(ready, past, signal)
        self._newest = (self._newest + 1) % self._length
        self._line[self._newest] = (1 - self._memory) * signal + self._memory * past
        self._filled = self._filled + 1
        return (self._gain * (past - signal)).clamp(-1.0, 1.0)


def stencil(delay: float) -> list[tuple[int, float]]:
    """Returns which samples make the signal of some time ago, and their weights.

    Args:
        delay: Age of the signal, in sampling intervals; at least 1.

    Returns:
        Ages in whole intervals, at least 1, and weights of Lagrange's cubic through the four
        samples around it (a parabola or less through those that there are, if the delay is short);
        one sample for a whole number.
    """
    whole = round(delay)
    if abs(delay - whole) < WHOLE * whole:
        return [(whole, 1.0)]
    first = math.floor(delay)
    ages = [age for age in range(first - 1, first + 3) if age >= 1]
    return [
        (age, math.prod((delay - other) / (age - other) for other in ages if other != age))
        for age in ages
    ]


def _default_output(environment: Environment) -> Float[Tensor, "rows action observation"]:
    """Returns the weights that read the driven states off the observation, see the class."""
    if not isinstance(environment, OdeEnvironment):
        got = type(environment).__name__
        raise ValueError(f"output: got None; allowed for {got}: weights of the observation")
    discrete = environment.system.definition.discrete
    linear = linearize(environment, time="discrete" if discrete else "continuous")
    return linear.b.pinverse() @ linear.c.pinverse()


def _read(output: Any, environment: Environment) -> Float[Tensor, "rows action observation"]:
    weights = read_numbers("output", output).double()
    size = (environment.action_shape[0], environment.observation_space.shape[0])
    if weights.ndim == 1:
        weights = weights[None]
    if tuple(weights.shape) != size or not weights.isfinite().all():
        got = tuple(weights.shape)
        raise ValueError(f"output: got shape {got}; allowed: finite numbers of shape {size}")
    return weights[None]

"""Environments over ODE systems: one fused call a control step, and how they are registered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import sympy
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from separatrix.envs.core.actions import action_box
from separatrix.envs.core.environment import ArrayStepper, Environment, Transition
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.component_task import ComponentTask
from separatrix.envs.steppers.ode_system import (
    OdeState,
    OdeSystem,
    fill,
    make_stepper,
    rows_of,
    traced,
)
from separatrix.envs.steppers.symbolic import Program, jacobian, symbols
from separatrix.envs.steppers.torch_backend import stack, torch_function

if TYPE_CHECKING:
    from separatrix.envs.steppers.numba_backend import NumbaStepper

Draw = Callable[[np.ndarray, "OdeEnvironment"], np.ndarray]


@dataclass(frozen=True)
class _TaskParameters:
    """The task's numbers as symbols and as tensors, in the same order."""

    symbols: dict[str, Any]
    rows: list[Tensor]

    @classmethod
    def of(cls, task: ComponentTask, system: OdeSystem) -> Self:
        named: dict[str, Any] = {}
        rows: list[Tensor] = []
        for name, value in task.parameters(system).items():
            tensor = torch.as_tensor(value, dtype=torch.float64).cpu()
            if tensor.ndim < 2:
                named[name] = symbols("t", [name])[0]
                rows.append(tensor.reshape(-1))
            else:
                named[name] = symbols("t", [f"{name}{i}" for i in range(tensor.shape[1])])
                rows.extend(tensor.T)
        return cls(named, rows)

    @property
    def flat(self) -> tuple[sympy.Symbol, ...]:
        found: list[sympy.Symbol] = []
        for value in self.symbols.values():
            found.extend(value if isinstance(value, tuple) else [value])
        return tuple(found)


def close(program: Program, task: ComponentTask, parameters: _TaskParameters) -> Program:
    """Adds a task to the program of a system."""
    p = parameters.symbols
    state, control, next_state = program.state, program.control, program.next_state
    metrics = task.metrics(state, control, next_state, p)
    return replace(
        program,
        parameter=(*program.parameter, *parameters.flat),
        law=tuple(sympy.sympify(u) for u in task.control(program.action, p)),
        observation=tuple(sympy.sympify(o) for o in task.observe(next_state, p)),
        reward=sympy.sympify(task.reward(state, control, next_state, p)),
        terminated=sympy.sympify(task.terminated(next_state, p)),
        metrics={name: sympy.sympify(value) for name, value in metrics.items()},
        guarded=True,
    )


class _Derivatives:
    """The control law, and the derivatives of law and observation, as functions of tensors.

    A derivative is the places of its entries and a function that computes them.
    """

    def __init__(self, program: Program) -> None:
        inputs = {"v": program.action, "p": program.parameter}
        self.control = torch_function("control", inputs, program.law)
        self.control_jacobian = self._jacobian(program, program.law, program.action)
        observation, values = program.observation, program.next_state
        self.observation_jacobian = self._jacobian(program, observation, values)

    @staticmethod
    def _jacobian(
        program: Program, expressions: Sequence[sympy.Expr], variables: Sequence[sympy.Symbol]
    ) -> tuple[list[tuple[int, int]], Callable[..., list[Any]]]:
        entries = jacobian(expressions, variables)
        inputs = {"v": variables, "p": program.parameter}
        return list(entries), torch_function("derivative", inputs, list(entries.values()))


class OdeArrayStepper(ArrayStepper):
    """Steps one environment by calls of the numba kernel alone."""

    def __init__(
        self, stepper: NumbaStepper, parameters: np.ndarray, names: Sequence[str], state: OdeState
    ) -> None:
        self._stepper, self._parameters, self._names = stepper, parameters, names
        self.state = state

    @property
    def state(self) -> OdeState:
        """The state, a batch of one."""
        return replace(
            self._start,
            values=torch.from_numpy(self._values.copy()),
            interval=self._start.interval + self._steps,
        )

    @state.setter
    def state(self, state: OdeState) -> None:
        self._start, self._steps = state, 0
        self._values = state.values.detach().numpy().copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, float | bool]]:
        """Advances by one control interval."""
        self._values, observation, scalars, flags = self._stepper.run_arrays(
            self._values, action, self._parameters
        )
        self._steps += 1
        reward, *metrics = scalars[:, 0].tolist()
        terminated, diverged = flags[:, 0].tolist()
        info = dict(zip(self._names, metrics, strict=True))
        info["diverged"] = diverged
        return observation[0], reward, terminated, info


class OdeEnvironment(Environment):
    """An ODE system with a component task, fused into one stepper call.

    Args:
        system: The physics.
        task: The decision process on it.
        horizon: Steps of an episode.
        draw: Draws one environment from its state values.
    """

    system: OdeSystem
    task: ComponentTask

    def __init__(self, system: OdeSystem, task: ComponentTask, horizon: int, draw: Draw) -> None:
        self.system, self.task, self.horizon, self._draw = system, task, horizon, draw
        parameters = _TaskParameters.of(task, system)
        program = self._program = close(traced(system.definition), task, parameters)
        self._task_symbols = parameters.symbols
        dtype = {torch.float32: np.float32, torch.float64: np.float64}[system.dtype]
        bound = np.asarray(task.observation_bound(system), dtype)
        self.observation_space = Box(-bound, bound, dtype=dtype)  # type: ignore[arg-type]
        self.action_space = action_box(len(program.action))
        self.reward_range = task.reward_range
        self.metric_names = tuple(program.metrics)
        self._rows = rows_of([*system.parameters.values(), *parameters.rows])
        self._parameters = self._rows.to(system.device, system.dtype)
        interval = replace(system.interval, worst_reward=task.reward_range[0])
        self._stepper = make_stepper(
            program, system.integrator, interval, system.backend, system.dtype, system.device
        )

    def observe(self, state: OdeState) -> Float[Tensor, "batch observation"]:
        """Returns the observations of states."""
        return self._stepper.observe(state.values, self._parameters)

    def step(self, state: OdeState, action: Float[Tensor, "batch action"]) -> Transition:
        """Advances every environment by one control interval."""
        result = self._stepper(state.values, action.to(self.dtype), self._parameters)
        info = dict(zip(self.metric_names, result.metrics, strict=True))
        info["diverged"] = result.diverged
        next_state = OdeState(state.stream, state.interval + 1, result.next_values)
        return Transition(next_state, result.observation, result.reward, result.terminated, info)

    def known_outcome(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
        next_observation: Float[Tensor, "rows observation"],
    ) -> tuple[Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Returns reward and termination of steps of which only the observations are known."""
        if self._outcome is None:
            return super().known_outcome(observation, action, next_observation)
        rows = observation.shape[:1] if self._rows.shape[1] == 1 else self._rows.shape[1:]
        size, controls = self.observation_space.shape, self.action_shape
        allowed = [(*rows, *size), (*rows, *controls), (*rows, *size)]
        got = [tuple(tensor.shape) for tensor in (observation, action, next_observation)]
        if got != allowed:
            raise ValueError(
                f"observation, action and next_observation: got shapes {got}; allowed: {allowed}"
            )
        clipped = action.to(observation.dtype).clamp(-1.0, 1.0)
        inputs = (tensor.T for tensor in (observation, clipped, next_observation))
        reward, ended = self._outcome(*inputs, self._rows_like(observation))
        rewards = stack([reward], observation.T)[0]
        return rewards, torch.zeros_like(rewards, dtype=torch.bool) | ended

    def state_of(self, observation: Float[Tensor, "rows observation"], stream: Stream) -> OdeState:
        """Returns states that show observations, at interval 0."""
        if self._inverse is None:
            return super().state_of(observation, stream)
        found = self._inverse(observation.T, self._rows_like(observation))
        return OdeState(stream, torch.zeros_like(stream.seed), stack(found, observation.T).T)

    def array_stepper(self, state: OdeState) -> OdeArrayStepper | None:
        """Returns a faster way to step one environment, which only the numba kernel has."""
        if self.system.backend != "numba" or self.num_envs != 1:
            return None
        parameters = self._parameters.numpy()
        return OdeArrayStepper(self._stepper, parameters, self.metric_names, state)

    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the environment of some rows of the batch; itself if parameters are shared."""
        if self._parameters.shape[1] == 1:
            return self
        selected = copy.copy(self)
        selected.system = self.system.select(rows)
        selected._parameters = self._parameters.index_select(1, rows)
        selected._rows = self._rows.index_select(1, rows.cpu())
        return selected

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the environment with other physics under the same task."""
        changed = copy.copy(self)
        changed.system = self.system.with_parameters(parameters, num_envs)
        own = rows_of(list(changed.system.parameters.values()))
        kept = self._rows[len(own) :]
        size = max(own.shape[1], kept.shape[1])
        changed._rows = torch.cat((own.expand(-1, size), kept.expand(-1, size)))
        changed._parameters = changed._rows.to(self.device, self.dtype)
        return changed

    def control(self, action: Float[Tensor, "batch action"]) -> Float[Tensor, "batch control"]:
        """Returns the control that an action gives, clipped to [-1, 1] as in a step."""
        clipped = action.clamp(-1.0, 1.0).T
        return stack(self._derivatives.control(clipped, self._rows_like(action)), clipped).T

    def control_jacobian(
        self, action: Float[Tensor, "batch action"]
    ) -> Float[Tensor, "batch control action"]:
        """Evaluates the symbolic derivative of the control; zero by actions that are clipped."""
        shape = (len(self._program.control), action.shape[1])
        places, function = self._derivatives.control_jacobian
        entries = function(action.clamp(-1.0, 1.0).T, self._rows_like(action))
        return fill(action, shape, places, entries) * (action.abs() <= 1.0)[:, None, :]

    def observation_jacobian(
        self, values: Float[Tensor, "batch state"]
    ) -> Float[Tensor, "batch observation state"]:
        """Evaluates the symbolic derivative of the observation by the state."""
        shape = (len(self._program.observation), values.shape[1])
        places, function = self._derivatives.observation_jacobian
        return fill(values, shape, places, function(values.T, self._rows_like(values)))

    @cached_property
    def _derivatives(self) -> _Derivatives:
        return _Derivatives(self._program)

    @cached_property
    def _inverse(self) -> Callable[..., list[Any]] | None:
        """States of observations; None if these do not determine them."""
        seen = symbols("o", map(str, range(len(self._program.observation))))
        state = self.task.state_of(seen, self._task_symbols)
        if state is None:
            return None
        inputs = {"o": seen, "p": self._program.parameter}
        return torch_function("state", inputs, [sympy.sympify(component) for component in state])

    @cached_property
    def _outcome(self) -> Callable[..., list[Any]] | None:
        """Reward and termination of observations; None if these do not determine them."""
        program, task, p = self._program, self.task, self._task_symbols
        count = range(len(program.observation))
        before, after = (symbols(name, map(str, count)) for name in ("o", "n"))
        state, next_state = task.state_of(before, p), task.state_of(after, p)
        if state is None or next_state is None:
            return None
        outcome = task.reward(state, program.law, next_state, p), task.terminated(next_state, p)
        # Cosines and sines of observed angles are plain quotients, those of their sums only once
        # they are expanded.
        expanded = [
            sympy.sympify(e).replace(
                lambda part: isinstance(part, (sympy.cos, sympy.sin)), sympy.expand_trig
            )
            for e in outcome
        ]
        inputs = {"o": before, "a": program.action, "n": after, "p": program.parameter}
        return torch_function("outcome", inputs, expanded)

    def _rows_like(self, tensor: Tensor) -> Tensor:
        return self._rows.to(tensor)

    def render(self, state: OdeState, row: int = 0) -> UInt8[np.ndarray, "height width 3"]:
        """Draws the state of one environment."""
        drawn = self.select(torch.tensor([row], device=self.device))
        return self._draw(state.values[row].detach().cpu().double().numpy(), drawn)

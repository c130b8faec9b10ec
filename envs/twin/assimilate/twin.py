"""Twins: an ensemble of a system's states that is moved forward in time and follows observations.

twin = Twin.of("Lorenz-v0", 20, seed=0, inflation=1.02, uncertain={"rho": 0.1})
twin.forecast([0.0])
twin.assimilate(observation, variance=2.0)
twin.mean, twin.spread, twin.parameters["rho"]
"""

from __future__ import annotations

import copy
import os
import reprlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from separatrix.envs.core.inputs import read_numbers, read_seeds
from separatrix.envs.core.registration import check_count, is_positive, make_environment, suggest
from separatrix.envs.core.state import copied, from_tensors, take, tensors
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System
from separatrix.envs.twin.assimilate.ensemble_kalman import (
    ensemble_transform,
    inflate,
    local_ensemble_transform,
    perturbed_observations,
)
from separatrix.envs.twin.assimilate.observation import (
    Observe,
    observe,
    read_operator,
    read_shaped,
)
from separatrix.envs.twin.assimilate.resampling import replaced_members
from separatrix.envs.twin.assimilate.scores import quantiles
from separatrix.envs.twin.assimilate.twin_file import read_file, write_file
from separatrix.envs.twin.assimilate.uncertain import Uncertain, decoded, drawn, encoded

METHODS = ("perturbed", "transform", "local")
EPISODE = 2**32 - 1
"""Of the members' random streams: the last, so that none starts where an environment does."""


class Twin:
    """An ensemble of states of one system, its members the batch, and a filter.

    What it does is determined by its arguments. A member that leaves the system's safe box becomes
    a copy of another, drawn at random; an error leaves the twin as it was.

    Args:
        system: The physics, of as many environments as members. Members may differ in parameters.
        state: Their states.
        seed: Of all that is drawn: parameters, noise of observation, rotations, copies.
        observe: What is observed of the system's `values`: None for all of them, indices, or a
            matrix (observation, component); or a function of system and state.
        method: "perturbed", "transform" or "local"; see `ensemble_kalman`.
        inflation: Factor of the deviations of `values` after an analysis.
        rotation: Whether members are mixed after an analysis, by "transform" and "local".
        weights: Of "local", (component, observation); see `localization.line_weights`. Parameters
            take all observations.
        uncertain: Parameters to estimate with the state, each an `Uncertain` or its `spread`.
        low: Smallest values after an analysis, one number or one for each component.
        high: Largest ones.

    Attributes:
        system: The physics, with the parameters of each member.
        state: The states of the members.
        resampled: How many times a member became a copy of another.
        notes: JSON values that are saved with the twin, such as `TwinStream.state_dict()`.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        system: System,
        state: Any,
        *,
        seed: int,
        observe: Any = None,
        method: str = "transform",
        inflation: float = 1.0,
        rotation: bool = True,
        weights: Float[Tensor, "component observation"] | None = None,
        uncertain: Mapping[str, Uncertain | float] = MappingProxyType({}),
        low: Any = None,
        high: Any = None,
    ) -> None:
        if not isinstance(method, str) or method not in METHODS:
            raise ValueError(f"method: got {reprlib.repr(method)}; {suggest(method, METHODS)}")
        if not is_positive(inflation):
            raise ValueError(f"inflation: got {inflation!r}; allowed: a number > 0")
        if (weights is None) is (method == "local"):
            got = "none" if weights is None else f"some for {method!r}"
            raise ValueError(
                f"weights: got {got}; allowed: with the method 'local', which needs it"
            )
        if system.num_envs < 2:
            raise ValueError(f"members: got {system.num_envs}; allowed: 2 or more")
        self._generator = torch.Generator().manual_seed(seed)
        self.uncertain = {
            name: prior if isinstance(prior, Uncertain) else Uncertain(prior)
            for name, prior in uncertain.items()
        }
        self.system, self.state = drawn(system, self.uncertain, self._generator), state
        self.method, self.inflation, self.rotation = method, float(inflation), rotation
        self.resampled = 0
        self._source: dict[str, Any] | None = None
        self.notes: dict[str, Any] = {}
        components = self.values.shape[1]
        self._operator = read_operator(observe, components, self.system.device)
        bounds = (("low", low, -torch.inf), ("high", high, torch.inf))
        self._low, self._high = (
            torch.full((components,), none, dtype=torch.float64)
            if bound is None
            else self._read(name, bound, (components,))
            for name, bound, none in bounds
        )
        shape = (components, self.observed.shape[1])
        self._weights = None if weights is None else self._read("weights", weights, shape)

    @classmethod
    def of(
        cls,
        environment_id: str,
        members: int,
        *,
        seed: int,
        options: Mapping[str, Any] = MappingProxyType({}),
        **settings: Any,
    ) -> Self:
        """Returns the twin of a registered environment, its members drawn as episodes start.

        Args:
            environment_id: Such as "separatrix/Lorenz-v0".
            members: Size of the ensemble.
            seed: Of all that is drawn.
            options: Options of `make_environment`.
            settings: Arguments of the class.

        Raises:
            ValueError: An argument is not allowed; the message says what is.
        """
        check_count("members", members)
        system = make_environment(environment_id, members, **options).system
        seeds = read_seeds(seed, members).to(system.device)
        state = system.initial_state(Stream.start(seeds, EPISODE))
        twin = cls(system, state, seed=seed, **settings)
        twin._source = {"environment": environment_id, "options": dict(options)}
        return twin

    @property
    def members(self) -> int:
        """Size of the ensemble."""
        return self.system.num_envs

    @property
    def time(self) -> float:
        """Time since the start, in the system's unit."""
        return int(self.state.interval[0]) * self.system.control_interval

    @property
    def values(self) -> Float[Tensor, "member component"]:
        """The physical quantities of the members."""
        return self.system.values(self.state)

    @property
    def observed(self) -> Float[Tensor, "member observation"]:
        """What each member predicts for an observation now."""
        return observe(self._operator, self.system, self.state)

    @property
    def parameters(self) -> dict[str, Float64[Tensor, " member"]]:
        """The uncertain parameters of the members."""
        return {name: self.system.parameters[name] for name in self.uncertain}

    @property
    def mean(self) -> Float[Tensor, " component"]:
        """Mean of the members' values: the estimate."""
        return self.values.mean(0)

    @property
    def spread(self) -> Float[Tensor, " component"]:
        """Standard deviation of the members' values: how uncertain the estimate is."""
        return self.values.std(0)

    def quantiles(self, *probabilities: float) -> Float[Tensor, "quantile component"]:
        """Returns quantiles of the members' values, as `scores.quantiles` defines them."""
        return torch.stack([quantiles(self.values, p) for p in probabilities])

    @torch.no_grad()
    def forecast(self, control: Any, steps: int = 1) -> None:
        """Moves all members forward in time.

        Args:
            control: The control held, (control,), or one for each member, (member, control).
            steps: Number of control intervals.

        Raises:
            ValueError: An argument is not allowed.
            RuntimeError: All members have left the safe box.
        """
        check_count("steps", steps)
        held = self._controls(control)
        if held.ndim == 1:
            held = held.expand(self.members, -1)
        if held.ndim != 2 or len(held) != self.members:
            allowed = f"(control,) or ({self.members}, control)"
            raise ValueError(f"control: got shape {tuple(held.shape)}; allowed: {allowed}")
        ahead = self.fork()
        for _ in range(steps):
            ahead._go_on_from(ahead.system.advance(ahead.state, held))
        self.__dict__.update(ahead.__dict__)

    @torch.no_grad()
    def assimilate(self, observation: Any, variance: Any) -> None:
        """Takes up an observation, made now.

        Args:
            observation: (observation,), NaN where it is missing; if all of it is, nothing changes.
            variance: Variance of its error, one number or one for each; or the covariance matrix,
                but not with the method "local".

        Raises:
            ValueError: An argument is not allowed.
            RuntimeError: All analyses are outside the safe box.
        """
        predicted = self.observed
        seen = predicted.shape[1:]
        found = read_numbers("observation", observation).to(self.system.device, torch.float64)
        if found.shape != seen or found.isinf().any():
            got = f"shape {tuple(found.shape)}" if found.shape != seen else "infinity"
            raise ValueError(f"observation: got {got}; allowed: {tuple(seen)}, finite or NaN")
        matrix = (*seen, *seen) if getattr(variance, "ndim", 0) == 2 else tuple(seen)
        error = self._read("variance", variance, matrix)
        if found.isnan().all():
            return
        ahead, values = self.fork(), self.values
        vector = torch.cat((values.double(), encoded(self.system, self.uncertain)), 1)
        analysis = ahead._analysis(vector, predicted.double(), found, error)
        analysis, parameters = analysis.tensor_split([values.shape[1]], 1)
        ahead.system = decoded(self.system, self.uncertain, parameters)
        inflated = inflate(analysis, self.inflation).clamp(self._low, self._high)
        ahead._go_on_from(ahead.system.with_values(self.state, inflated.to(values.dtype)))
        self.__dict__.update(ahead.__dict__)

    @torch.no_grad()
    def what_if(
        self, controls: Float[Tensor, "branch step control"]
    ) -> Float[Tensor, "branch step member component"]:
        """Returns what all members would become under several sequences of controls, in one batch.

        The twin itself stays where it is. A member that leaves the safe box is NaN from then on.

        Args:
            controls: The controls of each branch.

        Raises:
            ValueError: The controls have another shape.
        """
        controls = self._controls(controls)
        if controls.ndim != 3:
            got = tuple(controls.shape)
            raise ValueError(f"controls: got shape {got}; allowed: (branch, step, control)")
        branches, steps, _ = controls.shape
        rows = torch.arange(self.members, device=self.system.device).repeat(branches)
        system, state = self.system.select(rows), take(self.state, rows)
        inside = torch.ones_like(rows, dtype=torch.bool)
        found = []
        for step in range(steps):
            state = system.advance(state, controls[:, step].repeat_interleave(self.members, 0))
            inside = inside & system.inside(state)
            found.append(torch.where(inside[:, None], system.values(state), torch.nan))
        return torch.stack(found).unflatten(1, (branches, self.members)).movedim(0, 1)

    def fork(self) -> Self:
        """Returns a twin that goes on from here by itself, as this one would."""
        other = copy.copy(self)
        other.notes = copy.deepcopy(self.notes)
        other._generator = torch.Generator()
        other._generator.set_state(self._generator.get_state())
        return other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the twin to one file, which `load` reads.

        Raises:
            ValueError: It was not made by `Twin.of`, or its options are no JSON values.
            OSError: The file cannot be written; what was there before is untouched.
        """
        if self._source is None:
            raise ValueError("only twins of Twin.of are saved: others have no environment id")
        function = callable(self._operator)
        document = {
            **self._source,
            "members": self.members,
            "resampled": self.resampled,
            "notes": self.notes,
            "observe": "function" if function else "tensor",
            "settings": {
                "method": self.method,
                "inflation": self.inflation,
                "rotation": self.rotation,
                "uncertain": {name: asdict(prior) for name, prior in self.uncertain.items()},
            },
        }
        kept = {f"parameters.{name}": value for name, value in self.parameters.items()}
        kept |= {"generator": self._generator.get_state(), "low": self._low, "high": self._high}
        if isinstance(self._operator, Tensor):
            kept["observe"] = self._operator
        if self._weights is not None:
            kept["weights"] = self._weights
        write_file(Path(path), {**tensors(self.state, "state."), **kept}, document)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: Any = "cpu", observe: Observe | None = None
    ) -> Self:
        """Returns the twin that `save` wrote, which goes on as that one would.

        Args:
            path: The file.
            device: Where its tensors are to live.
            observe: The function of the twin's observations, if it has one: no file holds it.

        Raises:
            ValueError: It is no file of a twin, damaged, or of a twin that is none here; or
                `observe` is missing, or too much.
            OSError: The file cannot be read.
        """
        found, document = read_file(Path(path))
        function = document["observe"] == "function"
        if function is (observe is None):
            allowed = "the function it was made with" if function else "None, it is in the file"
            raise ValueError(f"observe: got {observe!r} for the twin of {path}; allowed: {allowed}")
        settings = document["settings"]
        settings["uncertain"] = {k: Uncertain(**v) for k, v in settings["uncertain"].items()}
        settings["weights"] = found.get("weights")
        try:
            twin = cls.of(
                document["environment"],
                document["members"],
                seed=0,
                options={**document["options"], "device": device},
                observe=observe if function else found["observe"],
                low=found["low"],
                high=found["high"],
                **settings,
            )
            twin.state = from_tensors(twin.state, found, "state.")
            parameters = {
                name: copied(found, f"parameters.{name}", like)
                for name, like in twin.parameters.items()
            }
        except ValueError as error:
            raise ValueError(f"{path} does not fit this version: {error}") from error
        if parameters:
            twin.system = twin.system.with_parameters(parameters, twin.members)
        twin._generator.set_state(found["generator"])
        twin._source = {key: document[key] for key in ("environment", "options")}
        twin.resampled, twin.notes = document["resampled"], document["notes"]
        return twin

    def _analysis(
        self,
        vector: Float64[Tensor, "member component"],
        predicted: Float64[Tensor, "member observation"],
        observation: Float64[Tensor, " observation"],
        variance: Float64[Tensor, " observation"] | Float64[Tensor, "observation observation"],
    ) -> Float64[Tensor, "member component"]:
        given = (vector, predicted, observation, variance)
        if self.method == "perturbed":
            return perturbed_observations(*given, self._generator)
        rotation = self._generator if self.rotation else None
        if self._weights is None:
            return ensemble_transform(*given, rotation=rotation)
        everywhere = self._weights.new_ones((len(self.uncertain), predicted.shape[1]))
        weights = torch.cat((self._weights, everywhere))
        return local_ensemble_transform(*given, weights, rotation=rotation)

    def _go_on_from(self, state: Any) -> None:
        self.system, self.state, lost = replaced_members(self.system, state, self._generator)
        self.resampled += lost

    def _controls(self, control: Any) -> Tensor:
        return read_numbers("control", control).to(self.system.device, self.system.dtype)

    def _read(self, name: str, value: Any, shape: tuple[int, ...]) -> Float64[Tensor, ...]:
        return read_shaped(name, value, shape, self.system.device)

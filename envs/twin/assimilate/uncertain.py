"""Parameters that are not known: how members differ in them, and how observations change them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from separatrix.envs.core.registration import suggest
from separatrix.envs.core.system import System


@dataclass(frozen=True)
class Uncertain:
    """A parameter that every member has a value of its own of, estimated with the state.

    Attributes:
        spread: Standard deviation among members at the start, of the logarithm (so about the
            relative error) or of the value.
        logarithmic: Whether the filter sees the logarithm: the parameter is positive and stays so.
        floor: Smallest standard deviation after an analysis, in the unit of `spread`; deviations
            below it are enlarged. Nothing else keeps a parameter, which has no dynamics, from
            becoming the same in all members (A. Aksoy, F. Zhang, J. W. Nielsen-Gammon, Mon. Weather
            Rev. 134 (2006) 2951).
        low: Smallest value; None for any.
        high: Largest value; None for any.
    """

    spread: float
    logarithmic: bool = True
    floor: float = 0.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("spread", "floor"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                got = reprlib.repr(value)
                raise ValueError(f"{name}: got {got}; allowed: finite numbers >= 0")
        low, high = self.bounds
        if not low <= high:
            raise ValueError(f"low, high: got {low!r}, {high!r}; allowed: low <= high")

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value."""
        low = -math.inf if self.low is None else self.low
        return low, math.inf if self.high is None else self.high

    def encode(self, values: Float64[Tensor, " member"]) -> Float64[Tensor, " member"]:
        """Returns what the filter sees of values."""
        return values.log() if self.logarithmic else values

    def decode(self, encoded: Float64[Tensor, " member"]) -> Float64[Tensor, " member"]:
        """Returns values within the bounds from what the filter made of them."""
        return (encoded.exp() if self.logarithmic else encoded).clamp(*self.bounds)

    def with_floor(self, encoded: Float64[Tensor, " member"]) -> Float64[Tensor, " member"]:
        """Returns them with their deviations enlarged, if they are below the floor."""
        deviation = float(encoded.std())
        if not 0 < deviation < self.floor:
            return encoded
        return encoded.mean() + (encoded - encoded.mean()) * (self.floor / deviation)


def drawn(system: System, uncertain: Mapping[str, Uncertain], generator: torch.Generator) -> System:
    """Returns the system with uncertain parameters drawn around the values that it has.

    Raises:
        ValueError: A parameter is unknown, or must be positive and is not.
    """
    found = {}
    for name, prior in uncertain.items():
        if name not in system.parameters:
            raise ValueError(f"unknown parameter {name!r}; {suggest(name, system.parameters)}")
        values = system.parameters[name]
        if prior.logarithmic and not (values > 0).all():
            raise ValueError(f"parameter {name!r}: got {values.tolist()}; allowed: numbers > 0")
        noise = torch.randn(system.num_envs, generator=generator, dtype=torch.float64)
        found[name] = prior.decode(prior.encode(values) + prior.spread * noise)
    return system.with_parameters(found, system.num_envs) if found else system


def encoded(
    system: System, uncertain: Mapping[str, Uncertain]
) -> Float64[Tensor, "member parameter"]:
    """Returns the uncertain parameters of a system as the filter sees them, on its device."""
    columns = [prior.encode(system.parameters[name]) for name, prior in uncertain.items()]
    empty = torch.empty((system.num_envs, 0), dtype=torch.float64)
    return torch.cat((empty, *(column[:, None] for column in columns)), 1).to(system.device)


def decoded(
    system: System,
    uncertain: Mapping[str, Uncertain],
    analysis: Float64[Tensor, "member parameter"],
) -> System:
    """Returns the system with the parameters that the filter made of what `encoded` gave."""
    if not uncertain:
        return system
    found = {
        name: prior.decode(prior.with_floor(column))
        for (name, prior), column in zip(uncertain.items(), analysis.cpu().unbind(1), strict=True)
    }
    return system.with_parameters(found, system.num_envs)

"""What is known of parameters before there are records of a system.

Parameters are estimated as z, their distance from the middle of the prior in its standard
deviations: the prior of z is the standard normal distribution, whatever the unit.
"""

from __future__ import annotations

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from separatrix.envs.core.registration import is_positive

Middle = float | Float64[Tensor, " record"]
"""One number for all records, or one for each."""


class Prior(ABC):
    """A distribution of a parameter, a smooth function of a standard normal variable.

    Attributes:
        low: Smallest value; the prior is cut there.
        high: Largest value.
    """

    low: float
    high: float

    @abstractmethod
    def decode(self, z: Float64[Tensor, "record copy"]) -> Float64[Tensor, "record copy"]:
        """Returns values, within the bounds."""

    @abstractmethod
    def encode(self, values: Float64[Tensor, "record copy"]) -> Float64[Tensor, "record copy"]:
        """Returns distances from the middle in standard deviations."""

    def bounds(self, records: int) -> Float64[Tensor, "record 2"]:
        """Returns the encoded bounds, one row for each record."""
        limits = torch.tensor([self.low, self.high], dtype=torch.float64)
        return self.encode(limits.expand(records, 2))

    def _check(self, middle: Middle, smallest: float) -> None:
        values = torch.as_tensor(middle, dtype=torch.float64)
        inside = (values > self.low) & (values < self.high) & values.isfinite()
        if values.ndim > 1 or not inside.all() or self.low < smallest:
            got = f"prior: got {reprlib.repr(middle)} between {self.low!r} and {self.high!r}"
            allowed = f"finite numbers between bounds, which are {smallest!r} or more"
            raise ValueError(f"{got}; allowed: {allowed}")


@dataclass(frozen=True)
class LogNormal(Prior):
    """A positive parameter, uncertain by a factor.

    Attributes:
        median: Middle of the distribution.
        variation: Coefficient of variation: standard deviation over mean.
        low: Smallest value.
        high: Largest value.
    """

    median: Middle
    variation: float
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        self._check(self.median, 0.0)
        if not is_positive(self.variation):
            raise ValueError(f"variation: got {self.variation!r}; allowed: a number > 0")

    @property
    def scale(self) -> float:
        """Standard deviation of the logarithm."""
        return math.sqrt(math.log1p(self.variation**2))

    def decode(self, z: Float64[Tensor, "record copy"]) -> Float64[Tensor, "record copy"]:
        """Returns values, within the bounds."""
        return (_column(self.median) * (self.scale * z).exp()).clamp(self.low, self.high)

    def encode(self, values: Float64[Tensor, "record copy"]) -> Float64[Tensor, "record copy"]:
        """Returns distances from the median in standard deviations of the logarithm."""
        return (values / _column(self.median)).log() / self.scale


@dataclass(frozen=True)
class Normal(Prior):
    """A parameter of either sign.

    Attributes:
        mean: Middle of the distribution.
        deviation: Standard deviation.
        low: Smallest value.
        high: Largest value.
    """

    mean: Middle
    deviation: float
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        self._check(self.mean, -math.inf)
        if not is_positive(self.deviation):
            raise ValueError(f"deviation: got {self.deviation!r}; allowed: a number > 0")

    def decode(self, z: Float64[Tensor, "record copy"]) -> Float64[Tensor, "record copy"]:
        """Returns values, within the bounds."""
        return (_column(self.mean) + self.deviation * z).clamp(self.low, self.high)

    def encode(self, values: Float64[Tensor, "record copy"]) -> Float64[Tensor, "record copy"]:
        """Returns distances from the mean in standard deviations."""
        return (values - _column(self.mean)) / self.deviation


@dataclass(frozen=True)
class InitialFactor:
    """A factor of some components of the state at the start of a record, to be estimated.

    Attributes:
        components: Their places in `System.values`.
        prior: Of the factor.
    """

    components: Sequence[int]
    prior: Prior


def _column(middle: Middle) -> Tensor:
    return torch.as_tensor(middle, dtype=torch.float64).reshape(-1, 1)

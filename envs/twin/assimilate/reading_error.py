"""Errors of readings that are correlated in time, and how they are made white.

An autoregressive error e of standard deviation s, correlation r from one interval to the next, has
the conditional distribution e_k | e_j ~ N(r^(k-j) e_j, s^2 (1 - r^(2(k-j)))) given the last reading
before it, at j. So what is left of each error, divided by its standard deviation, is white, however
many readings are missing between (R. H. Jones, Technometrics 22 (1980) 389).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from separatrix.envs.core.registration import check_count, is_positive


@dataclass(frozen=True)
class ReadingError:
    """What is known of the error of a sensor, a stationary process.

    Attributes:
        deviation: Standard deviation, one number or one for each observation.
        correlation: From one control interval to the next, 0 for white noise.
        mean: Of the error, in the unit of the observation.
        every: Only the readings after every so many intervals are used. Where an error is not of
            this kind from one interval to the next, it may be from one such reading to the next.
    """

    deviation: float | Float64[Tensor, " observation"]
    correlation: float = 0.0
    mean: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        deviation = torch.as_tensor(self.deviation, dtype=torch.float64)
        if not all(is_positive(float(value)) for value in deviation.reshape(-1)):
            raise ValueError(f"deviation: got {self.deviation!r}; allowed: numbers > 0")
        if not 0 <= self.correlation < 1:
            got = self.correlation
            raise ValueError(f"correlation: got {got!r}; allowed: numbers from 0, less than 1")
        check_count("every", self.every)


class Whitening:
    """Turns differences of readings and predictions into what is white noise if they are errors.

    Args:
        error: What is known of it.
        present: Which readings there are.
    """

    def __init__(
        self, error: ReadingError, present: Bool[Tensor, "interval record observation"]
    ) -> None:
        count = len(present)
        index = torch.arange(count)[:, None, None].expand(present.shape)
        turn = (index + 1) % error.every == 0
        self.present = present & turn
        last = torch.where(self.present, index, -1).cummax(0).values
        before = torch.cat((torch.full_like(last[:1], -1), last[:-1]))
        link = torch.where(before >= 0, error.correlation ** (index - before).double(), 0.0)
        deviation = torch.as_tensor(error.deviation, dtype=torch.float64)
        scale = 1 / (deviation * (1 - link**2).sqrt())
        self.used = self.present.any(2).any(1).nonzero()[:, 0]
        place = torch.zeros(count, dtype=torch.long)
        place[self.used] = torch.arange(len(self.used))
        self._before = place[before.clamp(min=0)][self.used]
        self._link = link[self.used]
        self._scale = torch.where(self.present, scale, 0.0)[self.used]

    def __call__(
        self,
        difference: Float64[Tensor, "used record *copy observation"],
        rows: Tensor | None = None,
    ) -> Float64[Tensor, "used record *copy observation"]:
        """Returns the white part, zero where there is no reading.

        Args:
            difference: Of the intervals in `used`; numbers where there are readings.
            rows: The records that it is of; None for all.
        """
        chosen = (self._before, self._link, self._scale)
        before, link, scale = (x if rows is None else x[:, rows] for x in chosen)
        while before.ndim < difference.ndim:
            before, link, scale = (x.unsqueeze(2) for x in (before, link, scale))
        clean = torch.where(scale > 0, difference, 0.0)
        earlier = clean.gather(0, before.expand(difference.shape))
        return torch.where(scale > 0, (clean - link * earlier) * scale, 0.0)

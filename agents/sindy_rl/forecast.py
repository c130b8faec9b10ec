"""What every model of the dynamics tells the surrogate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Projection = Callable[[Tensor], Tensor]
"""Moves observations, (rows, observation), to where the true ones lie."""


class Forecast(NamedTuple):
    """What a model expects of one control interval."""

    next_observation: Float[Tensor, "rows observation"]
    """After the interval, where projections put it."""

    reward: Float[Tensor, " rows"] | None
    """Predicted reward; None if the model does not predict it."""

    deviation: Float[Tensor, " rows"]
    """Standard deviation of the members' changes, in units of a typical change, root mean square
    over the components."""

    leverage: Float[Tensor, " rows"]
    """How far the features are from those of the data, 1 being the mean over the data."""


class Dynamics(ABC):
    """A model of the dynamics of observations."""

    @abstractmethod
    def forecast(
        self,
        observation: Float[Tensor, "rows observation"],
        action: Float[Tensor, "rows action"],
    ) -> Forecast:
        """Predicts one control interval, differentiably."""

    def equations(self) -> str:
        """Returns the model as text, a line an equation; empty if it has none."""
        return ""


class Unfitted(Dynamics):
    """What stands in the place of a model before the first fit."""

    def forecast(self, observation: Tensor, action: Tensor) -> Forecast:
        """Raises RuntimeError: there is no model."""
        raise RuntimeError("no model was fitted yet")

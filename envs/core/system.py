"""Systems: the physics, without rewards and without episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from separatrix.envs.core.registration import suggest
from separatrix.envs.core.state import State
from separatrix.envs.core.stream import Stream


class System(ABC):
    """A controlled dynamical system as pure, batched functions.

    A system is immutable. Its parameters are shared by all environments of a batch or have one
    row for each; in the latter case its functions take batches of exactly that size.

    Attributes:
        num_envs: Size of the batch that the system was made for.
        device: Where its tensors live.
        dtype: Type of its real numbers.
        control_interval: Time during which a control is held, in the system's unit of time.
        differentiable: Whether gradients flow through `advance`.
        parameters: Physical parameters by name, one value for all environments or one for each;
            empty if there are none that may be changed.
        quick_parameters: Whether `with_parameters` takes no longer than a step, so that parameters
            may change in every one.
    """

    num_envs: int
    device: torch.device
    dtype: torch.dtype
    control_interval: float
    differentiable: bool = True
    parameters: Mapping[str, Float[Tensor, " rows"]] = MappingProxyType({})
    quick_parameters: bool = False

    @abstractmethod
    def initial_state(self, stream: Stream) -> Any:
        """Draws the states at the start of an episode, one a row of the stream."""

    @abstractmethod
    def advance(self, state: Any, control: Float[Tensor, "batch control"]) -> Any:
        """Advances all environments by one control interval under held controls."""

    @abstractmethod
    def inside(self, state: Any) -> Bool[Tensor, " batch"]:
        """Tells which states are finite and within the declared safe box."""

    @abstractmethod
    def select(self, rows: Int64[Tensor, " rows"]) -> Self:
        """Returns the system of some environments only; itself if parameters are shared."""

    def with_parameters(
        self, parameters: Mapping[str, Float[Tensor, " rows"]], num_envs: int
    ) -> Self:
        """Returns the system with other values of some parameters.

        Args:
            parameters: New values by name, one number or one for each of `num_envs` environments.
            num_envs: Size of the new batch. Parameters that have a value for each environment of
                the old batch must be among the new ones if it differs.

        Raises:
            ValueError: A parameter is unknown, or values have another size.
        """
        raise ValueError(f"the parameters of {type(self).__name__} cannot be changed")

    def values(self, state: Any) -> Float[Tensor, "batch component"]:
        """Returns the physical quantities of states, one row each, without time and randomness.

        Raises:
            ValueError: The system's states are not of that kind.
        """
        raise ValueError(f"the states of {type(self).__name__} have no vector of values")

    def with_values(self, state: Any, values: Float[Tensor, "batch component"]) -> Any:
        """Returns states with other physical quantities, as `values` gives them.

        Raises:
            ValueError: The system's states are not of that kind.
        """
        raise ValueError(f"the states of {type(self).__name__} have no vector of values")


def changed_parameters(
    old: Mapping[str, Float[Tensor, " _"]], new: Mapping[str, Float[Tensor, " _"]], num_envs: int
) -> dict[str, Float[Tensor, " _"]]:
    """Returns the parameters of `System.with_parameters`, in float64 on the CPU.

    Raises:
        ValueError: A parameter is unknown, or values have another size than 1 or `num_envs`.
    """
    unknown = sorted(new.keys() - old.keys())
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}; {suggest(unknown[0], old)}")
    found = {name: new.get(name, value).to("cpu", torch.float64) for name, value in old.items()}
    for name, value in found.items():
        if value.shape not in ((1,), (num_envs,)):
            got = tuple(value.shape)
            raise ValueError(f"parameter {name!r}: got shape {got}; allowed: (1,), ({num_envs},)")
    return found


__all__ = ["State", "System", "changed_parameters"]

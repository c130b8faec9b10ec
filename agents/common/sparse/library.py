"""Libraries of candidate functions: what a sparse model may be a linear combination of.

A library is a function of named inputs. It evaluates on tensors, differentiably, on any device and
in any floating dtype, and it writes its features as expressions, from which text and source come.

    position = PolynomialLibrary(degree=2, names=("x", "y"))
    library = position + FourierLibrary(names=("angle",))     # the features of both
    library = position * CustomLibrary(lambda u: (u, u**2), names=("u",))     # all products

The inputs of a sum or a product are those of its parts, each once, in order of first appearance.
Inside, tensors are component-major, (component, batch), so that every component is contiguous.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    import sympy


class Library(ABC):
    """A list of candidate functions of named inputs."""

    names: tuple[str, ...]
    """Names of the inputs, in order."""

    @property
    @abstractmethod
    def num_features(self) -> int:
        """Number of features."""

    @abstractmethod
    def rows(self, inputs: Float[Tensor, "inputs batch"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major."""

    @abstractmethod
    def expressions(self) -> tuple[sympy.Expr, ...]:
        """Returns the features as expressions of `symbols(names)`."""

    def __call__(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch features"]:
        """Evaluates the features.

        Args:
            inputs: Values of the inputs, in the order of `names`.

        Raises:
            ValueError: The last axis is not the inputs', or the dtype is not a floating one.
        """
        return self.flat_rows(inputs).T.reshape(*inputs.shape[:-1], self.num_features)

    def flat_rows(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major, with all axes of the batch in one.

        Raises:
            ValueError: The last axis is not the inputs', or the dtype is not a floating one.
        """
        if inputs.ndim == 0 or inputs.shape[-1] != len(self.names):
            raise ValueError(
                f"inputs: got shape {tuple(inputs.shape)}; allowed: (..., {len(self.names)}) for "
                f"{', '.join(self.names)}"
            )
        if not inputs.is_floating_point():
            raise ValueError(f"inputs: got dtype {inputs.dtype}; allowed: a floating dtype")
        return self.rows(inputs.reshape(-1, len(self.names)).T)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The features as text, such as `1`, `x^2 y` or `sin(2 x)`."""
        return tuple(
            str(feature).replace("**", "^").replace("*", " ") for feature in self.expressions()
        )

    def __add__(self, other: Library) -> SumLibrary:
        """Returns the features of both."""
        return SumLibrary(self, other)

    def __mul__(self, other: Library) -> ProductLibrary:
        """Returns every feature of this times every feature of the other."""
        return ProductLibrary(self, other)


def symbols(names: Sequence[str]) -> tuple[sympy.Symbol, ...]:
    """Returns the symbols of the inputs."""
    import sympy

    return tuple(sympy.Symbol(name, real=True) for name in names)


def check_names(names: Sequence[str]) -> None:
    """Checks names of inputs.

    Raises:
        ValueError: They are not a tuple of different words, one at least.
    """
    if (
        not isinstance(names, tuple)
        or not names
        or not all(isinstance(name, str) and name.isidentifier() for name in names)
        or len(set(names)) != len(names)
    ):
        raise ValueError(f"names: got {names!r}; allowed: a tuple of different words, such as x")


@dataclass(frozen=True)
class _Pair(Library):
    """What sums and products share: two parts, each of which reads some of the inputs."""

    first: Library
    second: Library

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for name in self.feature_names:
            if name in seen:
                raise ValueError(f"the feature {name!r} appears twice; leave it out of one library")
            seen.add(name)

    @cached_property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys(self.first.names + self.second.names))

    @cached_property
    def _places(self) -> tuple[slice | list[int], ...]:
        return tuple(_places(part.names, self.names) for part in (self.first, self.second))

    def _parts(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self._places
        return self.first.rows(inputs[first]), self.second.rows(inputs[second])


def _places(names: tuple[str, ...], among: tuple[str, ...]) -> slice | list[int]:
    """Where some inputs stand among others: a slice, which copies nothing, if they are in a row."""
    places = [among.index(name) for name in names]
    whole = slice(places[0], places[0] + len(places))
    return whole if places == list(range(whole.start, whole.stop)) else places


@dataclass(frozen=True)
class SumLibrary(_Pair):
    """The features of two libraries, one after the other; written `first + second`.

    Attributes:
        first, second: The libraries; inputs of the same name are the same input.

    Raises:
        ValueError: A feature appears in both, so that its coefficient would be undetermined.
    """

    @property
    def num_features(self) -> int:
        """Number of features."""
        return self.first.num_features + self.second.num_features

    def rows(self, inputs: Float[Tensor, "inputs batch"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major."""
        return torch.cat(self._parts(inputs))

    def expressions(self) -> tuple[sympy.Expr, ...]:
        """Returns the features as expressions."""
        return (*self.first.expressions(), *self.second.expressions())


@dataclass(frozen=True)
class ProductLibrary(_Pair):
    """All products of a feature of one library and one of another; written `first * second`.

    The order is that of the second's features within that of the first's.

    Attributes:
        first, second: The libraries; inputs of the same name are the same input.

    Raises:
        ValueError: Two products are the same, so that their coefficients would be undetermined.
    """

    @property
    def num_features(self) -> int:
        """Number of features."""
        return self.first.num_features * self.second.num_features

    def rows(self, inputs: Float[Tensor, "inputs batch"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major."""
        first, second = self._parts(inputs)
        return (first[:, None] * second[None]).flatten(0, 1)

    def expressions(self) -> tuple[sympy.Expr, ...]:
        """Returns the features as expressions."""
        second = self.second.expressions()
        return tuple(one * other for one in self.first.expressions() for other in second)


@dataclass(frozen=True)
class SelectedLibrary(Library):
    """Some of the features of a library, in its order.

    Attributes:
        whole: The library.
        kept: Numbers of the features that are kept, ascending.

    Raises:
        ValueError: A number is not that of a feature, or they do not ascend.
    """

    whole: Library
    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        among = range(self.whole.num_features)
        if not self.kept or list(self.kept) != sorted(set(self.kept) & set(among)):
            raise ValueError(
                f"kept: got {self.kept!r}; allowed: ascending numbers below {len(among)}, one at "
                "least"
            )

    @cached_property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the inputs, in order."""
        return self.whole.names

    @property
    def num_features(self) -> int:
        """Number of features."""
        return len(self.kept)

    def rows(self, inputs: Float[Tensor, "inputs batch"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major."""
        return self.whole.rows(inputs)[list(self.kept)]

    def expressions(self) -> tuple[sympy.Expr, ...]:
        """Returns the features as expressions."""
        features = self.whole.expressions()
        return tuple(features[i] for i in self.kept)

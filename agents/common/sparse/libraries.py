"""The libraries to build from: polynomials, sines and cosines, functions written by the user."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.agents.common.sparse.library import Library, check_names, symbols
from separatrix.envs.core.registration import check_count

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class PolynomialLibrary(Library):
    """All monomials up to a degree, in order of degree, then of their variables.

    Attributes:
        degree: Highest total degree; 0 is the constant alone.
        names: Names of the inputs.
        bias: Whether the constant 1 is among the features.
        interactions: Whether products of different inputs are; else only powers of each.

    Raises:
        ValueError: The degree is no whole number >= 0, a name is not allowed, or nothing is left.
    """

    degree: int
    names: tuple[str, ...]
    bias: bool = True
    interactions: bool = True

    def __post_init__(self) -> None:
        check_names(self.names)
        if not isinstance(self.degree, int) or isinstance(self.degree, bool) or self.degree < 0:
            raise ValueError(f"degree: got {self.degree!r}; allowed: a whole number >= 0")
        if self.degree == 0 and not self.bias:
            raise ValueError("degree: got 0 without bias; allowed: a degree >= 1, or bias=True")

    @cached_property
    def _monomials(self) -> tuple[tuple[int, ...], ...]:
        """The variables of every monomial, a repeated one for each of its powers."""
        found = [
            monomial
            for degree in range(0 if self.bias else 1, self.degree + 1)
            for monomial in _monomials(len(self.names), degree, self.interactions)
        ]
        return tuple(found)

    @property
    def num_features(self) -> int:
        """Number of features."""
        return len(self._monomials)

    def rows(self, inputs: Float[Tensor, "inputs batch"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major: each is one of lower degree times an input."""
        blocks = [torch.ones_like(inputs[:1])] if self.bias else []
        if self.degree > 0:
            blocks.append(inputs)
        for degree in range(2, self.degree + 1):
            lower, factor = _recursion(len(inputs), degree, self.interactions, inputs.device)
            blocks.append(blocks[-1][lower] * inputs[factor])
        return torch.cat(blocks)

    def expressions(self) -> tuple[sympy.Expr, ...]:
        """Returns the features as expressions."""
        import sympy

        inputs = symbols(self.names)
        return tuple(sympy.Mul(*(inputs[i] for i in monomial)) for monomial in self._monomials)


def _monomials(inputs: int, degree: int, interactions: bool) -> list[tuple[int, ...]]:
    if not interactions:
        return [(i,) * degree for i in range(inputs)] if degree else [()]
    return list(itertools.combinations_with_replacement(range(inputs), degree))


@cache
def _recursion(
    inputs: int, degree: int, interactions: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """For every monomial of a degree, the one of lower degree and the input it is a product of."""
    lower = {m: i for i, m in enumerate(_monomials(inputs, degree - 1, interactions))}
    found = _monomials(inputs, degree, interactions)
    return (
        torch.tensor([lower[monomial[:-1]] for monomial in found], device=device),
        torch.tensor([monomial[-1] for monomial in found], device=device),
    )


@dataclass(frozen=True)
class FourierLibrary(Library):
    """sin(k x) and cos(k x) of every input x, for k = 1, 2, ..., in this order.

    Attributes:
        names: Names of the inputs, in radians.
        frequencies: Largest k.

    Raises:
        ValueError: A name is not allowed, or the count is no whole number >= 1.
    """

    names: tuple[str, ...]
    frequencies: int = 1

    def __post_init__(self) -> None:
        check_names(self.names)
        check_count("frequencies", self.frequencies)

    @property
    def num_features(self) -> int:
        """Number of features."""
        return 2 * self.frequencies * len(self.names)

    def rows(self, inputs: Float[Tensor, "inputs batch"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major."""
        blocks = []
        for k in range(1, self.frequencies + 1):
            angle = k * inputs
            blocks.append(torch.stack([angle.sin(), angle.cos()], 1).flatten(0, 1))
        return torch.cat(blocks)

    def expressions(self) -> tuple[sympy.Expr, ...]:
        """Returns the features as expressions."""
        import sympy

        return tuple(
            function(k * x)
            for k in range(1, self.frequencies + 1)
            for x in symbols(self.names)
            for function in (sympy.sin, sympy.cos)
        )


@dataclass(frozen=True)
class CustomLibrary(Library):
    """Features written by the user, once, for tensors, text and source alike.

        CustomLibrary(lambda angle, u: (sin(angle), u * absolute(u)), names=("angle", "u"))

    Attributes:
        function: A function of the inputs, in order, that returns the features. It is called once,
            with symbols: `+ - * / **`, comparisons, and the functions of
            `separatrix.envs.steppers.functions` are allowed.
        names: Names of the inputs.

    Raises:
        ValueError: A name is not allowed, the function takes other arguments, or it returns
            something else than expressions, nothing, or a feature twice.
    """

    function: Callable[..., Sequence[Any]] = field(compare=False)
    names: tuple[str, ...]
    _expressions: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import sympy

        check_names(self.names)
        try:
            inspect.signature(self.function).bind(*self.names)
        except TypeError as error:
            raise ValueError(f"function: {error}; allowed: one argument for each name") from None
        found = self.function(*symbols(self.names))
        if not isinstance(found, tuple | list) or not found:
            raise ValueError(f"function: it returns {found!r}; allowed: a tuple of features")
        expressions = tuple(sympy.sympify(feature, strict=True) for feature in found)
        wrong = [feature for feature in expressions if not isinstance(feature, sympy.Expr)]
        if wrong or len(set(expressions)) != len(expressions):
            raise ValueError(f"function: it returns {found!r}; allowed: different expressions")
        object.__setattr__(self, "_expressions", expressions)

    @property
    def num_features(self) -> int:
        """Number of features."""
        return len(self._expressions)

    @cached_property
    def _compiled(self) -> Callable[..., list[Any]]:
        from separatrix.envs.steppers.torch_backend import torch_function

        return torch_function("features", {"x": symbols(self.names)}, self._expressions)

    def rows(self, inputs: Float[Tensor, "inputs batch"]) -> Float[Tensor, "features batch"]:
        """Evaluates the features component-major."""
        from separatrix.envs.steppers.torch_backend import stack

        return stack(self._compiled(inputs), inputs)

    def expressions(self) -> tuple[sympy.Expr, ...]:
        """Returns the features as expressions."""
        return self._expressions


def control_affine_library(
    drift: Library, influence: Library, controls: tuple[str, ...]
) -> Library:
    """Returns the library of x' = p(x) + q(x) u.

    Args:
        drift: p, a library of the states.
        influence: q, one of the states that goes with every control; the constant alone, a
            `PolynomialLibrary` of degree 0, makes the controls enter linearly.
        controls: Names of the controls u, which become the last inputs.

    Raises:
        ValueError: A control is among the inputs of p or q.
    """
    shared = sorted({*drift.names, *influence.names} & set(controls))
    if shared:
        raise ValueError(f"controls: {shared} are inputs of p or q; allowed: other names")
    return drift + influence * PolynomialLibrary(1, controls, bias=False)

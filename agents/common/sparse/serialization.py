"""Libraries as plain data, for JSON; reading them evaluates no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from separatrix.agents.common.sparse.libraries import (
    CustomLibrary,
    FourierLibrary,
    PolynomialLibrary,
)
from separatrix.agents.common.sparse.library import (
    Library,
    ProductLibrary,
    SelectedLibrary,
    SumLibrary,
)

if TYPE_CHECKING:
    import sympy

_FUNCTIONS = (
    "Add Mul Pow Rational sin cos exp log tanh Abs sign Heaviside Max Min Piecewise And Or Not "
    "StrictGreaterThan GreaterThan StrictLessThan LessThan"
).split()


def library_to_data(library: Library) -> dict[str, Any]:
    """Returns a library as dictionaries, lists, text and numbers.

    Raises:
        ValueError: A feature contains a function that cannot be written.
    """
    match library:
        case PolynomialLibrary(degree, names, bias, interactions):
            data = {"degree": degree, "names": names, "bias": bias, "interactions": interactions}
            return {"kind": "polynomial", **data}
        case FourierLibrary(names, frequencies):
            return {"kind": "fourier", "names": names, "frequencies": frequencies}
        case CustomLibrary():
            features = [_to_tree(expression) for expression in library.expressions()]
            return {"kind": "custom", "names": library.names, "features": features}
        case SumLibrary(first, second) | ProductLibrary(first, second):
            kind = "sum" if isinstance(library, SumLibrary) else "product"
            parts = {"first": library_to_data(first), "second": library_to_data(second)}
            return {"kind": kind, **parts}
        case SelectedLibrary(whole, kept):
            return {"kind": "selected", "whole": library_to_data(whole), "kept": kept}
    raise ValueError(f"library: got {type(library).__name__}, which has no form in JSON")


def library_from_data(data: dict[str, Any]) -> Library:
    """Reads what `library_to_data` returned.

    Raises:
        ValueError: The data are something else.
    """
    match data:
        case {"kind": "polynomial", "names": names, **others}:
            return PolynomialLibrary(names=tuple(names), **_without_kind(others))
        case {"kind": "fourier", "names": names, **others}:
            return FourierLibrary(names=tuple(names), **_without_kind(others))
        case {"kind": "custom", "names": names, "features": features}:

            def function(*inputs: Any) -> list[Any]:
                values = dict(zip(names, inputs, strict=True))
                return [_from_tree(tree, values) for tree in features]

            return CustomLibrary(function, tuple(names))
        case {"kind": "sum" | "product" as kind, "first": first, "second": second}:
            pair = SumLibrary if kind == "sum" else ProductLibrary
            return pair(library_from_data(first), library_from_data(second))
        case {"kind": "selected", "whole": whole, "kept": kept}:
            return SelectedLibrary(library_from_data(whole), tuple(kept))
    raise ValueError(f"library: got {data!r}, which is the form of none")


def _without_kind(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "kind"}


def _to_tree(expression: sympy.Basic) -> Any:
    """An expression as nested lists: a symbol is its name, a function its name and arguments."""
    import sympy

    if isinstance(expression, sympy.Symbol):
        return expression.name
    if expression in (sympy.true, sympy.false):
        return bool(expression)
    if isinstance(expression, sympy.Integer):
        return int(expression)
    if isinstance(expression, sympy.Rational):
        return ["Rational", int(expression.p), int(expression.q)]
    if isinstance(expression, sympy.Float | sympy.NumberSymbol):
        return float(expression)
    if isinstance(expression, sympy.functions.elementary.piecewise.ExprCondPair):
        return [_to_tree(part) for part in expression.args]
    name = type(expression).__name__
    if name not in _FUNCTIONS:
        raise ValueError(f"feature: {name} (in {expression}) cannot be written as JSON")
    return [name, *(_to_tree(argument) for argument in expression.args)]


def _from_tree(tree: Any, values: dict[str, Any]) -> Any:
    import sympy

    if isinstance(tree, bool):
        return sympy.true if tree else sympy.false
    if isinstance(tree, int | float):
        return sympy.sympify(tree)
    if isinstance(tree, str) and tree in values:
        return values[tree]
    if isinstance(tree, Sequence) and tree and tree[0] in _FUNCTIONS:
        name, *parts = tree
        if name == "Piecewise":
            branches = [tuple(_from_tree(part, values) for part in pair) for pair in parts]
            return sympy.Piecewise(*branches)
        return getattr(sympy, name)(*(_from_tree(part, values) for part in parts))
    raise ValueError(f"feature: got {tree!r}, which is no expression of {', '.join(values)}")

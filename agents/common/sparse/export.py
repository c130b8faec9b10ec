"""Source code of a sparse model that runs without this package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from separatrix.agents.common.sparse.library import symbols
from separatrix.envs.steppers.printing import Block, Printer

if TYPE_CHECKING:
    from separatrix.agents.common.sparse.model import SparseModel

_NUMPY_FUNCTIONS = (
    "absolute cos exp log logical_and logical_not logical_or maximum minimum sign sin sqrt tanh "
    "where"
).split()

_C_FUNCTIONS = {
    "absolute": "x) { return fabs(x)",
    "sign": "x) { return x > 0 ? 1 : x < 0 ? -1 : x",
    "heaviside": "x) { return x > 0 ? 1 : x < 0 ? 0 : x == 0 ? 0.5 : x",
    "maximum": "a, double b) { return a > b || a != a ? a : b",
    "minimum": "a, double b) { return a < b || a != a ? a : b",
    "where": "condition, double a, double b) { return condition != 0 ? a : b",
    "logical_and": "a, double b) { return a != 0 && b != 0",
    "logical_or": "a, double b) { return a != 0 || b != 0",
    "logical_not": "a) { return a == 0",
}


class _CPrinter(Printer):
    """Prints C: `pow` is a function there, and conditions are numbers."""

    def power(self, base: str, exponent: str) -> str:
        return f"pow({base}, {exponent})"


def _body(
    model: SparseModel, printer: Printer, state: str, control: str
) -> tuple[list[str], list[str]]:
    """Returns assignments and the source of every target.

    Args:
        model: The model.
        printer: The dialect.
        state: How a component of the state is written, with its number in place of {}.
        control: How one of the control is.
    """
    names = {name: state.format(i) for i, name in enumerate(model.states)}
    names |= {name: control.format(i) for i, name in enumerate(model.controls)}
    coefficients = model.coefficients.double().tolist()
    used = [j for j in range(model.library.num_features) if any(row[j] for row in coefficients)]
    features = model.library.expressions()
    arguments = dict(
        zip(symbols(model.library.names), (names[n] for n in model.library.names), strict=True)
    )
    lines, sources = Block([features[j] for j in used]).source(printer, arguments, "shared")
    lines += [f"feature{j} = {source}" for j, source in zip(used, sources, strict=True)]
    sums = [
        " + ".join(f"{printer.literal(row[j])} * feature{j}" for j in used if row[j])
        or printer.literal(0.0)
        for row in coefficients
    ]
    return lines, sums


def _comments(model: SparseModel) -> list[str]:
    lines = [f"state: {', '.join(model.states)}"]
    if model.controls:
        lines.append(f"control: {', '.join(model.controls)}")
    return [*lines, *model.equations()]


def _needed(names: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The functions that lines of source call."""
    text = "\n".join(lines)
    return [name for name in names if re.search(rf"\b{name}\(", text)]


def numpy_source(model: SparseModel) -> str:
    """Returns a Python module with the model's function; see `SparseModel.to_numpy_source`."""
    lines, sums = _body(model, Printer(), "state[..., {}]", "control[..., {}]")
    arguments = "state, control" if model.controls else "state"
    imports = _needed(_NUMPY_FUNCTIONS, lines)
    source = [f"# {line}" for line in _comments(model)]
    source += ["import numpy as np"]
    source += [f"from numpy import {', '.join(imports)}"] if imports else []
    if _needed(["heaviside"], lines):
        source += ["", "", "def heaviside(x):", "    return np.heaviside(x, 0.5)"]
    source += ["", "", f"def step({arguments}):"]
    source += [f"    {line}" for line in lines]
    rows = ", ".join(["state[..., 0]", *sums])
    source += [f"    rows = np.broadcast_arrays({rows})", "    return np.stack(rows[1:], axis=-1)"]
    return "\n".join(source) + "\n"


def c_source(model: SparseModel) -> str:
    """Returns C99 with the model's function; see `SparseModel.to_c_source`."""
    lines, sums = _body(model, _CPrinter(), "state[{}]", "control[{}]")
    source = [f"// {line}" for line in _comments(model)]
    source += ["#include <math.h>", ""]
    source += [
        f"static double {name}(double {_C_FUNCTIONS[name]}; }}"
        for name in _needed(list(_C_FUNCTIONS), lines)
    ]
    source += ["", "void step(const double *state, const double *control, double *next)", "{"]
    source += [] if model.controls else ["    (void)control;"]
    source += [f"    const double {line};" for line in lines]
    source += [f"    next[{i}] = {text};" for i, text in enumerate(sums)]
    return "\n".join([*source, "}"]) + "\n"

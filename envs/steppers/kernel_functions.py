"""All functions that a generated numba kernel may call, under the names that `Printer` writes.

Everything here compiles to straight-line code, so that the loops over lanes become vector
instructions.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from separatrix.envs.steppers.vector_math import cos, exp, log, sin, tanh

__all__ = [
    "absolute",
    "clip",
    "cos",
    "exp",
    "heaviside",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "sign",
    "sin",
    "sqrt",
    "tanh",
    "where",
]

# Without its own `fastmath` a function would take over that of whichever kernel compiles first.
_inline = njit(forceinline=True, error_model="numpy", fastmath=False)


@_inline
def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`."""
    return a if condition else b


@_inline
def clip(x: Any) -> Any:
    """Clips to [-1, 1]; NaN stays NaN."""
    one = type(x)(1)
    return one if x > one else (-one if x < -one else x)


@_inline
def maximum(a: Any, b: Any) -> Any:
    """Larger of two values; NaN if one is."""
    return a if (a > b) | (a != a) else b


@_inline
def minimum(a: Any, b: Any) -> Any:
    """Smaller of two values; NaN if one is."""
    return a if (a < b) | (a != a) else b


@_inline
def absolute(x: Any) -> Any:
    """Absolute value."""
    return abs(x)


@_inline
def sign(x: Any) -> Any:
    """Sign, with sign(0) = 0."""
    zero = type(x)(0)
    one = type(x)(1)
    return one if x > zero else (-one if x < zero else zero)


@_inline
def heaviside(x: Any) -> Any:
    """Unit step, with heaviside(0) = 1/2."""
    zero = type(x)(0)
    return type(x)(1) if x > zero else (type(x)(0.5) if x == zero else zero)


@_inline
def sqrt(x: Any) -> Any:
    """Square root."""
    return math.sqrt(x)


@_inline
def logical_and(a: Any, b: Any) -> Any:
    """Both."""
    return a & b


@_inline
def logical_or(a: Any, b: Any) -> Any:
    """Either."""
    return a | b


@_inline
def logical_not(a: Any) -> Any:
    """Negation."""
    return not a

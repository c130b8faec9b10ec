"""Elementary functions for writing an ODE system or a task as a function of its components.

They build sympy expressions, and import sympy only when called, so that a module full of systems
stays cheap to import. Non-smooth operators have one fixed meaning on every backend:

    sign(0) = 0        heaviside(0) = 1/2        d|x|/dx = sign(x)
    d sign/dx = d heaviside/dx = 0               d max(a, b)/da = heaviside(a - b)
    where(c, a, b) differentiates branch by branch
"""

from __future__ import annotations

from typing import Any

Expression = Any
"""A sympy expression, symbol or number; written `Any` so that this module need not import sympy."""


def sin(x: Expression) -> Expression:
    """Sine of an angle in radians."""
    import sympy

    return sympy.sin(x)


def cos(x: Expression) -> Expression:
    """Cosine of an angle in radians."""
    import sympy

    return sympy.cos(x)


def angle_of(cosine: Expression, sine: Expression) -> Expression:
    """Angle of an observed direction, of which only cosine and sine are to be taken.

    Nothing else is the same for all turns of the angle. They come out as the arguments divided by
    their length, with derivatives of at most 1e6: up to a length of 1e-6 the angle is near 0, as
    is C's `atan2(0, 0)`.

    Args:
        cosine: Cosine of the angle, times any number > 0.
        sine: Sine of the angle, times the same number.
    """
    import sympy

    return sympy.atan2(sine, where(cosine**2 + sine**2 > 1e-12, cosine, 1))


def exp(x: Expression) -> Expression:
    """Exponential."""
    import sympy

    return sympy.exp(x)


def log(x: Expression) -> Expression:
    """Natural logarithm."""
    import sympy

    return sympy.log(x)


def tanh(x: Expression) -> Expression:
    """Hyperbolic tangent."""
    import sympy

    return sympy.tanh(x)


def sqrt(x: Expression) -> Expression:
    """Square root."""
    import sympy

    return sympy.sqrt(x)


def absolute(x: Expression) -> Expression:
    """Absolute value."""
    import sympy

    return sympy.Abs(x)


def sign(x: Expression) -> Expression:
    """Sign, with sign(0) = 0."""
    import sympy

    return sympy.sign(x)


def heaviside(x: Expression) -> Expression:
    """Unit step, with heaviside(0) = 1/2."""
    import sympy

    return sympy.Heaviside(x)


def maximum(a: Expression, b: Expression) -> Expression:
    """Larger of two values."""
    import sympy

    return sympy.Max(a, b)


def minimum(a: Expression, b: Expression) -> Expression:
    """Smaller of two values."""
    import sympy

    return sympy.Min(a, b)


def where(condition: Expression, a: Expression, b: Expression) -> Expression:
    """`a` where the condition (such as `x > 1.8`) holds, else `b`."""
    import sympy

    return sympy.Piecewise((a, condition), (b, True))

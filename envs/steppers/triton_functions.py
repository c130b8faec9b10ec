"""All functions that a generated Triton kernel may call, under the names that `Printer` writes.

They take tensors of one dtype, float32 or float64, and are accurate in it: Triton's own float32
division, square root and exponential are fast approximations, and it has no tanh. Where the
arithmetic is written out here, Triton's interpreter runs the same as a GPU. Sine, cosine and
logarithm are those of libdevice on a GPU (numpy's in the interpreter), which are good to 2 ulp.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

__all__ = [
    "absolute",
    "clip",
    "cos",
    "divide",
    "exp",
    "heaviside",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "power",
    "sign",
    "sin",
    "sqrt",
    "tanh",
    "where",
]

# Triton decides what `jit` makes, kernels or interpreted functions, when it is applied.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def where(condition: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """`a` where the condition holds, else `b`."""
    return tl.where(condition, a, b)


@triton.jit
def clip(x: tl.tensor) -> tl.tensor:
    """Clips to [-1, 1]; NaN stays NaN."""
    return tl.where(x > 1.0, 1.0, tl.where(x < -1.0, -1.0, x))


@triton.jit
def maximum(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """Larger of two values; NaN if one is."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def minimum(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """Smaller of two values; NaN if one is."""
    return tl.where((a < b) | (a != a), a, b)


@triton.jit
def absolute(x: tl.tensor) -> tl.tensor:
    """Absolute value."""
    return tl.abs(x)


@triton.jit
def sign(x: tl.tensor) -> tl.tensor:
    """Sign, with sign(0) = 0."""
    return (x > 0.0).to(x.dtype) - (x < 0.0).to(x.dtype)


@triton.jit
def heaviside(x: tl.tensor) -> tl.tensor:
    """Unit step, with heaviside(0) = 1/2."""
    return (x > 0.0).to(x.dtype) + 0.5 * (x == 0.0).to(x.dtype)


@triton.jit
def logical_and(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """Both."""
    return a & b


@triton.jit
def logical_or(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """Either."""
    return a | b


@triton.jit
def logical_not(a: tl.tensor) -> tl.tensor:
    """Negation."""
    return ~a


@triton.jit
def divide(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """Quotient, rounded once."""
    if b.dtype == tl.float64:
        return a / b
    else:
        return tl.div_rn(a, b)


@triton.jit
def sqrt(x: tl.tensor) -> tl.tensor:
    """Square root, rounded once."""
    if x.dtype == tl.float64:
        return tl.sqrt(x)
    else:
        return tl.sqrt_rn(x)


@triton.jit
def sin(x: tl.tensor) -> tl.tensor:
    """Sine of an angle in radians."""
    return tl.sin(x)


@triton.jit
def cos(x: tl.tensor) -> tl.tensor:
    """Cosine of an angle in radians."""
    return tl.cos(x)


@triton.jit
def log(x: tl.tensor) -> tl.tensor:
    """Natural logarithm."""
    return tl.log(x)


@triton.jit
def _power_of_two(k: tl.tensor) -> tl.tensor:
    """2**k in float32, for whole k from -126 to 127, by the bits of the exponent."""
    return ((k.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def exp(x: tl.tensor) -> tl.tensor:
    """Exponential, to 1 ulp.

    In float32 exp(x) = 2**k exp(r) with r = x - k ln 2, abs(r) <= ln(2)/2, where ln 2 is split into
    a part short enough for its product with k to be exact and a rest. The polynomial is a minimax
    approximation of (exp(r) - 1 - r)/r**2, with a relative error in exp(r) below 2**-28.
    """
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        x = tl.where(x > 89.0, 89.0, tl.where(x < -104.0, -104.0, x))  # beyond: inf and 0
        k = tl.floor(x * 1.4426950408889634 + 0.5)
        r = (x - k * 0.693359375) - k * -0.00021219444005469057
        p = 0.0013950576251466347
        p = p * r + 0.008368953436764706
        p = p * r + 0.04166620448086275
        p = p * r + 0.16666518307800535
        p = p * r + 0.5000000095666379
        # 2**k in two factors, for neither 2**128 nor 2**-150 is a float32.
        half = tl.floor(0.5 * k)
        return (1.0 + (r + r * r * p)) * _power_of_two(half) * _power_of_two(k - half)


@triton.jit
def tanh(x: tl.tensor) -> tl.tensor:
    """Hyperbolic tangent, to 2 ulp also near 0.

    Below 0.55 it is x + x z P(z), z = x**2, with a minimax polynomial (relative error below 2**-60
    in float64 and 2**-29 in float32); above, 1 - 2/(exp(2 x) + 1) no longer cancels.
    """
    z = x * x
    if x.dtype == tl.float64:
        p = -1.9521036319148076e-05
        p = p * z + 8.336008431536939e-05
        p = p * z + -0.00023341273988517614
        p = p * z + 0.0005884570540338262
        p = p * z + -0.0014555459854422496
        p = p * z + 0.003592092532785824
        p = p * z + -0.008863232652817665
        p = p * z + 0.021869488389105553
        p = p * z + -0.05396825396387872
        p = p * z + 0.13333333333326833
        p = p * z + -0.333333333333333
    else:
        p = -0.006282454997216432
        p = p * z + 0.02107774474257968
        p = p * z + -0.05385385449128864
        p = p * z + 0.13332601652443207
        p = p * z + -0.333333180448522
    size = tl.abs(x)
    large = 1.0 - divide(2.0, exp(2.0 * size) + 1.0)
    return tl.where(size < 0.55, x + x * (z * p), tl.where(x < 0.0, -large, large))


@triton.jit
def power(x: tl.tensor, y: tl.tensor) -> tl.tensor:
    """`x` to the power of `y`; in the interpreter only to abs(y log x) ulp."""
    if not INTERPRETED:
        return libdevice.pow(x, y)
    else:
        size = tl.where(y == 0.0, 1.0, exp(y * tl.log(tl.abs(x))))
        odd = tl.floor(0.5 * y) != 0.5 * y
        whole = tl.where(odd, -size, size)
        return tl.where(x >= 0.0, size, tl.where(tl.floor(y) == y, whole, float("nan")))

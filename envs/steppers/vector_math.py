"""Elementary functions for numba kernels, written so that LLVM vectorises the loops that call them.

A call of the C library's ``sin`` inside a loop keeps LLVM from vectorising it. The functions here
are straight-line arithmetic: an argument reduction with constants split into parts (Cody and Waite,
*Software Manual for the Elementary Functions*, 1980), a polynomial, a scaling through the exponent
bits, and selections in place of branches. They are inlined into the loop that calls them and
computed in float64 there; a float32 argument gives a float32 result, rounded once at the end.

Every fused multiply-add is asked for by name (``llvm.fmuladd``) and none is left to an optimiser
flag, so an element's bits do not depend on its place in a block, on the width of the vectors, or on
the code around the call. They do depend on whether the machine has a fused multiply-add.

========  =================================  =====================================================
function  error below 1 ulp for              elsewhere
========  =================================  =====================================================
``sin``   abs(x) <= 2e5                      up to abs(x) = 1e9 an absolute error of 1e-18 more
``cos``   abs(x) <= 2e5                      (1e-7 without a fused multiply-add); NaN beyond
``exp``   all x, subnormal results included  overflows to inf, underflows to 0
``tanh``  all x, subnormal ones included     (below 2 ulp without a fused multiply-add)
``log``   x >= 0, subnormal ones included    -inf at 0, NaN below
========  =================================  =====================================================

So a float32 result is the exact one rounded, but for rare values next to a tie.

The polynomials are weighted minimax approximations (Remez exchange in 70-digit arithmetic) whose
relative error in the function, with coefficients rounded to float64, is below 2**-56.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

# Any, as compiled code calls these functions without their first argument.
_generated: Any = intrinsic
_DOUBLE = ir.DoubleType()
_TERNARY = ir.FunctionType(_DOUBLE, [_DOUBLE] * 3)

# Adding this rounds a float64 below 2**51 to an integer, found again in the low bits of the sum.
_ROUNDER = 6755399441055744.0  # 1.5 * 2**52
_SIGN = -(2**63)
_NAN = float("nan")
_INFINITY = float("inf")

# pi/2 and ln 2 in parts short enough (36 and 42 bits) for their products with k to be exact.
_TWO_OVER_PI = 0.6366197723675814
_HALF_PI_1 = 1.5707963267923333
_HALF_PI_2 = 2.5633441515839558e-12
_HALF_PI_3 = 1.0562999066987428e-23
_LOG2_E = 1.4426950408889634
_LN2_1 = 0.6931471805598903
_LN2_2 = 5.497923018708371e-14
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD

# sin(r) = r + r z S(z),  cos(r) = 1 - z/2 + z**2 C(z)  with z = r**2, abs(r) <= pi/4.
_SIN = (
    -0.1666666666666663,
    0.008333333333322113,
    -0.00019841269829584926,
    2.7557313619721354e-06,
    -2.5050747493050433e-08,
    1.5896214019146045e-10,
)
_COS = (
    0.041666666666666595,
    -0.001388888888887305,
    2.480158728884719e-05,
    -2.755731417793057e-07,
    2.0875700648807067e-09,
    -1.1358526167751704e-11,
)
# exp(r) = 1 + r + r**2 E(r),  abs(r) <= ln(2)/2.
_EXP = (
    0.5,
    0.16666666666666677,
    0.04166666666666651,
    0.008333333333321695,
    0.0013888888888962357,
    0.00019841269885958736,
    2.4801587172549093e-05,
    2.7557244380808155e-06,
    2.755740264233942e-07,
    2.5108976744371567e-08,
    2.087532835028675e-09,
)
# log((1 + s)/(1 - s)) = 2 s + s z L(z)  with z = s**2, abs(s) <= 3 - sqrt(8).
_LOG = (
    0.6666666666666734,
    0.39999999999416463,
    0.28571428742017296,
    0.22222198608861835,
    0.18183562578673312,
    0.1531409278347503,
    0.14795549959448154,
)


@_generated
def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` in float64, rounded once where the machine can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.fmuladd", [_DOUBLE], _TERNARY)
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@_generated
def _polynomial(typing_context: Any, x: Any, coefficients: Any) -> Any:
    """The polynomial with these coefficients, lowest first, by Horner's rule without a loop."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.fmuladd", [_DOUBLE], _TERNARY)
        x, coefficients = arguments
        *lower, value = (
            builder.extract_value(coefficients, index) for index in range(signature.args[1].count)
        )
        for coefficient in reversed(lower):
            value = builder.call(function, [value, x, coefficient])
        return value

    return types.float64(types.float64, coefficients), generate


@_generated
def _bits(typing_context: Any, x: Any) -> Any:
    """The bits of a float64 as an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@_generated
def _from_bits(typing_context: Any, bits: Any) -> Any:
    """The float64 with these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _DOUBLE)

    return types.float64(types.int64), generate


@_generated
def _round_like(typing_context: Any, value: Any, x: Any) -> Any:
    """A float64 in the dtype of ``x`` (float64 where that is an integer)."""
    result = x if isinstance(x, types.Float) else types.float64

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], types.float64, result)

    return result(types.float64, x), generate


# Unless it is said here, fastmath would be inherited from whichever caller compiles first.
_inlined = njit(forceinline=True, error_model="numpy", fastmath=False)


@_inlined
def _power_of_two(shifted: float) -> float:
    """``2**k`` from ``k + _ROUNDER``, for k from -1022 to 1023: the shift drops the other bits."""
    return _from_bits((_bits(shifted) + 1023) << 52)


@_inlined
def _quadrant(x: float) -> tuple[int, float, float]:
    """Parts of ``abs(x) = k pi/2 + r``: k (right in its two lowest bits), sin(r) and cos(r)."""
    x = abs(x)
    x = x if x <= 1e9 else _NAN
    shifted = _fma(x, _TWO_OVER_PI, _ROUNDER)
    k = _ROUNDER - shifted  # with its sign turned, as it is used below
    r1 = _fma(k, _HALF_PI_1, x)
    r2 = _fma(k, _HALF_PI_2, r1)
    high = _fma(k, _HALF_PI_3, r2)
    # What the roundings of r2 and high lost: without it the error passes 1 ulp.
    low = _fma(k, _HALF_PI_3, r2 - high) + _fma(k, _HALF_PI_2, r1 - r2)
    z = high * high
    sine_tail = _fma(z, _fma(high, _polynomial(z, _SIN), -0.5 * low), low)
    half = 0.5 * z
    top = 1.0 - half
    cosine_tail = _fma(z * z, _polynomial(z, _COS), ((1.0 - top) - half) - high * low)
    return _bits(shifted), high + sine_tail, top + cosine_tail


@_inlined
def sin(x: float) -> float:
    """Sine of ``x`` in radians, odd to the bit."""
    k, sine, cosine = _quadrant(x)
    value = sine if (k & 1) == 0 else cosine
    return _round_like(_from_bits(_bits(value) ^ ((k & 2) << 62) ^ (_bits(x) & _SIGN)), x)


@_inlined
def cos(x: float) -> float:
    """Cosine of ``x`` in radians; beside ``sin`` of the same ``x`` it costs next to nothing."""
    k, sine, cosine = _quadrant(x)
    value = cosine if (k & 1) == 0 else sine
    return _round_like(_from_bits(_bits(value) ^ (((k + 1) & 2) << 62)), x)


@_inlined
def _exp_parts(x: float) -> tuple[float, float, float]:
    """Parts of ``exp(x) = 2**k (1 + high + low)``: ``k + _ROUNDER``, high and low."""
    shifted = _fma(x, _LOG2_E, _ROUNDER)
    k = _ROUNDER - shifted
    r = _fma(k, _LN2_1, x)
    high = _fma(k, _LN2_2, r)
    low = _fma(k, _LN2_2, r - high)
    return shifted, high, _fma(high * high, _polynomial(high, _EXP), _fma(high, low, low))


@_inlined
def exp(x: float) -> float:
    """Exponential of ``x``."""
    clipped = 710.0 if x > 710.0 else x
    clipped = -746.0 if clipped < -746.0 else clipped
    shifted, high, low = _exp_parts(clipped)
    one_plus = 1.0 + high
    value = one_plus + (((1.0 - one_plus) + high) + low)
    # 2**k in two factors, for neither 2**1024 nor 2**-1075 is a float64.
    half = _fma(0.5, shifted - _ROUNDER, _ROUNDER)
    other = (shifted - half) + _ROUNDER
    return _round_like(value * _power_of_two(half) * _power_of_two(other), x)


@_inlined
def tanh(x: float) -> float:
    """Hyperbolic tangent of ``x``, odd to the bit, of full relative accuracy near 0."""
    size = abs(x)
    size = 20.0 if size > 20.0 else size  # 1 - tanh(20) is less than float64 resolves
    # e = exp(2 size) - 1, in two parts, and tanh = e / (e + 2).
    shifted, high, low = _exp_parts(2.0 * size)
    scale = _power_of_two(shifted)
    whole = scale - 1.0
    high *= scale
    near = whole + high
    rest = _fma(scale, low, (whole - near) + high)
    e = near + rest
    e_low = (near - e) + rest
    denominator = e + 2.0
    added = denominator - e
    denominator_low = (e - (denominator - added)) + (2.0 - added) + e_low
    inverse = 1.0 / denominator
    quotient = e * inverse
    residual = _fma(-quotient, denominator, e) + _fma(-quotient, denominator_low, e_low)
    value = _fma(residual, inverse, quotient)
    return _round_like(_from_bits(_bits(value) | (_bits(x) & _SIGN)), x)


@_inlined
def log(x: float) -> float:
    """Natural logarithm of ``x``."""
    subnormal = x < 2.2250738585072014e-308
    bits = _bits(x * 18014398509481984.0 if subnormal else x * 1.0)  # 2**54
    # x = 2**k (1 + f) with 1 + f from sqrt(1/2) to sqrt(2); the mask spares an arithmetic shift.
    k = (((bits - _SQRT_HALF_BITS) + (1024 << 52)) >> 52) & 0xFFF
    f = _from_bits(bits - ((k - 1024) << 52)) - 1.0
    exponent = (_from_bits(_bits(_ROUNDER) + k) - _ROUNDER) - (1078.0 if subnormal else 1024.0)
    s = f / (2.0 + f)
    z = s * s
    half_square = 0.5 * f * f
    # log(1 + f) = f - f**2/2 + s (f**2/2 + z L(z)), as 2 s = f - s f.
    tail = _fma(s, _fma(z, _polynomial(z, _LOG), half_square), exponent * _LN2_2)
    value = _fma(exponent, _LN2_1, f - (half_square - tail))
    value = value if x < _INFINITY else x * 1.0  # also NaN
    value = value if x > 0.0 else (-_INFINITY if x == 0.0 else _NAN)
    return _round_like(value, x)

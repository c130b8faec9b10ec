"""CPU kernels of `philox` and `Stream`, and the arithmetic of the normal distribution.

Importing this module imports numba, so it is imported where it is first used. All of it stands in
one file because numba's disk cache of a kernel does not notice changes in other files.

Bit-for-bit reproducibility rests on one rule: every value comes from additions, multiplications,
divisions, square roots and bit operations in a fixed order. IEEE 754 rounds these alike in scalar
and SIMD code, which no library promises of its logarithm or cosine.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from numba import njit
from numba.extending import register_jitable
from numpy import ndarray

from separatrix.envs.core.philox import MULTIPLIERS, ROUNDS, WEYL

Number = Any  # a tensor, or a scalar inside a kernel

_M0, _M1 = (np.uint64(word) for word in MULTIPLIERS)
_W0, _W1 = (np.uint64(word) for word in WEYL)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

_LOG_2 = math.log(2.0)
SQRT_HALF_BITS = int(np.float64(math.sqrt(0.5)).view(np.int64))
# Taylor series in z = x^2, cut where the next term is below a quarter unit in the last place:
# artanh(x) / x for |x| <= (sqrt 2 - 1) / (sqrt 2 + 1), sin(x) / x and cos(x) for |x| <= pi / 4.
_ARTANH = tuple(1.0 / (2 * k + 1) for k in range(10))
_SINE = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(9))
_COSINE = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(9))


@njit(inline="always")
def _block(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the four words of one Philox4x32-10 block; all numbers are below 2^32."""
    for _ in range(ROUNDS):
        product0, product1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (product1 >> _SHIFT) ^ c1 ^ k0,
            product1 & _MASK,
            (product0 >> _SHIFT) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@njit(cache=True, nogil=True)
def fill_blocks(
    counter: Int64[ndarray, "rows 4"],
    key: Int64[ndarray, "rows 2"],
    words: Int64[ndarray, "rows 4"],
) -> None:
    """Write the block of every counter and key to words."""
    for row in range(counter.shape[0]):
        words[row] = _block(
            np.uint64(counter[row, 0]) & _MASK,
            np.uint64(counter[row, 1]) & _MASK,
            np.uint64(counter[row, 2]) & _MASK,
            np.uint64(counter[row, 3]) & _MASK,
            np.uint64(key[row, 0]) & _MASK,
            np.uint64(key[row, 1]) & _MASK,
        )


@njit(cache=True, nogil=True)
def fill_words(
    seed: Int64[ndarray, "batch"],
    episode: Int64[ndarray, "batch"],
    draw: Int64[ndarray, "batch"],
    purpose: int,
    words: Int64[ndarray, "words batch"],
) -> None:
    """Write the blocks of one draw to words, four times as many; the layout is `Stream`'s."""
    for block in range(words.shape[0] // 4):
        # One contiguous array for each word lets the compiler run the loop with SIMD.
        word0, word1 = words[4 * block], words[4 * block + 1]
        word2, word3 = words[4 * block + 2], words[4 * block + 3]
        for row in range(seed.size):
            word0[row], word1[row], word2[row], word3[row] = _block(
                np.uint64(block),
                np.uint64(draw[row]) & _MASK,
                np.uint64(episode[row]) & _MASK,
                np.uint64(purpose),
                np.uint64(seed[row]) & _MASK,
                np.uint64(seed[row]) >> _SHIFT,
            )


@njit(cache=True, nogil=True)
def fill_uniform(
    seed: Int64[ndarray, "batch"],
    episode: Int64[ndarray, "batch"],
    draw: Int64[ndarray, "batch"],
    purpose: int,
    values: Float[ndarray, "batch count"],
) -> None:
    """Write one draw of uniform numbers, multiples of 2^-24, to values."""
    batch, count = values.shape
    words = np.empty((4 * ((count + 3) // 4), batch), np.int64)
    fill_words(seed, episode, draw, purpose, words)
    for row in range(batch):
        for column in range(count):
            values[row, column] = (words[column, row] >> 8) * 2.0**-24


# numpy's error model leaves out a check of the divisor that would keep the loop from SIMD.
@njit(cache=True, nogil=True, error_model="numpy")
def fill_normal(
    seed: Int64[ndarray, "batch"],
    episode: Int64[ndarray, "batch"],
    draw: Int64[ndarray, "batch"],
    purpose: int,
    values: Float[ndarray, "batch count"],
) -> None:
    """Write one draw of standard normal numbers to values."""
    batch, count = values.shape
    words = np.empty((4 * ((count + 3) // 4), batch), np.int64)
    fill_words(seed, episode, draw, purpose, words)
    normals = np.empty(words.shape, np.float64)
    for first in range(0, count, 2):
        _fill_normal_pairs(words[first], words[first + 1], normals[first], normals[first + 1])
    for row in range(batch):
        for column in range(count):
            values[row, column] = normals[column, row]


@njit(error_model="numpy")
def _fill_normal_pairs(
    radius_words: Int64[ndarray, "batch"],
    angle_words: Int64[ndarray, "batch"],
    cosine_normals: Float64[ndarray, "batch"],
    sine_normals: Float64[ndarray, "batch"],
) -> None:
    """Turn pairs of words into pairs of standard normal numbers."""
    for row in range(radius_words.size):
        bits = np.float64((radius_words[row] + 0.5) * 2.0**-32).view(np.int64)
        exponent = (bits - SQRT_HALF_BITS) >> 52
        mantissa = np.int64(bits - (exponent << 52)).view(np.float64)
        quadrant = (angle_words[row] + (1 << 29)) >> 30
        rest = (angle_words[row] + 0.5) * 2.0**-30 - quadrant
        square, cosine, sine = box_muller(float(exponent), mantissa, quadrant, rest)
        radius = math.sqrt(square)
        cosine_normals[row] = radius * cosine
        sine_normals[row] = radius * sine


@register_jitable
def box_muller(exponent: Number, mantissa: Number, quadrant: Number, rest: Number) -> Number:
    """Return squared radius, cosine and sine of the Box-Muller transform of two uniform numbers.

    From u0 and u1 come the radius ``sqrt(-2 log u0)`` and the angle ``2 pi u1``; radius times
    cosine and radius times sine are independent standard normal numbers (Box and Muller, Ann. Math.
    Statist. 29, 1958, eq. 1). The arguments are these two, split without rounding:

        u0 = 2^exponent mantissa,   sqrt(1/2) <= mantissa < sqrt(2)
        u1 = (quadrant + rest) / 4,   |rest| <= 1/2

    Written once, for tensors and for the scalars inside a kernel. The quadrant is int64, the others
    float64, lest torch compute in its default dtype.
    """
    # log(mantissa) = 2 artanh(ratio) keeps its relative accuracy where u0 is close to 1.
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    logarithm = exponent * _LOG_2 + 2.0 * ratio * _polynomial(ratio * ratio, _ARTANH)

    angle = rest * (math.pi / 2)
    near_cosine = _polynomial(angle * angle, _COSINE)
    near_sine = angle * _polynomial(angle * angle, _SINE)
    odd, sign = quadrant & 1, 1 - (quadrant & 2)
    cosine = sign * ((1 - odd) * near_cosine - odd * near_sine)
    sine = sign * ((1 - odd) * near_sine + odd * near_cosine)
    return -2.0 * logarithm, cosine, sine


@register_jitable
def _polynomial(x: Number, coefficients: tuple[float, ...]) -> Number:
    """Evaluate ``sum_k coefficients[k] x^k`` by Horner's rule."""
    value: Number = coefficients[-1]
    for k in range(len(coefficients) - 2, -1, -1):
        value = value * x + coefficients[k]
    return value

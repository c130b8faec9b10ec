"""The vectorised functions: errors against mpmath, special values, the same bits everywhere."""

import math
import re
from collections.abc import Callable

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from jaxtyping import Float, Int
from numba import njit

from separatrix.envs.steppers import vector_math

NAMES = ("sin", "cos", "exp", "tanh", "log")
INF, NAN = math.inf, math.nan
Loop = Callable[[np.ndarray, np.ndarray], None]


def looped(function: Callable[[float], float]) -> Loop:
    """The function over an array, compiled as the generated kernels are."""

    @njit(fastmath={"contract"}, error_model="numpy")
    def run(x: np.ndarray, y: np.ndarray) -> None:
        for j in range(x.size):
            y[j] = function(x[j])

    return run


@njit(error_model="numpy")
def rounding_error_of_square(x: float) -> float:
    """Nonzero where a multiply-add is fused: the exact square less the rounded one."""
    return vector_math._fma(x, x, -(x * x))


FUSED = rounding_error_of_square(1.0 + 2.0**-30) != 0.0
LOOPS = {name: looped(getattr(vector_math, name)) for name in NAMES}


def apply(name: str, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The function of every element, in the dtype of ``x``."""
    y = np.empty_like(x)
    LOOPS[name](x, y)
    return y


def integers(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The bits of floats, which tell -0 from 0."""
    return values.view(f"i{values.itemsize}")


def arguments(name: str) -> Float[np.ndarray, " n"]:
    """Random and awkward arguments over the whole range that the documentation promises."""
    rng = np.random.default_rng(7)
    tiny = np.exp(rng.uniform(-744.0, 0.0, 500))
    if name in ("sin", "cos"):
        with mpmath.workprec(200):  # the float64 nearest to a multiple of pi/2, where bits cancel
            counts = [*range(1, 600), *range(600, 127000, 97)]
            near = np.array([float(k * mpmath.pi / 2) for k in counts])
        spread = [rng.uniform(-bound, bound, 1000) for bound in (0.8, 7.0, 1e3, 2e5)]
        return np.concatenate([*spread, near, np.nextafter(-near, 0.0), tiny])
    if name == "exp":
        ends = ((-745.0, 709.7), (-1.0, 1.0), (-745.0, -708.0))
        spread = [rng.uniform(low, high, 1000) for low, high in ends]
        return np.concatenate([*spread, tiny, -tiny])
    if name == "tanh":
        return np.concatenate([rng.uniform(-b, b, 1000) for b in (0.3, 1.0, 22.0)] + [tiny, -tiny])
    magnitudes = np.exp(rng.uniform(-744.0, 709.0, 1000))
    return np.concatenate([magnitudes, rng.uniform(0.5, 2.0, 2000), 1.0 + tiny, 1.0 - tiny / 2])


def errors_in_ulp(name: str, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Distance from the exact values, in spacings of the dtype of ``x`` at these values."""
    function = getattr(mpmath, name)
    errors = []
    with mpmath.workprec(200):
        for argument, value in zip(x.tolist(), apply(name, x).tolist(), strict=True):
            exact = function(mpmath.mpf(argument))
            spacing = float(np.spacing(np.abs(x.dtype.type(exact))))
            errors.append(float(abs(value - exact) / spacing))
    return np.array(errors)


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_within_one_unit_in_the_last_place(name: str) -> None:
    x = arguments(name)
    errors = errors_in_ulp(name, x)
    worst = int(errors.argmax())
    bound = 2.0 if name == "tanh" and not FUSED else 1.0
    assert errors[worst] < bound, f"{name}({x[worst]!r}) is {errors[worst]:.3f} ulp off"


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_the_exact_value_rounded(name: str) -> None:
    x = arguments(name)
    if name == "exp":
        x = x[(x > -103.0) & (x < 88.0)]
    x = x[np.abs(x) < 1e38].astype(np.float32)
    x = x[(x > 0.0) | (name != "log")]
    assert x.size > 1000
    assert errors_in_ulp(name, x).max() <= 0.5 + 1e-8


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_large_angles_keep_their_absolute_accuracy(name: str) -> None:
    more = 1e-18 if FUSED else 1e-7
    rng = np.random.default_rng(5)
    with mpmath.workprec(200):
        near = [float(k * mpmath.pi / 2) for k in range(127330, 6 * 10**8, 10**6)]
        x = np.concatenate([rng.uniform(2e5, 1e9, 1000), np.array(near)])
        values = zip(x.tolist(), apply(name, x).tolist(), strict=True)
        function = getattr(mpmath, name)
        for argument, value in values:
            assert abs(value - function(mpmath.mpf(argument))) < more + np.spacing(abs(value))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        *[(name, NAN, NAN) for name in NAMES],
        *[(name, x, NAN) for name in ("sin", "cos") for x in (INF, -INF, 1.1e9, -1.1e9)],
        *[(name, x, x) for name in ("sin", "tanh") for x in (0.0, -0.0, 1e-40, -1e-40)],
        ("cos", 0.0, 1.0),
        ("cos", -0.0, 1.0),
        ("exp", 0.0, 1.0),
        ("exp", -0.0, 1.0),
        ("exp", INF, INF),
        ("exp", -INF, 0.0),
        ("exp", 710.0, INF),
        ("exp", 1e30, INF),
        ("exp", -746.0, 0.0),
        ("exp", -1e30, 0.0),
        ("tanh", INF, 1.0),
        ("tanh", -INF, -1.0),
        ("tanh", 25.0, 1.0),
        ("log", 0.0, -INF),
        ("log", -0.0, -INF),
        ("log", -1.0, NAN),
        ("log", -INF, NAN),
        ("log", INF, INF),
        ("log", 1.0, 0.0),
    ],
)
def test_special_values(name: str, argument: float, expected: float, dtype: type) -> None:
    result = apply(name, np.array([argument], dtype))
    assert result.dtype == dtype
    if math.isnan(expected):
        assert np.isnan(result[0])
    else:
        assert integers(result)[0] == integers(np.array([expected], dtype))[0]


def test_ends_of_the_exponential() -> None:
    """The largest and the smallest results that float64 holds are reached, not flushed."""
    x = np.array([709.782712893384, 709.7827128933841, -745.1332191019411, -745.1332191019412])
    largest, overflow, smallest, underflow = apply("exp", x)
    assert largest == pytest.approx(np.finfo(np.float64).max, rel=1e-12)
    assert overflow == INF
    assert smallest == 5e-324
    assert underflow == 0.0


def test_parity_and_bounds_hold_to_the_bit() -> None:
    x = np.random.default_rng(2).uniform(-30.0, 30.0, 4000)
    for name in ("sin", "tanh"):
        assert np.array_equal(integers(apply(name, -x)), integers(-apply(name, x)))
    assert np.array_equal(integers(apply("cos", -x)), integers(apply("cos", x)))
    for name in ("sin", "cos", "tanh"):
        assert np.abs(apply(name, x)).max() <= 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_length_or_place(name: str, dtype: type) -> None:
    x: np.ndarray = np.random.default_rng(3).uniform(0.01, 12.0, 67).astype(dtype)
    alone = integers(np.concatenate([apply(name, x[i : i + 1].copy()) for i in range(67)]))
    for length in range(1, 68):
        assert np.array_equal(integers(apply(name, x[:length].copy())), alone[:length])
        assert np.array_equal(integers(apply(name, x[67 - length :].copy())), alone[67 - length :])


def optimised_code(name: str, dtype: type) -> str:
    """LLVM's intermediate code of the loop over a function, after its optimisations."""
    apply(name, np.ones(1, dtype))
    codes = LOOPS[name].inspect_llvm()  # type: ignore[attr-defined]
    (code,) = [codes[key] for key in codes if np.dtype(dtype).name in str(key[0])]
    return str(code)


@pytest.mark.parametrize("name", NAMES)
def test_the_fastmath_of_a_caller_stays_outside(name: str) -> None:
    """Which products are fused must not depend on the caller that compiles the function first."""
    assert " contract " not in optimised_code(name, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_a_loop_over_the_function_is_vectorised(name: str, dtype: type) -> None:
    code = optimised_code(name, dtype)
    assert re.search(r"llvm\.fmuladd\.v\d+f64\(", code)
    # Nothing is left to call in the loop: not the function itself, not the C library's.
    assert not re.findall(rf"call [^\n]*@{name}f?\(|call [^\n]*11vector_math", code)

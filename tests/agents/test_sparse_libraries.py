"""Libraries: counts and columns as PySINDy's, tensors as their own expressions, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pysindy
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separatrix.agents.common.sparse.libraries import (
    CustomLibrary,
    FourierLibrary,
    PolynomialLibrary,
    control_affine_library,
)
from separatrix.agents.common.sparse.library import Library, symbols
from separatrix.envs.steppers import functions as f

XYZ = ("x", "y", "z")
CUSTOM = CustomLibrary(
    lambda x, u: (
        f.sin(x) * u,
        f.cos(2 * x),
        f.exp(-x / 3),
        f.log(1 + x**2),
        f.tanh(u) ** 3,
        f.sqrt(x**2 + 1) / 7,
        f.absolute(x),
        f.sign(u),
        f.heaviside(x),
        f.maximum(x, u),
        f.minimum(x, u * u),
        f.where(x > u, x, 0.1 * u),
        1 / (1 + u**2),
        x**9,
    ),
    names=("x", "u"),
)
LIBRARIES = {
    "polynomial": PolynomialLibrary(3, XYZ),
    "no bias": PolynomialLibrary(2, XYZ, bias=False),
    "powers": PolynomialLibrary(4, XYZ, interactions=False),
    "constant": PolynomialLibrary(0, XYZ),
    "fourier": FourierLibrary(("x", "y"), frequencies=3),
    "custom": CUSTOM,
    "sum": PolynomialLibrary(2, ("z", "u")) + FourierLibrary(("x",)),
    "product": PolynomialLibrary(1, ("x", "z")) * FourierLibrary(("y", "x")),
    "affine": control_affine_library(
        PolynomialLibrary(2, XYZ, bias=False), PolynomialLibrary(1, XYZ), ("u", "v")
    ),
    "nested": (PolynomialLibrary(1, ("u",)) * CUSTOM) + FourierLibrary(("y",)),
}


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for i in range(count))


@pytest.mark.parametrize(
    ("states", "controls", "degree", "interactions", "influence", "count"),
    [
        (5, 1, 2, True, 2, 41),
        (8, 2, 2, False, 2, 50),
        (2, 1, 3, True, 0, 10),
        (10, 3, 2, True, 0, 68),
    ],
    ids=["swing-up", "swimmer", "cylinder", "pinball"],
)
def test_libraries_of_sindy_rl_have_their_sizes(
    states: int, controls: int, degree: int, interactions: bool, influence: int, count: int
) -> None:
    """The four dynamics libraries of Zolman et al. (2024), counted from their configurations."""
    x = names("x", states)
    library = control_affine_library(
        PolynomialLibrary(degree, x, bias=False, interactions=interactions),
        PolynomialLibrary(influence, x, interactions=interactions),
        names("u", controls),
    )
    assert library.num_features == count
    assert library.names == (*x, *names("u", controls))
    assert library(draw(7, states + controls)).shape == (7, count)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("interactions", [True, False])
def test_polynomials_are_pysindys(degree: int, bias: bool, interactions: bool) -> None:
    inputs = draw(50, 3)
    theirs = pysindy.PolynomialLibrary(
        degree=degree, include_bias=bias, include_interaction=interactions
    )
    expected = np.asarray(theirs.fit_transform(inputs.numpy()))
    ours = PolynomialLibrary(degree, XYZ, bias=bias, interactions=interactions)(inputs)
    same_columns(ours.numpy(), expected)


@pytest.mark.parametrize("frequencies", [1, 3])
def test_sines_are_pysindys(frequencies: int) -> None:
    inputs = draw(50, 2)
    theirs = pysindy.FourierLibrary(n_frequencies=frequencies)
    expected = np.asarray(theirs.fit_transform(inputs.numpy()))
    same_columns(FourierLibrary(("x", "y"), frequencies)(inputs).numpy(), expected)


def same_columns(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Each column of one is one of the other, to rounding."""
    assert ours.shape == theirs.shape
    apart = np.abs(ours[:, :, None] - theirs[:, None, :]).max(0)
    scale = 1 + np.abs(theirs).max(0)
    partner = (apart / scale).argmin(1)
    assert sorted(partner) == list(range(ours.shape[1]))
    assert (apart / scale)[np.arange(len(partner)), partner].max() < 1e-14


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_tensors_are_the_expressions(library: Library) -> None:
    inputs = draw(6, len(library.names), seed=1)
    found = library(inputs)
    expressions = library.expressions()
    assert len(expressions) == library.num_features == len(library.feature_names)
    assert len(set(library.feature_names)) == library.num_features
    for row, features in zip(inputs, found, strict=True):
        values = dict(zip(symbols(library.names), row.tolist(), strict=True))
        expected = [float(expression.subs(values)) for expression in expressions]
        np.testing.assert_allclose(features.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_leading_axes_dtypes_and_broken_rows(library: Library) -> None:
    inputs = draw(3, 4, len(library.names))
    found = library(inputs)
    assert found.shape == (3, 4, library.num_features)
    torch.testing.assert_close(found[1, 2], library(inputs[1, 2]), rtol=1e-14, atol=1e-14)
    assert library(inputs[:0]).shape == (0, 4, library.num_features)
    assert library(inputs.float()).dtype == torch.float32
    torch.testing.assert_close(library(inputs.float()).double(), found, rtol=1e-3, atol=1e-5)
    inputs[1, 2] = torch.nan
    again = library(inputs)
    keep = torch.ones(3, 4, dtype=torch.bool)
    keep[1, 2] = False
    assert torch.equal(again[keep], found[keep])


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_gradients_are_those_of_finite_differences(library: Library) -> None:
    inputs = draw(5, len(library.names), seed=2).requires_grad_()
    assert torch.autograd.gradcheck(library, inputs)


def test_derivatives_of_polynomials_at_zero_are_exact() -> None:
    """Powers by `pow` are where 0^0 and derivatives at zero go wrong."""
    library = PolynomialLibrary(3, ("x", "y"))
    zero = torch.zeros(2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(library, zero)
    assert library(zero).tolist() == [1.0] + [0.0] * 9
    assert jacobian.tolist() == [[0, 0], [1, 0], [0, 1]] + [[0, 0]] * 7


def test_names_of_features() -> None:
    assert PolynomialLibrary(2, ("x", "y")).feature_names == ("1", "x", "y", "x^2", "x y", "y^2")
    assert FourierLibrary(("x",), 2).feature_names == ("sin(x)", "cos(x)", "sin(2 x)", "cos(2 x)")


def test_parts_share_inputs_by_name() -> None:
    library = PolynomialLibrary(1, ("y", "x"), bias=False) * FourierLibrary(("z", "y"))
    assert library.names == ("y", "x", "z")
    y, x, z = inputs = draw(3)
    expected = [p * q for p in (y, x) for q in (z.sin(), z.cos(), y.sin(), y.cos())]
    torch.testing.assert_close(library(inputs), torch.stack(expected))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PolynomialLibrary(-1, XYZ),
        lambda: PolynomialLibrary(True, XYZ),
        lambda: PolynomialLibrary(0, XYZ, bias=False),
        lambda: PolynomialLibrary(1, ()),
        lambda: PolynomialLibrary(1, ("x", "x")),
        lambda: PolynomialLibrary(1, ("x y",)),
        lambda: FourierLibrary(XYZ, 0),
        lambda: FourierLibrary(()),
        lambda: CustomLibrary(lambda x: (x,), names=("x", "y")),
        lambda: CustomLibrary(lambda x: (), names=("x",)),
        lambda: CustomLibrary(lambda x: (x, x), names=("x",)),
        lambda: CustomLibrary(lambda x: (x > 1,), names=("x",)),
        lambda: CustomLibrary(lambda x: (sympy.gamma(x),), names=("x",))(draw(3, 1)),
        lambda: PolynomialLibrary(1, XYZ) + PolynomialLibrary(2, ("x", "u")),
        lambda: PolynomialLibrary(1, ("x",)) * PolynomialLibrary(1, ("x",)),
        lambda: control_affine_library(
            PolynomialLibrary(1, XYZ), PolynomialLibrary(1, XYZ), ("z",)
        ),
        lambda: PolynomialLibrary(1, XYZ)(draw(4, 2)),
    ],
)
def test_what_is_not_allowed_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"allowed|appears twice"):
        make()


@settings(deadline=None, max_examples=100)
@given(
    degree=st.integers(-1, 4),
    inputs=st.integers(0, 4),
    bias=st.booleans(),
    interactions=st.booleans(),
    controls=st.integers(0, 2),
    frequencies=st.integers(0, 2),
)
def test_any_arguments_make_a_library_or_are_refused(
    degree: int, inputs: int, bias: bool, interactions: bool, controls: int, frequencies: int
) -> None:
    try:
        first = PolynomialLibrary(degree, names("x", inputs), bias=bias, interactions=interactions)
        second = FourierLibrary(names("x", inputs), frequencies)
        library = control_affine_library(first, second, names("u", controls)) + second
    except ValueError as error:
        assert "allowed" in str(error)
        assert (
            degree < 0 or not inputs or not controls or not frequencies or (not degree and not bias)
        )
        return
    assert library.num_features == len(library.feature_names)
    assert library(draw(2, inputs + controls)).shape == (2, library.num_features)

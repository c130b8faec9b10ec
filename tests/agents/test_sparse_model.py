"""Sparse models: prediction, text, JSON, and source that runs without this package."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separatrix.agents.common.sparse.libraries import (
    CustomLibrary,
    FourierLibrary,
    PolynomialLibrary,
    control_affine_library,
)
from separatrix.agents.common.sparse.library import Library
from separatrix.agents.common.sparse.model import SparseModel
from separatrix.envs.steppers import functions as f

EVERY_FUNCTION = CustomLibrary(
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
        f.where((x > 0) & (u > 0) | ~(x < 1), x * u, 0.1),
        1 / (1 + u**2),
        x**11,
    ),
    names=("x", "u"),
)
STATES = ("x", "y", "z")
MODELS: dict[str, tuple[Library, tuple[str, ...]]] = {
    "polynomial": (PolynomialLibrary(3, STATES), ()),
    "affine": (
        control_affine_library(
            PolynomialLibrary(2, STATES, bias=False), PolynomialLibrary(2, STATES), ("u", "v")
        ),
        ("u", "v"),
    ),
    "functions": (EVERY_FUNCTION, ("u",)),
    "control first": (FourierLibrary(("u", "x"), 2) + PolynomialLibrary(2, ("u", "x")), ("u",)),
    "products": (PolynomialLibrary(1, ("y", "u")) * FourierLibrary(("x",)), ("u",)),
}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(name: str, members: int = 4, targets: int = 3, aggregate: str = "median") -> SparseModel:
    """A model with half of the coefficients zero, and one target without any."""
    library, controls = MODELS[name]
    coefficients = draw(members, targets, library.num_features, seed=1)
    coefficients = coefficients * (draw(targets, library.num_features, seed=2) > 0)
    coefficients[:, -1] = 0.0
    names = tuple(f"next_{i}" for i in range(targets))
    return SparseModel(library, coefficients, names, controls, aggregate)


def inputs_of(found: SparseModel, rows: int = 40) -> torch.Tensor:
    return draw(rows, len(found.library.names), seed=3)


def taken_apart(found: SparseModel, inputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """States and controls as the exported functions take them."""
    columns = dict(zip(found.library.names, inputs.T.numpy(), strict=True))
    state = np.stack([columns[name] for name in found.states], -1)
    control = np.stack([columns[name] for name in found.controls or found.states], -1)
    return state, control


@pytest.mark.parametrize("members", [1, 2, 5, 6])
@pytest.mark.parametrize("aggregate", ["median", "mean"])
def test_predictions_are_sums_over_aggregated_members(members: int, aggregate: str) -> None:
    found = model("affine", members=members, aggregate=aggregate)
    combine = np.median if aggregate == "median" else np.mean
    expected = combine(found.members.numpy(), axis=0)
    np.testing.assert_allclose(found.coefficients.numpy(), expected, rtol=1e-15)
    inputs = inputs_of(found).reshape(5, 8, -1)
    theta = found.library(inputs).numpy()
    np.testing.assert_allclose(found.predict(inputs).numpy(), theta @ expected.T, rtol=1e-12)
    every = found.predict_members(inputs)
    assert every.shape == (members, 5, 8, 3)
    for one, coefficients in zip(every, found.members, strict=True):
        np.testing.assert_allclose(one.numpy(), theta @ coefficients.numpy().T, rtol=1e-12)


def test_inclusion_counts_members() -> None:
    coefficients = torch.tensor([[[1.0, 0.0, 2.0]], [[0.5, 0.0, 0.0]]])
    found = SparseModel(PolynomialLibrary(2, ("x",)), coefficients, ("dx",))
    assert found.inclusion.tolist() == [[1.0, 0.0, 0.5]]


def test_gradients_reach_inputs_and_coefficients() -> None:
    found = model("products", members=3)
    inputs = inputs_of(found, 3).requires_grad_()
    assert torch.autograd.gradcheck(found.predict, inputs)
    members = found.members.clone().requires_grad_()

    def predict(members: torch.Tensor) -> torch.Tensor:
        other = SparseModel(found.library, members, found.targets, found.controls, "mean")
        return other.predict(inputs.detach())

    assert torch.autograd.gradcheck(predict, members)


def test_dtype_is_that_of_the_inputs_and_a_broken_row_stays_alone() -> None:
    found = model("affine")
    inputs = inputs_of(found)
    exact = found.predict(inputs)
    single = found.predict(inputs.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)
    moved = found.to("cpu", torch.float32)
    assert moved.members.dtype == torch.float32
    torch.testing.assert_close(moved.predict(inputs.float()), single)
    inputs[7] = torch.nan
    again = found.predict(inputs)
    assert again[7, :2].isnan().all()
    keep = torch.arange(len(inputs)) != 7
    torch.testing.assert_close(again[keep], exact[keep], rtol=1e-14, atol=1e-14)


def test_equations_read_as_written() -> None:
    coefficients = torch.zeros((1, 3, 10), dtype=torch.float64)
    library = PolynomialLibrary(2, STATES)
    place = {name: i for i, name in enumerate(library.feature_names)}
    for target, name, value in (
        (0, "x", -10.0),
        (0, "y", 10.0),
        (1, "1", 0.123456),
        (1, "x z", -1.0),
    ):
        coefficients[0, target, place[name]] = value
    found = SparseModel(library, coefficients, ("dx", "dy", "dz"))
    assert found.equations() == ("dx = -10 x + 10 y", "dy = 0.1235 - 1 x z", "dz = 0")
    assert found.equations(digits=2)[1] == "dy = 0.12 - 1 x z"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("aggregate", ["median", "mean"])
def test_json_holds_everything(name: str, aggregate: str) -> None:
    found = model(name, aggregate=aggregate)
    text = found.to_json()
    again = SparseModel.from_json(text)
    assert again.library == found.library
    assert torch.equal(again.members, found.members)
    assert (again.targets, again.controls) == (found.targets, found.controls)
    assert again.aggregate == aggregate
    assert again.to_json() == text
    inputs = inputs_of(found)
    assert torch.equal(again.predict(inputs), found.predict(inputs))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"library": {"kind": "nothing"}}',
        '{"library": {"kind": "polynomial", "names": ["x"], "color": "red"}}',
        '{"library": {"kind": "custom", "names": ["x"], "features": [["system", "x"]]}}',
        '{"library": {"kind": "custom", "names": ["x"], "features": ["y"]}}',
        "not JSON",
    ],
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"got|no sparse model|Expecting"):
        SparseModel.from_json(text)


def test_reading_json_runs_no_code() -> None:
    data = json.loads(model("functions").to_json())
    data["library"]["features"][0] = ["__import__('os').system", "true"]
    with pytest.raises(ValueError, match="no expression"):
        SparseModel.from_json(json.dumps(data))


# --- source -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_numpy_source_computes_the_same(name: str) -> None:
    found = model(name)
    source = found.to_numpy_source()
    namespace: dict[str, Any] = {}
    exec(compile(source, "<model>", "exec"), namespace)
    inputs = inputs_of(found)
    state, control = taken_apart(found, inputs)
    arguments = (state, control) if found.controls else (state,)
    expected = found.predict(inputs).numpy()
    result = namespace["step"](*arguments)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    single = namespace["step"](*(values[0] for values in arguments))
    np.testing.assert_allclose(single, expected[0], rtol=1e-12, atol=1e-12)
    folded = namespace["step"](*(values.reshape(5, 8, -1) for values in arguments))
    assert folded.shape == (5, 8, 3)


def test_numpy_source_stands_alone(tmp_path: Path) -> None:
    """Run where neither torch nor this package can be imported."""
    (tmp_path / "step.py").write_text(model("functions").to_numpy_source())
    check = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'separatrix', 'sympy')))\n"
        "import numpy as np\nfrom step import step\n"
        "assert step(np.ones(1), np.ones(1)).shape == (3,)"
    )
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", MODELS)
def test_c_source_computes_the_same(name: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: cc is not on the path")
    found = model(name)
    source, binary = tmp_path / "model.c", tmp_path / "model.so"
    source.write_text(found.to_c_source())
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-fPIC", "-shared"]
    subprocess.run([compiler, *strict, str(source), "-o", str(binary), "-lm"], check=True)
    pointer = ctypes.POINTER(ctypes.c_double)
    step = ctypes.CDLL(str(binary)).step
    step.argtypes, step.restype = [pointer] * 3, None
    inputs = inputs_of(found)
    state, control = (np.ascontiguousarray(values) for values in taken_apart(found, inputs))
    result = np.empty((len(inputs), 3))
    for i in range(len(inputs)):
        given = control[i].ctypes.data_as(pointer) if found.controls else None
        step(state[i].ctypes.data_as(pointer), given, result[i].ctypes.data_as(pointer))
    np.testing.assert_allclose(result, found.predict(inputs).numpy(), rtol=1e-12, atol=1e-12)


# --- bad arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": torch.zeros(1, 1, 3)}, "members: got shape"),
        ({"members": torch.zeros(0, 1, 10)}, "members: got shape"),
        ({"members": torch.full((1, 1, 10), torch.nan)}, "members: got NaN"),
        ({"targets": ("dx", "dy")}, "members: got shape"),
        ({"targets": ("d x",)}, "names: got"),
        ({"controls": ("w",)}, "controls: got"),
        ({"controls": ("x", "x")}, "controls: got"),
        ({"controls": STATES}, "controls: got"),
        ({"aggregate": "mode"}, "aggregate: got"),
    ],
)
def test_bad_models_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "library": PolynomialLibrary(2, STATES),
        "members": torch.zeros(1, 1, 10),
        "targets": ("dx",),
    }
    with pytest.raises(ValueError, match=message):
        SparseModel(**{**arguments, **change})

"""The fused kernels of PDEs compute what the torch reference does, and each environment alone."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import pytest
import torch
from torch import Tensor

from separatrix.envs.core.state import State
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers import spectral_numba
from separatrix.envs.steppers.spectral import SpectralDefinition, inverse_laplacian, laplacian
from separatrix.envs.steppers.spectral_grid import Grid
from separatrix.envs.steppers.spectral_numba import SpectralNumbaStepper
from separatrix.envs.steppers.spectral_program import SpectralProgram, compile_program, select_rows
from separatrix.envs.steppers.spectral_system import FieldState
from separatrix.envs.steppers.spectral_torch import SpectralTorchStepper
from tests.steppers.spectral_cases import (
    BURGERS,
    HEAT,
    KLEIN_GORDON,
    PLANE,
    SOLITON,
    system_of,
)

CPU = torch.device("cpu")
SERIAL, THREADED = 10**18, 0

KURAMOTO_SIVASHINSKY = SpectralDefinition(
    name="KuramotoSivashinsky",
    fields=("u",),
    dimensions=1,
    parameters={"length": 22.0},
    linear=lambda d, p: [[-(d[0] ** 2) - d[0] ** 4]],
    inputs=lambda d, p: [[1]],
    product=lambda u: (u * u,),
    outputs=lambda d, p: [[-d[0] / 2]],
    degree=2,
    bound=(100.0,),
)
WAVE = SpectralDefinition(
    name="Wave",
    fields=("u", "v"),
    dimensions=1,
    parameters={"length": 2.0, "speed": 0.7},
    linear=lambda d, p: [[0, 1], [p["speed"] ** 2 * d[0] ** 2, 0]],
    inputs=lambda d, p: [],
    product=lambda: (),
    outputs=lambda d, p: [[], []],
    degree=1,
    bound=(100.0, 100.0),
)
VORTICITY = SpectralDefinition(  # with the products of C. Basdevant, J. Comput. Phys. 50 (1983) 209
    name="Vorticity",
    fields=("vorticity",),
    dimensions=2,
    parameters={"length": 2 * math.pi, "viscosity": 0.02},
    linear=lambda d, p: [[p["viscosity"] * laplacian(d)]],
    inputs=lambda d, p: [[-d[1] * inverse_laplacian(d)], [d[0] * inverse_laplacian(d)]],
    product=lambda u, v: (u * v, u * u - v * v),
    outputs=lambda d, p: [[d[1] ** 2 - d[0] ** 2, d[0] * d[1]]],
    degree=2,
    bound=(1e3,),
    forcing=lambda x, p: [torch.cos(4 * 2 * math.pi * x[1] / p["length"])],
)
GRAY_SCOTT = SpectralDefinition(
    name="GrayScott",
    fields=("u", "v"),
    dimensions=2,
    parameters={"length": 2.5, "feed": 0.04, "kill": 0.06},
    linear=lambda d, p: [
        [2e-5 * laplacian(d) - p["feed"], 0],
        [0, 1e-5 * laplacian(d) - p["feed"] - p["kill"]],
    ],
    inputs=lambda d, p: [[1, 0], [0, 1]],
    product=lambda u, v: (u * v * v,),
    outputs=lambda d, p: [[-1], [1]],
    degree=3,
    bound=(10.0, 10.0),
    forcing=lambda x, p: [p["feed"], 0],
)
DEFINITIONS = (
    *(KURAMOTO_SIVASHINSKY, BURGERS, SOLITON, WAVE, KLEIN_GORDON, HEAT),
    *(VORTICITY, GRAY_SCOTT, PLANE),
)
QUICK = [  # definition, points, scheme, dtype, rows
    (KURAMOTO_SIVASHINSKY, 64, "etdrk4", torch.float64, 1),
    (KURAMOTO_SIVASHINSKY, 64, "etdrk4", torch.float32, 19),
    (KLEIN_GORDON, 96, "imexrk3", torch.float64, 1),
    (SOLITON, 100, "ifrk4", torch.float64, 9),
    (HEAT, 30, "etdrk4", torch.float32, 3),
    (VORTICITY, 32, "etdrk4", torch.float64, 1),
    (PLANE, 36, "imexrk3", torch.float32, 3),
]
GRIDS = [
    (definition, points)
    for definition in DEFINITIONS
    for points in ((64, 96, 100, 256) if definition.dimensions == 1 else (32, 48))
]
SLOW = [  # all schemes, dtypes and rows in turns
    (
        *grid,
        ("etdrk4", "ifrk4", "imexrk3")[i % 3],
        (torch.float32, torch.float64)[i % 2],
        (1, 9)[i // 2 % 2],
    )
    for i, grid in enumerate(GRIDS)
]


def name_of(case: tuple[SpectralDefinition, int, str, torch.dtype, int]) -> str:
    definition, points, scheme, dtype, rows = case
    return f"{definition.name}-{points}-{scheme}-{str(dtype)[6:]}-{rows}"


cases = pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id=name_of(case)) for case in QUICK),
        *(
            pytest.param(case, id=name_of(case), marks=pytest.mark.slow)
            for case in SLOW
            if case not in QUICK
        ),
    ],
)


def program_of(
    definition: SpectralDefinition, points: int, rows: int = 1, scheme: str = "etdrk4"
) -> SpectralProgram:
    """Two controls on every field, at all modes; other parameters for each row."""
    generator = torch.Generator().manual_seed(points)
    spread = 1 + 0.05 * torch.rand(rows, generator=generator, dtype=torch.float64)
    grid = Grid(points, definition.dimensions)
    shape = (2, len(definition.fields), *grid.shape)
    return compile_program(
        definition,
        {name: value * spread for name, value in definition.parameters.items()},
        grid,
        torch.randn(shape, generator=generator, dtype=torch.float64),
        scheme=scheme,
        control_interval=0.05,
        substeps=3,
    )


def arguments(
    program: SpectralProgram, batch: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Fields, controls, and a gradient by fields."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, program.fields, *program.grid.shape)
    field = 0.5 * torch.randn(shape, generator=generator, dtype=dtype)
    control = torch.randn((batch, 2), generator=generator, dtype=dtype)
    return field, control, torch.randn(shape, generator=generator, dtype=dtype)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Within the rounding of some hundred operations, of the largest number."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    tolerance = 100 * torch.finfo(found.dtype).eps * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@cases
def test_agrees_with_the_reference(
    case: tuple[SpectralDefinition, int, str, torch.dtype, int],
) -> None:
    definition, points, scheme, dtype, rows = case
    program = program_of(definition, points, rows, scheme)
    kernel = SpectralNumbaStepper(program, dtype)
    reference = SpectralTorchStepper(program, CPU, dtype)
    for batch in (1, 5, 40) if rows == 1 else (rows,):
        field, control, _ = arguments(program, batch, dtype)
        assert_close(kernel(field, control), reference(field, control))


@cases
def test_gradients_agree_with_the_reference(
    case: tuple[SpectralDefinition, int, str, torch.dtype, int],
) -> None:
    definition, points, scheme, dtype, rows = case
    program = program_of(definition, points, rows, scheme)
    field, control, gradient = arguments(program, rows if rows > 1 else 5, dtype)
    field.requires_grad_(), control.requires_grad_()
    found, expected = (
        torch.autograd.grad(stepper(field, control), (field, control), gradient)
        for stepper in (
            SpectralNumbaStepper(program, dtype),
            SpectralTorchStepper(program, CPU, dtype),
        )
    )
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])


def everything(
    program: SpectralProgram, members: Sequence[int], batch: int, dtype: torch.dtype
) -> Tensor:
    """What becomes of some environments of a batch, and the gradients by them, (member, number)."""
    rows = torch.as_tensor(members)
    stepper = SpectralNumbaStepper(select_rows(program, rows), dtype)
    field, control, gradient = (
        value.index_select(0, rows) for value in arguments(program, batch, dtype)
    )
    found = (stepper(field, control), *stepper.vector_jacobian(field, control, gradient))
    return torch.cat([value.flatten(1) for value in found], 1)


INVARIANT = [
    pytest.param(KURAMOTO_SIVASHINSKY, 64, 1000, False, torch.float64, id="shared"),
    pytest.param(KURAMOTO_SIVASHINSKY, 64, 1000, True, torch.float32, id="own"),
    pytest.param(VORTICITY, 32, 66, False, torch.float64, id="plane"),
    pytest.param(PLANE, 36, 66, True, torch.float32, id="own-plane", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("definition", "points", "largest", "own", "dtype"), INVARIANT)
def test_bitwise_invariant(
    definition: SpectralDefinition,
    points: int,
    largest: int,
    own: bool,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = program_of(definition, points, largest if own else 1)
    monkeypatch.setattr(spectral_numba, "THREADED_FROM", SERIAL)
    everybody = everything(program, range(largest), largest, dtype)
    assert everybody.isfinite().all()
    assert len(everybody.unique(dim=0)) == largest
    for member in (0, 1, 8, 63, largest - 1):
        alone = everything(program, [member], largest, dtype)
        assert torch.equal(alone[0], everybody[member]), f"environment {member} alone"
    for size in (7, 64):
        found = everything(program, range(size), largest, dtype)
        assert torch.equal(found, everybody[:size]), f"batch of {size}"
    order = torch.randperm(largest, generator=torch.Generator().manual_seed(2))
    found = everything(program, order.tolist(), largest, dtype)
    assert torch.equal(found, everybody[order])


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [2, 3, 7])
@pytest.mark.parametrize(("definition", "points", "largest", "own", "dtype"), INVARIANT)
def test_bitwise_invariant_in_the_number_of_chunks(
    definition: SpectralDefinition,
    points: int,
    largest: int,
    own: bool,
    dtype: torch.dtype,
    chunks: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many chunks as on a machine with that many threads, whatever this one has."""
    program = program_of(definition, points, largest if own else 1)
    monkeypatch.setattr(spectral_numba, "THREADED_FROM", SERIAL)
    expected = everything(program, range(largest), largest, dtype)
    monkeypatch.setattr(spectral_numba, "THREADED_FROM", THREADED)
    monkeypatch.setattr(numba, "get_num_threads", lambda: chunks)
    for size in (1, 7, 64, largest):
        found = everything(program, range(size), largest, dtype)
        assert torch.equal(found, expected[:size])


@pytest.mark.parametrize(
    ("definition", "points"),
    [
        (KURAMOTO_SIVASHINSKY, 64),
        (VORTICITY, 32),
        pytest.param(GRAY_SCOTT, 36, marks=pytest.mark.slow),
    ],
)
def test_bad_numbers_stay_where_they_are(definition: SpectralDefinition, points: int) -> None:
    program = program_of(definition, points)
    stepper = SpectralNumbaStepper(program, torch.float64)
    good = arguments(program, 7)
    field, control, gradient = (value.clone() for value in good)
    field[1], field[2], control[4], gradient[5] = math.nan, math.inf, math.nan, math.nan
    expected, found = stepper(*good[:2]), stepper(field, control)
    assert torch.equal(found[[0, 3, 5, 6]], expected[[0, 3, 5, 6]])
    assert not found[[1, 2, 4]].isfinite().any()
    gradients = stepper.vector_jacobian(*good)
    spoilt = stepper.vector_jacobian(field, control, gradient)
    for expected, found in zip(gradients, spoilt, strict=True):
        assert torch.equal(found[[0, 3, 6]], expected[[0, 3, 6]])
        assert not found[[1, 2, 4, 5]].isfinite().any()


def test_gradients_flow_through_a_system() -> None:
    gradients = []
    for backend in ("numba", "torch"):
        system = system_of(KLEIN_GORDON, 32, 3, backend=backend)
        stream = Stream(torch.arange(3), *[torch.zeros(3, dtype=torch.int64)] * 2)
        state = system.initial_state(stream)
        assert isinstance(state, State)
        control = torch.full((3, 2), 0.3, dtype=torch.float64, requires_grad=True)
        field = state.field.requires_grad_()
        for _ in range(3):
            state = system.advance(FieldState(state.stream, state.interval, state.field), control)
        loss = state.field.square().sum()
        gradients.append(torch.autograd.grad(loss, (field, control)))
        with torch.no_grad():
            assert not system.advance(state, control).field.requires_grad
    assert_close(gradients[0][0], gradients[1][0])
    assert_close(gradients[0][1], gradients[1][1])


def test_arguments_are_checked() -> None:
    program = program_of(KURAMOTO_SIVASHINSKY, 64, 19)
    stepper = SpectralNumbaStepper(program, torch.float32)
    field, control, _ = arguments(program, 19, torch.float32)
    with pytest.raises(ValueError, match=r"field: got float64 of .* allowed: float32"):
        stepper(field.double(), control)
    with pytest.raises(ValueError, match=r"control: got float32 of shape \(19, 1\)"):
        stepper(field, control[:, :1])
    with pytest.raises(ValueError, match="got a batch of 4; allowed: 19"):
        stepper(field[:4], control[:4])
    assert torch.equal(stepper(field.flip(-1).flip(-1), control), stepper(field, control))
    assert stepper(field, control).data_ptr() != field.data_ptr()


def test_space_has_one_or_two_dimensions() -> None:
    cube = SpectralDefinition(
        name="Cube",
        fields=("u",),
        dimensions=3,
        parameters={"length": 1.0},
        linear=lambda d, p: [[laplacian(d)]],
        inputs=lambda d, p: [],
        product=lambda: (),
        outputs=lambda d, p: [[]],
        degree=1,
        bound=(1.0,),
    )
    with pytest.raises(ValueError, match="1 or 2 dimensions, got 3"):
        SpectralNumbaStepper(program_of(cube, 8), torch.float64)


LATER = """
import json
from numba.core import event
import torch
from separatrix.envs.steppers.spectral_numba import SpectralNumbaStepper
from tests.steppers.test_spectral_numba import KURAMOTO_SIVASHINSKY, arguments, program_of

program = program_of(KURAMOTO_SIVASHINSKY, 32)
with event.install_recorder("numba:compile") as compiled:
    stepper = SpectralNumbaStepper(program, torch.float64)
    field, control, gradient = arguments(program, 3)
    found = stepper(field, control), *stepper.vector_jacobian(field, control, gradient)
print(json.dumps({
    "compiled": sum(recorded.is_start for _, recorded in compiled.buffer),
    "values": [value.tolist() for value in found],
}))
"""


def run(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LATER],
        env={**os.environ, "SEPARATRIX_CACHE": str(folder), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_later_processes_compile_nothing(tmp_path: Path) -> None:
    first, later = run(tmp_path), run(tmp_path)
    assert first["compiled"] > 0
    assert later["compiled"] == 0
    assert later["values"] == first["values"]

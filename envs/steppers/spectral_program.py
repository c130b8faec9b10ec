"""A periodic PDE made ready to step: all multipliers as numbers, in float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor

from separatrix.envs.steppers.exponential import Stage, stages
from separatrix.envs.steppers.spectral import LENGTH, Matrix, SpectralDefinition
from separatrix.envs.steppers.spectral_grid import Grid

Multipliers = dict[tuple[int, int], Tensor | float]
"""Multipliers by (row, column), without those that vanish: tensors (rows, *modes), or 1."""


@dataclass(frozen=True)
class SpectralProgram:
    """What a stepper runs. With parameters for each environment, rows are environments, else 1.

    Modes that are not kept are zero in the outputs, forcing and actuators, and so stay zero.

    Attributes:
        grid: Points and modes.
        kept: Which modes are kept, booleans (*modes).
        fields: Number of fields.
        linear: L as a multiplier; see `separatrix.envs.steppers.exponential`.
        product: See `SpectralDefinition`.
        inputs: I by (input, field).
        outputs: O by (field, product).
        forcing: Spectrum of what drives the fields.
        actuators: Spectrum of the force of each control at 1.
        stages: Table of the scheme; see `separatrix.envs.steppers.exponential`.
        substeps: Steps in a control interval.
    """

    grid: Grid
    kept: Tensor
    fields: int
    linear: Tensor
    product: Callable[..., Sequence[Any]]
    inputs: Multipliers
    outputs: Multipliers
    forcing: Complex[Tensor, "rows field *modes"]
    actuators: Complex[Tensor, "control field *modes"]
    stages: list[Stage]
    substeps: int

    @property
    def num_inputs(self) -> int:
        """Number of arguments of the product."""
        return 1 + max((i for i, _ in self.inputs), default=-1)

    @property
    def num_products(self) -> int:
        """Number of results of the product."""
        return 1 + max((j for _, j in self.outputs), default=-1)


def derivatives(grid: Grid, length: Float[Tensor, " rows"]) -> list[Complex[Tensor, "rows ..."]]:
    """Returns the multiplier i k of each axis, which broadcasts to (rows, *modes)."""
    factor = 2j * math.pi / length.view(-1, *[1] * grid.dimensions)
    return [factor * numbers for numbers in grid.numbers]


def compile_program(
    definition: SpectralDefinition,
    parameters: Mapping[str, Float[Tensor, " rows"]],
    grid: Grid,
    actuators: Float[Tensor, "control field *grid"],
    *,
    scheme: str,
    control_interval: float,
    substeps: int,
) -> SpectralProgram:
    """Computes the multipliers of a PDE.

    Args:
        definition: The PDE.
        parameters: All parameters, float64, of one row or a row for each environment.
        grid: Points and modes.
        actuators: Force of each control at 1.
        scheme: Name of the time stepping scheme.
        control_interval: Time during which a control is held.
        substeps: Steps in it.
    """
    rows = max(len(value) for value in parameters.values())
    shaped = {n: value.view(-1, *[1] * grid.dimensions) for n, value in parameters.items()}
    d = derivatives(grid, parameters[LENGTH])
    kept = grid.kept(definition.degree)
    like = torch.zeros((rows, *grid.modes), dtype=torch.complex128)
    forces: Sequence[Any] = [0.0] * len(definition.fields)
    if definition.forcing is not None:
        forces = definition.forcing(grid.positions(shaped[LENGTH]), shaped)
    field = torch.zeros((rows, *grid.shape), dtype=torch.float64)
    forcing = grid.transform_constant(torch.stack([field + force for force in forces], 1))
    linear, table = stages(scheme, definition.linear(d, shaped), like, control_interval / substeps)
    return SpectralProgram(
        grid,
        kept,
        len(definition.fields),
        linear,
        definition.product,
        _multipliers(definition.inputs(d, shaped), like, None),
        _multipliers(definition.outputs(d, shaped), like, kept),
        forcing * kept,
        grid.transform_constant(actuators.double()) * kept,
        table,
        substeps,
    )


def select_rows(program: SpectralProgram, rows: Int64[Tensor, " rows"]) -> SpectralProgram:
    """Returns the program of some environments only, of one that has a row for each."""

    def pick(tensor: Tensor) -> Tensor:
        return tensor if len(tensor) == 1 else tensor.index_select(0, rows.to(tensor.device))

    def pick_all(multipliers: Multipliers) -> Multipliers:
        return {k: pick(m) if isinstance(m, Tensor) else m for k, m in multipliers.items()}

    return replace(
        program,
        linear=pick(program.linear),
        inputs=pick_all(program.inputs),
        outputs=pick_all(program.outputs),
        forcing=pick(program.forcing),
        stages=[
            Stage(pick(row.state), {j: pick(q) for j, q in row.slopes.items()})
            for row in program.stages
        ],
    )


def _multipliers(matrix: Matrix, like: Tensor, kept: Tensor | None) -> Multipliers:
    found: Multipliers = {}
    for i, row in enumerate(matrix):
        for j, entry in enumerate(row):
            if isinstance(entry, Tensor) or kept is not None:
                tensor = (like + entry) * (1.0 if kept is None else kept)
                if (tensor != 0).any():
                    found[i, j] = tensor
            elif entry == 1:
                found[i, j] = 1.0
            elif entry != 0:
                found[i, j] = like + entry
    return found

"""The program of a PDE together with infinitesimal deviations from its solutions.

Beside the fields u runs a deviation v, which obeys the equation of variations

    dv/dt = L v + sum_j O_j f_j'(I u) I v + how the controls vary.

It is a PDE of the same kind with twice the fields, so whatever steps the one steps the other. The
schemes are linear in u and the products, so v at the end is the derivative of what the scheme
computes, not only of the exact flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch import Tensor

from separatrix.envs.steppers.exponential import Stage
from separatrix.envs.steppers.spectral_program import Multipliers, SpectralProgram
from separatrix.envs.steppers.symbolic import jacobian, symbols


def tangent_program(program: SpectralProgram) -> SpectralProgram:
    """Returns a program whose fields are u followed by v, and the controls likewise."""
    product, products = tangent_product(program.product, program.num_inputs)
    none = torch.zeros_like(program.actuators)
    on_fields = torch.cat((program.actuators, none), 1)
    on_deviations = torch.cat((none, program.actuators), 1)
    return replace(
        program,
        fields=2 * program.fields,
        linear=_twice(program, program.linear),
        product=product,
        inputs=_blocks(program.inputs, program.num_inputs, program.fields),
        outputs=_blocks(program.outputs, program.fields, products),
        forcing=torch.cat((program.forcing, torch.zeros_like(program.forcing)), 1),
        actuators=torch.cat((on_fields, on_deviations)),
        stages=[
            Stage(
                _twice(program, row.state), {j: _twice(program, q) for j, q in row.slopes.items()}
            )
            for row in program.stages
        ],
    )


def tangent_product(
    product: Callable[..., Sequence[Any]], inputs: int
) -> tuple[Callable[..., Sequence[Any]], int]:
    """Returns the function of (I u, I v) that gives f and f' I v, and the number of products f."""
    values = symbols("value", map(str, range(inputs)))
    changes = symbols("change", map(str, range(inputs)))
    results = [sympy.sympify(result) for result in product(*values)]
    varied = [sympy.S.Zero] * len(results)
    for (i, j), derivative in jacobian(results, values).items():
        varied[i] += derivative * changes[j]
    function = sympy.lambdify((*values, *changes), [*results, *varied], modules=[{}], cse=True)
    return function, len(results)


def _twice(program: SpectralProgram, multiplier: Tensor) -> Tensor:
    """Returns the multiplier that does to v what another does to u."""
    if multiplier.ndim == program.grid.dimensions + 2:
        return torch.cat((multiplier, multiplier), 1)
    zero = torch.zeros_like(multiplier)
    upper, lower = torch.cat((multiplier, zero), 2), torch.cat((zero, multiplier), 2)
    return torch.cat((upper, lower), 1)


def _blocks(multipliers: Multipliers, rows: int, columns: int) -> Multipliers:
    return multipliers | {(i + rows, j + columns): m for (i, j), m in multipliers.items()}

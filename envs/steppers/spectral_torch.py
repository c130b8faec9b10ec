"""The torch reference of the spectral stepper: any device and dtype, differentiable."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from separatrix.envs.steppers.exponential import Stage, multiply
from separatrix.envs.steppers.spectral_program import Multipliers, SpectralProgram

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class SpectralTorchStepper:
    """Advances a batch of fields by torch operations.

    Args:
        program: What to compute.
        device: Where.
        dtype: torch.float32 or torch.float64.
    """

    def __init__(self, program: SpectralProgram, device: torch.device, dtype: torch.dtype) -> None:
        number = COMPLEX[dtype]

        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(device, number if tensor.is_complex() else dtype)

        def cast_all(multipliers: Multipliers) -> Multipliers:
            return {k: cast(m) if isinstance(m, Tensor) else m for k, m in multipliers.items()}

        self.program = replace(
            program,
            kept=program.kept.to(device),
            linear=cast(program.linear),
            inputs=cast_all(program.inputs),
            outputs=cast_all(program.outputs),
            forcing=cast(program.forcing),
            actuators=cast(program.actuators),
            stages=[
                Stage(cast(row.state), {j: cast(q) for j, q in row.slopes.items()})
                for row in program.stages
            ],
        )

    def force(self, control: Float[Tensor, "batch control"]) -> Complex[Tensor, "batch field ..."]:
        """Returns the spectrum of forcing and controls."""
        # A sum of products, not a matrix product, whose rounding depends on the batch.
        force = self.program.forcing
        for value, shape in zip(control.unbind(1), self.program.actuators, strict=True):
            force = force + value.view(-1, *[1] * shape.ndim) * shape
        return force

    def slope(
        self, spectrum: Complex[Tensor, "batch field ..."], force: Complex[Tensor, "rows field ..."]
    ) -> Complex[Tensor, "batch field ..."]:
        """Returns N: all but the linear term, of which nothing is implied."""
        program = self.program
        if program.num_products == 0:
            return force + torch.zeros_like(spectrum)
        inputs = _combine(program.inputs, spectrum, program.num_inputs)
        products = program.product(*program.grid.synthesize(inputs).unbind(1))
        spectra = program.grid.transform(torch.stack(list(products), 1))
        return _combine(program.outputs, spectra, program.fields) + force

    def vector_field(
        self, spectrum: Complex[Tensor, "batch field ..."], control: Float[Tensor, "batch control"]
    ) -> Complex[Tensor, "batch field ..."]:
        """Returns du/dt of spectra of kept modes."""
        return multiply(self.program.linear, spectrum) + self.slope(spectrum, self.force(control))

    def __call__(
        self, field: Float[Tensor, "batch field ..."], control: Float[Tensor, "batch control"]
    ) -> Float[Tensor, "batch field ..."]:
        """Advances fields by one control interval under held controls."""
        program = self.program
        force = self.force(control)
        spectrum = program.grid.transform(field) * program.kept
        for _ in range(program.substeps):
            value, slopes = spectrum, list[Tensor]()
            for stage in program.stages:
                slopes.append(self.slope(value, force))
                value = multiply(stage.state, spectrum)
                for j, multiplier in stage.slopes.items():
                    value = value + multiply(multiplier, slopes[j])
            spectrum = value
        return program.grid.synthesize(spectrum)


def _combine(multipliers: Multipliers, spectrum: Tensor, count: int) -> Tensor:
    """Returns the (batch, count, *modes) that a matrix of multipliers makes of spectra."""
    sums: list[Tensor | None] = [None] * count
    for (i, j), multiplier in multipliers.items():
        term, before = multiplier * spectrum[:, j], sums[i]
        sums[i] = term if before is None else before + term
    zero = torch.zeros_like(spectrum[:, 0])
    return torch.stack([zero if each is None else each for each in sums], 1)

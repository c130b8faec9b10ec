"""Equilibria of PDEs by Newton's method, each step solved by GMRES without a matrix.

D. A. Knoll, D. E. Keyes, J. Comput. Phys. 193 (2004) 357.

The linear operator, shifted and inverted, preconditions: it is a division of every mode, and takes
the stiffness away. Equilibria of translation invariant systems come in families; the step that
GMRES finds from zero does not move along them, so what is found is the member near the guess.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, gmres
from torch import Tensor

from separatrix.envs.steppers.spectral_system import SpectralSystem
from separatrix.envs.steppers.spectral_torch import SpectralTorchStepper

Residual = Callable[[Tensor], Tensor]
STEPS = 50
HALVINGS = 12


def field_equilibrium(
    system: SpectralSystem,
    near: Float[Tensor, "guesses field *grid"],
    control: Float[Tensor, "controls control"] | None = None,
    *,
    tolerance: float = 1e-10,
) -> Float[Tensor, "rows field *grid"]:
    """Finds equilibria under held controls, one for each row of parameters.

    Args:
        system: The PDE.
        near: Where to start, a row for each row of parameters or one for all.
        control: Held controls, likewise; None for zero.
        tolerance: Largest root mean square of du/dt at an equilibrium.

    Returns:
        Fields in float64 on the CPU, of kept modes alone.

    Raises:
        ValueError: Newton's method does not converge.
    """
    rows = 1 if system.shared else system.num_envs
    controls = len(system.actuators)
    held = torch.zeros((rows, controls), dtype=torch.float64) if control is None else control
    found = []
    for row in range(rows):
        alone = system.select(torch.tensor([row]))
        stepper = SpectralTorchStepper(alone.program, torch.device("cpu"), torch.float64)
        own = [t.detach().cpu().double()[row if len(t) > 1 else 0][None] for t in (near, held)]
        found.append(_newton(stepper, own[0], own[1], tolerance))
    return torch.cat(found)


def _newton(
    stepper: SpectralTorchStepper, field: Tensor, control: Tensor, tolerance: float
) -> Tensor:
    grid, kept = stepper.program.grid, stepper.program.kept

    def residual(values: Tensor) -> Tensor:
        spectrum = grid.transform(values) * kept
        return grid.synthesize(stepper.vector_field(spectrum, control))

    field = grid.synthesize(grid.transform(field) * kept)
    value = residual(field)
    for _ in range(STEPS):
        size = value.square().mean().sqrt()
        if size <= tolerance:
            return field
        step = _step(stepper, residual, field, value)
        for halving in range(HALVINGS):
            tried = field + step / 2**halving
            after = residual(tried)
            if after.square().mean().sqrt() < size:  # not so of NaN
                break
        else:
            break
        field, value = tried, after
    raise ValueError(
        f"no equilibrium found near the guess: |du/dt| stays at {float(size):.3g}; allowed: a "
        f"guess from which Newton's method reaches {tolerance:g}"
    )


def _step(
    stepper: SpectralTorchStepper, residual: Residual, field: Tensor, value: Tensor
) -> Tensor:
    """Solves J step = -residual by GMRES."""
    grid, linear = stepper.program.grid, stepper.program.linear

    def product(vector: np.ndarray) -> np.ndarray:
        """Differentiates by central differences, which are exact for quadratic products."""
        direction = torch.from_numpy(np.ascontiguousarray(vector)).view(field.shape)
        size = 1e-4 / float(direction.abs().max().clamp(min=1e-300))
        change = residual(field + size * direction) - residual(field - size * direction)
        return (change / (2 * size)).flatten().numpy()

    shift = 1.0 + linear.abs().mean(dim=tuple(range(linear.ndim)))

    def precondition(vector: np.ndarray) -> np.ndarray:
        spectrum = grid.transform(torch.from_numpy(np.ascontiguousarray(vector)).view(field.shape))
        return grid.synthesize(spectrum / (linear - shift)).flatten().numpy()

    size = field.numel()
    matrix = LinearOperator((size, size), product, dtype=np.float64)
    inverse = LinearOperator((size, size), precondition, dtype=np.float64)
    krylov = min(size, 200)
    step, _ = gmres(
        matrix, -value.flatten().numpy(), rtol=1e-3, restart=krylov, maxiter=5, M=inverse
    )
    return torch.from_numpy(step).view(field.shape)

"""The slowest modes of a PDE's step at a field, without its matrix.

On a plane the matrix of a linear model has tens of millions of entries. Its leading invariant
subspaces come from products with it alone: tangents of the step for the right one, and gradients
through it for the left one. Symmetries make eigenvalues come several times, which Arnoldi's method
does not see from one vector; so a block of them spans the Krylov space (G. H. Golub, C. F. Van
Loan, Matrix Computations, 2013, section 10.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.analysis.linearization import TargetTask, in_double, target_state
from separatrix.envs.analysis.reduction import Reduction, reduce
from separatrix.envs.analysis.tangent import advance_tangents
from separatrix.envs.core.environment import ComposedEnvironment

MODES, LAST = 96, 16
"""Modes that are kept at most, and of how many of them at the end the cut may leave some out: it is
where magnitudes lie farthest apart, so that modes of one eigenvalue stay together."""
BLOCK, DEPTH = 8, 60
"""Vectors of a block, and blocks of the Krylov space."""

Product = Callable[[Tensor], Tensor]
"""Multiplies (coordinate, column) by a matrix."""


class LeadingModes(NamedTuple):
    """A linear model z_{k+1} = a z_k + b action of the modes that decay least.

    Conserved quantities that no action moves are left out.

    Attributes:
        a: (mode, mode).
        b: (mode, action).
        reduction: Coordinates z of deviations of the field from the target.
        target: The target, (1, field, *grid).
    """

    a: np.ndarray
    b: np.ndarray
    reduction: Reduction
    target: Float[Tensor, "1 field *grid"]


def leading_modes(environment: ComposedEnvironment) -> LeadingModes:
    """Finds the modes of the step at the task's target that decay least.

    Args:
        environment: An environment over a PDE with a static target, and shared parameters.

    Raises:
        ValueError: Environments have parameters of their own, the task has no target, modes that
            grow are left out, or growing modes are moved by no action.
    """
    if environment.select(torch.tensor([0])) is not environment:
        raise ValueError(
            "the modes of so large a field are found for shared parameters, got parameters for "
            "each environment"
        )
    stepped = in_double(environment)
    assert isinstance(stepped, ComposedEnvironment) and isinstance(stepped.task, TargetTask)
    point = target_state(stepped, stepped.task, torch.float64)
    held = torch.zeros((1, *stepped.action_shape), dtype=torch.float64)
    size, actions = point.field.numel(), held.shape[1]

    def carried(directions: Tensor, action_directions: Tensor | None = None) -> Tensor:
        return advance_tangents(stepped, point, held, directions[None], action_directions)[1][0]

    def back(directions: Tensor) -> Tensor:
        rows = directions.shape[1]
        with torch.enable_grad():
            field = point.field.expand(rows, *point.field.shape[1:]).clone().requires_grad_()
            start = replace(point, field=field)
            after = stepped.system.advance(start, stepped.task.control(held.expand(rows, -1)))
            (found,) = torch.autograd.grad(after.field, field, directions.T.reshape(field.shape))
        return found.flatten(1).T

    krylov, projected = _krylov(carried, size)
    sizes = np.sort(np.abs(scipy.linalg.eigvals(projected)))[::-1]
    first = MODES - LAST
    count = first + int(np.argmax(sizes[first - 1 : MODES - 1] / sizes[first:MODES]))
    if sizes[count] >= 1:
        raise ValueError(
            f"more than {count} modes grow, the next by a factor {sizes[count]:.6g} in a step; "
            "allowed: a target with fewer unstable modes"
        )
    least = math.sqrt(sizes[count - 1] * sizes[count])
    right = krylov @ _invariant(projected, least)
    krylov, projected = _krylov(back, size)
    left = krylov @ _invariant(projected, least)
    if left.shape != right.shape:
        raise ValueError(
            f"the step has {right.shape[1]} right and {left.shape[1]} left modes that decay less "
            f"than by a factor {least:.6g}; allowed: a target whose modes are told apart"
        )
    left = left @ np.linalg.inv(right.T @ left)
    a = left.T @ carried(torch.from_numpy(right)).numpy()
    directions = torch.eye(actions, dtype=torch.float64)[None]
    b = left.T @ carried(torch.zeros((size, actions), dtype=torch.float64), directions).numpy()
    inner = reduce(a, b)  # without conserved quantities
    left, right = left @ inner.left, right @ inner.right
    a, b = inner.left.T @ a @ inner.right, inner.left.T @ b
    return LeadingModes(a, b, Reduction(left, right), point.field)


def _krylov(product: Product, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an orthonormal basis of a block Krylov space, and the matrix in it."""
    block = np.random.default_rng(0).standard_normal((size, BLOCK))
    basis, images = np.zeros((size, 0)), np.zeros((size, 0))
    for _ in range(DEPTH):
        whole = np.linalg.norm(block)
        block = block - basis @ (basis.T @ block)
        new, weights, _ = np.linalg.svd(block, full_matrices=False)
        new = new[:, weights > 1e-8 * whole]  # what is not in the space yet
        if new.shape[1] == 0:
            break
        new, _ = np.linalg.qr(new - basis @ (basis.T @ new))
        block = product(torch.from_numpy(new)).numpy()
        basis, images = np.concatenate((basis, new), 1), np.concatenate((images, block), 1)
    return basis, basis.T @ images


def _invariant(matrix: np.ndarray, least: float) -> np.ndarray:
    """Returns an orthonormal basis of the invariant subspace of eigenvalues larger than this."""
    _, vectors, count = scipy.linalg.schur(matrix, sort=lambda x, y: np.hypot(x, y) > least)
    return vectors[:, :count]

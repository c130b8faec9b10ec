"""Smaller coordinates for linear models of many states: without what is gone in a step, or stuck.

Two kinds of directions are of no use to a feedback design, and some spoil it. Modes that decay by a
million times in a step need no feedback. Conserved quantities that no action moves, such as the
mean of a field, neither decay nor obey, and the Riccati equation has no solution with them. They
are found by the test of Popov, Belevitch and Hautus (M. L. J. Hautus, Indag. Math. 31 (1969) 443),
of left eigenvectors w with w' B = 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

FORGOTTEN = 1e-6
"""A mode of which a step leaves less than this part is left out."""
MARGIN = 1e-6
"""A mode within this of the stability boundary counts as conserved."""
NULL = 1e-7
"""Singular values below this, relative to the largest, count as zero."""


class Reduction(NamedTuple):
    """Coordinates z = left' x of a linear model, with x = right z but for what is left out.

    z+ = (left' A right) z + left' B a is exact while conserved quantities are zero, that is, those
    of the point of linearization: forgotten modes do not act on z.

    Attributes:
        left: (state, reduced).
        right: (state, reduced), with left' right = 1.
    """

    left: np.ndarray
    right: np.ndarray


def reduce(a: np.ndarray, b: np.ndarray) -> Reduction:
    """Finds the coordinates of all modes but the forgotten and the conserved, uncontrollable ones.

    The modes that stay are an invariant subspace, of an ordered Schur form; the coordinates of it
    do not see the others, for which a Sylvester equation is solved (G. H. Golub, C. F. Van Loan,
    Matrix Computations, 2013, section 7.6).

    Args:
        a: State matrix of x_{k+1} = A x_k + B a_k.
        b: Action matrix.

    Raises:
        ValueError: A growing mode is moved by no action.
    """
    schur, basis, size = scipy.linalg.schur(a, sort=lambda x, y: np.hypot(x, y) > FORGOTTEN)
    coupling, slow, fast = schur[:size, size:], schur[:size, :size], schur[size:, size:]
    across = scipy.linalg.solve_sylvester(slow, -fast, coupling)
    left, right = basis[:, :size] + basis[:, size:] @ across.T, basis[:, :size]
    moved = scipy.linalg.null_space(_unmoved(slow, left.T @ b).T)
    return Reduction(left @ moved, right @ moved)


def _unmoved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns directions w, (state, direction), of conserved w' x that no action moves."""
    values = scipy.linalg.eigvals(a)
    found = [np.zeros((len(a), 0))]
    for value in values[(np.abs(values) > 1 - MARGIN) & (values.imag >= 0)]:
        pencil = np.concatenate((a.T - value * np.eye(len(a)), b.T))
        _, sizes, rows = np.linalg.svd(pencil)
        null = rows[sizes < NULL * sizes[0]].conj().T
        if null.size and np.abs(value) > 1 + MARGIN:
            raise ValueError(
                "the linearized system cannot be stabilized: a mode that grows by the factor "
                f"{np.abs(value):.6g} in a step is moved by no action"
            )
        found += [null.real, null.imag]
    # An eigenvalue that comes twice has given the same directions twice.
    every = np.concatenate(found, 1)
    directions, sizes, _ = np.linalg.svd(every, full_matrices=False)
    return directions[:, sizes > 1e-4]

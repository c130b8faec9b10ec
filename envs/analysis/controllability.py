"""What actions can reach and observations can tell, near a point of an environment.

R. E. Kalman, J. SIAM Control 1 (1963) 152; the test of single modes is that of Popov, Belevitch and
Hautus (M. L. J. Hautus, Indag. Math. 31 (1969) 443): the mode of an eigenvalue l is controllable if
[A - l I, B] has full rank, and observable if [A - l I; C] has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from separatrix.envs.analysis.linearization import StateSpace

MARGIN = 1e-8
"""A mode within this of the stability boundary counts as unstable."""
RANK_TOLERANCE = 1e-9
"""Singular values below this, relative to the largest, count as zero."""


@dataclass(frozen=True)
class Mode:
    """A mode of a linear model.

    Attributes:
        eigenvalue: Of A.
        unstable: Whether it does not decay.
        controllable: Whether some action moves it.
        observable: Whether some observation shows it.
    """

    eigenvalue: complex
    unstable: bool
    controllable: bool
    observable: bool


@dataclass(frozen=True)
class Controllability:
    """What can be controlled and observed of a linear model of n states.

    Attributes:
        controllability_matrix: [B, A B, ..., A^(n-1) B], (state, n * action).
        observability_matrix: C, C A, ..., C A^(n-1) below each other, (n * observation, state).
        controllability_rank, observability_rank: Their ranks.
        modes: The modes, the most unstable first.
        controllability_gramian, observability_gramian: Energy that unit actions leave in the state,
            and that a state leaves in the observation, over infinite time, (state, state); None if
            the model is unstable, for they are infinite then.
    """

    controllability_matrix: np.ndarray
    observability_matrix: np.ndarray
    controllability_rank: int
    observability_rank: int
    modes: tuple[Mode, ...]
    controllability_gramian: np.ndarray | None
    observability_gramian: np.ndarray | None

    @property
    def controllable(self) -> bool:
        """Whether every mode is controllable."""
        return all(mode.controllable for mode in self.modes)

    @property
    def observable(self) -> bool:
        """Whether every mode is observable."""
        return all(mode.observable for mode in self.modes)

    @property
    def stabilizable(self) -> bool:
        """Whether every unstable mode is controllable, so that feedback can hold the point."""
        return all(mode.controllable for mode in self.modes if mode.unstable)

    @property
    def detectable(self) -> bool:
        """Whether every unstable mode is observable, so that a filter can follow the state."""
        return all(mode.observable for mode in self.modes if mode.unstable)

    def __str__(self) -> str:
        size, names = len(self.modes), ("stabilizable", "detectable")
        words = [name if getattr(self, name) else f"not {name}" for name in names]
        lines = [
            f"{size} states, of which {self.controllability_rank} controllable and "
            f"{self.observability_rank} observable; {', '.join(words)}"
        ]
        for mode in self.modes:
            marks = [
                "unstable" if mode.unstable else "stable",
                "controllable" if mode.controllable else "not controllable",
                "observable" if mode.observable else "not observable",
            ]
            lines.append(f"  {mode.eigenvalue:+.6g}  {', '.join(marks)}")
        return "\n".join(lines)


def controllability(model: StateSpace, row: int = 0) -> Controllability:
    """Tests controllability and observability.

    States are measured in the units of the model; ranks of systems of many states, or of very
    different units, are a numerical judgement (singular values below 1e-9 of the largest count as
    zero), for which the test of single modes is the safer one.

    Args:
        model: A linear model, see `separatrix.envs.analysis.linearization.linearize`.
        row: Which environment's.
    """
    a, b, c = (matrix[row].numpy() for matrix in (model.a, model.b, model.c))
    discrete = model.interval is not None
    eigenvalues = np.linalg.eigvals(a)
    growth = np.abs(eigenvalues) - 1 if discrete else eigenvalues.real
    modes = [
        Mode(
            complex(eigenvalues[i]),
            bool(growth[i] > -MARGIN),
            _full_rank(a, b, eigenvalues[i]),
            _full_rank(a.T, c.T, eigenvalues[i]),
        )
        for i in np.argsort(-growth)
    ]
    reachable, visible = _krylov(a, b), _krylov(a.T, c.T).T
    gramians: list[np.ndarray | None] = [None, None]
    if (growth < 0).all():
        for i, (matrix, source) in enumerate(((a, b @ b.T), (a.T, c.T @ c))):
            solve = scipy.linalg.solve_discrete_lyapunov
            gramians[i] = (
                solve(matrix, source)
                if discrete
                else scipy.linalg.solve_continuous_lyapunov(matrix, -source)
            )
    return Controllability(
        reachable, visible, _rank(reachable), _rank(visible), tuple(modes), *gramians
    )


def _krylov(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns [B, A B, ..., A^(n-1) B]."""
    blocks = [b]
    for _ in range(len(a) - 1):
        blocks.append(a @ blocks[-1])
    return np.concatenate(blocks, 1)


def _rank(matrix: np.ndarray) -> int:
    """Returns the rank; columns of very different sizes are first brought to one."""
    size = np.linalg.norm(matrix, axis=0)
    return int(np.linalg.matrix_rank(matrix / np.where(size > 0, size, 1.0), rtol=RANK_TOLERANCE))


def _full_rank(a: np.ndarray, b: np.ndarray, eigenvalue: complex) -> bool:
    pencil = np.concatenate((a - eigenvalue * np.eye(len(a)), b), 1)
    values = np.linalg.svd(pencil, compute_uv=False)
    return bool(values[-1] > RANK_TOLERANCE * values[0])

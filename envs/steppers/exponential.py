"""Time stepping of stiff systems u' = L u + N(u) whose L multiplies every Fourier mode.

Every scheme here is a table of multipliers: with the slopes N_j = N(v_j) of the stages,

    v_i = P_i(h L) u + h sum_j Q_ij(h L) N_j,    v_1 = u,

and the last row is the result. So one loop runs them all, and what differs is computed once.

- `etdrk4`: exponential time differencing, S. M. Cox and P. C. Matthews, J. Comput. Phys. 176 (2002)
  430; order 4, and exact where N is constant.
- `ifrk4`: integrating factor and the classical Runge-Kutta scheme; order 4 (A.-K. Kassam and L. N.
  Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214, section 2).
- `imexrk3`: the implicit-explicit scheme (4, 4, 3) of U. M. Ascher, S. J. Ruuth and R. J. Spiteri,
  Appl. Numer. Math. 25 (1997) 151; order 3, L implicit and damped at high wave numbers.

The functions phi_1, phi_2, phi_3 of exponential schemes cancel badly where they are written as
quotients. Kassam and Trefethen average them over a circle in the complex plane, which takes L as
diagonal; here they are blocks of one matrix exponential, as precise, and good for an L that couples
fields, too (A. H. Al-Mohy and N. J. Higham, SIAM J. Sci. Comput. 33 (2011) 488, theorem 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Complex
from torch import Tensor

Operator = Complex[Tensor, "rows *modes field field"]


@dataclass(frozen=True)
class Stage:
    """One row of a scheme's table.

    Each multiplier is (rows, field, *modes) if it couples no fields, else (rows, field, field,
    *modes); real if all multipliers of the scheme are.

    Attributes:
        state: P_i.
        slopes: h Q_ij by j, counted from 0; those that vanish are left out.
    """

    state: Tensor
    slopes: dict[int, Tensor]


@dataclass(frozen=True)
class _Row:
    """A row as matrices, which can be added and multiplied."""

    state: Operator
    slopes: dict[int, Operator] = field(default_factory=dict)

    def __add__(self, other: _Row) -> _Row:
        slopes = dict(self.slopes)
        for j, q in other.slopes.items():
            slopes[j] = slopes[j] + q if j in slopes else q
        return _Row(self.state + other.state, slopes)

    def __rmatmul__(self, operator: Operator) -> _Row:
        return _Row(operator @ self.state, {j: operator @ q for j, q in self.slopes.items()})


def phi_functions(z: Operator) -> tuple[Operator, Operator, Operator, Operator]:
    """Returns exp(z), phi_1(z), phi_2(z) and phi_3(z), with phi_n(z) = sum_m z^m / (m + n)!."""
    size = z.shape[-1]
    block = z.new_zeros((*z.shape[:-2], 4 * size, 4 * size))
    block[..., :size, :size] = z
    identity = torch.eye(size).to(z)
    for i in range(3):
        block[..., i * size : (i + 1) * size, (i + 1) * size : (i + 2) * size] = identity
    first = torch.linalg.matrix_exp(block)[..., :size, :]
    exponential, *phis = first.split(size, -1)
    return exponential, phis[0], phis[1], phis[2]


def _etdrk4(linear: Operator, h: float) -> list[_Row]:
    zero, one = torch.zeros_like(linear), torch.eye(linear.shape[-1]).to(linear)
    half, whole = phi_functions(linear * (h / 2)), phi_functions(linear * h)
    q = h / 2 * half[1]
    e, phi1, phi2, phi3 = whole
    second = _Row(half[0], {0: q})
    third = _Row(half[0], {1: q})
    fourth = half[0] @ second + _Row(zero, {0: -q, 2: 2 * q})
    weight = 2 * h * (phi2 - 2 * phi3)
    last = {0: h * (phi1 - 3 * phi2 + 4 * phi3), 1: weight, 2: weight, 3: h * (4 * phi3 - phi2)}
    return [_Row(one + zero), second, third, fourth, _Row(e, last)]


def _ifrk4(linear: Operator, h: float) -> list[_Row]:
    one = torch.eye(linear.shape[-1]).to(linear) + torch.zeros_like(linear)
    half = torch.linalg.matrix_exp(linear * (h / 2))
    whole = half @ half
    return [
        _Row(one),
        _Row(half, {0: h / 2 * half}),
        _Row(half, {1: h / 2 * one}),
        _Row(whole, {2: h * half}),
        _Row(whole, {0: h / 6 * whole, 1: h / 3 * half, 2: h / 3 * half, 3: h / 6 * one}),
    ]


_IMPLICIT = ((1 / 2,), (1 / 6, 1 / 2), (-1 / 2, 1 / 2, 1 / 2), (3 / 2, -3 / 2, 1 / 2, 1 / 2))
_EXPLICIT = (
    (1 / 2,),
    (11 / 18, 1 / 18),
    (5 / 6, -5 / 6, 1 / 2),
    (1 / 4, 7 / 4, 3 / 4, -7 / 4),
)


def _imexrk3(linear: Operator, h: float) -> list[_Row]:
    zero, one = torch.zeros_like(linear), torch.eye(linear.shape[-1]).to(linear)
    rows = [_Row(one + zero)]
    for implicit, explicit in zip(_IMPLICIT, _EXPLICIT, strict=True):
        known = _Row(one + zero, {j: h * a * one + zero for j, a in enumerate(explicit)})
        for a, row in zip(implicit, rows[1:], strict=False):
            known = known + (h * a * linear) @ row
        rows.append(torch.linalg.inv(one - h * implicit[-1] * linear) @ known)
    return rows


SCHEMES: Mapping[str, Callable[[Operator, float], list[_Row]]] = {
    "etdrk4": _etdrk4,
    "ifrk4": _ifrk4,
    "imexrk3": _imexrk3,
}


def as_multiplier(operator: Operator, coupled: bool, real: bool) -> Tensor:
    """Returns an operator as `Stage` describes multipliers."""
    if coupled:
        found = operator.movedim((-2, -1), (1, 2))
    else:
        found = operator.diagonal(dim1=-2, dim2=-1).movedim(-1, 1)
    return (found.real if real else found).contiguous()


def multiply(multiplier: Tensor, spectrum: Complex[Tensor, "batch field ..."]) -> Tensor:
    """Multiplies spectra by a multiplier, whether it couples fields or not."""
    if multiplier.ndim == spectrum.ndim:
        return multiplier * spectrum
    return (multiplier * spectrum[:, None]).sum(2)


def stages(
    scheme: str, linear: Sequence[Sequence[Any]], like: Tensor, h: float
) -> tuple[Tensor, list[Stage]]:
    """Computes the table of a scheme, in float64.

    Args:
        scheme: A name of `SCHEMES`.
        linear: L, (field, field) multipliers, numbers or tensors.
        like: Complex tensor of the shape (rows, *modes) that the multipliers broadcast to.
        h: Time step.

    Returns:
        L as a multiplier; and the stages after the first, which is the state itself, and at last
        the result.
    """
    entries = [[torch.zeros_like(like) + entry for entry in row] for row in linear]
    matrix = torch.stack([torch.stack(row, -1) for row in entries], -2)
    rows = SCHEMES[scheme](matrix, h)[1:]
    off_diagonal = matrix - torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))
    coupled, real = bool((off_diagonal != 0).any()), bool((matrix.imag == 0).all())
    table = [
        Stage(
            as_multiplier(row.state, coupled, real),
            {j: as_multiplier(q, coupled, real) for j, q in row.slopes.items()},
        )
        for row in rows
    ]
    return as_multiplier(matrix, coupled, real), table

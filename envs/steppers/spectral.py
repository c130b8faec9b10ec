"""Periodic PDEs, each written once by what it is in Fourier space.

A PDE of one or several real fields u on a periodic box is

    du/dt = L u + sum_j O_j f_j(I_1 u, I_2 u, ...) + forcing + controls

with operators L, I and O that multiply every Fourier mode by a number, and products f that are
polynomials of values at one point of space. Burgers' equation, u_t = nu u_xx - (u^2)_x / 2, is

    L = nu d^2,    I = 1,    f(u) = u^2,    O = -d / 2,

where d stands for the derivative, i k in Fourier space. This module is light: torch loads when a
system is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Derivatives = Sequence["Tensor"]
"""The multiplier i k of each axis, complex, which broadcasts to (rows, *modes)."""

Parameters = Mapping[str, "Tensor"]
"""Parameters by name, float64 of shape (rows, 1, ...), which broadcast to (rows, *modes)."""

Matrix = Sequence[Sequence[Any]]
"""Multipliers, each a number or a tensor that broadcasts to (rows, *modes)."""

LENGTH = "length"
"""Name of the parameter that every definition has: the side of the box."""


@dataclass(frozen=True)
class SpectralDefinition:
    """A PDE on a periodic box, of one side length in all directions.

    Attributes:
        name: Name of the system.
        fields: Names of the real fields.
        dimensions: Of space.
        parameters: Names and default values; `length` is one of them.
        linear: L, (field, field), of derivatives and parameters; may couple fields.
        inputs: I, (input, field): what the products take.
        product: f, a polynomial of one value for each input, which returns a sequence. It is called
            with tensors and with symbols: plain arithmetic alone.
        outputs: O, (field, product).
        degree: Of the polynomial; it decides how many modes are kept so that none is aliased.
        bound: Largest sound magnitude of each field; beyond lies divergence.
        forcing: Returns what drives each field, as functions of the positions (rows, *grid) and of
            the parameters; None for nothing.
    """

    name: str
    fields: tuple[str, ...]
    dimensions: int
    parameters: Mapping[str, float]
    linear: Callable[[Derivatives, Parameters], Matrix]
    inputs: Callable[[Derivatives, Parameters], Matrix]
    product: Callable[..., Sequence[Any]]
    outputs: Callable[[Derivatives, Parameters], Matrix]
    degree: int
    bound: tuple[float, ...]
    forcing: Callable[[Sequence[Tensor], Parameters], Sequence[Any]] | None = None


def laplacian(d: Derivatives) -> Tensor:
    """Returns the multiplier of the Laplacian, -|k|^2, real."""
    total: Any = sum(axis * axis for axis in d)
    real: Tensor = total.real
    return real


def inverse_laplacian(d: Derivatives) -> Tensor:
    """Returns the multiplier of the inverse Laplacian on fields of mean zero: 0 for the mean."""
    import torch

    square = laplacian(d)
    return torch.where(square == 0, 0.0, 1 / torch.where(square == 0, 1.0, square))

"""Terms u^p d^q u / dx^q of an equation u_t = sum c u^p d^q u, as text, values and systems."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.exponential import phi_functions
from separatrix.envs.steppers.spectral import LENGTH, Derivatives, SpectralDefinition
from separatrix.envs.steppers.spectral_grid import Grid
from separatrix.envs.steppers.spectral_system import SpectralSystem

TOGETHER = 256
"""Fields advanced together: few enough for a processor's cache."""

Term = tuple[int, int]
"""(p, q): u^p times the derivative of order q of u, which is 1 for q = 0, so that (2, 0) is u^2."""

Model = Mapping[Term, float]
"""Coefficients of the terms on the right-hand side of u_t = ..."""

LIBRARY: tuple[Term, ...] = tuple((p, q) for p in range(5) for q in range(5) if (p, q) != (0, 0))
"""The 24 candidates: powers and orders up to four, without the constant."""

KURAMOTO_SIVASHINSKY: Model = {(1, 1): -1.0, (0, 2): -1.0, (0, 4): -1.0}
"""u_t = -u u_x - u_xx - u_xxxx."""


def term_name(term: Term) -> str:
    """Returns a term as text, such as `u^2 u_x`."""
    power, order = term
    parts = [] if power == 0 else ["u" if power == 1 else f"u^{power}"]
    return " ".join([*parts, "u_" + "x" * order] if order else parts)


def equation(model: Model) -> str:
    """Returns a model as text, such as `u_t = -1 u u_x + 0.5 u_xxx`."""
    terms = [f" {'-' if c < 0 else '+'} {abs(c):.4g} {term_name(t)}" for t, c in model.items() if c]
    text = "".join(terms).removeprefix(" + ")
    return "u_t = " + ("-" + text.removeprefix(" - ") if text.startswith(" - ") else text or "0")


def added(model: Model, terms: Model) -> dict[Term, float]:
    """Returns the model with terms added."""
    return {
        term: model.get(term, 0.0) + terms.get(term, 0.0)
        for term in dict.fromkeys([*model, *terms])
    }


def library(
    field: Float[Tensor, "*batch point"], length: float
) -> Float[Tensor, "*batch term point"]:
    """Returns the terms of the library, with derivatives that are exact for the grid's waves."""
    grid = Grid(field.shape[-1], 1)
    spectrum, multiplier = grid.transform(field), _multiplier(grid, length)
    derivatives = [grid.synthesize(spectrum * multiplier**order) for order in range(1, 5)]
    factors = [torch.ones_like(field), *derivatives]
    return torch.stack([field**power * factors[order] for power, order in LIBRARY], -2)


def carried(
    spectrum: Complex[Tensor, "*batch wave"], model: Model, length: float, interval: float
) -> Complex[Tensor, "*batch wave"]:
    """Returns what forces held for an interval leave in the linear part of a model, over its time.

    phi_1(h L) f, with phi_1(z) = (e^z - 1) / z: what a term that a model lacks adds to its step is
    not h f, as u_xxxx damps short waves of f, too, within the step.

    Args:
        spectrum: Spectra of the forces f, of the longest waves.
        model: Its terms of power 0 are L.
        length: Period of the box.
        interval: h.
    """
    k = 2j * torch.pi * torch.arange(spectrum.shape[-1], dtype=torch.float64) / length
    linear = sum((c * k**q for (p, q), c in model.items() if p == 0), torch.zeros_like(k))
    return spectrum * phi_functions((interval * linear)[:, None, None])[1][:, 0, 0]


def make_system(model: Model, *, length: float, points: int) -> SpectralSystem:
    """Returns the equation of a model, without controls, in float64 on the CPU.

    It is stepped by ETDRK4 with all terms of power 0 in the exponential, whatever their
    coefficients, so that in steps of the paper's size the error of time stepping is no model error.

    Args:
        model: Coefficients of the terms; those that are 0 are left out.
        length: Period of the box.
        points: Of the grid; as many waves are kept as the highest power leaves free of aliasing.
    """
    linear = {term: c for term, c in model.items() if c and term[0] == 0}
    products = {term: c for term, c in model.items() if c and term[0] > 0}
    orders = sorted({0, *(order for _, order in products)})

    def multiplied(d: Derivatives) -> Tensor:
        return sum((c * d[0] ** order for (_, order), c in linear.items()), 0 * d[0])

    def product(*inputs: Tensor) -> tuple[Tensor, ...]:
        factors = dict(zip(orders, inputs, strict=True))
        u = factors[0]
        return tuple(u**p * factors[q] if q else u**p for p, q in products)

    definition = SpectralDefinition(
        name="KuramotoSivashinskyTerms",
        fields=("u",),
        dimensions=1,
        parameters={LENGTH: length},
        linear=lambda d, p: [[multiplied(d)]],
        inputs=lambda d, p: [[d[0] ** order] for order in orders] if products else [],
        product=product if products else lambda: (),
        outputs=lambda d, p: [list(products.values())],
        degree=max([2, *(power + (order > 0) for power, order in products)]),
        bound=(float("inf"),),
    )
    return SpectralSystem(
        definition,
        {},
        _no_start,
        torch.zeros((0, 1, points), dtype=torch.float64),
        points=points,
        num_envs=1,
        control_interval=1.0,
        substeps=1,
        device=torch.device("cpu"),
        dtype=torch.float64,
        backend="torch",
    )


def advanced(
    model: Model, field: Float[Tensor, "*batch point"], length: float, duration: float, steps: int
) -> Float[Tensor, "*batch point"]:
    """Returns what fields become in a model.

    Args:
        model: Coefficients of its terms.
        field: Values at the points of the grid.
        length: Period of the box.
        duration: Time that passes.
        steps: Time steps.
    """
    points = field.shape[-1]
    system = make_system(model, length=length, points=points)
    rows = field.reshape(-1, 1, points).split(TOGETHER)
    return torch.cat([system.free_flow(row, duration, steps) for row in rows]).view(field.shape)


def _multiplier(grid: Grid, length: float) -> Complex[Tensor, " wave"]:
    return 2j * torch.pi * grid.numbers[0] / length


def _no_start(stream: Stream, system: SpectralSystem) -> tuple[Tensor, Stream]:
    raise ValueError("this system has no initial states; fields are given to it")

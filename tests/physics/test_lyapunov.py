"""Lyapunov spectra of the chaotic systems, from their vector fields and symbolic Jacobians."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment


def rk4(slopes: Callable[..., list[Tensor]], parts: list[Tensor], step: float) -> list[Tensor]:
    """One step of the classical scheme, written here once more so as to trust no stepper."""

    def moved(by: list[Tensor], factor: float) -> list[Tensor]:
        return [part + factor * slope for part, slope in zip(parts, by, strict=True)]

    first = slopes(*parts)
    second = slopes(*moved(first, step / 2))
    third = slopes(*moved(second, step / 2))
    fourth = slopes(*moved(third, step))
    return [
        part + step / 6 * (a + 2 * b + 2 * c + d)
        for part, a, b, c, d in zip(parts, first, second, third, fourth, strict=True)
    ]


def lyapunov_spectrum(
    name: str, members: int, duration: float, step: float, transient: float, delay: float = 0.0
) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, " state"]]:
    """Exponents of the free flow and their standard errors (Benettin et al., Meccanica 15, 1980).

    The equation of variations is integrated beside the flow; every tenth step a QR decomposition
    makes the tangent vectors orthogonal, and the logarithms of their growth add up.

    Args:
        name: Name of the environment.
        members: Trajectories, from the shipped points of the attractor.
        duration: Time over which growth counts.
        step: Integration step.
        transient: Time before, in which the tangent vectors turn into their directions.
        delay: Each trajectory starts later by a random time up to this. Without it, a common phase
            leaves the same remainder in all averages.
    """
    environment: Any = make_environment(name, dtype="float64", backend="torch")
    system = environment.system
    values = torch.from_numpy(system.definition.start.points()[:members].astype(np.float64))
    n = values.shape[1]
    control = torch.zeros((members, len(system.definition.control_names)), dtype=torch.float64)
    start = torch.from_numpy(np.random.default_rng(12).uniform(0, delay, (members, 1)))
    for i in range(round(delay / step)):
        (later,) = rk4(lambda x: [system.vector_field(x, control)], [values], step)
        values = torch.where(start > i * step, later, values)

    def slopes(x: Tensor, tangents: Tensor) -> list[Tensor]:
        return [system.vector_field(x, control), system.jacobian(x, control)[0] @ tangents]

    tangents = torch.eye(n, dtype=torch.float64).repeat(members, 1, 1)
    growth = torch.zeros((members, n), dtype=torch.float64)
    for i in range(1, round((transient + duration) / step) + 1):
        values, tangents = rk4(slopes, [values, tangents], step)
        if i % 10 == 0:
            tangents, r = torch.linalg.qr(tangents)
            if i * step > transient:
                growth += r.diagonal(dim1=1, dim2=2).abs().log()
    exponents = growth / duration
    error = exponents.std(0) / math.sqrt(members)
    return exponents.mean(0).numpy(), error.numpy()


Gate = Callable[..., None]
SPROTT = "J. C. Sprott, Chaos and Time-Series Analysis (2003)"
RECALLED = f"{SPROTT}, as recalled; the book was not at hand"
LYAPUNOV_SPECTRUM = "sites.google.com/view/lyapunov-spectrum, Chen equations"


def test_lyapunov_spectrum_of_lorenz(gate: Gate) -> None:
    exponents, error = lyapunov_spectrum(
        "Lorenz-v0", members=2048, duration=15.0, step=0.01, transient=5.0
    )
    assert (3 * error < 0.01).all()
    for i, reference in enumerate((0.906, 0.0, -14.572)):
        quantity = f"Lyapunov exponent {i + 1}"
        gate("Lorenz-v0", quantity, exponents[i], reference, tolerance=0.01, source=SPROTT)
    gate(
        "Lorenz-v0",
        "sum of the Lyapunov exponents",
        exponents.sum(),
        -(10 + 8 / 3 + 1),
        tolerance=1e-3,
        source="divergence of the flow, -(sigma + beta + 1)",
    )


@pytest.mark.slow
def test_lyapunov_spectrum_of_rossler(gate: Gate) -> None:
    exponents, error = lyapunov_spectrum(
        "Rossler-v0", members=1024, duration=500.0, step=0.04, transient=40.0, delay=100.0
    )
    assert (3 * error[:2] < 1e-3).all()
    for i, (reference, tolerance) in enumerate(((0.0714, 1e-3), (0.0, 1e-3), (-5.3943, 0.01))):
        quantity = f"Lyapunov exponent {i + 1}"
        gate("Rossler-v0", quantity, exponents[i], reference, tolerance=tolerance, source=SPROTT)


@pytest.mark.slow
def test_lyapunov_spectrum_of_lorenz96(gate: Gate) -> None:
    """Thirteen positive exponents and one zero; their sum is the divergence of the flow, -40.

    1.67 to 1.69 is what others find for the largest. The dimension of Kaplan and Yorke is the
    27.10 that this computation gave, lest the flow change unnoticed.
    """
    exponents, error = lyapunov_spectrum(
        "Lorenz96-v0", members=64, duration=60.0, step=0.02, transient=20.0
    )
    dimension = 27 + exponents[:27].sum() / -exponents[27]
    flow, others = "divergence of the flow, -40", "others' values, 1.67 to 1.69"
    zero = "a flow has a zero exponent; tolerance: 4 standard errors"
    for quantity, ours, reference, tolerance, source in (
        ("sum of the Lyapunov exponents", exponents.sum(), -40, 1e-3, flow),
        ("largest Lyapunov exponent", exponents[0], 1.68, 0.03 + 3 * error[0], others),
        ("positive Lyapunov exponents", (exponents > 4 * error).sum(), 13, 0, "this computation"),
        ("Lyapunov exponent 14", exponents[13], 0.0, 4 * error[13], zero),
        ("Kaplan-Yorke dimension", dimension, 27.1, 0.2, "this computation"),
    ):
        gate("Lorenz96-v0", quantity, ours, reference, tolerance=tolerance, source=source)


@pytest.mark.slow
def test_lyapunov_spectrum_of_chua(gate: Gate) -> None:
    exponents, error = lyapunov_spectrum(
        "Chua-v0", members=1024, duration=150.0, step=0.02, transient=20.0, delay=3.0
    )
    assert (3 * error < 0.01).all()
    for i, reference in enumerate((0.3271, 0.0, -2.5197)):
        quantity = f"Lyapunov exponent {i + 1}"
        gate("Chua-v0", quantity, exponents[i], reference, tolerance=0.01, source=RECALLED)


@pytest.mark.slow
def test_lyapunov_spectrum_of_chen(gate: Gate) -> None:
    exponents, error = lyapunov_spectrum(
        "Chen-v0", members=1024, duration=25.0, step=0.004, transient=4.0, delay=1.0
    )
    assert (3 * error < 0.02).all()
    for i, reference in enumerate((2.0232, 0.0, -12.0227)):
        quantity = f"Lyapunov exponent {i + 1}"
        source = LYAPUNOV_SPECTRUM
        gate("Chen-v0", quantity, exponents[i], reference, tolerance=0.02, source=source)
    divergence = "divergence of the flow, c - a - b"
    total = exponents.sum()
    quantity = "sum of the Lyapunov exponents"
    gate("Chen-v0", quantity, total, -10.0, tolerance=1e-3, source=divergence)


@pytest.mark.slow
def test_lyapunov_spectrum_of_duffing(gate: Gate) -> None:
    """The phase of the drive stands last, with its exponent, which is exactly zero."""
    exponents, error = lyapunov_spectrum(
        "Duffing-v0", members=1024, duration=400.0, step=0.05, transient=40.0, delay=6.3
    )
    assert (3 * error < 2e-3).all() and exponents[2] == 0
    for i, reference in enumerate((0.1571, -0.4071)):
        quantity = "largest Lyapunov exponent" if i == 0 else "smallest Lyapunov exponent"
        gate("Duffing-v0", quantity, exponents[i], reference, tolerance=3e-3, source=RECALLED)
    divergence = "divergence of the flow, -delta"
    total = exponents.sum()
    quantity = "sum of the Lyapunov exponents"
    gate("Duffing-v0", quantity, total, -0.25, tolerance=1e-6, source=divergence)


@pytest.mark.slow
def test_lyapunov_spectrum_of_hindmarsh_and_rose(gate: Gate) -> None:
    """No published value is known to this test: the largest exponent is pinned."""
    exponents, error = lyapunov_spectrum(
        "HindmarshRose-v0", members=256, duration=1000.0, step=0.05, transient=300.0, delay=200.0
    )
    assert (3 * error[:2] < 1e-3).all()
    zero = "a flow has a zero exponent"
    for i, reference, source in ((0, 0.0134, "this computation"), (1, 0.0, zero)):
        quantity = f"Lyapunov exponent {i + 1}"
        gate("HindmarshRose-v0", quantity, exponents[i], reference, tolerance=1e-3, source=source)


@pytest.mark.slow
def test_lyapunov_spectrum_of_henon_and_heiles(gate: Gate) -> None:
    """Exponents of a Hamiltonian flow come in pairs of opposite sign."""
    exponents, error = lyapunov_spectrum(
        "HenonHeiles-v0", members=512, duration=400.0, step=0.05, transient=50.0
    )
    assert exponents[0] > 20 * error[0]
    for i in (0, 1):
        gate(
            "HenonHeiles-v0",
            f"sum of Lyapunov exponents {i + 1} and {4 - i}",
            exponents[i] + exponents[3 - i],
            0.0,
            tolerance=1e-3,
            source="Hamiltonian flow",
        )

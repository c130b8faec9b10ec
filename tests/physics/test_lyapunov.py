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


def test_lyapunov_spectrum_of_lorenz() -> None:
    """0.906, 0, -14.572 (J. C. Sprott, Chaos and Time-Series Analysis, 2003)."""
    exponents, error = lyapunov_spectrum(
        "Lorenz-v0", members=2048, duration=15.0, step=0.01, transient=5.0
    )
    assert (3 * error < 0.01).all()
    np.testing.assert_allclose(exponents, [0.906, 0.0, -14.572], atol=0.01)
    assert exponents.sum() == pytest.approx(-(10 + 8 / 3 + 1), abs=1e-3)


@pytest.mark.slow
def test_lyapunov_spectrum_of_rossler() -> None:
    """0.0714, 0, -5.3943 (Sprott, 2003)."""
    exponents, error = lyapunov_spectrum(
        "Rossler-v0", members=1024, duration=500.0, step=0.04, transient=40.0, delay=100.0
    )
    assert (3 * error[:2] < 1e-3).all()
    np.testing.assert_allclose(exponents[:2], [0.0714, 0.0], atol=1e-3)
    assert exponents[2] == pytest.approx(-5.3943, abs=0.01)


@pytest.mark.slow
def test_lyapunov_spectrum_of_lorenz96() -> None:
    """Thirteen positive exponents and one zero; their sum is the divergence of the flow, -40.

    1.67 to 1.69 is what others find for the largest. The dimension of Kaplan and Yorke is the
    27.10 that this computation gave, lest the flow change unnoticed.
    """
    exponents, error = lyapunov_spectrum(
        "Lorenz96-v0", members=64, duration=60.0, step=0.02, transient=20.0
    )
    assert exponents.sum() == pytest.approx(-40, abs=1e-3)
    assert exponents[0] == pytest.approx(1.68, abs=0.03 + 3 * error[0])
    assert (exponents > 4 * error).sum() == 13
    assert exponents[13] == pytest.approx(0.0, abs=4 * error[13])
    dimension = 27 + exponents[:27].sum() / -exponents[27]
    assert dimension == pytest.approx(27.1, abs=0.2)

"""Linear models and what is designed on them, against closed forms and the trace formula of LQG."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.lqg import LQG
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import PartialObservation
from separatrix.envs.mechanics.cart_pole import hinge_inertia

Gate = Callable[..., None]

PROCESS, MEASUREMENT, WEIGHT = 1e-6, 1e-6, 0.1
PROBLEMS = {
    "Lorenz-v0": [PartialObservation([0])],
    "DoublePendulum-v0": [],
    "CartPoleSwingUp-v0": [PartialObservation([0, 2])],
}


def test_multipliers_of_a_step_at_c_plus(gate: Gate) -> None:
    """A step of the environment multiplies the modes by exp(growth rate * interval)."""
    environment = make_environment("Lorenz-v0", integrator="tsit5", substeps=40)
    rates = linearize(environment).eigenvalues()[0].log() / environment.control_interval
    found = np.sort_complex(rates.numpy())
    roots = np.sort_complex(np.roots([1, 10 + 8 / 3 + 1, 8 / 3 * 38, 2 * 8 / 3 * 10 * 27]))
    source = "roots of the characteristic polynomial, Lorenz (1963), eqs. 29-30"
    for quantity, ours, reference in (
        ("growth rate of a step at C+", found[2].real, roots[2].real),
        ("angular frequency of a step at C+", found[2].imag, roots[2].imag),
        ("decay rate of a step at C+", found[0].real, roots[0].real),
    ):
        gate("Lorenz-v0", quantity, ours, reference, tolerance=1e-9, source=source)


def test_growth_rate_of_the_frictionless_cart_pole(gate: Gate) -> None:
    """Of mass M, moment c and inertia J: the pole falls as exp(t sqrt(c g / (J - c^2 / M)))."""
    environment = make_environment("CartPoleSwingUp-v0", cart_damping=0.0, hinge_damping=0.0)
    moment, inertia = 0.1 * 1.0 / 2, hinge_inertia(0.1, 1.0, 0.045)
    expected = math.sqrt(moment * 9.81 / (inertia - moment**2 / 1.1))
    values = linearize(environment, time="continuous").eigenvalues()[0].real
    assert values.min() == pytest.approx(-expected, rel=1e-9)
    gate(
        "CartPoleSwingUp-v0",
        "growth rate upright, without friction",
        values.max(),
        expected,
        tolerance=1e-9,
        source="sqrt(c g / (J - c^2 / M)), Lagrange's equations",
    )


def closed_loop(environment: Any, controller: LQG) -> tuple[np.ndarray, ...]:
    """State x and memory s in one: its matrix, the covariance of its noise, and the cost's weight.

    x+ = A x + B a + w, y = C x + v, a = K s + D y, s+ = F s + G y.
    """
    model = linearize(environment)
    a, b, c = (matrix[0].numpy() for matrix in (model.a, model.b, model.c))
    f, g, k, d = (
        matrix[0].numpy() for matrix in (controller._a, controller._b, controller._c, controller._d)
    )
    matrix = np.block([[a + b @ d @ c, b @ k], [g @ c, f]])
    w, v = PROCESS * np.eye(len(a)), MEASUREMENT * np.eye(len(c))
    spread = np.concatenate((b @ d, g))
    noise = spread @ v @ spread.T
    noise[: len(a), : len(a)] += w
    seen = linearize(environment.unwrapped).c[0].numpy()
    law = np.concatenate((d @ c, k), 1)
    weight = WEIGHT * law.T @ law
    weight[: len(a), : len(a)] += seen.T @ seen
    return matrix, noise, weight, WEIGHT * np.trace(d @ v @ d.T)


@pytest.mark.parametrize("name", PROBLEMS)
def test_cost_of_lqg_is_its_riccati_value(name: str, gate: Gate) -> None:
    environment = make_environment(name, dtype="float64", wrap=PROBLEMS[name])
    noises = {"process_noise": PROCESS, "measurement_noise": MEASUREMENT}
    controller = LQG(environment, **noises, control_weight=WEIGHT)
    matrix, noise, weight, direct = closed_loop(environment, controller)
    assert np.abs(np.linalg.eigvals(matrix)).max() < 1
    covariance = scipy.linalg.solve_discrete_lyapunov(matrix, noise)
    gate(
        name,
        "mean cost of LQG / tr(P W) + tr(K' (R + B' P B) K S)",
        (np.trace(weight @ covariance) + direct) / float(controller.mean_cost),
        1.0,
        tolerance=1e-9,
        source="Lyapunov equation of the closed loop",
    )


@pytest.mark.parametrize("name", ["Lorenz-v0", "DoublePendulum-v0"])
def test_simulated_cost_of_lqg_is_its_riccati_value(name: str, gate: Gate) -> None:
    """2000 trajectories of the linear stochastic system, under the controller's own `act`."""
    members, steps, skipped = 2000, 900, 300
    environment = make_environment(name, dtype="float64", wrap=PROBLEMS[name])
    noises = {"process_noise": PROCESS, "measurement_noise": MEASUREMENT}
    controller = LQG(environment, **noises, control_weight=WEIGHT)
    model, seen = linearize(environment), linearize(environment.unwrapped).c[0]
    a, b, c = model.a[0], model.b[0], model.c[0]
    generator = torch.Generator().manual_seed(0)

    def normal(size: int, variance: float) -> torch.Tensor:
        values = torch.randn((members, size), generator=generator, dtype=torch.float64)
        return math.sqrt(variance) * values

    x = torch.zeros((members, len(a)), dtype=torch.float64)
    total, largest = torch.zeros(members, dtype=torch.float64), 0.0
    controller.reset(torch.ones(members, dtype=torch.bool))
    for step in range(steps):
        observation = model.observation + x @ c.T + normal(len(c), MEASUREMENT)
        action = controller.act(observation, None)
        largest = max(largest, float(action.abs().max()))
        if step >= skipped:
            total += (x @ seen.T).square().sum(1) + WEIGHT * action.square().sum(1)
        x = x @ a.T + action @ b.T + normal(len(a), PROCESS)
    assert largest < 1  # nothing saturated
    costs = total / (steps - skipped) / controller.mean_cost
    error = float(costs.std()) / math.sqrt(members)
    assert error < 0.005
    gate(
        name,
        "simulated mean cost of LQG, of its Riccati value",
        costs.mean(),
        1.0,
        tolerance=4 * error,
        source="2000 trajectories; tolerance: 4 standard errors",
    )

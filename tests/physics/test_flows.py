"""Gates of the flows beside Lorenz, Rossler and Lorenz-96.

Rest states and their growth, limit cycle, energy, the accuracy of a control step, safe boxes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import ZeroController
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.chaotic.henon_heiles import START_ENERGY, potential
from separatrix.envs.core.registration import make_environment

Gate = Callable[..., None]
SEED = 12


def environment(name: str, num_envs: int = 1, **options: Any) -> Any:
    return make_environment(name, num_envs, **{"dtype": "float64", "backend": "torch", **options})


def free(system: Any, values: Tensor) -> Tensor:
    """The flow without control."""
    controls = len(system.definition.control_names)
    return system.vector_field(values, values.new_zeros((len(values), controls)))


# --- rest states and their linearization --------------------------------------------------------


def chua_point(
    alpha: float = 9.0, beta: float = 100 / 7, m0: float = -1 / 7, m1: float = 2 / 7
) -> list[float]:
    q = (m1 - m0) / m1
    return [q, 0.0, -q]


def chen_point(a: float = 35.0, b: float = 3.0, c: float = 28.0) -> list[float]:
    q = math.sqrt(b * (2 * c - a))
    return [q, q, 2 * c - a]


def hindmarsh_rose_point(
    a: float = 1.0,
    b: float = 3.0,
    c: float = 1.0,
    d: float = 5.0,
    r: float = 0.006,
    s: float = 4.0,
    rest: float = -1.6,
    current: float = 3.25,
) -> list[float]:
    """The only real root of the cubic that is left when y and z are eliminated."""
    roots = np.roots([a, d - b, s, -c - current - s * rest])
    (x,) = roots[abs(roots.imag) < 1e-9].real
    return [x, c - d * x**2, s * (x - rest)]


POINTS: dict[str, Callable[..., list[float]]] = {
    "Chua-v0": chua_point,
    "Chen-v0": chen_point,
    "HindmarshRose-v0": hindmarsh_rose_point,
    "VanDerPol-v0": lambda mu=1.0: [0.0, 0.0],
    "HenonHeiles-v0": lambda coupling=1.0: [0.0] * 4,
}


@pytest.mark.parametrize("name", POINTS)
def test_rest_states_in_closed_form(name: str, gate: Gate) -> None:
    found = environment(name)
    expected = torch.tensor([POINTS[name]()], dtype=torch.float64)
    assert free(found.system, expected).abs().max() < 1e-12 * max(1.0, float(expected.max()))
    error = (found.task.equilibrium(found.system) - expected).abs().max()
    gate(
        name,
        "error of the fixed point",
        error,
        0.0,
        tolerance=1e-11,
        source="closed form, or root of the cubic",
    )


@pytest.mark.parametrize("name", POINTS)
def test_rest_states_of_own_parameters(name: str) -> None:
    generator = np.random.default_rng(SEED)
    defaults = environment(name).system.definition.parameters
    own = {key: value * generator.uniform(0.95, 1.05, 5) for key, value in defaults.items()}
    found = environment(name, 5, **own)
    expected = [POINTS[name](**{key: own[key][i] for key in own}) for i in range(5)]
    point = found.task.equilibrium(found.system)
    torch.testing.assert_close(point, torch.tensor(expected).double(), rtol=1e-9, atol=1e-10)
    for i in range(5):  # the same bits alone
        alone = environment(name, 1, **{key: own[key][i] for key in own})
        assert torch.equal(alone.task.equilibrium(alone.system)[0], point[i])


def characteristic(name: str) -> list[float]:
    """Coefficients of the characteristic polynomial at the rest state, written out by hand."""
    if name == "Chua-v0":  # (l + a m) (l^2 + l + b) - a l, with the outer slope m
        a, b, m = 9.0, 100 / 7, 2 / 7
        return [1, 1 + a * m, b + a * m - a, a * m * b]
    if (
        name == "Chen-v0"
    ):  # G. Chen, T. Ueta (1999): l^3 + (a + b - c) l^2 + b c l + 2 a b (2 c - a)
        a, b, c = 35.0, 3.0, 28.0
        return [1, a + b - c, b * c, 2 * a * b * (2 * c - a)]
    if name == "HindmarshRose-v0":
        x, r, s = hindmarsh_rose_point()[0], 0.006, 4.0
        p, q = 6 * x - 3 * x**2, 10 * x  # dx'/dx and -dy'/dx
        return [1, 1 + r - p, r - p * (1 + r) + q + r * s, -p * r + q * r + r * s]
    if name == "VanDerPol-v0":
        return [1, -1, 1]
    return [1, 0, 2, 0, 1]  # two oscillators of frequency one


@pytest.mark.parametrize("name", POINTS)
def test_growth_rates_are_roots_of_the_characteristic_polynomial(name: str, gate: Gate) -> None:
    found = np.poly(linearize(environment(name), time="continuous").a[0].numpy())
    expected = np.array(characteristic(name))
    gate(
        name,
        "error of the characteristic polynomial at the rest state, of its size",
        np.abs(found - expected).max() / np.abs(expected).max(),
        0.0,
        tolerance=1e-13,
        source="determinant written out by hand",
    )


DOCUMENTED: dict[str, list[complex]] = {
    "Chua-v0": [0.185 + 3.05j, -3.94],
    "Chen-v0": [4.21 + 14.9j, -18.4],
    "HindmarshRose-v0": [0.173, 0.014, -6.81],
    "VanDerPol-v0": [0.5 + 0.866j],
    "HenonHeiles-v0": [1j],
    "DampedPendulum-v0": [3.08, -3.18],
    "DoublePendulum-v0": [5.79, 2.40, -5.79, -2.40],
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_growth_rates(name: str) -> None:
    found = np.linalg.eigvals(linearize(environment(name), time="continuous").a[0].numpy())
    rates = np.array(DOCUMENTED[name])
    rates = np.concatenate((rates, rates.conj()))
    distance = np.abs(found[:, None] - rates) / np.maximum(1.0, np.abs(rates))
    assert distance.min(0).max() < 6e-3 and distance.min(1).max() < 6e-3


# --- divergence, limit cycle, energy ------------------------------------------------------------


def test_chen_contracts_volumes_evenly(gate: Gate) -> None:
    system = environment("Chen-v0").system
    points = torch.from_numpy(system.definition.start.points().astype(np.float64))
    jacobian, _ = system.jacobian(points, points.new_zeros((len(points), 1)))
    trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    assert trace.std() < 1e-12
    gate("Chen-v0", "divergence", trace[0], -10.0, tolerance=1e-12, source="c - a - b")


def test_limit_cycle_of_van_der_pol(gate: Gate) -> None:
    """Period and amplitude for mu = 1, from crossings of v = 0 that Newton's method refines."""
    system = environment("VanDerPol-v0", control_interval=0.002, substeps=1).system
    state = system.initial_state(environment("VanDerPol-v0").reset(0)[0].stream)
    control = torch.zeros((1, 1), dtype=torch.float64)
    times, heights = [], []
    values = state.values
    for i in range(10_000):
        state = system.advance(state, control)
        if values[0, 1] > 0 >= state.values[0, 1]:  # a maximum of x, near the start of the step
            x, v = values[0].tolist()
            slope = float(free(system, values)[0, 1])
            curvature = (float(free(system, state.values)[0, 1]) - slope) / 0.002
            late = 0.0
            for _ in range(20):
                late -= (v + slope * late + curvature * late**2 / 2) / (slope + curvature * late)
            times.append(0.002 * i + late)
            heights.append(x + v * late + slope * late**2 / 2)
        values = state.values
    source = "the literature's value to the digits quoted, cf. P. Amore, arXiv:2111.12198"
    period, height = np.diff(times).mean(), np.mean(heights)
    assert np.ptp(np.diff(times)) < 1e-7 and np.ptp(heights) < 1e-7
    gate("VanDerPol-v0", "period, mu = 1", period, 6.6633, tolerance=5e-5, source=source)
    gate("VanDerPol-v0", "amplitude, mu = 1", height, 2.009, tolerance=5e-4, source=source)
    assert (period, height) == pytest.approx((6.663287, 2.008620), abs=1e-6)  # this computation


def energies(values: Tensor) -> Tensor:
    x, y, px, py = values.T
    return (px * px + py * py) / 2 + potential(x, y)


def test_saddles_of_henon_and_heiles(gate: Gate) -> None:
    corner = math.sqrt(3) / 2
    saddles = torch.tensor(
        [[0, 1, 0, 0], [corner, -0.5, 0, 0], [-corner, -0.5, 0, 0]], dtype=torch.float64
    )
    system = environment("HenonHeiles-v0").system
    assert free(system, saddles).abs().max() < 1e-15
    for i, energy in enumerate(energies(saddles).tolist()):
        source = "M. Henon, C. Heiles (1964): 1/6"
        gate(
            "HenonHeiles-v0", f"energy of saddle {i}", energy, 1 / 6, tolerance=1e-15, source=source
        )


def test_energy_is_conserved_to_the_order_of_the_integrator(gate: Gate) -> None:
    """RK4 is of fourth order in the phase, but of fifth in the energy, of an oscillator."""
    errors = []
    for substeps in (1, 2, 4):
        found = environment("HenonHeiles-v0", 64, substeps=substeps)
        state, _ = found.reset(0)
        start = energies(state.values)
        assert (start - START_ENERGY).abs().max() < 1e-15
        action = torch.zeros((64, 2), dtype=torch.float64)
        for _ in range(100):
            state = found.step(state, action).state
        errors.append(float((energies(state.values) - start).abs().max()))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    gate(
        "HenonHeiles-v0",
        "order at which the energy is conserved by RK4",
        orders.min(),
        5.0,
        tolerance=0.3,
        source="RK4 dissipates the energy of an oscillator at fifth order",
    )
    assert errors[-1] < 1e-6  # the default step, over 20 time units


def test_energy_conserves_the_ensemble_of_starts() -> None:
    """The microcanonical ensemble is stationary: moments stay as they are along the free flow."""
    found = environment("HenonHeiles-v0", 8192)
    state, _ = found.reset(0)
    action = torch.zeros((8192, 2), dtype=torch.float64)

    def moments(values: Tensor) -> Tensor:
        x, y, px, py = values.T
        parts = (x, y, x * x, y * y, px * px, py * py, x * x * y, px * py, x * px, potential(x, y))
        return torch.stack(parts)

    before = moments(state.values)
    for _ in range(40):
        state = found.step(state, action).state
    after = moments(state.values)
    error = (before.var(1) + after.var(1)).div(8192).sqrt()
    assert ((after.mean(1) - before.mean(1)).abs() < 4.5 * error).all()
    # Uniform over the accessible area: the triangle is cut in three equal parts by symmetry.
    angle = torch.atan2(state.values[:, 0], state.values[:, 1]) + math.pi / 3
    share = ((angle % (2 * math.pi)) // (2 * math.pi / 3)).long().bincount() / 8192
    assert (share - 1 / 3).abs().max() < 4.5 * math.sqrt(2 / 9 / 8192)


# --- accuracy of a control step, safe boxes -----------------------------------------------------

# Of the standard deviation over the start, as the documentation says.
STEP_ERRORS = {
    "Chua-v0": 2e-5,
    "Chen-v0": 1e-6,
    "HindmarshRose-v0": 1e-5,
    "VanDerPol-v0": 1e-7,
    "HenonHeiles-v0": 1e-7,
    "Duffing-v0": 1e-7,
    "DampedPendulum-v0": 1e-7,
    "DoublePendulum-v0": 3e-6,
}


@pytest.mark.parametrize("name", STEP_ERRORS)
def test_a_step_is_as_accurate_as_documented(name: str) -> None:
    usual = environment(name, 256)
    exact = environment(name, 256, substeps=200)
    state, _ = usual.reset(0)
    action = torch.zeros((256, *usual.action_shape), dtype=torch.float64)
    found, expected = (e.step(state, action).state.values for e in (usual, exact))
    error = ((found - expected) / expected.std(0)).abs().max()
    assert STEP_ERRORS[name] / 30 < error < STEP_ERRORS[name]


BATCH = 192


def pushes(size: int, interval: float, steps: int) -> Tensor:
    """Constant, random and switching actions, a third of the batch each, (step, batch, action)."""
    generator = np.random.default_rng(SEED)
    third = BATCH // 3
    constant = generator.uniform(-1, 1, (1, third, size)).repeat(steps, 0)
    constant[:, ::2] = np.sign(constant[:, ::2])
    random = np.sign(generator.uniform(-1, 1, (steps, third, size)))
    half_periods = np.geomspace(interval, 40 * interval, third)[None, :, None]
    time = interval * np.arange(steps)[:, None, None]
    phases = generator.uniform(0, 2, (1, third, size))
    switching = np.where((time / half_periods + phases) % 2 < 1, 1.0, -1.0)
    return torch.from_numpy(np.concatenate([constant, random, switching], 1)).float()


def lost(name: str, along: list[int], steps: int = 400) -> Tensor:
    """Which environments leave the box; the first sixteen are pushed along these states."""
    found = make_environment(name, BATCH, backend="numba")
    state, _ = found.reset(SEED)
    gone = torch.zeros(BATCH, dtype=torch.bool)
    for action in pushes(found.action_shape[0], found.control_interval, steps):
        action[:16] = state.values[:16, along].sign()
        transition = found.step(state, action)
        state, gone = transition.state, gone | transition.info["diverged"]
    return gone


@pytest.mark.parametrize(
    ("name", "along"),
    [
        ("Chua-v0", [0]),
        ("Chen-v0", [1]),
        ("HindmarshRose-v0", [0]),
        ("VanDerPol-v0", [1]),
        ("Duffing-v0", [1]),
        ("DampedPendulum-v0", [1]),
    ],
)
def test_no_allowed_control_leaves_the_safe_box(name: str, along: list[int]) -> None:
    gone = lost(name, along)
    assert not gone.any(), f"{gone.nonzero().flatten().tolist()} left the box"


@pytest.mark.parametrize(
    ("name", "along"), [("HenonHeiles-v0", [2, 3]), ("DoublePendulum-v0", [2])]
)
def test_conservative_systems_are_driven_out_as_documented(name: str, along: list[int]) -> None:
    gone = lost(name, along)
    assert gone[:16].sum() >= 8
    assert gone[64:128].sum() <= 4  # random pushes
    found = make_environment(name, 1024)
    assert evaluate(found, ZeroController(found), torch.arange(1024)).diverged.sum() == 0

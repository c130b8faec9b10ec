"""Gates of the chaotic systems: fixed points, linear growth, energy, attractors, safe boxes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.analysis.equilibria import fixed_point
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.chaotic import characterize
from separatrix.envs.chaotic.attractor import Attractor
from separatrix.envs.chaotic.lorenz import lorenz
from separatrix.envs.chaotic.lorenz96 import lorenz96
from separatrix.envs.chaotic.rossler import rossler
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers.ode import OdeDefinition
from separatrix.envs.steppers.ode_system import OdeSystem

SITES = 40
SEED = 12

Gate = Callable[..., None]


def environment(name: str, num_envs: int = 1, **options: Any) -> Any:
    options = {"dtype": "float64", "backend": "torch", **options}
    return make_environment(name, num_envs, **options)


def resting(system: OdeSystem, values: Tensor) -> Tensor:
    """The flow without control."""
    control = torch.zeros((len(values), len(system.definition.control_names)), dtype=torch.float64)
    return system.vector_field(values, control)


# --- fixed points and their linearization -------------------------------------------------------


def lorenz_point(sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> list[float]:
    rotation = math.sqrt(beta * (rho - 1))
    return [rotation, rotation, rho - 1]


def rossler_point(a: float = 0.2, b: float = 0.2, c: float = 5.7) -> list[float]:
    ratio = (c - math.sqrt(c * c - 4 * a * b)) / (2 * a)
    return [a * ratio, -ratio, ratio]


def lorenz96_point(forcing: float = 8.0) -> list[float]:
    return [forcing] * SITES


POINTS: dict[str, Callable[..., list[float]]] = {
    "Lorenz-v0": lorenz_point,
    "Rossler-v0": rossler_point,
    "Lorenz96-v0": lorenz96_point,
}


@pytest.mark.parametrize("name", POINTS)
def test_fixed_points_in_closed_form(name: str, gate: Gate) -> None:
    found = environment(name)
    expected = torch.tensor([POINTS[name]()], dtype=torch.float64)
    assert resting(found.system, expected).abs().max() < 1e-12 * max(1.0, float(expected.max()))
    point = found.task.equilibrium(found.system)
    torch.testing.assert_close(point, expected, rtol=1e-12, atol=1e-12)
    for i in (0,) if name == "Lorenz96-v0" else range(3):
        component, reference = found.system.definition.state_names[i], float(expected[0, i])
        gate(
            name,
            f"fixed point, {component}",
            point[0, i],
            reference,
            tolerance=1e-12 * (1 + abs(reference)),
            source="closed form",
        )


@pytest.mark.parametrize("name", POINTS)
def test_fixed_points_of_own_parameters(name: str) -> None:
    generator = np.random.default_rng(SEED)
    defaults = environment(name).system.definition.parameters
    own = {key: value * generator.uniform(0.9, 1.1, 5) for key, value in defaults.items()}
    found = environment(name, 5, **own)
    expected = [POINTS[name](**{key: own[key][i] for key in own}) for i in range(5)]
    point = found.task.equilibrium(found.system)
    torch.testing.assert_close(point, torch.tensor(expected).double(), rtol=1e-10, atol=1e-10)


def test_the_search_says_where_no_fixed_point_is() -> None:
    """Rossler's flow has none where c^2 < 4 a b."""
    found = environment("Lorenz-v0").system
    assert fixed_point(found, (0.1, 0.1, 0.1)).abs().max() < 1e-10  # the origin is nearer
    with pytest.raises(ValueError, match=r"rossler: no fixed point found from \(0.0, 0.0, 0.0\)"):
        environment("Rossler-v0", a=2.0, b=2.0, c=3.0)


def growth_rates(name: str) -> np.ndarray:
    """Eigenvalues of the linearization, by real part and then imaginary part, falling."""
    values = torch.linalg.eigvals(linearize(environment(name), time="continuous").a[0]).numpy()
    return values[np.lexsort((-values.imag, -values.real.round(9)))]


def compare_growth_rates(name: str, roots: np.ndarray, source: str, gate: Gate) -> None:
    """Compares all growth rates, and records the fastest and the slowest."""
    found, roots = np.sort(growth_rates(name)), np.sort(roots)
    np.testing.assert_allclose(found, roots, rtol=1e-10)
    for quantity, ours, reference in (
        ("fastest growth rate at the fixed point", found[-1].real, roots[-1].real),
        ("angular frequency of this growth", found[-1].imag, roots[-1].imag),
        ("fastest decay rate at the fixed point", found[0].real, roots[0].real),
    ):
        gate(name, quantity, ours, reference, tolerance=1e-10 * abs(reference), source=source)


def test_linear_growth_at_c_plus(gate: Gate) -> None:
    """The characteristic polynomial of Lorenz (1963), eq. 29 and 30, with sigma, rho, beta."""
    source = "roots of the characteristic polynomial, Lorenz (1963), eqs. 29-30"
    roots = np.roots([1, 10 + 8 / 3 + 1, 8 / 3 * 38, 2 * 8 / 3 * 10 * 27])
    compare_growth_rates("Lorenz-v0", roots, source, gate)
    np.testing.assert_allclose(roots.real.max(), 0.094, atol=5e-4)  # as the documentation says
    np.testing.assert_allclose(roots.imag.max(), 10.19, atol=5e-3)
    np.testing.assert_allclose(roots.real.min(), -13.85, atol=5e-3)


def test_linear_growth_of_rossler(gate: Gate) -> None:
    x, _, z = rossler_point()
    roots = np.roots([1, -(0.2 + x - 5.7), 0.2 * (x - 5.7) + 1 + z, -(x - 5.7) - 0.2 * z])
    compare_growth_rates("Rossler-v0", roots, "roots of the characteristic polynomial", gate)
    np.testing.assert_allclose(np.sort(roots)[-1], 0.097 + 0.995j, atol=5e-4)
    np.testing.assert_allclose(np.sort(roots)[0], -5.69, atol=5e-3)


def test_linear_growth_of_the_uniform_state(gate: Gate) -> None:
    """Waves exp(i k theta) grow at F (exp(i theta) - exp(-2 i theta)) - 1 (Lorenz, Emanuel)."""
    angle = 2 * np.pi * np.arange(SITES) / SITES
    waves = 8 * (np.exp(1j * angle) - np.exp(-2j * angle)) - 1
    found = growth_rates("Lorenz96-v0")
    distance = np.abs(found[:, None] - waves[None])
    assert distance.min(0).max() < 1e-9
    assert distance.min(1).max() < 1e-9
    source = "waves on the uniform state, Lorenz and Emanuel (1998)"
    for quantity, ours, reference, tolerance in (
        ("fastest growth rate of the uniform state", found.real.max(), waves.real.max(), 1e-9),
        ("unstable modes of the uniform state", (found.real > 0).sum(), 24, 0),
    ):
        gate("Lorenz96-v0", quantity, ours, reference, tolerance=tolerance, source=source)
    assert found.real.max() == pytest.approx(7.9, abs=0.05)


# --- invariants of the equations ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["Lorenz-v0", "Lorenz96-v0"])
def test_quadratic_terms_conserve_energy(name: str, gate: Gate) -> None:
    """The sum of x_i x_i' vanishes for the terms that are left of f(x) + f(-x) - 2 f(0)."""
    system = environment(name).system
    points = torch.from_numpy(system.definition.start.points().astype(np.float64))
    quadratic = resting(system, points) + resting(system, -points)
    quadratic = (quadratic - 2 * resting(system, torch.zeros_like(points))) / 2
    power = (points * quadratic).sum(1)
    size = (points * quadratic).abs().sum(1)
    assert size.median() > 100.0
    gate(
        name,
        "power of the quadratic terms, over their size",
        power.abs().max() / size.max(),
        0.0,
        tolerance=1e-14,
        source="they conserve the sum of squares",
    )


def test_lorenz_contracts_volumes_evenly(gate: Gate) -> None:
    """The divergence of the flow is -(sigma + beta + 1) everywhere."""
    divergence = -(10 + 8 / 3 + 1)
    system = environment("Lorenz-v0").system
    points = torch.from_numpy(lorenz.start.points().astype(np.float64))  # type: ignore[attr-defined]
    jacobian, _ = system.jacobian(points, torch.zeros((len(points), 1), dtype=torch.float64))
    trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    farthest = trace[(trace - divergence).abs().argmax()]
    gate(
        "Lorenz-v0",
        "divergence of the flow, farthest from the reference",
        farthest,
        divergence,
        tolerance=1e-6,
        source="-(sigma + beta + 1)",
    )


# --- attractors ---------------------------------------------------------------------------------

ORIGINS = {"lorenz": (lorenz, (1.0, 1.0, 25.0), 1.0), "rossler": (rossler, (-4.0, 0.0, 0.02), 0.1)}


@pytest.mark.parametrize("name", ["lorenz", "rossler"])
def test_attractor_data_are_reproducible(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen small computations scatter around the shipped statistics as they should."""
    definition, origin, spread = ORIGINS[name]
    attractor = Attractor(name)
    monkeypatch.setattr(characterize, "NUM_POINTS", 64)
    monkeypatch.setattr(characterize, "SPIN_UP", 100.0)
    monkeypatch.setattr(characterize, "SAMPLES", 200)
    runs = []
    for seed in range(1, 17):
        points, statistics = characterize.compute(definition, np.array(origin), spread, seed)
        assert points.shape == (64, 3)
        runs.append(statistics)
    low, high = attractor.statistic("low"), attractor.statistic("high")
    for key in ("mean", "standard_deviation", "flow_rms"):
        found = np.array([run[key] for run in runs])
        error = found.std(0, ddof=1) / 4
        expected = attractor.statistic(key)
        assert (np.abs(found.mean(0) - expected) < 5 * error).all(), key
        assert (error < 0.02 * (high - low)).all(), key  # the comparison means something
    # A smaller sample reaches almost as far as the large one, and not farther.
    size = high - low
    assert (np.array([run["low"] for run in runs]) > low - 0.01 * size).all()
    assert (np.array([run["high"] for run in runs]) < high + 0.01 * size).all()
    assert (np.min([run["low"] for run in runs], axis=0) < low + 0.05 * size).all()
    assert (np.max([run["high"] for run in runs], axis=0) > high - 0.05 * size).all()


@pytest.mark.parametrize(
    "definition",
    [lorenz, rossler, lorenz96],
    ids=lambda d: d.name,
)
def test_shipped_points_are_on_the_attractor(definition: OdeDefinition) -> None:
    attractor = definition.start
    assert isinstance(attractor, Attractor)
    points = attractor.points().astype(np.float64)
    low, high = attractor.statistic("low"), attractor.statistic("high")
    assert points.shape == (2048, len(definition.state_names))
    assert (points > low - 0.01 * (high - low)).all() and (
        points < high + 0.01 * (high - low)
    ).all()
    error = attractor.statistic("standard_deviation") / math.sqrt(2048)
    assert (np.abs(points.mean(0) - attractor.statistic("mean")) < 5 * error).all()
    box_low, box_high = definition.bounds()
    np.testing.assert_allclose(box_high - box_low, attractor.margin * (high - low))


def test_means_of_rossler_obey_its_equations(gate: Gate) -> None:
    """The mean of each derivative over an attractor is zero: <y> = -<z> and <x> = -a <y>."""
    x, y, z = Attractor("rossler").statistic("mean")
    for quantity, ours, reference, tolerance, source in (
        ("mean of y on the attractor", y, -z, 2e-3 * abs(z), "mean of x' is zero: <y> = -<z>"),
        (
            "mean of x on the attractor",
            x,
            -0.2 * y,
            5e-3 * abs(0.2 * y),
            "mean of y' is zero: <x> = -a <y>",
        ),
    ):
        gate("Rossler-v0", quantity, ours, reference, tolerance=tolerance, source=source)


# --- no allowed control leaves the safe box -----------------------------------------------------

BATCH = 192
Control = Callable[[int, Tensor], Tensor]


def controls(size: int, interval: float) -> Tensor:
    """Actions of a run for each environment, (step, environment, action): a third of each kind.

    Constants in corners and inside; random ones; and switching between the bounds, at random or
    regularly, with periods from two intervals to sixteen time units.
    """
    generator = np.random.default_rng(SEED)
    third, steps = BATCH // 3, 400
    constant = generator.uniform(-1, 1, (1, third, size)).repeat(steps, 0)
    constant[:, ::2] = np.sign(constant[:, ::2])
    random = generator.uniform(-1, 1, (steps, third, size))
    half_periods = np.geomspace(interval, 8.0, third)[None, :, None]
    time = interval * np.arange(steps)[:, None, None]
    phases = generator.uniform(0, 2, (1, third, size))
    switching = np.where((time / half_periods + phases) % 2 < 1, 1.0, -1.0)
    switching[:, ::4] = np.sign(random[:, ::4])
    return torch.from_numpy(np.concatenate([constant, random, switching], 1)).float()


@pytest.mark.parametrize("name", POINTS)
def test_no_allowed_control_leaves_the_safe_box(name: str) -> None:
    # Torch for Lorenz-96, whose kernel takes longer to compile than the run.
    backend = "torch" if name == "Lorenz96-v0" else "numba"
    found = environment(name, BATCH, dtype="float32", backend=backend)
    forced = list(range(SITES)) if name == "Lorenz96-v0" else [1]
    state, _ = found.reset(SEED)
    lost = torch.zeros(BATCH, dtype=torch.bool)
    for action in controls(found.action_shape[0], found.control_interval):
        # Always along the forced component, which feeds most energy into it.
        action[:16] = state.values[:16, forced].sign()
        transition = found.step(state, action)
        state, lost = transition.state, lost | transition.info["diverged"]
    assert not lost.any(), f"{lost.nonzero().flatten().tolist()} left the box"

"""Gates of the Henon map: fixed point, multipliers, Lyapunov exponents, number of cycles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.envs.analysis.periodic_orbit import find_periodic_orbits
from separatrix.envs.core.registration import make_environment

NAME, A, B = "Henon-v0", 1.4, 0.3
X = (B - 1 + math.sqrt((B - 1) ** 2 + 4 * A)) / (2 * A)
RECALLED = "as recalled; the source was not at hand"
SPROTT = f"J. C. Sprott, Chaos and Time-Series Analysis (2003), {RECALLED}"

Gate = Callable[..., None]


def henon(num_envs: int = 1, **options: Any) -> Any:
    return make_environment(NAME, num_envs, dtype="float64", backend="torch", **options)


def attractor(system: Any) -> Tensor:
    return torch.from_numpy(system.definition.start.points().astype(np.float64))


def test_fixed_point_and_its_multipliers(gate: Gate) -> None:
    environment = henon()
    point = environment.task.equilibrium(environment.system)
    control = torch.zeros((1, 1), dtype=torch.float64)
    jacobian, by_control = environment.system.jacobian(point, control)
    found = torch.linalg.eigvals(jacobian[0]).real.sort().values
    root = math.sqrt((A * X) ** 2 + B)  # of the quadratic m^2 + 2 a x m - b = 0
    for quantity, ours, reference in (
        ("fixed point, x", point[0, 0], X),
        ("fixed point, y", point[0, 1], B * X),
        ("unstable multiplier", found[0], -A * X - root),
        ("stable multiplier", found[1], -A * X + root),
    ):
        gate(NAME, quantity, ours, reference, tolerance=1e-12, source="closed form")
    published = "M. Henon, Commun. Math. Phys. 50 (1976) 69"
    gate(
        NAME,
        "fixed point, x, as published",
        point[0, 0],
        0.63135448,
        tolerance=1e-8,
        source=published,
    )
    gate(
        NAME,
        "fixed point, y, as published",
        point[0, 1],
        0.18940634,
        tolerance=1e-8,
        source=published,
    )
    assert by_control[0, :, 0].tolist() == pytest.approx([-(X**2), 0.0], rel=1e-12)


def test_fixed_points_of_own_parameters() -> None:
    a, b = np.linspace(1.0, 1.4, 4), np.linspace(0.2, 0.3, 4)
    environment = henon(4, a=a, b=b)
    point = environment.task.equilibrium(environment.system)
    x = (b - 1 + np.sqrt((b - 1) ** 2 + 4 * a)) / (2 * a)
    np.testing.assert_allclose(point.numpy(), np.column_stack((x, b * x)), rtol=1e-12)


def test_lyapunov_exponents(gate: Gate) -> None:
    """The largest from the growth of a tangent, their sum from the determinant of the Jacobian."""
    system = henon().system
    values = attractor(system)
    control = torch.zeros((len(values), 1), dtype=torch.float64)
    tangent = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(len(values), 2)
    growth, area = torch.zeros(len(values)).double(), torch.zeros(len(values)).double()
    transient, iterations = 100, 4000
    for i in range(transient + iterations):
        jacobian, _ = system.jacobian(values, control)
        tangent = (jacobian @ tangent[..., None])[..., 0]
        size = tangent.norm(dim=1, keepdim=True)
        tangent, values = tangent / size, system.vector_field(values, control)
        if i >= transient:
            growth += size[:, 0].log()
            area += torch.linalg.det(jacobian).abs().log()
    largest, total = growth / iterations, float(area.mean()) / iterations
    assert 3 * float(largest.std()) / math.sqrt(len(values)) < 1e-3
    first = float(largest.mean())
    second = total - first
    gate(NAME, "Lyapunov exponent 1", first, 0.41922, tolerance=1e-3, source=SPROTT)
    gate(NAME, "Lyapunov exponent 2", second, -1.62319, tolerance=1e-3, source=SPROTT)
    source = "contraction of areas, ln b"
    quantity = "sum of the Lyapunov exponents"
    gate(NAME, quantity, total, math.log(B), tolerance=1e-9, source=source)
    dimension, quantity = 1 + first / -second, "Kaplan-Yorke dimension"
    gate(NAME, quantity, dimension, 1 + 0.41922 / 1.62319, tolerance=1e-3, source=SPROTT)


def test_number_of_cycles(gate: Gate) -> None:
    """All cycles of the attractor up to length 8, each found from many of its points."""
    system = henon().system
    counts = (1, 1, 0, 1, 0, 2, 4, 7)
    source = f"O. Biham, W. Wenzel, Phys. Rev. Lett. 63 (1989) 819; Z. Galias (2001), {RECALLED}"
    for length, expected in enumerate(counts, start=1):
        found = find_periodic_orbits(system, attractor(system), length).distinct()
        inside = found.path[..., 0].amin(1) > -1.3  # the other fixed point is at x = -1.13
        apart = (found.path[..., 0] + 1.1314).abs().amin(1) > 1e-3
        assert (found.multipliers().abs()[:, 0] > 1).all()
        number = int((inside & apart).sum())
        gate(NAME, f"cycles of length {length}", number, expected, tolerance=0, source=source)


def test_shipped_points_are_of_the_attractor() -> None:
    """They agree with the shipped statistics, and their images do."""
    system = henon().system
    start = system.definition.start
    values = attractor(system)
    following = system.vector_field(values, torch.zeros((len(values), 1)).double())
    low, high = (torch.from_numpy(start.statistic(key)) for key in ("low", "high"))
    room = 0.001 * (high - low)
    deviation = torch.from_numpy(start.statistic("standard_deviation"))
    for points in (values, following):
        assert ((points > low - room) & (points < high + room)).all()
        away = points.mean(0) - torch.from_numpy(start.statistic("mean"))
        assert (away.abs() < 5 * deviation / math.sqrt(len(values))).all()
    flow = (following - values).square()
    spread = flow.std(0) / math.sqrt(len(values)) / (2 * flow.mean(0).sqrt())
    away = flow.mean(0).sqrt() - torch.from_numpy(start.statistic("flow_rms"))
    assert (away.abs() < 5 * spread).all()


def test_free_map_stays_inside_and_a_large_change_expels() -> None:
    """The default authority lets no random action expel the state; five times as much does."""
    ended = []
    for authority in (0.02, 0.1):
        environment = make_environment(NAME, 256, authority=authority)
        state, _ = environment.reset(0)
        generator = torch.Generator().manual_seed(0)
        diverged = torch.zeros(256, dtype=torch.bool)
        for _ in range(environment.horizon):
            action = 2 * torch.rand((256, 1), generator=generator) - 1
            state, _, _, _, info = environment.step(state, action)
            diverged |= info["diverged"]
        ended.append(float(diverged.float().mean()))
    assert ended[0] == 0.0
    assert ended[1] > 0.5

"""The lattice against exact flows: orders, conservation, walls that move, and sound at the rim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy.special import kv

from separatrix.envs.steppers.lattice import Disc, Domain
from separatrix.envs.steppers.lattice_program import OUTLET_ANCHOR, SIDE_ANCHOR, SOUND
from tests.physics.stream_cases import fields_of, flow_of, places, stream, undisturbed, watch

Gate = Callable[..., None]
NAME = "lattice Boltzmann"
EXACT = "exact solution of the Navier-Stokes equations; order of the scheme"
ACOUSTICS = "linear acoustics of the boundary condition, at wave lengths of many sites"
Error = Callable[[int], float]


def order(error: Error, resolutions: Sequence[int]) -> float:
    """Order from the two finest lattices. The time step falls as the square of the spacing."""
    coarse, fine = (error(n) for n in resolutions)
    assert fine < 0.01
    return math.log(coarse / fine) / math.log(resolutions[1] / resolutions[0])


def taylor_green(resolution: int) -> float:
    """Largest error of the velocity of decaying vortices at time 1."""
    k, reynolds = 2 * math.pi, 100.0
    box = Domain(1.0, 1.0, "periodic", "periodic")
    options = {"speed": 0.8 / resolution, "interval": 1.0, "dtype": torch.float64}
    system = stream(box, reynolds, resolution=resolution, **options)  # type: ignore[arg-type]
    state = flow_of(
        system,
        lambda x, y: (
            np.sin(k * x) * np.cos(k * y),
            -np.cos(k * x) * np.sin(k * y),
            (np.cos(2 * k * x) + np.cos(2 * k * y)) / 4,
        ),
    )
    state, _ = watch(system, state, 1.0)
    u, v, _ = fields_of(system, state)
    x, y = places(system)
    left = math.exp(-2 * k**2 / reynolds)
    error = np.stack([u[0], v[0]])
    error -= left * np.stack([np.sin(k * x) * np.cos(k * y), -np.cos(k * x) * np.sin(k * y)])
    return float(np.abs(error).max())


def test_vortices_decay_to_second_order(gate: Gate) -> None:
    found = order(taylor_green, (24, 48))
    gate(NAME, "order, Taylor-Green vortices", found, 2.0, tolerance=0.1, source=EXACT)


def poiseuille(resolution: int) -> tuple[float, float]:
    """Errors of velocity (largest) and of the pressure's slope (relative) in a channel."""
    reynolds = 20.0
    options = {"speed": 0.4 / resolution, "interval": 10.0, "dtype": torch.float64}
    box = Domain(3.0, 1.0, "parabola", "no_slip")
    system = stream(box, reynolds, resolution=resolution, **options)  # type: ignore[arg-type]
    slope = -12 / reynolds
    state = flow_of(system, lambda x, y: (6 * y * (1 - y), 0.0, slope * (x - 3)))
    state, _ = watch(system, state, 10.0)
    u, _, p = (field[0] for field in fields_of(system, state))
    x, y = places(system)
    middle = (x[0] > 1) & (x[0] < 2)
    found = np.polyfit(x[0, middle], p.mean(0)[middle], 1)[0]
    return float(np.abs(u - 6 * y * (1 - y))[:, middle].max()), abs(found / slope - 1)


def test_channel_flow_is_of_second_order(gate: Gate) -> None:
    for index, quantity in enumerate(("velocity", "slope of the pressure")):
        found = order(lambda n, i=index: poiseuille(n)[i], (16, 32))  # type: ignore[misc]
        gate(NAME, f"order, Poiseuille, {quantity}", found, 2.0, tolerance=0.2, source=EXACT)


def spin_up(radius: np.ndarray, time: float, viscosity: float) -> np.ndarray:
    """Velocity around a disc of radius 1/2 whose surface moves at velocity 1 from time 0 on.

    By its Laplace transform K_1(r q) / (s K_1(q / 2)), q^2 = s / viscosity, and the contour of
    J. A. C. Weideman, L. N. Trefethen, Math. Comp. 76 (2007) 1341.
    """
    nodes = 24
    theta = np.pi * (2 * np.arange(nodes) + 1) / nodes - np.pi
    s = 0.5017 * theta / np.tan(0.6407 * theta) - 0.6122 + 0.2645j * theta
    slope = 0.5017 / np.tan(0.6407 * theta) + 0.2645j
    slope -= 0.5017 * 0.6407 * theta / np.sin(0.6407 * theta) ** 2
    s, slope = s * nodes / time, slope * nodes / time
    q = np.sqrt(s / viscosity)
    transform = kv(1, radius[:, None] * q) / kv(1, 0.5 * q) / s
    return np.asarray((np.exp(s * time) * transform * slope).sum(1).imag / nodes)


def rotating_disc(resolution: int) -> float:
    """Error (root mean square, relative) of the velocity in still fluid about a disc that turns."""
    reynolds, time, size = 10.0, 0.5, 5.0
    options = {"speed": 0.4 / resolution, "interval": time, "dtype": torch.float64}
    box = Domain(size, size, "periodic", "no_slip", (Disc(size / 2, size / 2),))
    system = stream(box, reynolds, resolution=resolution, **options)  # type: ignore[arg-type]
    state, force = watch(system, flow_of(system, lambda x, y: (0.0, 0.0, 0.0)), time, 1.0)
    assert np.abs(force).max() < 1e-12
    u, v, _ = (field[0] for field in fields_of(system, state))
    x, y = (place - size / 2 for place in places(system))
    radius = np.hypot(x, y)
    fluid = radius > 0.5
    along, outward = (x * v - y * u)[fluid], (x * u + y * v)[fluid]
    error = np.hypot(along - radius[fluid] * spin_up(radius[fluid], time, 1 / reynolds), outward)
    return float(np.sqrt((error**2).sum() / (along**2).sum()))


def test_flow_about_a_rotating_disc_is_of_second_order(gate: Gate) -> None:
    assert spin_up(np.array([0.5]), 0.5, 0.1)[0] == pytest.approx(1.0, abs=1e-9)
    gate(
        NAME,
        "order, disc that starts to rotate in still fluid",
        order(rotating_disc, (20, 40)),
        2.0,
        tolerance=0.2,
        source=EXACT,
    )


@pytest.mark.parametrize(("inflow", "sides"), [("periodic", "periodic"), ("periodic", "no_slip")])
def test_a_closed_box_keeps_its_mass(inflow: str, sides: str, gate: Gate) -> None:
    system = stream(Domain(2.0, 2.0, inflow, sides), 20.0, interval=5.0, dtype=torch.float64)
    k = math.pi
    state = flow_of(system, lambda x, y: (np.sin(k * y), np.sin(k * x), np.cos(k * x)))

    def masses() -> float:
        return float(state.flow.populations[:, :, 1:-1, 1:-1].mean())

    before = masses()
    state, _ = watch(system, state, 5.0)
    quantity = f"change of the density in a closed box, sides {sides}"
    source = "conservation law: 0 but for rounding"
    gate(NAME, quantity, masses() - before, 0.0, tolerance=1e-13, source=source)


# --- sound ---------------------------------------------------------------------------------------


def reflection(box: Domain, drift: float, wave_lengths: Sequence[float]) -> np.ndarray:
    """Reflection coefficients of plane sound that leaves a box.

    A pulse starts in the middle and passes a probe twice, out and back.

    Args:
        box: Of length 40 along x, with an outlet, or along y, with open sides.
        drift: Velocity of the stream along the pulse's way, in links a time step.
        wave_lengths: In diameters, of the pulse on its way out.
    """
    size, speed, amplitude = 40.0, 0.05, 1e-4
    along_x = box.length == size
    system = stream(box, 100.0, speed=speed, interval=speed / 10, dtype=torch.float64)
    fast, slow = sound(drift)
    probe = (slice(None), slice(None), 20, 300) if along_x else (slice(None), slice(None), 300, 20)
    records = []
    for pulse in (amplitude, 0.0):

        def fields(x: np.ndarray, y: np.ndarray, pulse: float = pulse) -> tuple[np.ndarray, ...]:
            wave = pulse * np.exp(-2 * ((x if along_x else y) - size / 2) ** 2)
            velocity = (1 + wave, 0 * x) if along_x else (1 + 0 * x, wave)
            return *velocity, wave / (3 * fast * speed)

        state = flow_of(system, fields)
        rest = undisturbed(system).flow.populations
        for edge in (0, -1):  # what the ghosts remember
            state.flow.populations[:, :, edge] = rest[:, :, edge]
            state.flow.populations[:, :, :, edge] = rest[:, :, :, edge]
        record = []
        for _ in range(1600):  # until all that the pulse leaves at the rim has come back
            state, _ = watch(system, state, system.control_interval)
            u, v, p = (float(part) for part in system.fields(state.flow.populations[probe]))
            record.append(((u if along_x else v) * speed, p * 3 * speed**2))
        records.append(record)
    velocity, density = (np.array(records[0]) - np.array(records[1])).T
    out = (velocity - slow * density) / (fast - slow)
    back = (fast * density - velocity) / (fast - slow)
    between = round(200 / fast)
    out[between:], back[:between] = 0, 0
    waves = np.exp(-1j * frequencies(drift, wave_lengths)[:, None] * np.arange(len(out)))
    return np.abs((waves @ back) / (waves @ out))


def sound(drift: float) -> tuple[float, float]:
    """Velocities of sound along a stream and against it, in links a time step."""
    return drift + math.sqrt(drift**2 + 1 / 3), drift - math.sqrt(drift**2 + 1 / 3)


def frequencies(drift: float, wave_lengths: Sequence[float]) -> np.ndarray:
    """Circular ones of sound along the stream, in radians a time step."""
    return 2 * math.pi * sound(drift)[0] / (np.asarray(wave_lengths) * 10)


WAVE_LENGTHS = (5.0, 10.0, 20.0)


def test_the_outlet_lets_sound_out(gate: Gate) -> None:
    """Populations that enter are advected out at the speed of sound c, and lose to the density.

    In waves of velocity s they are s (s - 1) / 2 of the density, so that the reflection follows
    from (d/dt + c d/dx) f = -anchor density / 6. Long waves meet a fixed pressure.
    """
    drift = 0.05
    found = reflection(Domain(40.0, 4.0, "uniform", "periodic"), drift, WAVE_LENGTHS)
    omega = frequencies(drift, WAVE_LENGTHS)
    out, back = (
        OUTLET_ANCHOR / 6 + 1j * omega * (1 - SOUND / s) * s * (s - 1) / 2 for s in sound(drift)
    )
    for wave_length, ours, exact in zip(WAVE_LENGTHS, found, np.abs(out / back), strict=True):
        quantity = f"reflection of sound at the outlet, wave length {wave_length:g} D"
        gate(NAME, quantity, ours, exact, tolerance=0.02, source=ACOUSTICS)


def test_open_sides_let_sound_out(gate: Gate) -> None:
    """As at the outlet, with (d/dt + c d/dx) f = -anchor f."""
    found = reflection(Domain(4.0, 40.0, "periodic", "open"), 0.0, WAVE_LENGTHS)
    omega = frequencies(0.0, WAVE_LENGTHS)
    entering = (SOUND - 1) / (SOUND + 1)
    expected = np.abs(entering * SIDE_ANCHOR / (SIDE_ANCHOR + 2j * omega))
    for wave_length, ours, exact in zip(WAVE_LENGTHS, found, expected, strict=True):
        quantity = f"reflection of sound at open sides, wave length {wave_length:g} D"
        gate(NAME, quantity, ours, exact, tolerance=0.02, source=ACOUSTICS)

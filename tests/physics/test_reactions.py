"""Gates of reaction-diffusion equations: exact solutions, linear growth, and what never grows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.registration import make_environment

Gate = Callable[..., None]

EXACT = "exact solution"
LINEAR = "linear theory"
ARANSON = "I. S. Aranson, L. Kramer, Rev. Mod. Phys. 74 (2002) 99"


def made(name: str, **options: Any) -> Any:
    """The system on torch in float64."""
    return make_environment(name, dtype="float64", backend="torch", **options).system


def drawn(name: str, batch: int, **options: Any) -> tuple[Any, Tensor]:
    """A system and fields at the start of episodes."""
    environment: Any = make_environment(name, batch, dtype="float64", backend="torch", **options)
    return environment.system, environment.reset(0)[0].field


def coordinate(system: Any) -> Float[Tensor, " point"]:
    """Positions from minus to plus half the box."""
    x: Tensor = system.grid.positions(system.length)[0]
    return x - float(system.length) / 2


def energy(name: str, system: Any, field: Tensor) -> Float[Tensor, " batch"]:
    """The functional of which the flow is a gradient, up to a constant factor."""
    p = {key: float(value) for key, value in system.parameters.items()}
    gradient, potential = {
        "AllenCahn-v0": lambda: (p["diffusivity"] ** 2, p["potential"]),
        "CahnHilliard-v0": lambda: (p["surface_tension"], 1.0),
        "GinzburgLandau-v0": lambda: (1.0, 1.0),
    }[name]()
    wave = 2j * math.pi / p["length"] * system.grid.numbers[0]
    slope = system.grid.synthesize(system.grid.transform(field) * wave)
    density = gradient * slope**2 / 2 + potential * (1 - field**2) ** 2 / 4
    return p["length"] * density.mean((1, 2))


@pytest.mark.parametrize("name", ["AllenCahn-v0", "CahnHilliard-v0", "GinzburgLandau-v0"])
def test_energy_never_grows(name: str, gate: Gate) -> None:
    system, field = drawn(name, 8)
    field = system.free_flow(field, 1e-9, 1)  # kept modes alone
    energies = [energy(name, system, field)]
    for _ in range(100):
        field = system.free_flow(field, system.control_interval, system.substeps)
        energies.append(energy(name, system, field))
    values = torch.stack(energies)
    assert (values[-1] < 0.9 * values[0]).all()
    growth = (values.diff(dim=0).max() / values.max()).clamp(min=0.0)
    source = "Lyapunov functional: 0 but for rounding"
    gate(name, "largest growth of the energy", growth, 0, tolerance=1e-13, source=source)


@pytest.mark.parametrize("name", ["AllenCahn-v0", "GinzburgLandau-v0"])
def test_flat_states_follow_the_cubic_logistic_law(name: str, gate: Gate) -> None:
    system = made(name)
    rate, time = float(system.parameters.get("potential", torch.ones(1))), 1.0
    start = torch.tensor([-0.9, -0.01, 0.2, 1.7], dtype=torch.float64)
    field = start.view(-1, 1, 1).expand(-1, 1, system.grid.points)
    found = system.free_flow(field, time, 500)
    exact = start.sign() / (1 + (start**-2 - 1) * math.exp(-2 * rate * time)).sqrt()
    error = (found - exact.view(-1, 1, 1)).abs().max()
    gate(name, "error of flat states after 1", error, 0, tolerance=1e-9, source=EXACT)


@pytest.mark.parametrize(
    ("name", "options", "tension"),
    [
        ("AllenCahn-v0", {"length": 4.0}, 2 * 2**0.5 / 3 * 0.2 * 5**0.5),
        ("CahnHilliard-v0", {"length": 8.0}, 2 * 2**0.5 / 3 * 0.02**0.5),
        ("GinzburgLandau-v0", {"length": 40.0}, 2 * 2**0.5 / 3),
    ],
)
def test_interfaces_relax_to_the_hyperbolic_tangent(
    name: str, options: dict[str, float], tension: float, gate: Gate
) -> None:
    system = made(name, points=192, **options)
    square = 3 * (2 * math.pi * coordinate(system) / options["length"]).sin()
    field = system.free_flow(square.tanh().view(1, 1, -1), 4.0, 800)
    found = float(energy(name, system, field)) / 2
    # They are ten or more widths apart and feel each other by exp(-10 sqrt 2) at most.
    source = "J. W. Cahn, J. E. Hilliard, J. Chem. Phys. 28 (1958) 258: sqrt(8)/3 of scales"
    gate(name, "energy of an interface", found / tension, 1, tolerance=1e-5, source=source)


@pytest.mark.parametrize(
    ("name", "target"),
    [("AllenCahn-v0", "stripes"), ("CahnHilliard-v0", "two_stripes")],
)
def test_stripes_do_not_change(name: str, target: str, gate: Gate) -> None:
    environment: Any = make_environment(
        name, dtype="float64", backend="torch", target_name=target, points=192
    )
    system, task = environment.system, environment.task
    stripes = task.target(environment.reset(0)[0])
    drift = system.free_flow(stripes, system.control_interval, 20) - stripes
    rate = drift.abs().max() / system.control_interval
    gate(name, f"largest change of {target} in 1", rate, 0, tolerance=1e-8, source=EXACT)


def test_two_stripes_coarsen_to_one(gate: Gate) -> None:
    def target(name: str) -> tuple[Any, Tensor]:
        environment: Any = make_environment(
            "CahnHilliard-v0", dtype="float64", backend="torch", target_name=name
        )
        return environment.system, environment.task.target(environment.reset(0)[0])

    (system, two), (_, one) = target("two_stripes"), target("one_stripe")
    wave = 1e-2 * (math.pi * coordinate(system)).cos()
    found, expected = (
        float(energy("CahnHilliard-v0", system, field))
        for field in (system.free_flow(two + wave, 4.0, 1600), one)
    )
    source = "energy of the exact stripe"
    gate("CahnHilliard-v0", "energy at last", found, expected, tolerance=1e-6, source=source)


def test_mass_is_conserved_under_any_forces(gate: Gate) -> None:
    environment: Any = make_environment("CahnHilliard-v0", 8, dtype="float64", backend="torch")
    state = environment.reset(0)[0]
    before = state.field.mean(2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        action = 2 * torch.rand((8, 8), generator=generator, dtype=torch.float64) - 1
        state = environment.step(state, action).state
    change = (state.field.mean(2) - before).abs().max()
    source = "conservation law: 0 but for rounding"
    gate("CahnHilliard-v0", "change of the mean", change, 0, tolerance=1e-13, source=source)


@pytest.mark.parametrize("waves", [1, 2, 3, 4])
def test_small_waves_separate_at_the_spinodal_rate(waves: int, gate: Gate) -> None:
    system, time = made("CahnHilliard-v0"), 0.02
    wave = math.pi * waves
    field = 1e-6 * (wave * coordinate(system)).cos().view(1, 1, -1)
    found = system.free_flow(field, time, 20)
    rate = math.log(found.square().sum() / field.square().sum()) / (2 * time)
    gate(
        "CahnHilliard-v0",
        f"growth rate of {waves} waves",
        rate,
        wave**2 - 0.02 * wave**4,
        tolerance=1e-6,
        source="J. W. Cahn, Acta Metall. 9 (1961) 795: D k^2 (1 - g k^2)",
    )


def test_flat_populations_follow_the_logistic_law(gate: Gate) -> None:
    system = made("Fisher-v0")
    start = torch.tensor([0.01, 0.4, 1.6], dtype=torch.float64)
    found = system.free_flow(start.view(-1, 1, 1).expand(-1, 1, 64), 4.0, 800)
    exact = 1 / (1 + (1 / start - 1) * math.exp(-4.0))
    error = (found - exact.view(-1, 1, 1)).abs().max()
    gate("Fisher-v0", "error of flat states after 4", error, 0, tolerance=1e-9, source=EXACT)


FRONTS = {"diffusivity": 1.0, "reaction": 1.0, "length": 240.0, "points": 1024}


def test_the_front_of_ablowitz_and_zeppetella_moves_unchanged(gate: Gate) -> None:
    system, time = made("Fisher-v0", **FRONTS), 5.0
    x = coordinate(system).abs()

    def front(place: float) -> Tensor:
        return (1 + ((x - place) / 6**0.5).exp()) ** -2

    found = system.free_flow(front(50.0).view(1, 1, -1), time, 250)
    error = (found - front(50.0 + 5 / 6**0.5 * time)).abs().max()
    source = "M. J. Ablowitz, A. Zeppetella, Bull. Math. Biol. 41 (1979) 835"
    # The two fronts of the box meet in the middle with a kink of 1e-9.
    gate("Fisher-v0", "error of the exact front after 5", error, 0, tolerance=1e-7, source=source)


def test_fronts_approach_twice_the_root_of_growth_and_diffusion(gate: Gate) -> None:
    system = made("Fisher-v0", **{**FRONTS, "length": 320.0})
    x = coordinate(system)
    field = (-(x**2)).exp().view(1, 1, -1)
    early, late, places = 40, 60, {}
    for time in range(1, late + 1):
        field = system.free_flow(field, 1.0, 10)
        # Else rounding would grow ahead of the front.
        field = torch.where(field.abs() < 1e-13, 0.0, field)
        if time in (early, late):
            profile = field[0, 0]
            last = int((profile > 0.5).nonzero().max())
            step = (profile[last] - 0.5) / (profile[last] - profile[last + 1])
            places[time] = float(x[last] + step * (x[1] - x[0]))
    # The next term of the place, 3 (pi / t)^(1/2), bounds what is left out.
    left_out = 3 * math.sqrt(math.pi) * (early**-0.5 - late**-0.5)
    gate(
        "Fisher-v0",
        "mean speed of a front from t = 40 to 60",
        (places[late] - places[early]) / (late - early),
        2 - 1.5 * math.log(late / early) / (late - early),
        tolerance=left_out / (late - early),
        source="M. Bramson, Mem. Am. Math. Soc. 285 (1983): 2 t - (3 / 2) log t; U. Ebert, "
        "W. van Saarloos, Physica D 146 (2000) 1",
    )


def complex_wave(system: Any, waves: int) -> tuple[Tensor, float]:
    """The plane wave of so many periods, (1, 2, point), and its frequency."""
    b, c = (float(system.parameters[name]) for name in ("dispersion", "detuning"))
    q = 2 * math.pi * waves / float(system.length)
    angle, amplitude = q * coordinate(system), (1 - q**2) ** 0.5
    field = amplitude * torch.stack((angle.cos(), angle.sin()))[None]
    return field, c * (1 - q**2) + b * q**2


@pytest.mark.parametrize("waves", [0, 1, 3])
def test_plane_waves_turn_at_their_frequency(waves: int, gate: Gate) -> None:
    system, time = made("ComplexGinzburgLandau-v0"), 4.0
    field, frequency = complex_wave(system, waves)
    found = torch.complex(*system.free_flow(field, time, 400).unbind(1))
    turn = (found * torch.complex(*field.unbind(1)).conj()).mean() / field.square().sum(1).mean()
    exact = complex(math.cos(frequency * time), -math.sin(frequency * time))
    gate(
        "ComplexGinzburgLandau-v0",
        f"error of a plane wave of {waves} periods after 4",
        abs(complex(turn) - exact),
        0,
        tolerance=1e-7,
        source=ARANSON,
    )


@pytest.mark.parametrize(
    ("dispersion", "detuning", "waves", "sideband"),
    [(2.0, -2.0, 0, 3), (2.0, -2.0, 0, 5), (1.0, -0.5, 0, 2), (0.0, 0.0, 4, 1), (0.0, 0.0, 2, 1)],
)
def test_sidebands_grow_as_benjamin_feir_and_eckhaus_have_it(
    dispersion: float, detuning: float, waves: int, sideband: int, gate: Gate
) -> None:
    system = made("ComplexGinzburgLandau-v0", dispersion=dispersion, detuning=detuning)
    field, _ = complex_wave(system, waves)
    unit = 2 * math.pi / float(system.length)
    q, k = unit * waves, unit * sideband
    # In the frame of the wave: (1 + a) exp(i (q x - w t)), with a at k and its conjugate at -k.
    square = 1 - q**2

    def outward(number: float) -> complex:
        return -(1 + 1j * dispersion) * ((q + number) ** 2 - q**2) - (1 + 1j * detuning) * square

    mixing = -(1 + 1j * detuning) * square
    matrix = [[outward(k), mixing], [mixing.conjugate(), outward(-k).conjugate()]]
    expected = float(np.linalg.eigvals(np.array(matrix)).real.max())
    wave = torch.complex(*field.unbind(1))
    wave = wave * (1 + 1e-9 * (k * coordinate(system)).cos())
    amplitudes = []
    for time in (15.0, 5.0):  # at first, the faster decaying mode dies
        pair = torch.stack((wave.real, wave.imag), 1)
        wave = torch.complex(*system.free_flow(pair, time, int(40 * time)).unbind(1))
        amplitudes.append(float(torch.fft.fft(wave, norm="forward")[0, waves + sideband].abs()))
    gate(
        "ComplexGinzburgLandau-v0",
        f"growth rate of sideband {sideband} of {waves} waves, b = {dispersion}, c = {detuning}",
        math.log(amplitudes[1] / amplitudes[0]) / 5,
        expected,
        tolerance=1e-5,
        source=f"{LINEAR}: Benjamin-Feir and Eckhaus, {ARANSON}",
    )


@pytest.mark.parametrize("target", ["mixed", "fed"])
def test_homogeneous_mixtures_rest(target: str, gate: Gate) -> None:
    environment: Any = make_environment(
        "GrayScott-v0", dtype="float64", backend="torch", target_name=target, points=16
    )
    mixture = environment.task.target(environment.reset(0)[0])
    drift = (environment.system.free_flow(mixture, 100.0, 50) - mixture).abs().max()
    name = f"change of the {target} state in 100"
    gate("GrayScott-v0", name, drift, 0, tolerance=1e-13, source=EXACT)


def test_without_feed_and_kill_nothing_is_lost(gate: Gate) -> None:
    system, field = drawn("GrayScott-v0", 2, feed=0.0, kill=0.0, target_name="fed", points=32)
    before = field.sum(1).mean((1, 2))
    found = system.free_flow(field, 50.0, 50)
    assert (found[:, 1].mean((1, 2)) > field[:, 1].mean((1, 2)) + 0.1).all()
    change = (found.sum(1).mean((1, 2)) - before).abs().max()
    source = "conservation law: 0 but for rounding"
    gate("GrayScott-v0", "change of <u + v>, F = k = 0", change, 0, tolerance=1e-13, source=source)


@pytest.mark.parametrize("waves", [(1, 1), (2, 0), (2, 1), (3, 1)])
def test_small_patterns_grow_at_the_rate_of_turing(waves: tuple[int, int], gate: Gate) -> None:
    environment: Any = make_environment("GrayScott-v0", dtype="float64", backend="torch", points=32)
    system = environment.system
    mixture = environment.task.target(environment.reset(0)[0])
    p = {name: float(value) for name, value in system.parameters.items()}
    u, v = (float(value) for value in mixture[0, :, 0, 0])
    k2 = (2 * math.pi / p["length"]) ** 2 * (waves[0] ** 2 + waves[1] ** 2)
    jacobian = np.array(
        [
            [-(v**2) - p["feed"] - p["diffusivity_u"] * k2, -2 * u * v],
            [v**2, 2 * u * v - p["feed"] - p["kill"] - p["diffusivity_v"] * k2],
        ]
    )
    values, vectors = np.linalg.eig(jacobian)
    leading = int(values.real.argmax())
    x, y = (2 * math.pi * axis for axis in system.grid.positions(torch.ones(1)[:, None]))
    wave = 1e-7 * (waves[0] * x + waves[1] * y).cos()
    shape = torch.from_numpy(vectors[:, leading].real.copy()).view(1, 2, 1, 1) * wave
    found = system.free_flow(mixture + shape, 50.0, 100) - mixture
    rate = math.log(float((found * shape).sum() / shape.square().sum())) / 50
    gate(
        "GrayScott-v0",
        f"growth rate of waves {waves}",
        rate,
        values[leading].real,
        tolerance=1e-7,
        source=f"{LINEAR}: eigenvalue of the Jacobian",
    )


@pytest.mark.parametrize(
    ("name", "time", "steps"),
    [
        ("AllenCahn-v0", 0.5, 50),
        ("CahnHilliard-v0", 0.005, 128),
        ("Fisher-v0", 2.0, 32),
        ("GinzburgLandau-v0", 4.0, 40),
        ("ComplexGinzburgLandau-v0", 2.0, 40),
        ("GrayScott-v0", 40.0, 16),
    ],
)
def test_the_scheme_is_of_fourth_order(name: str, time: float, steps: int, gate: Gate) -> None:
    system, field = drawn(name, 2)
    exact = system.free_flow(field, time, 8 * steps)
    errors = [(system.free_flow(field, time, n) - exact).norm() for n in (steps, 2 * steps)]
    order = math.log2(errors[0] / errors[1])
    source = "S. M. Cox, P. C. Matthews, J. Comput. Phys. 176 (2002) 430"
    # With k^2 before its products, Cahn-Hilliard comes to order 4 late.
    gate(name, "order in time of etdrk4", order, 4, tolerance=0.2, source=source)

"""Waves against exact solutions: solitons, packets, d'Alembert's, and what they conserve."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from separatrix.envs.core.registration import make_environment

Gate = Callable[..., None]
KDV, NLS = "KortewegDeVries-v0", "Schrodinger-v0"
WAVE, STREAM = "Wave-v0", "ConvectionDiffusionReaction-v0"
SOLITON = "N. J. Zabusky, M. D. Kruskal, Phys. Rev. Lett. 15 (1965) 240"
CONSERVED = "R. M. Miura, SIAM Rev. 18 (1976) 412: conserved"
BRIGHT = "V. E. Zakharov, A. B. Shabat, Sov. Phys. JETP 34 (1972) 62"
EXACT = "exact solution of the linear equation"


def system(name: str, **options: Any) -> Any:
    return make_environment(name, 1, dtype="float64", backend="torch", **options).system


def places(found: Any) -> Tensor:
    """Points of the grid, from 0 to the length."""
    n = found.grid.points
    return torch.arange(n, dtype=torch.float64) / n * float(found.length)


def slope(found: Any, field: Tensor) -> Tensor:
    """The derivative along x."""
    k = 2 * torch.pi / float(found.length) * found.grid.numbers[0]
    derivative: Tensor = found.grid.synthesize(1j * k * found.grid.transform(field))
    return derivative


def moved(found: Any, start: Tensor, end: Tensor) -> float:
    """How far a pulse has moved, less than half the box to either side."""
    first = (found.grid.transform(end) / found.grid.transform(start)).flatten()[1]
    return -cmath.phase(complex(first)) * float(found.length) / (2 * math.pi)


def pulse(x: Tensor, speed: float, middle: float) -> Tensor:
    """A soliton of Korteweg and de Vries."""
    return speed / 2 / torch.cosh(math.sqrt(speed) / 2 * (x - middle)).square()


def test_soliton_keeps_speed_and_shape(gate: Gate) -> None:
    found = system(KDV, length=20.0, points=256)
    start = pulse(places(found), 4.0, 10.0)[None, None]
    end = found.free_flow(start, 5.0, 2000)  # once around
    for quantity, ours, reference, tolerance in (
        ("speed of the soliton of height 2", 4 + moved(found, start, end) / 5, 4.0, 1e-6),
        ("change of its shape in time 5", float((end - start).abs().max()), 0.0, 1e-5),
    ):
        gate(KDV, quantity, ours, reference, tolerance=tolerance, source=SOLITON)


def test_solitons_pass_through_each_other(gate: Gate) -> None:
    found = system(KDV, length=60.0, points=256)
    x, time = places(found), 8.0
    start = (pulse(x, 4.0, 8.0) + pulse(x, 1.0, 20.0))[None, None]
    end = found.free_flow(start, time, 1600)[0, 0]
    # Of speeds 4 a^2 > 4 b^2, the fast one gains log((a + b) / (a - b)) / a, and the slow one
    # loses as much over b.
    leap = math.log(3.0)
    expected = pulse(x, 4.0, 8 + 4 * time + leap) + pulse(x, 1.0, 20 + time - 2 * leap)
    gate(
        KDV,
        "largest error after solitons of speeds 4 and 1 have met",
        float((end - expected).abs().max()),
        0.0,
        tolerance=1e-3,
        source="C. S. Gardner et al., Phys. Rev. Lett. 19 (1967) 1095: shifts of the phases",
    )


def test_korteweg_de_vries_conserves(gate: Gate) -> None:
    found = system(KDV, length=20.0, points=256)
    x = places(found)
    start = (pulse(x, 4.0, 5.0) + pulse(x, 2.0, 10.0))[None, None]
    end = found.free_flow(start, 10.0, 4000)

    def conserved(u: Tensor) -> Tensor:
        energy = u**3 - slope(found, u).square() / 2
        return torch.stack([q.mean() for q in (u, u.square(), energy)])

    drift = (conserved(end) / conserved(start) - 1).tolist()
    for name, change, tolerance in zip(
        ("mass", "momentum", "energy"), drift, (1e-13, 1e-6, 1e-6), strict=True
    ):
        gate(
            KDV,
            f"relative change of the {name} in time 10, two solitons",
            change,
            0.0,
            tolerance=tolerance,
            source=CONSERVED,
        )


def test_plane_wave_turns_at_its_frequency(gate: Gate) -> None:
    for interaction, substeps, tolerance in ((0.0, 1, 1e-11), (400.0, 100, 1e-6)):
        options = {"planck": 0.7, "mass": 1.3, "potential": 50.0, "interaction": interaction}
        found = system(NLS, **options)
        k, amplitude, time = 6 * math.pi, 0.5, 0.02
        theta = k * places(found)
        start = amplitude * torch.stack((theta.cos(), theta.sin()))[None]
        end = found.free_flow(start, time, substeps)
        turned = theta - time * (0.7 * k**2 / (2 * 1.3) + (50.0 - interaction * amplitude**2) / 0.7)
        exact = amplitude * torch.stack((turned.cos(), turned.sin()))[None]
        gate(
            NLS,
            f"largest error of a plane wave after {substeps} steps, interaction {interaction:g}",
            float((end - exact).abs().max()),
            0.0,
            tolerance=tolerance,
            source="exact: h omega = h^2 k^2 / (2 m) + V - g |psi|^2",
        )


def test_gaussian_packet_spreads(gate: Gate) -> None:
    found = system(NLS, interaction=0.0, potential=0.0, points=512)
    x, width, time = places(found) - 0.5, 0.02, 0.002
    re = torch.exp(-(x**2) / (4 * width**2))
    end = found.free_flow(torch.stack((re, 0 * re))[None], time, 1)
    density = end.square().sum((0, 1))
    gate(
        NLS,
        "width of a Gaussian packet after it has more than doubled, in one step",
        math.sqrt(float((density * x**2).sum() / density.sum())),
        width * math.sqrt(1 + (time / (2 * width**2)) ** 2),
        tolerance=1e-12,
        source="exact: sigma(t)^2 = sigma^2 + (h t / (2 m sigma))^2",
    )


def test_bright_soliton(gate: Gate) -> None:
    found = system(NLS, interaction=400.0)
    x = places(found) - 0.5
    envelope = 1 / torch.cosh(x / 0.05)
    rest = torch.stack((envelope, 0 * x))[None]
    gate(
        NLS,
        "largest change of the resting soliton in time 0.1",
        float((found.free_flow(rest, 0.1, 400) - rest).abs().max()),
        0.0,
        tolerance=1e-4,  # its tails meet at the ends of the box, exp(-10) high
        source=BRIGHT,
    )
    speed = 8 * math.pi  # four waves in the box
    start = torch.stack((envelope * (speed * x).cos(), envelope * (speed * x).sin()))[None]
    end = found.free_flow(start, 0.01, 80)
    first, last = (field.square().sum(1) for field in (start, end))
    for quantity, ours, reference, tolerance in (
        ("speed of a soliton of four waves", moved(found, first, last) / 0.01, speed, 1e-3),
        ("its height", math.sqrt(float(last.max() / first.max())), 1.0, 1e-2),
    ):
        gate(NLS, quantity, ours, reference, tolerance=tolerance, source=BRIGHT)


def test_schrodinger_conserves(gate: Gate) -> None:
    found = system(NLS)
    x = places(found) - 0.5
    start = torch.stack((1.1 / torch.cosh(x / 0.06), 0.2 * torch.sin(2 * torch.pi * x)))[None]
    start = found.free_flow(start, 1e-9, 1)  # of kept modes
    end = found.free_flow(start, 0.1, 1600)

    def conserved(psi: Tensor) -> Tensor:
        density = psi.square().sum(1)
        energy = slope(found, psi).square().sum(1) / 2 + 200 * density - 200 * density.square()
        return torch.stack((density.mean(), energy.mean()))

    drift = (conserved(end) / conserved(start) - 1).tolist()
    for name, change in zip(("norm", "energy"), drift, strict=True):
        gate(
            NLS,
            f"relative change of the {name} of a breathing packet in time 0.1",
            change,
            0.0,
            tolerance=1e-6,
            source=BRIGHT + ": conserved",
        )


def test_string_moves_as_d_alembert_says(gate: Gate) -> None:
    found = system(WAVE, points=200)
    x, time = places(found), 2.5  # a quarter of the box
    f = torch.exp(-((x - 0.4) ** 2) / 0.005)
    g = torch.sin(2 * torch.pi * x)
    # u = F(x - c t) + G(x + c t), of which v = -c F' + c G'.
    start = torch.stack((f + g, 0.1 * (slope(found, g[None]) - slope(found, f[None]))[0]))[None]
    end = found.free_flow(start, time, 1)
    exact = f.roll(50) + g.roll(-50)
    gate(
        WAVE,
        "largest error of two pulses after one step of 2.5",
        float((end[0, 0] - exact).abs().max()),
        0.0,
        tolerance=1e-12,
        source="d'Alembert's solution",
    )

    def energy(field: Tensor) -> float:
        return float((field[:, 1].square() + (0.1 * slope(found, field[:, 0])).square()).mean())

    gate(
        WAVE,
        "relative change of the energy in 2000 steps of 0.1",
        energy(found.free_flow(start, 200.0, 2000)) / energy(start) - 1,
        0.0,
        tolerance=1e-11,
        source="exact",
    )


def test_held_force_on_a_string_is_exact(gate: Gate) -> None:
    time = 3.0
    shape: dict[str, Any] = {"actuators": 1, "actuator_shape": "mode", "points": 32}
    push = torch.tensor([[0.4]], dtype=torch.float64)
    for substeps in (1, 7):
        found = system(WAVE, control_interval=time, substeps=substeps, **shape)
        end = found.reference(torch.zeros(1, 2, 32, dtype=torch.float64), push)
        rate = 0.2 * math.pi
        exact = (
            0.4 / rate**2 * (1 - math.cos(rate * time)) * torch.cos(2 * torch.pi * places(found))
        )
        gate(
            WAVE,
            f"largest error under a held force, {substeps} steps",
            float((end[0, 0] - exact).abs().max()),
            0.0,
            tolerance=1e-13,
            source="exact: u = f (1 - cos(c k t)) / (c k)^2",
        )


def test_mean_of_a_string_falls_freely() -> None:
    environment = make_environment(WAVE, 1, dtype="float64", backend="torch")
    state, _ = environment.reset(0)
    before = state.field.mean(2)[0]
    for _ in range(10):
        state = environment.step(state, torch.ones(1, 8, dtype=torch.float64)).state
    force = 0.2 * 0.8  # eight hats of a tenth of the box
    expected = before + torch.tensor([before[1] + force / 2, force])  # after time 1
    assert torch.allclose(state.field.mean(2)[0], expected, rtol=0, atol=1e-12)


def test_stream_carries_spreads_and_grows(gate: Gate) -> None:
    found = system(STREAM)
    x, time = places(found), 7.0
    start, exact = torch.zeros_like(x), torch.zeros_like(x)
    for n, amplitude in ((0, 1.0), (1, 0.7), (3, -0.4), (10, 0.2)):
        k = 2 * math.pi * n
        start = start + amplitude * torch.cos(k * x + n)
        grown = amplitude * math.exp((0.1 - 0.002 * k**2) * time)
        exact = exact + grown * torch.cos(k * (x - 0.1 * time) + n)
    for substeps in (1, 70):
        end = found.free_flow(start[None, None], time, substeps)[0, 0]
        gate(
            STREAM,
            f"largest error of four waves at time 7, {substeps} steps",
            float((end - exact).abs().max()),
            0.0,
            tolerance=1e-12,
            source=EXACT,
        )


def test_held_force_on_a_stream_is_exact(gate: Gate) -> None:
    time = 4.0
    shape: dict[str, Any] = {"actuators": 1, "actuator_shape": "mode"}
    found = system(STREAM, control_interval=time, substeps=1, **shape)
    push = torch.tensor([[0.3]], dtype=torch.float64)
    end = found.reference(torch.zeros(1, 1, 200, dtype=torch.float64), push)[0, 0]
    k = 2 * math.pi
    rate = complex(0.1 - 0.002 * k**2, -0.1 * k)
    response = 0.3 * (cmath.exp(rate * time) - 1) / rate
    waves = torch.exp(1j * k * places(found))
    gate(
        STREAM,
        "largest error under a held force, one step of 4",
        float((end - (response * waves).real).abs().max()),
        0.0,
        tolerance=1e-13,
        source=EXACT,
    )


def test_costs_of_the_free_flow_are_those_of_controlgym(gate: Gate) -> None:
    for name, steps, cost in ((STREAM, 100, 2677.4865056887184), (WAVE, 100, 1290.0224024852794)):
        environment: Any = make_environment(
            name, 1, task="regulate", dtype="float64", backend="torch"
        )
        state, _ = environment.reset(0)
        x = places(environment.system)
        field = torch.zeros_like(state.field)
        field[:, 0] = 1 / torch.cosh((x - 0.5) / 0.05)
        state, total = replace(state, field=field), 0.0
        for _ in range(steps):
            state, _, reward, *_ = environment.step(state, torch.zeros(1, 8, dtype=torch.float64))
            total -= float(reward)
        gate(
            name,
            f"quadratic cost of {steps} steps without control",
            total,
            cost,
            tolerance=1e-9 * cost,
            source="controlgym at commit 86f4d02, run from amplitude 1 and spread 0.05",
        )

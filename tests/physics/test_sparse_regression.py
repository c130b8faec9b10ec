"""Equations found again in noisy trajectories of the environments' physics.

Every state gets normal noise of 1 % of its standard deviation; the fit sees nothing else but the
controls. Derivatives are never taken: the weak form averages over windows. The rules were fixed
beforehand, one for all systems and seeds: half a window is a quarter of the system's period; the
threshold is half the smallest coefficient of the true equations; no ridge. What counts is that the
support is exactly the true one, for every one of ten noises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.sparse.libraries import FourierLibrary, PolynomialLibrary
from separatrix.agents.common.sparse.library import Library
from separatrix.agents.common.sparse.stlsq import STLSQ
from separatrix.agents.common.sparse.weak_form import weak_form
from separatrix.envs.core.registration import make_environment

SEEDS = range(10)
NOISE = 0.01
XYZ = ("x", "y", "z")
ANGLE = ("angle", "velocity", "motor")


@dataclass(frozen=True)
class Case:
    """A system, what is recorded of it, and its equations as {target: {feature: coefficient}}.

    Attributes:
        name: The environment.
        library: Of the states, then the controls.
        equations: The true ones.
        interval: Time between samples.
        period: Characteristic period of the motion.
        samples: Length of each trajectory.
        trajectories: How many there are.
        push: Amplitude of the control, a sum of sines that swings the pendulum to 2 rad: over
            small angles its sine is a parabola, which the library holds, too.
    """

    name: str
    library: Library
    equations: tuple[dict[str, float], ...]
    interval: float
    period: float
    samples: int
    trajectories: int = 1
    push: float = 0.0


CASES = (
    Case(
        "Lorenz-v0",
        PolynomialLibrary(3, XYZ),
        (
            {"x": -10.0, "y": 10.0},
            {"x": 28.0, "y": -1.0, "x z": -1.0},
            {"x y": 1.0, "z": -8 / 3},
        ),
        interval=0.01,
        period=0.75,
        samples=5001,
    ),
    Case(
        "Rossler-v0",
        PolynomialLibrary(2, XYZ),
        (
            {"y": -1.0, "z": -1.0},
            {"x": 1.0, "y": 0.2},
            {"1": 0.2, "x z": 1.0, "z": -5.7},
        ),
        interval=0.02,
        period=5.9,
        samples=10001,
    ),
    Case(
        "DampedPendulum-v0",
        PolynomialLibrary(2, ANGLE) + FourierLibrary(("angle",)),
        (
            {"velocity": 1.0},
            {"sin(angle)": 9.81, "velocity": -0.1, "motor": 3.0},
        ),
        interval=0.02,
        period=2.0,
        samples=2001,
        trajectories=10,
        push=1.0,
    ),
)


def trajectories(case: Case) -> tuple[Tensor, Tensor]:
    """States (trajectories, samples, states) and controls at the same times.

    The control is held between samples at its value half-way, which errs in second order.
    """
    environment = make_environment(
        case.name,
        case.trajectories,
        dtype="float64",
        control_interval=case.interval,
        substeps=4,
    )
    phases = torch.linspace(0.0, 6.0, 3 * case.trajectories, dtype=torch.float64).reshape(-1, 3)
    speeds = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def control(time: float) -> Tensor:
        return case.push / 3 * torch.sin(speeds * time + phases).sum(1, keepdim=True)

    state, _ = environment.reset(0)
    states, controls = [state.values], [control(0.0)]
    for k in range(case.samples - 1):
        state = environment.system.advance(state, control((k + 0.5) * case.interval))
        states.append(state.values)
        controls.append(control((k + 1) * case.interval))
    return torch.stack(states, 1), torch.stack(controls, 1)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_equations_are_recovered_from_noisy_data(case: Case, gate: Callable[..., None]) -> None:
    states, controls = trajectories(case)
    names = case.library.feature_names
    truth = torch.tensor([[row.get(name, 0.0) for name in names] for row in case.equations])
    threshold = 0.5 * float(truth[truth != 0].abs().min())
    half_width = round(case.period / 4 / case.interval)
    exact, worst = 0, 0.0
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(states.shape, generator=generator, dtype=torch.float64)
        noisy = states + NOISE * states.std((0, 1)) * noise
        inputs = torch.cat([noisy, controls], 2)[..., : len(case.library.names)]
        theta, targets = weak_form(
            case.library(inputs), noisy, interval=case.interval, half_width=half_width
        )
        found = STLSQ(threshold=threshold, alpha=0.0).fit(theta, targets).coefficients
        exact += bool(((found != 0) == (truth != 0)).all())
        error = ((found - truth) / truth)[truth != 0].abs().max()
        worst = max(worst, float(error))
    gate(
        case.name,
        "noises of 10 at 1 % from which STLSQ finds exactly the terms of the equations",
        exact,
        len(SEEDS),
        tolerance=0,
        source="the equations themselves",
    )
    gate(
        case.name,
        "largest relative error of a coefficient found by STLSQ at 1 % noise",
        worst,
        0.0,
        tolerance=0.05,
        source="the equations themselves",
    )

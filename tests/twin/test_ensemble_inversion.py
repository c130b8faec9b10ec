from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System
from separatrix.envs.steppers.ode import difference_equation
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem
from separatrix.envs.twin.assimilate.calibration import calibrate
from separatrix.envs.twin.assimilate.ensemble_inversion import ensemble_inversion
from separatrix.envs.twin.assimilate.priors import LogNormal, Normal
from separatrix.envs.twin.assimilate.reading_error import ReadingError


class _Nowhere:
    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        return torch.zeros((len(stream.seed), 1), dtype=torch.float64), stream


@difference_equation(states="y", controls="u v", start=_Nowhere(), box=(-1e9, 1e9))
def response(y, u, v, *, a=1.0, b=-1.0):  # type: ignore[no-untyped-def]
    """Linear in its parameters."""
    return (a * u + b * v,)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PRIORS = {"a": Normal(1.0, 0.5), "b": Normal(-1.0, 2.0)}


def linear(records: int) -> tuple[System, OdeState, Tensor, Tensor]:
    system = OdeSystem(
        response, {}, num_envs=records, control_interval=1.0, substeps=1, integrator="map",
        device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    state = system.initial_state(Stream.start(torch.arange(records)))
    controls = noise(25, records, 2)
    readings = 0.4 * controls[..., :1] + 0.5 * controls[..., 1:] + 0.7 * noise(25, records, 1)
    readings[noise(25, records, 1, seed=2) < -0.67] = torch.nan
    return system, state, controls, readings


@pytest.mark.parametrize(("steps", "growth"), [(1, 1.0), (4, 1.0), (6, 2.0)])
def test_large_ensemble_has_the_posterior_of_a_linear_model(steps: int, growth: float) -> None:
    """However many steps the readings are divided over; MAP is exact, see its tests."""
    arguments: dict[str, Any] = {"parameters": PRIORS, "error": ReadingError(0.7, correlation=0.4)}
    exact = calibrate(*linear(2), **arguments)
    found = ensemble_inversion(
        *linear(2), **arguments, members=2000, steps=steps, growth=growth, seed=3
    )
    deviation = exact.identifiability.ratio
    assert ((found.center - exact.center).abs() < 0.12 * deviation).all()
    torch.testing.assert_close(found.identifiability.ratio, deviation, rtol=0.08, atol=0)
    assert found.converged.all() and (found.simulations == steps).all()


def test_finds_the_parameters_of_lorenz_as_the_gradient_does() -> None:
    system = make_environment("Lorenz-v0", 3, dtype="float64").system
    state = system.initial_state(Stream.start(torch.arange(3)))
    controls = 3 * noise(16, 3, 1)
    found, moved = [], state
    for control in controls:
        moved = system.advance(moved, control)
        found.append(system.values(moved))
    readings = torch.stack(found) + 0.2 * noise(16, 3, 3, seed=1)
    priors = {
        "sigma": LogNormal(9.0, 0.2),
        "rho": LogNormal(25.0, 0.2),
        "beta": LogNormal(3.0, 0.2),
    }
    arguments: dict[str, Any] = {"parameters": priors, "error": ReadingError(0.2)}
    records = (system, state, controls, readings)
    sampled = ensemble_inversion(*records, **arguments, seed=0)
    fitted = calibrate(*records, **arguments)
    deviation = fitted.identifiability.ratio
    assert deviation.max() < 0.2  # the readings tell what the prior does not
    assert ((sampled.center - fitted.center).abs() < 0.3 * deviation).all()
    torch.testing.assert_close(sampled.identifiability.ratio, deviation, rtol=0.3, atol=0)
    assert sampled.misfit.mean() == pytest.approx(1.0, abs=0.3)


def test_depends_on_the_seed_alone() -> None:
    def run(seed: int) -> Tensor:
        arguments: dict[str, Any] = {"parameters": PRIORS, "error": ReadingError(0.7)}
        return ensemble_inversion(*linear(2), **arguments, members=10, seed=seed).center

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_members_that_diverge_are_replaced_and_lost_records_leave_others_alone() -> None:
    system, state, controls, readings = linear(2)

    def fragile(system: System, state: OdeState) -> Tensor:
        """Not finite where a is large, unless the shapes alone are asked for."""
        a = system.parameters["a"]
        broken = (a > 1.3)[:, None] if len(a) == len(state.interval) else torch.tensor(False)
        return torch.where(broken, torch.nan, system.values(state))

    arguments: dict[str, Any] = {"parameters": PRIORS, "error": ReadingError(0.7), "seed": 0}
    found = ensemble_inversion(system, state, controls, readings, observe=fragile, **arguments)
    assert found.converged.all() and found.center.isfinite().all()

    def hopeless(system: System, state: OdeState) -> Tensor:
        values = system.values(state)
        lost = torch.arange(len(values)) < len(values) // 2
        return torch.where(lost[:, None], torch.nan, values)

    found = ensemble_inversion(system, state, controls, readings, observe=hopeless, **arguments)
    clean = ensemble_inversion(system, state, controls, readings, **arguments)
    assert found.converged.tolist() == [False, True] and found.center[0].isnan().all()
    torch.testing.assert_close(found.center[1], clean.center[1])


@pytest.mark.parametrize(
    "changes",
    [{"members": 3}, {"members": 0}, {"steps": 0}, {"growth": 0.5}, {"growth": float("nan")}],
)
def test_refuses_bad_arguments(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"parameters": PRIORS, "error": ReadingError(0.7), "seed": 0}
    arguments |= changes
    with pytest.raises(ValueError, match="allowed"):
        ensemble_inversion(*linear(2), **arguments)

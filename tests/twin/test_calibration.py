from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System
from separatrix.envs.steppers.ode import difference_equation
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem
from separatrix.envs.twin.assimilate.calibration import Calibration, calibrate
from separatrix.envs.twin.assimilate.priors import InitialFactor, LogNormal, Normal
from separatrix.envs.twin.assimilate.reading_error import ReadingError, Whitening


class _Nowhere:
    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        return torch.zeros((len(stream.seed), 2), dtype=torch.float64), stream


@difference_equation(states="y memory", controls="u v", start=_Nowhere(), box=(-1e9, 1e9))
def response(y, memory, u, v, *, a=1.0, b=-1.0, c=0.0):  # type: ignore[no-untyped-def]
    """Linear in a and b; c has no effect; memory keeps half of what it was."""
    return a * u + b * v + 0 * c, memory / 2


def linear(records: int, **parameters: Any) -> tuple[System, OdeState]:
    system = OdeSystem(
        response, parameters, num_envs=records, control_interval=1.0, substeps=1,
        integrator="map", device=torch.device("cpu"), dtype=torch.float64,
    )  # fmt: skip
    return system, system.initial_state(Stream.start(torch.arange(records)))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PRIORS = {"a": Normal(1.0, 0.5), "b": Normal(-1.0, 2.0)}
ERROR = ReadingError(0.7, correlation=0.6, mean=0.3)


def records_of(system: System, state: OdeState, truth: dict[str, Tensor], intervals: int) -> Any:
    """Controls and readings, a quarter of which is missing, with an error of 0.7."""
    records = len(state.interval)
    controls = noise(intervals, records, 2)
    found = []
    system = system.with_parameters(truth, records)
    for control in controls:
        state = system.advance(state, control)
        found.append(system.values(state)[:, :1])
    readings = torch.stack(found) + 0.7 * noise(intervals, records, 1, seed=1)
    readings[noise(intervals, records, 1, seed=2) < -0.67] = torch.nan
    return controls, readings


def covariance_of(error: ReadingError, places: Tensor) -> Tensor:
    distance = (places[:, None] - places).abs().double()
    return float(error.deviation) ** 2 * error.correlation**distance


def test_posterior_of_a_linear_model_is_exact() -> None:
    system, state = linear(3)
    truth = {"a": torch.tensor([0.5, 1.0, 2.0]).double(), "b": torch.tensor([1.0, -3, 0]).double()}
    controls, readings = records_of(system, state, truth, 40)
    found = calibrate(
        system,
        state,
        controls,
        readings,
        parameters=PRIORS,
        error=ERROR,
        observe=[0],
        tolerance=1e-8,
    )
    for record in range(3):
        here = (~readings[:, record, 0].isnan()).nonzero()[:, 0]
        assert 0 < len(here) < 40
        inverse = torch.linalg.inv(covariance_of(ERROR, here))
        design = controls[here, record]
        middle = torch.tensor([1.0, -1.0]).double()
        precision = design.mT @ inverse @ design + torch.diag(torch.tensor([4.0, 0.25]).double())
        covariance = torch.linalg.inv(precision)
        innovation = readings[here, record, 0] - ERROR.mean - design @ middle
        mean = middle + covariance @ design.mT @ inverse @ innovation
        scale = torch.tensor([0.5, 2.0]).double()
        estimate = torch.stack([found.estimates[name][record] for name in "ab"])
        torch.testing.assert_close(estimate, mean, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(
            found.covariance[record] * scale * scale[:, None], covariance, rtol=1e-8, atol=1e-10
        )
        half = 1.6448536269514722 * covariance[0, 0].sqrt()
        torch.testing.assert_close(
            found.intervals(0.9)["a"][record], torch.stack((mean[0] - half, mean[0] + half))
        )
    assert found.converged.all() and found.names == ("a", "b")


def test_whitened_squares_are_those_of_the_inverse_covariance() -> None:
    present = noise(30, 2, 1) > -0.5
    present[:, 1] &= noise(30, 1, seed=5) > 0
    for every in (1, 3):
        error = ReadingError(1.3, correlation=0.8, every=every)
        whitening = Whitening(error, present)
        difference = noise(30, 2, 1, seed=3)
        white = whitening(difference[whitening.used])
        for record in range(2):
            turns = torch.arange(30) % every == every - 1
            here = (present[:, record, 0] & turns).nonzero()[:, 0]
            rest = difference[here, record, 0]
            expected = rest @ torch.linalg.solve(covariance_of(error, here), rest)
            torch.testing.assert_close(white[:, record].square().sum(), expected)


def test_covers_the_truth_as_often_as_it_says() -> None:
    """400 parameters drawn from the prior: 0.9 within 0.04, which is 2.7 standard errors."""
    system, state = linear(200)
    truth = {name: prior.decode(noise(1, 200, seed=i))[0] for i, (name, prior) in enumerate(
        PRIORS.items(), 7)}  # fmt: skip
    controls, readings = records_of(system, state, truth, 12)
    found = calibrate(
        system, state, controls, readings, parameters=PRIORS, error=ReadingError(0.7), observe=[0]
    )
    interval = found.intervals(0.9)
    inside = [(t >= interval[n][:, 0]) & (t <= interval[n][:, 1]) for n, t in truth.items()]
    assert torch.stack(inside).double().mean() == pytest.approx(0.9, abs=0.04)


LORENZ = {"sigma": LogNormal(9.0, 0.2), "rho": LogNormal(25.0, 0.2), "beta": LogNormal(3.0, 0.2)}


def lorenz(records: int) -> tuple[System, Any, Tensor, Tensor]:
    system = make_environment("Lorenz-v0", records, dtype="float64").system
    state = system.initial_state(Stream.start(torch.arange(records)))
    controls = 3 * noise(20, records, 1)
    found, moved = [], state
    for control in controls:
        moved = system.advance(moved, control)
        found.append(system.values(moved))
    return system, state, controls, torch.stack(found)


def fit(records: int, keep: slice = slice(None), **changes: Any) -> Calibration:
    system, state, controls, readings = lorenz(records)
    readings = readings + 0.1 * noise(*readings.shape, seed=4)
    arguments: dict[str, Any] = {"parameters": LORENZ, "error": ReadingError(0.1)} | changes
    return calibrate(system, state, controls[keep], readings[keep], **arguments)


def test_recovers_the_parameters_of_lorenz() -> None:
    found = fit(4)
    for name, value in {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3}.items():
        torch.testing.assert_close(
            found.estimates[name], torch.full((4,), value).double(), rtol=0.02, atol=0.0
        )
        low, high = found.intervals(0.999)[name].unbind(1)
        assert ((low < value) & (value < high)).all()
    assert found.converged.all() and found.identifiability.identifiable.all()
    assert found.misfit.mean() == pytest.approx(1.0, abs=0.3)


def test_autograd_and_differences_agree() -> None:
    one, other = (
        fit(
            2,
            slice(4),
            error=ReadingError(0.1, correlation=0.5),
            factors={"start": InitialFactor((0, 1), LogNormal(1.0, 0.1))},
            derivative=derivative,
            iterations=3,
        )
        for derivative in ("differences", "autograd")
    )
    torch.testing.assert_close(one.center, other.center, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.covariance, other.covariance, rtol=1e-4, atol=1e-8)


def test_a_record_alone_is_as_in_a_batch() -> None:
    system, state, controls, readings = lorenz(3)
    prior = {"rho": LogNormal(torch.tensor([24.0, 26.0, 31.0]).double(), 0.2)}
    both = calibrate(system, state, controls, readings, parameters=prior, error=ReadingError(0.1))
    for record in range(3):
        alone, start, _, _ = lorenz(3)
        chosen = torch.tensor([record])
        single = calibrate(
            alone, take(start, chosen), controls[:, chosen], readings[:, chosen],
            parameters={"rho": LogNormal(float(prior["rho"].median[record]), 0.2)},  # type: ignore[index]
            error=ReadingError(0.1),
        )  # fmt: skip
        torch.testing.assert_close(single.center[0], both.center[record], rtol=0, atol=0)
        torch.testing.assert_close(single.covariance[0], both.covariance[record])


def test_records_may_differ_in_what_is_known() -> None:
    c = torch.tensor([0.0, 5.0]).double()
    b = torch.tensor([-1.0, 4.0]).double()
    system, state = linear(2, b=b, c=c)
    controls, readings = records_of(system, state, {"a": torch.tensor([0.3, 1.7]).double()}, 300)
    found = calibrate(
        system, state, controls, readings,
        parameters={"a": PRIORS["a"]}, error=ReadingError(0.7), observe=[0],
    )  # fmt: skip
    torch.testing.assert_close(
        found.estimates["a"], torch.tensor([0.3, 1.7]).double(), rtol=0, atol=0.15
    )


def test_estimates_factors_of_the_initial_state() -> None:
    system, state = linear(2)
    state = system.with_values(state, torch.ones((2, 2), dtype=torch.float64))
    controls = torch.zeros((4, 2, 2), dtype=torch.float64)
    powers = 0.5 ** torch.arange(1, 5).double()
    readings = torch.stack((3 * powers, 0.5 * powers), 1)[..., None]
    found = calibrate(
        system, state, controls, readings, parameters={}, observe=[1], error=ReadingError(1e-4),
        factors={"start": InitialFactor([1], LogNormal(1.0, 1.0))},
    )  # fmt: skip
    torch.testing.assert_close(
        found.estimates["start"], torch.tensor([3.0, 0.5]).double(), rtol=1e-3, atol=0
    )


def test_estimates_stay_within_bounds() -> None:
    system, state = linear(2)
    truth = {"a": torch.tensor([3.0, 0.9]).double()}
    controls, readings = records_of(system, state, truth, 200)
    found = calibrate(
        system, state, controls, readings, error=ReadingError(0.7), observe=[0],
        parameters={"a": Normal(1.0, 0.5, high=2.0), "b": PRIORS["b"]},
    )  # fmt: skip
    assert found.converged.all()
    assert found.estimates["a"][0] == 2.0 and found.intervals()["a"][0, 1] == 2.0
    assert found.estimates["a"][1] == pytest.approx(0.9, abs=0.2)


def test_residuals_are_where_readings_were_used() -> None:
    system, state = linear(2)
    controls, readings = records_of(system, state, {}, 21)
    found = calibrate(
        system, state, controls, readings, parameters=PRIORS, observe=[0],
        error=ReadingError(0.7, mean=0.2, every=5),
    )  # fmt: skip
    turns = (torch.arange(21) % 5 == 4)[:, None, None]
    assert torch.equal(found.residuals.isnan(), readings.isnan() | ~turns)
    predicted = found.estimates["a"] * controls[..., 0] + found.estimates["b"] * controls[..., 1]
    expected = readings[..., 0] - 0.2 - predicted
    here = ~found.residuals[..., 0].isnan()
    torch.testing.assert_close(found.residuals[..., 0][here], expected[here])


def test_a_record_that_diverges_leaves_the_others_alone() -> None:
    system, state = linear(2)
    controls, readings = records_of(system, state, {}, 20)
    clean = calibrate(
        system, state, controls, readings, parameters=PRIORS, error=ERROR, observe=[0]
    )
    spoiled = system.with_values(
        state, system.values(state).index_fill(0, torch.tensor(0), torch.nan)
    )

    def whole(system: System, state: Any) -> Tensor:
        return system.values(state).sum(1, keepdim=True)

    found = calibrate(
        system, spoiled, controls, readings, parameters=PRIORS, error=ERROR, observe=whole
    )
    assert found.center[0].isnan().all() and not found.converged[0]
    assert found.misfit[0].isnan() and found.intervals()["a"][0].isnan().all()
    torch.testing.assert_close(found.center[1], clean.center[1])


def test_draws_have_mean_and_covariance_of_the_posterior() -> None:
    system, state = linear(1)
    controls, readings = records_of(system, state, {}, 10)
    found = calibrate(
        system, state, controls, readings, parameters=PRIORS, error=ERROR, observe=[0]
    )
    drawn = found.draws(20000, torch.Generator().manual_seed(0))
    both = torch.stack((drawn["a"][0] / 0.5, drawn["b"][0] / 2.0))
    torch.testing.assert_close(torch.cov(both), found.covariance[0], rtol=0.05, atol=2e-3)
    assert drawn["a"].mean() == pytest.approx(float(found.estimates["a"]), abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"rhoo": LogNormal(28.0, 0.1)}}, "unknown parameter 'rhoo'.*rho"),
        ({"parameters": {}}, "allowed: different names, at least 1"),
        ({"factors": {"rho": InitialFactor([0], LogNormal(1.0, 0.1))}}, "'rho' twice"),
        ({"factors": {"x": InitialFactor([3], LogNormal(1.0, 0.1))}}, "allowed: 0 to 2"),
        ({"derivative": "exact"}, "'exact'; allowed: differences, autograd"),
        ({"iterations": 0}, "iterations"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"observe": [5]}, "observe"),
        ({"error": ReadingError(1.0, every=1000)}, "no reading of record 0"),
    ],
)
def test_refuses_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(2, **changes)


def test_refuses_bad_records() -> None:
    system, state, controls, readings = lorenz(2)
    for name, bad in {
        "observations: got shape": (controls, readings[:, :, :2]),
        "observations: got shape .*allowed": (controls, readings[:-1]),
        "observations: got infinity": (controls, readings / 0.0),
        "observations: got no reading of record 1": (
            controls, readings.index_fill(1, torch.tensor(1), torch.nan),
        ),
        "controls: got NaN": (controls * torch.nan, readings),
        "controls: got shape": (controls[:, :1], readings),
        "controls: got": ("controls", readings),
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=name):
            calibrate(system, state, *bad, parameters=LORENZ, error=ReadingError(0.1))


def test_refuses_single_precision_and_patients_that_do_not_fit() -> None:
    arguments = lorenz(2)[1:]
    single = make_environment("Lorenz-v0", 2, dtype="float32").system
    with pytest.raises(ValueError, match=r"allowed: torch\.float64"):
        calibrate(single, *arguments, parameters=LORENZ, error=ReadingError(0.1))
    three = make_environment("Lorenz-v0", 3, dtype="float64", rho=[28.0, 28.0, 29.0]).system
    with pytest.raises(ValueError, match="3 environments that differ; allowed: 2"):
        calibrate(three, *arguments, parameters=LORENZ, error=ReadingError(0.1))
    with pytest.raises(ValueError, match="level: got 1"):
        fit(1).intervals(1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogNormal(0.0, 0.1),
        lambda: LogNormal(1.0, 0.0),
        lambda: LogNormal(1.0, 0.1, low=2.0),
        lambda: LogNormal(1.0, 0.1, low=-1.0),
        lambda: LogNormal(torch.tensor([1.0, torch.nan]).double(), 0.1),
        lambda: Normal(float("inf"), 0.1),
        lambda: Normal(0.0, -1.0),
        lambda: ReadingError(0.0),
        lambda: ReadingError(1.0, correlation=1.0),
        lambda: ReadingError(1.0, every=0),
    ],
)
def test_refuses_bad_priors_and_errors(make: Any) -> None:
    with pytest.raises(ValueError, match="allowed"):
        make()


def test_variation_of_a_log_normal_prior_is_its_standard_deviation_over_its_mean() -> None:
    values = LogNormal(3.0, 0.4).decode(noise(1, 200000))
    assert values.median() == pytest.approx(3.0, rel=0.01)
    assert values.std() / values.mean() == pytest.approx(0.4, rel=0.02)
    torch.testing.assert_close(LogNormal(3.0, 0.4).encode(values), noise(1, 200000))

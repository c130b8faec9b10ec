from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.assimilate.calibration import calibrate
from separatrix.envs.twin.assimilate.identifiability import Identifiability
from separatrix.envs.twin.assimilate.priors import LogNormal
from separatrix.envs.twin.assimilate.reading_error import ReadingError


def of(*rows: list[float]) -> Identifiability:
    names = tuple("abcdef"[: len(rows)])
    return Identifiability(names, torch.tensor([list(rows)], dtype=torch.float64))


def test_rule_is_half_the_prior_and_no_strong_correlation() -> None:
    assert of([0.24, 0.0], [0.0, 0.26]).identifiable.tolist() == [[True, False]]
    assert of([0.04, 0.0376], [0.0376, 0.04]).identifiable.tolist() == [[True, True]]  # 0.94
    assert of([0.04, 0.0384], [0.0384, 0.04]).identifiable.tolist() == [[False, False]]  # 0.96
    assert of([0.04, -0.0384], [-0.0384, 0.04]).identifiable.tolist() == [[False, False]]
    assert of([0.04]).identifiable.tolist() == [[True]]
    assert not of([torch.nan]).identifiable.any()


def test_directions_are_the_axes_of_the_posterior() -> None:
    angle = torch.tensor(0.3).double()
    axis = torch.stack((angle.cos(), angle.sin()))
    other = torch.stack((-angle.sin(), angle.cos()))
    covariance = 0.81 * torch.outer(axis, axis) + 0.01 * torch.outer(other, other)
    found = Identifiability(("a", "b"), covariance[None])
    deviations, axes = found.directions
    torch.testing.assert_close(deviations[0], torch.tensor([0.9, 0.1]).double())
    torch.testing.assert_close((axes[0, :, 0] @ axis).abs(), torch.tensor(1.0).double())
    torch.testing.assert_close((axes[0, :, 1] @ other).abs(), torch.tensor(1.0).double())
    torch.testing.assert_close(found.ratio[0], covariance.diagonal().sqrt())


def test_refuses_a_covariance_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"allowed: \(record, 2, 2\)"):
        Identifiability(("a", "b"), torch.eye(3, dtype=torch.float64)[None])


def glucose(names: list[str]) -> Identifiability:
    """Of a day with one meal."""
    options: dict[str, Any] = {"meals": [(480, 60)], "dtype": "float64", "control_interval": 15}
    system: Any = make_environment("Glucose-v0", 1, **options).system
    state = system.initial_state(Stream.start(torch.tensor([0])))
    controls = torch.zeros((96, 1, 2), dtype=torch.float64)
    controls[..., 0] = system.basal
    readings, moved = [], state
    for control in controls:
        moved = system.advance(moved, control)
        readings.append(system.glucose(moved)[:, None])

    def observe(system, state) -> Tensor:  # type: ignore[no-untyped-def]
        return system.glucose(state)[:, None]

    priors = {name: LogNormal(float(system.parameters[name]), 0.2) for name in names}
    return calibrate(
        system, state, controls, torch.stack(readings), parameters=priors,
        error=ReadingError(2.0), observe=observe,
    ).identifiability  # fmt: skip


def test_two_parameters_of_which_only_the_difference_matters_are_not_identifiable() -> None:
    """What the liver gives and the brain takes, kp1 - Fsnc; without kp1 Fsnc is identifiable."""
    both = glucose(["kp1", "Fsnc", "f"])
    assert both.identifiable[0].tolist() == [False, False, True]
    assert both.correlation[0, 0, 1] > 0.99
    deviations, axes = both.directions
    # kp1 = 3.6 and Fsnc = 1.0 of this patient: an equal change is a larger part of Fsnc.
    system = make_environment("Glucose-v0", 1).system
    line = torch.cat([1 / system.parameters[name] for name in ("kp1", "Fsnc")])
    assert deviations[0, 0] > 0.9
    assert axes[0, :2, 0] @ (line / line.norm()) == pytest.approx(
        float(axes[0, :2, 0].sum().sign()), abs=0.01
    )
    assert glucose(["Fsnc", "f"]).identifiable.all()


def test_a_parameter_without_effect_keeps_its_prior() -> None:
    """Vmx multiplies insulin's action, which is zero under basal insulin."""
    found = glucose(["kp1", "Vmx"])
    assert found.ratio[0, 1] == pytest.approx(1.0, abs=1e-3)
    assert found.identifiable[0].tolist() == [True, False]


def test_table_tells_the_verdict_of_every_parameter() -> None:
    lines = of([0.01, 0.0, 0.0], [0.0, 0.81, -0.4], [0.0, -0.4, 0.49]).table().splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == ["yes", "no", "no"]
    assert lines[1].split()[:2] == ["a", "0.100"]
    assert lines[2].split()[2:4] == ["-0.63", "c"]
    assert "+" in lines[5] and " b" in lines[5] and " c" in lines[5]
    assert of([0.01]).table().splitlines()[1].split() == ["a", "0.100", "+0.00", "yes"]

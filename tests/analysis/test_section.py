"""Crossings of a plane: exact where a flow is known, derivatives against central differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.envs.analysis.flow import flow_step
from separatrix.envs.analysis.section import Section, locate, next_crossing
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.ode_system import OdeSystem


class Anywhere:
    """Nothing here starts an episode."""

    def sample(self, stream: Stream) -> tuple[Tensor, Stream]:
        raise NotImplementedError


@ode(states="x v", controls="u", start=Anywhere(), box=(-1e9, 1e9))
def oscillator(
    x: Expression, v: Expression, u: Expression, *, frequency: Expression = 1.0
) -> tuple[Expression, ...]:
    """A force u shifts the centre to u / frequency^2."""
    return v, -(frequency**2) * x + u


def system(num_envs: int = 1, **parameters: Any) -> OdeSystem:
    return OdeSystem(
        oscillator,
        parameters,
        num_envs=num_envs,
        control_interval=0.1,
        substeps=1,
        device=torch.device("cpu"),
        dtype=torch.float64,
        backend="torch",
    )


def rows(*values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


UPWARD = Section(normal=(1.0, 0.0), offset=0.0)


def test_crossings_of_an_oscillator() -> None:
    found = next_crossing(system(), UPWARD, rows((-1.0, 0.0), (1.0, 0.0)), step=0.02, limit=10.0)
    assert found.found.all()
    expected = torch.tensor([math.pi / 2, 3 * math.pi / 2], dtype=torch.float64)
    torch.testing.assert_close(found.time, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.values, rows((0.0, 1.0), (0.0, 1.0)), rtol=0, atol=1e-8)
    assert found.values[:, 0].abs().max() < 1e-15  # on the section itself
    downward = Section((1.0, 0.0), 0.0, direction=-1)
    back = next_crossing(system(), downward, rows((-1.0, 0.0)), step=0.02, limit=10.0)
    assert back.time.item() == pytest.approx(3 * math.pi / 2, abs=1e-8)
    assert back.values[0, 1].item() == pytest.approx(-1.0, abs=1e-8)


def test_a_start_on_the_section_counts_only_when_it_returns() -> None:
    start = rows((0.0, 1.0), (-1e-17, 1.0), (1e-17, 2.0))
    found = next_crossing(system(), UPWARD, start, step=0.02, limit=10.0)
    assert found.time.tolist() == pytest.approx([2 * math.pi] * 3, abs=1e-8)


def test_parameters_and_controls_of_their_own() -> None:
    frequency = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    control = torch.tensor([[0.0], [1.0], [-2.0]], dtype=torch.float64)
    start = rows((-1.0, 0.0)).expand(3, 2)
    own = system(3, frequency=frequency)
    found = next_crossing(own, UPWARD, start, control, step=0.01, limit=9.0)
    centre = control[:, 0] / frequency**2
    # x = centre - (1 + centre) cos(w t)
    expected = torch.arccos(centre / (1 + centre)) / frequency
    torch.testing.assert_close(found.time, expected, rtol=0, atol=1e-8)


def test_rows_that_do_not_cross_leave_the_others_alone() -> None:
    slow = rows((-1.0, 0.0), (-1.0, 0.0), (math.nan, 0.0))
    control = torch.tensor([[0.0], [-50.0], [0.0]]).double()  # centre far below
    found = next_crossing(system(), UPWARD, slow, control, step=0.02, limit=8.0)
    assert found.found.tolist() == [True, False, False]
    assert found.values[1:].isnan().all() and found.time[1:].isnan().all()
    alone = next_crossing(system(), UPWARD, slow[:1], step=0.02, limit=8.0)
    for name in ("values", "time", "by_state", "by_control"):
        assert torch.equal(getattr(found, name)[:1], getattr(alone, name))


def test_derivatives_of_the_return_map_of_lorenz() -> None:
    environment: Any = make_environment("Lorenz-v0", dtype="float64", backend="torch")
    section = Section((0.3, 0.1, 1.0), 27.0, direction=-1)
    start, control = rows((-13.0, -18.0, 27.5)), rows((0.7,))

    def crossing(shift: Tensor) -> Any:
        n = len(shift)
        return next_crossing(
            environment.system,
            section,
            start.expand(n, -1) + shift[:, :3],
            control.expand(n, -1) + shift[:, 3:],
            step=0.005,
            limit=3.0,
        )

    exact = crossing(torch.zeros(1, 4).double())
    assert section.height(exact.values).abs().max() < 1e-12
    size = 1e-5 * torch.eye(4, dtype=torch.float64)
    ahead, behind = crossing(size), crossing(-size)
    difference = ((ahead.values - behind.values) / 2e-5).T
    torch.testing.assert_close(exact.by_state[0], difference[:, :3], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(exact.by_control[0], difference[:, 3:], rtol=1e-6, atol=1e-7)
    # Where the start is along the flow does not matter, and the image stays in the plane.
    flow = environment.system.vector_field(start, control)
    assert (exact.by_state[0] @ flow[0]).abs().max() < 1e-6 * flow.abs().max()
    assert (
        torch.tensor(section.normal, dtype=torch.float64) @ exact.by_state[0]
    ).abs().max() < 1e-10


def test_locate_within_a_long_step() -> None:
    """The crossing is a point of the scheme itself, to rounding, whatever the step."""
    values, control = rows((-0.2, 1.0)), rows((0.0,))
    step = torch.tensor([0.7], dtype=torch.float64)
    time = locate(system(), UPWARD, values, control, step)
    at = flow_step(system(), values, control, time)
    assert at[0, 0].abs().item() < 1e-15
    assert time.item() == pytest.approx(math.atan(0.2), abs=1e-6)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="direction: got 0; allowed: 1, -1"):
        Section((1.0,), 0.0, direction=0)
    with pytest.raises(ValueError, match=r"normal and offset: got .*allowed: finite"):
        Section((0.0, 0.0), 1.0)
    with pytest.raises(ValueError, match=r"normal and offset: got .*allowed: finite"):
        Section((1.0, 0.0), math.nan)
    start = rows((-1.0, 0.0))
    with pytest.raises(ValueError, match="normal: got 3 numbers; allowed: 2, one a state"):
        next_crossing(system(), Section((1.0, 0.0, 0.0), 0.0), start, step=0.1, limit=1.0)
    with pytest.raises(ValueError, match="step: got 0; allowed: a number > 0"):
        next_crossing(system(), UPWARD, start, step=0, limit=1.0)
    henon: Any = make_environment("Henon-v0", dtype="float64", backend="torch")
    with pytest.raises(ValueError, match="system: got the map henon; allowed: an ODE system"):
        next_crossing(henon.system, UPWARD, start, step=0.1, limit=1.0)

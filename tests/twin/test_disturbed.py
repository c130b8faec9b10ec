from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.state import take
from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.assimilate.disturbed import Disturbance, DisturbedState, DisturbedSystem
from separatrix.envs.twin.assimilate.twin import Twin

BIAS = {"bias": Disturbance(2.0, 0.9)}


def lorenz(count: int, **parameters: Any) -> DisturbedSystem:
    system = make_environment("Lorenz-v0", count, dtype="float64", **parameters).system
    return DisturbedSystem(system, {**BIAS, "push": Disturbance(0.5, 0.0, component=2)})


def start(system: DisturbedSystem) -> DisturbedState:
    return system.initial_state(Stream.start(torch.arange(system.num_envs)))


def still(system: DisturbedSystem) -> Tensor:
    return torch.zeros((system.num_envs, 1), dtype=torch.float64)


def test_disturbances_have_their_deviation_and_memory() -> None:
    system = lorenz(20000)
    state = start(system)
    found = [state.disturbances]
    for _ in range(3):
        state = system.advance(state, still(system))
        found.append(state.disturbances)
    for values in (found[0], found[3]):
        torch.testing.assert_close(
            values.std(0), torch.tensor([2.0, 0.5]).double(), rtol=0.02, atol=0
        )
    for lag, expected in ((1, 0.9), (3, 0.729)):
        both = torch.stack((found[0][:, 0], found[lag][:, 0]))
        assert torch.corrcoef(both)[0, 1] == pytest.approx(expected, abs=0.02)
    pushes = torch.stack((found[0][:, 1], found[1][:, 1]))
    assert abs(torch.corrcoef(pushes)[0, 1]) < 0.03


def test_pushes_add_to_their_component_alone() -> None:
    system = lorenz(3)
    state = start(system)
    moved = system.advance(state, still(system))
    expected = system.inner.values(system.inner.advance(state.inner, still(system))).clone()
    expected[:, 2] += moved.disturbances[:, 1]
    assert torch.equal(system.values(moved)[:, :3], expected)
    assert torch.equal(system.values(moved)[:, 3:], moved.disturbances)
    assert moved.interval.tolist() == [1, 1, 1]
    torch.testing.assert_close(system.values(system.with_values(moved, 2 * system.values(moved))),
                               2 * system.values(moved))  # fmt: skip


def test_rows_do_not_depend_on_the_batch() -> None:
    rho = [25.0, 28.0, 30.0]
    system, rows = lorenz(3, rho=rho), torch.tensor([2, 0])
    state = start(system)
    both, few = state, take(state, rows)
    part = system.select(rows)
    assert part.num_envs == 2 and part.parameters["rho"].tolist() == [30.0, 25.0]
    for _ in range(3):
        both, few = system.advance(both, still(system)), part.advance(few, still(part))
    torch.testing.assert_close(part.values(few), system.values(both)[rows])
    assert lorenz(3).select(rows).num_envs == 3
    changed = system.with_parameters({"rho": torch.tensor([29.0]).double()}, 3)
    assert changed.parameters["rho"].tolist() == [29.0]
    assert system.parameters["rho"].tolist() == rho


def test_a_state_outside_is_one_of_the_system_or_a_disturbance_that_is_none() -> None:
    system = lorenz(3)
    state = start(system)
    disturbances = state.disturbances.clone()
    disturbances[1, 0] = torch.nan
    assert system.inside(replace(state, disturbances=disturbances)).tolist() == [True, False, True]
    values = system.values(state).clone()
    values[0, 0] = 1e6
    assert system.inside(system.with_values(state, values)).tolist() == [False, True, True]


def test_a_filter_tells_a_lasting_error_of_one_sensor_from_the_state() -> None:
    """The others are sound; a twin that does not know of the error takes it for the state."""
    plant = make_environment("Lorenz-v0", 1, dtype="float64").system
    truth = plant.initial_state(Stream.start(torch.tensor([999])))
    generator = torch.Generator().manual_seed(0)
    errors: dict[bool, list[float]] = {True: [], False: []}

    def observe(system: DisturbedSystem, state: DisturbedState) -> Tensor:
        values = system.values(state)
        seen = values[:, :3].clone()
        seen[:, 0] += values[:, 3] if values.shape[1] > 3 else 0.0
        return seen

    twins = {}
    for known in (True, False):
        inner = make_environment("Lorenz-v0", 40, dtype="float64").system
        system = DisturbedSystem(inner, {"bias": Disturbance(3.0, 0.99)} if known else {})
        twins[known] = Twin(system, start(system), seed=1, observe=observe, inflation=1.02)
    for _ in range(120):
        truth = plant.advance(truth, torch.zeros((1, 1), dtype=torch.float64))
        reading = plant.values(truth)[0] + 0.5 * torch.randn(3, generator=generator).double()
        reading[0] += 4.0
        for known, twin in twins.items():
            twin.forecast([0.0])
            twin.assimilate(reading, 0.25)
            errors[known].append(float((twin.mean[:3] - plant.values(truth)[0]).square().mean()))
    found, lost = (torch.tensor(errors[k][40:]).mean().sqrt() for k in (True, False))
    assert found < 0.5 and lost > 2 * found
    assert twins[True].mean[3] == pytest.approx(4.0, abs=1.0)


def test_refuses_bad_disturbances() -> None:
    for make in (
        lambda: Disturbance(0.0),
        lambda: Disturbance(1.0, 1.0),
        lambda: Disturbance(1.0, -0.1),
        lambda: DisturbedSystem(lorenz(2).inner, {"push": Disturbance(1.0, 0.5, component=3)}),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()

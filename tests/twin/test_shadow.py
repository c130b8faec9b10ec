"""Shadow mode: a policy that only advises, beside records and beside an environment."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ParameterMismatch
from separatrix.envs.twin.assimilate.records import Column
from separatrix.envs.twin.assimilate.shadow import ShadowLog, control_of, record, shadow
from separatrix.envs.twin.assimilate.stream import TwinStream
from separatrix.envs.twin.assimilate.twin import Twin

COLUMNS = (*(Column(name, "1", -100, 100) for name in "xyz"), Column("u", "1", -1e3, 1e3, "rate"))
OPTIONS: dict[str, Any] = {"dtype": "float64"}
STEPS, HORIZON = 20, 4


def values(system: Any, state: Any) -> Tensor:
    return state.values


def half(observation: Tensor, state: Any) -> Tensor:
    return torch.full_like(observation[:, :1], 0.5)


def push(observation: Tensor, state: Any) -> Tensor:
    """A feedback law that reads the observation."""
    return -torch.tanh(observation[:, :1])


def run(policy: Any, horizon: int = HORIZON, mismatch: dict[str, float] | None = None) -> Any:
    wrap = [ParameterMismatch(mismatch)] if mismatch else []
    plant = make_environment("Lorenz-v0", 1, wrap=wrap, **OPTIONS)
    found = record(plant, half, values, COLUMNS, seed=5, steps=STEPS, noise=0.1)
    twin = Twin.of("Lorenz-v0", 12, seed=0, options=OPTIONS)
    stream = TwinStream(found, plant.control_interval)
    environment = make_environment("Lorenz-v0", 12, **OPTIONS)
    log = shadow(twin, stream, policy, environment, variance=0.01, horizon=horizon)
    return log, twin, found


def test_the_log_tells_what_was_done_and_what_is_advised() -> None:
    log, _, found = run(push)
    assert len(log.table) == STEPS + 1 and log.names[:3] == ("time", "done_u", "advised_u")
    assert np.array_equal(log.column("time"), found.time)
    for i, name in enumerate("xyz"):
        assert np.array_equal(log.column(f"measured_{name}"), found.values[:, i])
        away = abs(log.column(f"mean_{name}") - found.values[:, i])
        assert away[5:].max() < 1.0  # the twin follows
        assert (log.column(f"spread_{name}") > 0).all()
    environment = make_environment("Lorenz-v0", 1, **OPTIONS)
    done = control_of(environment, torch.full((1, 1), 0.5, dtype=torch.float64))
    assert np.allclose(log.column("done_u")[:-1], done.item())
    assert math.isnan(log.column("done_u")[-1])
    assert not np.allclose(log.column("advised_u"), done.item())


def test_advice_is_not_acted_upon() -> None:
    """The twin is where it would be without a policy."""
    _, twin, found = run(push)
    alone = Twin.of("Lorenz-v0", 12, seed=0, options=OPTIONS)
    stream = TwinStream(found, alone.system.control_interval)
    for _ in stream.follow(alone, 0.01):
        pass
    assert torch.equal(twin.values, alone.values)


def test_forecasts_agree_where_the_advice_is_what_was_done() -> None:
    log, _, _ = run(half)
    for kind in ("mean", "spread"):
        for name in "xyz":
            done = log.column(f"done_{kind}_{name}")
            assert np.isnan(done[-HORIZON:]).all() and np.isfinite(done[:-HORIZON]).all()
            advised = log.column(f"advised_{kind}_{name}")
            assert np.allclose(advised, done, rtol=1e-9, equal_nan=True)
    pushed, _, _ = run(push)
    assert not np.allclose(
        pushed.column("advised_mean_x")[:-HORIZON], pushed.column("done_mean_x")[:-HORIZON]
    )


def test_forecasts_come_true_on_a_plant_that_is_as_the_twin() -> None:
    """And less so where the plant's parameters are not the model's."""

    def errors(mismatch: dict[str, float] | None = None) -> float:
        log, _, _ = run(push, mismatch=mismatch)
        ahead = log.column("done_mean_x")[5:-HORIZON] - log.column("measured_x")[5 + HORIZON :]
        return float(np.sqrt((ahead**2).mean()))

    assert errors() < 0.5 * errors({"rho": 0.5})


def test_the_log_is_saved_as_csv(tmp_path: Path) -> None:
    log = ShadowLog(("time", "x"), np.array([[0.0, math.nan], [0.1, 1 / 3]]))
    log.save(tmp_path / "log.csv")
    with (tmp_path / "log.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["time", "x"], ["0.0", ""], ["0.1", repr(1 / 3)]]
    with pytest.raises(ValueError, match="column: got 'y'; allowed: time, x"):
        log.column("y")


def test_what_does_not_fit_is_refused() -> None:
    plant = make_environment("Lorenz-v0", 1, **OPTIONS)
    with pytest.raises(ValueError, match="num_envs: got 2; allowed: 1"):
        record(make_environment("Lorenz-v0", 2), half, values, COLUMNS, seed=0, steps=1)
    with pytest.raises(ValueError, match="columns: got kinds"):
        record(plant, half, values, COLUMNS[:3], seed=0, steps=1)
    with pytest.raises(ValueError, match="horizon: got 0"):
        run(half, horizon=0)
    found = record(plant, half, values, COLUMNS, seed=0, steps=3)
    bare = TwinStream(
        type(found)(
            COLUMNS[:3], "", found.time, found.arrival, found.values[:, :3], found.row, (), ""
        ),
        plant.control_interval,
    )
    twin = Twin.of("Lorenz-v0", 12, seed=0, options=OPTIONS)
    with pytest.raises(ValueError, match=r"records: got controls \(\); allowed: the 1"):
        environment = make_environment("Lorenz-v0", 12, **OPTIONS)
        shadow(twin, bare, half, environment, variance=1.0, horizon=1)

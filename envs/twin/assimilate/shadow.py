"""Shadow mode: a twin runs beside its plant and a policy advises, but does not act.

    stream = TwinStream(read_records("patient.csv", columns), interval=5.0)
    log = shadow(twin, stream, policy, environment, variance=100.0, horizon=12)
    log.save("advice.csv")

The plant is whatever the records come from; `record` makes them of an environment.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from separatrix.envs.core.environment import ComposedEnvironment, Environment
from separatrix.envs.core.registration import check_count
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.twin.assimilate.observation import Observe
from separatrix.envs.twin.assimilate.records import Column, Records
from separatrix.envs.twin.assimilate.stream import (
    Advance,
    TwinStream,
    forecast_and_assimilate,
)
from separatrix.envs.twin.assimilate.twin import Twin

Policy = Callable[[Tensor, Any], Tensor]
"""Maps observations (batch, observation) and states to actions (batch, action) in [-1, 1], without
a memory of its own, such as `Controller.act`."""


@dataclass(frozen=True)
class ShadowLog:
    """What was done, what would have been advised, and what the twin expects of either.

    Attributes:
        names: Of the columns. `time`; then `done` and `advised` with the name of each control, over
            the interval that begins; and with the name of each observation `measured`, `mean` and
            `spread` now, and the mean and spread that are forecast for the end of the horizon,
            `done_mean`, `done_spread`, `advised_mean` and `advised_spread`.
        table: One row a moment; NaN for what is not known.
    """

    names: tuple[str, ...]
    table: Float64[np.ndarray, "moment column"]

    def column(self, name: str) -> Float64[np.ndarray, " moment"]:
        """Returns a column.

        Raises:
            ValueError: There is none of this name.
        """
        if name not in self.names:
            raise ValueError(f"column: got {name!r}; allowed: {', '.join(self.names)}")
        return self.table[:, self.names.index(name)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as CSV; what is not known is left empty."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self.names)
            for row in self.table.tolist():
                writer.writerow("" if math.isnan(value) else repr(value) for value in row)


@torch.no_grad()
def shadow(
    twin: Twin,
    stream: TwinStream,
    policy: Policy,
    environment: Environment,
    *,
    variance: Any,
    horizon: int,
    window: int = 0,
    advance: Advance = forecast_and_assimilate,
) -> ShadowLog:
    """Lets a twin follow a plant, and a policy advise at every moment.

    The policy sees every member of the ensemble as the environment shows it; the advice is the
    control of the mean action. Two forecasts start from the twin at every moment: one under the
    controls that the records tell of the coming intervals, and one in which the policy acts. What
    else the records tell, such as meals that follow the controls in their columns, is the same in
    both.

    Args:
        twin: Where the stream begins; it is moved.
        stream: The records of the plant.
        policy: Advises.
        environment: Of the twin's system, for as many environments as members: what the policy
            observes, and the control that an action gives.
        variance: Of the observations.
        horizon: Control intervals of the forecasts.
        window: Moments that a record may come late, see `TwinStream.follow`.
        advance: Takes a twin through a moment, see `TwinStream.follow`.

    Raises:
        ValueError: The horizon is no number of intervals, or the records lack controls.
    """
    check_count("horizon", horizon)
    size = len(control_of(environment, torch.zeros(1, *environment.action_shape))[0])
    names = stream.control_names[:size]
    if len(names) < size:
        raise ValueError(f"records: got controls {names}; allowed: the {size} of the plant, first")
    blank = np.full(len(stream.observation_names), math.nan)

    def advice(at: Twin) -> Float64[np.ndarray, " control"]:
        action = policy(environment.observe(at.state), at.state).mean(0, keepdim=True)
        return control_of(environment, action)[0].double().cpu().numpy()

    def forecast(start: Twin, index: int, advised: bool) -> Sequence[np.ndarray]:
        if index + horizon > stream.last:
            return blank, blank
        ahead = start.fork()
        for step in range(1, horizon + 1):
            moment = replace(stream.moment(index + step), observation=blank)
            if advised:
                control = np.concatenate((advice(ahead), moment.control[size:]))
                moment = replace(moment, control=control)
            advance(ahead, moment, variance)
        return _predicted(ahead)

    rows = []
    for moment, there in stream.follow(twin, variance, window=window, advance=advance):
        done = stream.moment(moment.index + 1).control[:size]
        if moment.index == stream.last:
            done = np.full(size, math.nan)
        forecasts = [*forecast(there, moment.index, False), *forecast(there, moment.index, True)]
        parts = (done, advice(there), moment.observation, *_predicted(there), *forecasts)
        rows.append(np.concatenate(([moment.time], *parts)))
    seen = (
        "measured",
        "mean",
        "spread",
        "done_mean",
        "done_spread",
        "advised_mean",
        "advised_spread",
    )
    header = ["time", *(f"done_{name}" for name in names), *(f"advised_{name}" for name in names)]
    header += [f"{kind}_{name}" for kind in seen for name in stream.observation_names]
    return ShadowLog(tuple(header), np.array(rows).reshape(-1, len(header)))


def _predicted(twin: Twin) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and spread of what the members predict for an observation."""
    predicted = twin.observed.double().cpu()
    return predicted.mean(0).numpy(), predicted.std(0).numpy()


def control_of(environment: Environment, action: Tensor) -> Tensor:
    """Returns the control that actions give the physics, clipped to [-1, 1] as in a step."""
    physics = environment.unwrapped
    if isinstance(physics, OdeEnvironment):
        return physics.control(action.to(physics.dtype))
    return cast(ComposedEnvironment, physics).task.control(action.clamp(-1.0, 1.0))


@torch.no_grad()
def record(
    environment: Environment,
    policy: Policy,
    observe: Observe,
    columns: Sequence[Column],
    *,
    seed: int,
    steps: int,
    noise: float = 0.0,
) -> Records:
    """Runs one episode of an environment as the plant, and records it.

    Args:
        environment: The plant, one environment, such as one with a `ParameterMismatch`.
        policy: What the plant does.
        observe: What is measured, of the system and the state of the physics.
        columns: Of the measurements, then of the controls, which are rates.
        seed: Of the episode, and of the noise.
        steps: Control intervals; the records end where the episode does.
        noise: Standard deviation of the measurements.

    Raises:
        ValueError: It is no single environment, or the columns do not fit.
    """
    if environment.num_envs != 1:
        raise ValueError(f"num_envs: got {environment.num_envs}; allowed: 1")
    generator = torch.Generator().manual_seed(seed)
    state, observation = environment.reset(seed)
    rows = []
    for _ in range(steps + 1):
        seen = observe(environment.system, state.unwrapped)[0].double().cpu()
        seen = seen + noise * torch.randn(seen.shape, generator=generator, dtype=torch.float64)
        action = policy(observation, state)
        rows.append(torch.cat((seen, control_of(environment, action)[0].double().cpu())))
        state, observation, _, terminated, _ = environment.step(state, action)
        if terminated.any():
            break
    values = torch.stack(rows).numpy()
    kinds = ["observation"] * len(seen) + ["rate"] * (values.shape[1] - len(seen))
    if [column.kind for column in columns] != kinds:
        got = [column.kind for column in columns]
        raise ValueError(f"columns: got kinds {got}; allowed: {kinds}")
    time = np.arange(len(rows)) * environment.control_interval
    row = np.arange(1, len(rows) + 1)
    return Records(tuple(columns), "", time, time, values, row, (), type(environment).__name__)

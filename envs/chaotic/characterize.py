"""Computes the attractors that the package ships: `python -m separatrix.envs.chaotic.characterize`.

From 2048 places near `origin` a system runs freely, with its default parameters, in float64 and
RK4. After 500 time units each trajectory is stopped at a random time of the next 400, for without
it the phases of a coherent oscillator such as Rossler's would stay together. The states are the
points; the statistics are over 400 samples of every trajectory from there on, 0.25 time units
apart (819,200 samples). Components of one group, such as the sites of Lorenz-96, are alike by
symmetry and share their statistics.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from separatrix.envs.chaotic.attractor import NUM_POINTS
from separatrix.envs.chaotic.lorenz import lorenz
from separatrix.envs.chaotic.lorenz96 import lorenz96
from separatrix.envs.chaotic.rossler import rossler
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.ode import OdeDefinition
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem

SPIN_UP = 500.0
SCATTER = 400.0
SAMPLES = 400
SAMPLING_INTERVAL = 0.25
STEP = 0.005
STATISTICS = ("mean", "standard_deviation", "low", "high", "flow_rms")


def compute(
    definition: OdeDefinition, origin: np.ndarray, spread: float, seed: int = 0
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Computes an attractor.

    Args:
        definition: The system.
        origin: A point near it, (state,).
        spread: Standard deviation of the places around it that trajectories start from.
        seed: Seed of these places and of the times at which trajectories are stopped.

    Returns:
        The points, (2048, state) in float64, and the statistics by name.
    """
    system = OdeSystem(
        replace(definition, box=(np.array(-np.inf), np.array(np.inf))),
        {},
        num_envs=NUM_POINTS,
        control_interval=SAMPLING_INTERVAL,
        substeps=round(SAMPLING_INTERVAL / STEP),
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    generator = np.random.Generator(np.random.Philox(seed))
    noise = generator.standard_normal((NUM_POINTS, len(origin)))
    scatter = round(SCATTER / SAMPLING_INTERVAL)
    stop = torch.from_numpy(generator.integers(1, scatter + 1, NUM_POINTS))[:, None]
    stream = Stream.start(torch.arange(NUM_POINTS))
    values = torch.tensor(origin + spread * noise)
    state = OdeState(stream, torch.zeros_like(stream.seed), values)
    control = torch.zeros((NUM_POINTS, len(definition.control_names)), dtype=torch.float64)
    for _ in range(round(SPIN_UP / SAMPLING_INTERVAL)):
        state = system.advance(state, control)
    points = state.values
    for time in range(1, scatter + 1):
        state = system.advance(state, control)
        points = torch.where(stop == time, state.values, points)
    state = replace(state, values=points)
    samples = []
    for _ in range(SAMPLES):
        state = system.advance(state, control)
        samples.append(state.values)
    visited = torch.cat(samples)
    flow = system.vector_field(visited, control.repeat(SAMPLES, 1))
    if not visited.isfinite().all():
        raise ArithmeticError(f"{definition.name} left its attractor")
    columns: dict[str, list[float]] = {key: [] for key in STATISTICS}
    first = 0
    for group in definition.states:
        size = len(group.names)
        x, slope = visited[:, first : first + size], flow[:, first : first + size]
        numbers = (x.mean(), x.std(), x.min(), x.max(), slope.square().mean().sqrt())
        for key, number in zip(STATISTICS, numbers, strict=True):
            columns[key] += [number.item()] * size
        first += size
    return points.numpy(), columns


def main() -> None:
    """Computes all attractors and writes the data files of the package."""
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    found = {}
    for definition, origin, spread in (
        (lorenz, np.array([1.0, 1.0, 25.0]), 1.0),
        (rossler, np.array([-4.0, 0.0, 0.02]), 0.1),
        (lorenz96, np.full(40, 8.0), 1.0),
    ):
        points, statistics = compute(definition, origin, spread)
        np.savez(folder / f"{definition.name}.npz", points=points.astype(np.float32))
        found[definition.name] = {"origin": origin.tolist(), "spread": spread, **statistics}
    content = {"command": "python -m separatrix.envs.chaotic.characterize", "attractors": found}
    (folder / "attractors.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Computes the attractors that the package ships: `python -m separatrix.envs.chaotic.characterize`.

Names of systems, such as `chua duffing`, limit it to these; the others' data stay as they are.

From 2048 places near `origin` a system runs freely, with its default parameters, in float64 and
RK4. After 500 time units each trajectory is stopped at a random time of the next 400, for without
it the phases of a coherent oscillator such as Rossler's would stay together. The states are the
points; the statistics are over 400 samples of every trajectory from there on, 0.25 time units
apart (819,200 samples). All times are multiplied by the `pace` of a system much faster or slower
than these; of a map an iteration takes the place of 0.25 time units. Components of one group, such
as the sites of Lorenz-96, are alike by symmetry and share their statistics. Angles are wrapped to a
turn.

A conservative system has no attractor. Points and statistics are those of as many draws from the
energy shell that its episodes start on.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from separatrix.envs.chaotic.attractor import NUM_POINTS
from separatrix.envs.chaotic.chen import chen
from separatrix.envs.chaotic.chua import chua
from separatrix.envs.chaotic.duffing import duffing
from separatrix.envs.chaotic.henon import henon
from separatrix.envs.chaotic.henon_heiles import henon_heiles
from separatrix.envs.chaotic.hindmarsh_rose import hindmarsh_rose
from separatrix.envs.chaotic.lorenz import lorenz
from separatrix.envs.chaotic.lorenz96 import lorenz96
from separatrix.envs.chaotic.rossler import rossler
from separatrix.envs.chaotic.van_der_pol import van_der_pol
from separatrix.envs.core.stream import Stream
from separatrix.envs.steppers.ode import OdeDefinition
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem

SPIN_UP = 500.0
SCATTER = 400.0
SAMPLES = 400
SAMPLING_INTERVAL = 0.25
STEP = 0.005
STATISTICS = ("mean", "standard_deviation", "low", "high", "flow_rms")


@dataclass(frozen=True)
class Recipe:
    """How the attractor of a system is computed.

    Attributes:
        definition: The system.
        origin: A point near the attractor.
        spread: Standard deviation of the places around it that trajectories start from.
        pace: Factor of all times.
    """

    definition: OdeDefinition
    origin: tuple[float, ...]
    spread: float
    pace: float = 1.0


RECIPES = (
    Recipe(lorenz, (1.0, 1.0, 25.0), 1.0),
    Recipe(rossler, (-4.0, 0.0, 0.02), 0.1),
    Recipe(lorenz96, (8.0,) * 40, 1.0),
    Recipe(chua, (0.0, 0.0, 0.0), 0.1),
    Recipe(duffing, (0.5, 0.0, 0.0), 0.5),
    Recipe(chen, (-10.0, 0.0, 37.0), 1.0, pace=0.4),
    Recipe(hindmarsh_rose, (-1.0, 0.0, 3.0), 0.5, pace=4.0),
    Recipe(van_der_pol, (0.0, 0.0), 1.0),
    Recipe(henon, (0.0, 0.0), 0.05),
)
SHELLS = (henon_heiles,)


def compute(
    definition: OdeDefinition, origin: np.ndarray, spread: float, seed: int = 0, pace: float = 1.0
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Computes an attractor.

    Args:
        definition: The system.
        origin: A point near it, (state,).
        spread: Standard deviation of the places around it that trajectories start from.
        seed: Seed of these places and of the times at which trajectories are stopped.
        pace: Factor of all times.

    Returns:
        The points, (2048, state) in float64, and the statistics by name.
    """
    system = free_system(definition, pace)
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
    return turned(system, points).numpy(), describe(system, torch.cat(samples))


def compute_shell(definition: OdeDefinition) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Draws from the start of a conservative system.

    Returns:
        The points, (2048, state) in float64, and the statistics by name.
    """
    draws = [
        definition.start.sample(Stream.start(torch.arange(NUM_POINTS), episode))[0]
        for episode in range(SAMPLES)
    ]
    return draws[0].numpy(), describe(free_system(definition), torch.cat(draws))


def free_system(definition: OdeDefinition, pace: float = 1.0) -> OdeSystem:
    """Returns the system with its default parameters, without a safe box, in float64."""
    substeps = 1 if definition.discrete else round(SAMPLING_INTERVAL / STEP)
    return OdeSystem(
        replace(definition, box=(np.array(-np.inf), np.array(np.inf))),
        {},
        num_envs=NUM_POINTS,
        control_interval=1.0 if definition.discrete else pace * SAMPLING_INTERVAL,
        substeps=substeps,
        integrator="map" if definition.discrete else "rk4",
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def turned(system: OdeSystem, values: torch.Tensor) -> torch.Tensor:
    """Wraps angles to [-pi, pi]."""
    return system.difference(values, torch.zeros_like(values[:1]))


def describe(system: OdeSystem, visited: torch.Tensor) -> dict[str, list[float]]:
    """Returns the statistics of states, (samples, state) in float64, by name."""
    definition = system.definition
    if not visited.isfinite().all():
        raise ArithmeticError(f"{definition.name} left its attractor")
    control = visited.new_zeros((len(visited), len(definition.control_names)))
    flow = system.vector_field(visited, control) - (visited if definition.discrete else 0.0)
    visited = turned(system, visited)
    columns: dict[str, list[float]] = {key: [] for key in STATISTICS}
    first = 0
    for group in definition.states:
        size = len(group.names)
        x, slope = visited[:, first : first + size], flow[:, first : first + size]
        numbers = (x.mean(), x.std(), x.min(), x.max(), slope.square().mean().sqrt())
        for key, number in zip(STATISTICS, numbers, strict=True):
            columns[key] += [number.item()] * size
        first += size
    return columns


def main(names: list[str]) -> None:
    """Computes attractors and writes the data files of the package.

    Args:
        names: Systems to compute; none means all.

    Raises:
        SystemExit: A name is unknown.
    """
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    file = folder / "attractors.json"
    known = [recipe.definition.name for recipe in RECIPES] + [shell.name for shell in SHELLS]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"unknown system {unknown[0]!r}; allowed: {', '.join(known)}")
    found = json.loads(file.read_text())["attractors"] if names else {}

    def keep(name: str, points: np.ndarray, entry: dict[str, object]) -> None:
        np.savez(folder / f"{name}.npz", points=points.astype(np.float32))
        found[name] = entry

    for recipe in RECIPES:
        name = recipe.definition.name
        if name in (names or known):
            origin, spread, pace = np.array(recipe.origin), recipe.spread, recipe.pace
            points, statistics = compute(recipe.definition, origin, spread, pace=pace)
            settings = {"origin": origin.tolist(), "spread": spread}
            if pace != 1.0:
                settings["pace"] = pace
            keep(name, points, {**settings, **statistics})
    for shell in SHELLS:
        if shell.name in (names or known):
            points, statistics = compute_shell(shell)
            keep(shell.name, points, {**statistics})
    content = {
        "command": "python -m separatrix.envs.chaotic.characterize",
        "attractors": {name: found[name] for name in known if name in found},
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

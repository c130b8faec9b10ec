"""Developed flows: what streams past bodies become, computed once and kept on disk.

An episode starts in one of a few snapshots of the flow without control, taken at phases of the
shedding that are as good as random, with a little of the others mixed in. They are computed when an
environment is first made with some settings, in seconds at the default resolution, and kept beside
the generated kernels (see `separatrix.envs.steppers.kernel_cache`). Those that take longer are
better computed before, by a command:

    python -m separatrix.envs.fluid.developed RotaryCylinder-v0 resolution=20
"""

from __future__ import annotations

import ast
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import INITIAL_STATE, Stream
from separatrix.envs.steppers import lattice, lattice_kernel, lattice_program
from separatrix.envs.steppers.kernel_cache import cache_directory
from separatrix.envs.steppers.lattice import Actuator, Domain
from separatrix.envs.steppers.lattice_system import Flow, LatticeState, LatticeSystem

KICK, SETTLING, WATCHED = 2.0, 100.0, 40.0
"""Time of a rotation that breaks the symmetry, of what follows, and over which forces are meant."""
SNAPSHOTS, SPACING = 8, 0.9271
"""Number of the flows that are kept, and the time between them, no fraction of a period."""
MIXED = 0.03
"""Standard deviation of the weights of other snapshots."""
INTERVAL = 0.25
"""Over which the forces of a snapshot are means."""


@dataclass(frozen=True)
class Developed:
    """Flows without control, one row a Reynolds number.

    Attributes:
        populations: Snapshots.
        force: Mean coefficients of drag and lift of each body just before each snapshot.
        previous_force: The same an interval before.
        mean_force: Mean of the coefficients over several periods.
    """

    populations: Float[Tensor, "rows snapshot 9 row column"]
    force: Float[Tensor, "rows snapshot body 2"]
    previous_force: Float[Tensor, "rows snapshot body 2"]
    mean_force: Float[Tensor, "rows body 2"]


def developed(system: LatticeSystem) -> Developed:
    """Returns the developed flows of a system, from disk where they are there.

    They are computed in float32 on the CPU whatever the system's device and dtype.
    """
    numbers = tuple(system.reynolds_number.tolist())
    program = system.program
    return _developed(system.domain, program.resolution, program.speed, numbers)


def from_developed(stream: Stream, system: LatticeSystem) -> tuple[Flow, Stream]:
    """Draws a snapshot of the developed flow, and mixes the others in.

    The weights of all snapshots add up to 1, so that the mixture, too, keeps to inflow and walls.
    """
    table = developed(system)
    uniform, stream = stream.uniform(1, torch.float64, INITIAL_STATE)
    normal, stream = stream.normal(SNAPSHOTS, torch.float64, INITIAL_STATE)
    chosen = torch.arange(SNAPSHOTS, device=uniform.device) == (uniform * SNAPSHOTS).floor()
    weights = chosen + MIXED * (normal - normal.sum(1, keepdim=True) / SNAPSHOTS)

    def mixture(snapshots: Tensor) -> Tensor:
        snapshots = snapshots.to(system.device, system.dtype)
        total = snapshots.new_zeros(())
        for i in range(SNAPSHOTS):  # in turn, so that the batch does not change the rounding
            weight = weights[:, i].to(snapshots).view(-1, *[1] * (snapshots.ndim - 2))
            total = total + weight * snapshots[:, i]
        return total

    tables = (table.populations, table.force, table.previous_force)
    return Flow(*(mixture(snapshots) for snapshots in tables)), stream


def impulsive(stream: Stream, system: LatticeSystem) -> tuple[Flow, Stream]:
    """Starts from the undisturbed stream, into which the bodies are put at once."""
    program, batch = system.program, len(stream.seed)
    still = torch.from_numpy(lattice.equilibrium(program.speed)).to(system.device, system.dtype)
    shape = (batch, 9, program.rows + 2, program.columns + 2)
    force = still.new_zeros((batch, program.bodies, 2))
    return Flow(still[:, None, None].expand(shape).contiguous(), force, force.clone()), stream


@cache
def _developed(
    domain: Domain, resolution: int, speed: float, reynolds_numbers: tuple[float, ...]
) -> Developed:
    paths = [_path(domain, resolution, speed, number) for number in reynolds_numbers]
    missing = sorted({n for n, p in zip(reynolds_numbers, paths, strict=True) if not p.exists()})
    if missing:
        _compute(domain, resolution, speed, missing)
    rows = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            rows.append({name: torch.from_numpy(data[name]) for name in data.files})
    return Developed(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def _path(domain: Domain, resolution: int, speed: float, reynolds_number: float) -> Path:
    modules = (lattice, lattice_program, lattice_kernel)
    code = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules]
    settings = (KICK, SETTLING, WATCHED, SNAPSHOTS, SPACING, INTERVAL)
    text = repr((domain, resolution, speed, reynolds_number, settings, code))
    return cache_directory() / f"flow_{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


def _compute(
    domain: Domain, resolution: int, speed: float, reynolds_numbers: Sequence[float]
) -> None:
    """Computes flows and writes their files."""

    def system(interval: float) -> LatticeSystem:
        return LatticeSystem(
            domain,
            tuple(Actuator(body, 0) for body in range(len(domain.bodies))),
            torch.tensor(reynolds_numbers, dtype=torch.float64),
            impulsive,
            resolution=resolution,
            speed=speed,
            num_envs=len(reynolds_numbers),
            control_interval=interval,
            smoothing_time=0.0,
            strongest=0.0,
            device=torch.device("cpu"),
            dtype=torch.float32,
        )

    print(
        f"computing developed flows past {len(domain.bodies)} bodies at Reynolds numbers "
        f"{', '.join(f'{n:g}' for n in reynolds_numbers)}, {resolution} sites to a diameter",
        file=sys.stderr,
    )

    def run(interval: float, state: LatticeState, control: float = 0.0) -> LatticeState:
        return system(interval).advance(state, torch.full_like(state.control, control))

    with torch.no_grad():
        first = system(KICK).initial_state(Stream.start(torch.arange(len(reynolds_numbers))))
        state = run(WATCHED, run(SETTLING, run(KICK, first, 1.0)))
        mean_force, snapshots = state.flow.force, []
        for _ in range(SNAPSHOTS):
            state = run(INTERVAL, run(INTERVAL, run(SPACING - 2 * INTERVAL, state)))
            snapshots.append(state.flow)
    for row, number in enumerate(reynolds_numbers):
        arrays = {
            "populations": [flow.populations[row] for flow in snapshots],
            "force": [flow.force[row] for flow in snapshots],
            "previous_force": [flow.previous_force[row] for flow in snapshots],
        }
        stacked = {name: torch.stack(found).numpy() for name, found in arrays.items()}
        path = _path(domain, resolution, speed, number)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.savez(file, mean_force=mean_force[row].numpy(), **stacked)  # type: ignore[arg-type]
        Path(file.name).replace(path)


def main() -> None:
    """Computes the flows of an environment, whose options are given as name=value."""
    name, *options = sys.argv[1:]
    pairs = (option.split("=", 1) for option in options)
    chosen: dict[str, Any] = {key: _value(text) for key, text in pairs}
    environment = make_environment(name, **chosen)
    developed(environment.system)  # type: ignore[arg-type]


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    main()

"""Lettuce's cylinder in the channel of lattice.py.

Lettuce (M. C. Bedrunka et al., arXiv:2106.12929) is a lattice Boltzmann solver in torch. Its
interpolated bounce-back is among the examples of its repository, which its package leaves out. So
LATTICE_PEERS, or `.venv-peers/lattice`, names a folder with a checkout, and what that imports:

    git clone https://github.com/lettucecfd/lettuce .venv-peers/lattice/lettuce
    python -m pip install --no-deps --target .venv-peers/lattice/lettuce pyevtk mmh3 h5py

It runs in this process, by the same torch and as many threads. (`lettuce` among Python packages is
another thing; the solver is `lettucecfd`.) Its kernels in CUDA know no interpolated bounce-back.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Run, measure
from lattice_case import SPEED, STEPS, advancing, lattice

FOLDER = Path(os.environ.get("LATTICE_PEERS", ".venv-peers/lattice")) / "lettuce"
EXAMPLE = "advanced_projects/efficient_bounce_back_obstacle"
COLLISIONS = {"Lettuce, BGK": "BGKCollision", "Lettuce, regularized": "RegularizedCollision"}


def version() -> str | None:
    """Returns the version of Lettuce, or None, having said so, where it is not set up."""
    if not (FOLDER / "examples" / EXAMPLE).is_dir():
        print("\nLettuce left out: no checkout of it, see lattice_lettuce.py")
        return None
    # Behind all else, so that nothing of ours is hidden.
    sys.path += [str(FOLDER), str(FOLDER / "examples" / EXAMPLE / "boundary")]
    return str(import_module("lettuce").__version__)


def channel(kind: str, resolution: int, speed: float) -> Any:
    """Returns Lettuce's simulation of the cylinder in a channel at Reynolds number 100.

    As many sites as ours, and a row of solid ones at either side, half a link behind which its
    walls bounce back all the way; equilibrium at the inflow and, with the density 1, at the outlet;
    the cylinder by linear interpolation (Bouzidi et al.), with its forces.

    Args:
        kind: Of `COLLISIONS`.
        resolution: Sites to a diameter.
        speed: Mean velocity of the stream in links a time step.
    """
    lettuce = import_module("lettuce")
    example = "examples." + EXAMPLE.replace("/", ".")
    parent = import_module(f"{example}.flow.obstacle_cylinder").ObstacleCylinder
    simulation = import_module(f"{example}.simulation.ebb_simulation").EbbSimulation

    columns, rows = round(22 * resolution), round(4.1 * resolution)
    height = (np.arange(rows + 2) - 0.5) / rows
    profile = np.clip(6 * height * (1 - height), 0, None)[None]
    stream = np.stack([profile, np.zeros_like(profile)])

    class Channel(parent):  # type: ignore[misc, valid-type]
        """Its own channel is three-dimensional: in two dimensions it does not start."""

        def initial_pu(self) -> tuple[np.ndarray, np.ndarray]:
            shape = (columns, rows + 2)
            return np.zeros((1, *shape)), np.broadcast_to(stream, (2, *shape)).copy()

    context = lettuce.Context(device="cpu", dtype=torch.float32, use_native=False)
    with redirect_stdout(io.StringIO()):
        # It counts sites from 1, puts the cylinder half the height from wall and inflow, moves it
        # by y_offset off the wall and the inflow, and by x_offset off the inflow alone.
        flow = Channel(
            context,
            [columns, rows + 2],
            reynolds_number=100,
            mach_number=speed * math.sqrt(3),
            char_length_pu=1,
            char_length_lu=resolution,
            bc_type="ibb1",
            x_offset=-0.5,
            y_offset=2 * resolution + 1 - (rows + 2) / 2,
            calc_force_coefficients=True,
            stencil=lettuce.D2Q9(),
        )
        flow.lateral_walls, flow.u_inlet = "bounceback", stream
        flow.wall_mask[:, [0, -1]] = flow.solid_mask[:, [0, -1]] = True
        flow.in_mask[:, [0, -1]] = False
        collision = getattr(lettuce, COLLISIONS[kind])(tau=flow.units.relaxation_parameter_lu)
        return simulation(flow, collision, reporter=[])


def force(simulation: Any) -> list[float]:
    """Returns the force on the cylinder in the last time step, in lattice units."""
    found: list[float] = simulation.post_streaming_boundaries[-1].force_sum.tolist()
    return found


def lettuce(
    resolutions: tuple[int, ...], kinds: tuple[str, ...], rounds: int, duration: float
) -> list[dict[str, Any]]:
    """Times Lettuce beside ours, one environment, and prints a table."""
    print(
        "\nmilliseconds of a time step, one environment, float32; Lettuce's bounce-back "
        "interpolates as ours does\n(its kernels in CUDA do not, and need a GPU: eager torch here)"
    )
    print("resolution  way                           ms      MLUPS   over ours")
    rows = []
    for resolution in resolutions:
        runs: dict[str, Run] = {
            "ours, numba": advancing(resolution, 1, "numba", STEPS),
            "ours, torch": advancing(resolution, 1, "torch", STEPS),
        }
        for kind in kinds:
            runs[kind] = partial(channel(kind, resolution, SPEED), STEPS)
        times = measure(runs, rounds, duration)
        sites, ours = round(22 * resolution) * round(4.1 * resolution), times["ours, numba"]
        for name, found in times.items():
            each, ratio = found["median"] / STEPS, found["median"] / ours["median"]
            row = {"resolution": resolution, "way": name, "seconds": each, "ratio": ratio}
            rows.append({**row, "mlups": sites / each / 1e6})
            print(
                f"{resolution:10d}  {name:24s}{1e3 * each:10.3f}{sites / each / 1e6:11.1f}"
                f"{ratio:12.1f}"
            )
    return rows


def drag(
    resolution: int, kinds: tuple[str, ...], settled: int, watched: int
) -> list[dict[str, Any]]:
    """Finds drag and lift of ours and of Lettuce and prints a table.

    The reference of case 2D-2 is a drag of 3.22 to 3.24 and a lift of 0.99 to 1.01, at most.
    """
    count = round(resolution / SPEED / STEPS)  # calls in a time of 1
    system, state = lattice(resolution, 1, "numba", STEPS)
    scale = 0.5 * SPEED**2 * resolution
    print(f"\nresolution {resolution}          mean drag   largest drag   largest lift   seconds")
    rows = []
    for name in ("ours, numba", *kinds):
        simulation = None if name not in COLLISIONS else channel(name, resolution, SPEED)
        forces, begin = [], time.perf_counter()
        for _ in range((settled + watched) * count):
            if simulation is None:
                state = system.advance(state, torch.zeros_like(state.control))
                forces.append(state.flow.force[0, 0].tolist())
            else:
                simulation(STEPS)
                forces.append([part / scale for part in force(simulation)])
        taken, found = time.perf_counter() - begin, np.array(forces[settled * count :])
        row = {"way": name, "mean_drag": found[:, 0].mean(), "largest_drag": found[:, 0].max()}
        row |= {"largest_lift": found[:, 1].max(), "smallest_lift": found[:, 1].min()}
        rows.append({"resolution": resolution, **row, "seconds": taken})
        print(
            f"{name:24s}{row['mean_drag']:12.3f}{row['largest_drag']:15.3f}"
            f"{row['largest_lift']:15.3f}{taken:10.1f}"
        )
    return rows

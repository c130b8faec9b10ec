"""Times the lattice Boltzmann stepper beside what the memory allows, torch and Lettuce.

The case is the cylinder of RotaryCylinder-v0 in its channel of 22 by 4.1 diameters, in float32. A
resolution of 10, the default, means 220 x 41 sites, 20 four times as many.

memory    bandwidth, and the million lattice updates a second (MLUPS) that it allows
updates   MLUPS with the cylinder in the channel, side by side:
          "move"      pulls, scales and writes nine populations: the traffic of an update
          "collide"   our collisions with it, without ghosts, body or force
          "numba"     our kernel: a control interval, or part of one, of a batch
          "torch"     the reference, eager
          A batch of one uses one thread, but for torch.
steps     steps of the environment a second, of 0.25 diameters over velocity each, beside what
          FluidGym (arXiv:2601.15015) says that one takes
lettuce   the same case by Lettuce, see lattice_lettuce.py, one environment at a time: milliseconds
          a time step
drag      what ours and Lettuce find after a time of 100, over one of 40, and what that takes
gradient  time and memory of the gradient of a control interval, and memory of a batch

The ways take turns in every round, so that all see the same load of the machine; tables give
medians.

    python benchmarks/lattice.py --output docs/results/lattice.json
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from environments import highest, resident
from harness import Run, measure, origin, save, use_threads
from lattice_bounds import bandwidth, sweeps
from lattice_case import INTERVAL, NAME, STEPS, advancing, lattice
from lattice_lettuce import COLLISIONS, drag, lettuce, version
from spectral_timing import stepping

from separatrix.envs.core.registration import make_environment

Cases = tuple[tuple[int, int], ...]
"""Resolutions and sizes of a batch."""
SECTIONS = ("updates", "steps", "lettuce", "drag", "gradient", "memory")
CASES: Cases = tuple((resolution, batch) for resolution in (10, 20) for batch in (1, 8, 64))
LARGE: Cases = ((80, 1), (80, 2))
WEIGHED: Cases = ((10, 1), (10, 8))
FLUIDGYM = 1.24
"""Seconds of a step of CylinderRot2D-easy, the same task, as published for a GPU."""


def updates(cases: Cases, threads: int, rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times updates and prints a table."""
    print("\nmillion updates a second, float32")
    print("resolution  batch      move   collide     numba     torch   numba/move   numba/torch")
    rows = []
    for resolution, batch in cases:
        system, _ = lattice(resolution, 1, "numba", 1)
        program, steps = system.program, round(INTERVAL / system.program.time_step)
        steps = steps if resolution <= 20 else STEPS
        sites = program.rows * program.columns * batch
        size = program.rows, program.columns, steps, float(system.rate)
        runs: dict[str, Run] = sweeps(threads, batch, *size)
        runs["numba"] = advancing(resolution, batch, "numba", steps)
        runs["torch"] = advancing(resolution, batch, "torch", STEPS)
        times = measure(runs, rounds, duration)
        taken = {name: STEPS if name == "torch" else steps for name in runs}
        mlups = {n: sites * taken[n] / found["median"] / 1e6 for n, found in times.items()}
        threads_used = {n: threads if n == "torch" else min(threads, batch) for n in runs}
        row = {"resolution": resolution, "batch": batch, "sites": sites, "steps": taken}
        rows.append({**row, "threads": threads_used, "mlups": mlups, "seconds": times})
        print(
            f"{resolution:10d}{batch:7d}"
            + "".join(f"{rate:10.1f}" for rate in mlups.values())
            + f"{mlups['numba'] / mlups['move']:13.2f}{mlups['numba'] / mlups['torch']:14.1f}"
        )
    return rows


def steps(cases: Cases, rounds: int, duration: float) -> dict[str, Any]:
    """Times steps of the environment and prints a table."""
    print("\nsteps of the environment a second")
    print("resolution  batch     steps/s   ms of the batch")
    rows = []
    for resolution, batch in cases:
        environment = make_environment(NAME, batch, resolution=resolution)
        found = measure({"step": stepping(environment)}, rounds, duration)["step"]
        rate = batch / found["median"]
        row = {"resolution": resolution, "batch": batch, "steps_a_second": rate}
        rows.append({**row, "seconds": found})
        print(f"{resolution:10d}{batch:7d}{rate:12.1f}{1e3 * found['median']:18.1f}")
    print(
        f"FluidGym publishes {FLUIDGYM} seconds a step of CylinderRot2D-easy, {1 / FLUIDGYM:.2f} a "
        "second: theirs, on a GPU, on a finer grid\nand in another way; ours are of this machine's "
        "CPU. Not measured side by side."
    )
    return {"ours": rows, "fluidgym_published_seconds": FLUIDGYM}


def differentiated(backend: str, resolution: int, batch: int) -> tuple[Run, Run, float]:
    """Returns a step, the same with its gradient by the action, and the bytes of a state."""
    environment = make_environment(NAME, batch, backend=backend, resolution=resolution)
    state, _ = environment.reset(0)
    action = torch.zeros((batch, 1), requires_grad=True)

    def step() -> None:
        with torch.no_grad():
            environment.step(state, action)

    def backward() -> None:
        with torch.enable_grad():
            found = torch.autograd.grad(environment.step(state, action).reward.sum(), action)[0]
        assert found.isfinite().all() and found.any()

    flow = state.flow
    held = sum(part.nbytes for part in (flow.populations, flow.force, flow.previous_force))
    return step, backward, held / batch


def weigh(backend: str, resolution: int, batch: int) -> None:
    """Prints how much a step, and one with its gradient, add to a process of their own."""
    step, backward, _ = differentiated(backend, resolution, batch)
    found = []
    for run in (step, backward):
        run()  # everything is loaded
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system
        before = resident()
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forgets the peak
        run()
        found.append(highest() - before)
    print(json.dumps(found))


def gradient(cases: Cases, threads: int, rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times and weighs gradients of a control interval and prints a table.

    Kernels are compiled and kept on disk before they are weighed. What is freed goes back to the
    system at once there, so that a peak shows all that a run needs.
    """
    print("\nstep of a batch (s), the same with the gradient by its action, and what they allocate")
    print("resolution  batch  backend    step  gradient   KiB a state   MiB step  MiB gradient")
    variables = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384"}
    rows = []
    for resolution, batch in cases:
        runs: dict[str, Run] = {}
        states = {}
        for backend in ("numba", "torch"):
            step, backward, states[backend] = differentiated(backend, resolution, batch)
            runs |= {f"{backend} step": step, f"{backend} gradient": backward}
        times = measure(runs, rounds, duration)
        for backend, state in states.items():
            given = ["--threads", str(threads), "--weigh", backend, str(resolution), str(batch)]
            done = subprocess.run(
                [sys.executable, __file__, *given],
                env=variables,
                capture_output=True,
                text=True,
                check=True,
            )
            taken = [times[f"{backend} {kind}"]["median"] for kind in ("step", "gradient")]
            added = json.loads(done.stdout.splitlines()[-1])
            row = {"resolution": resolution, "batch": batch, "backend": backend, "state": state}
            rows.append(row | {"seconds": taken, "peak_bytes": added})
            print(
                f"{resolution:10d}{batch:7d}  {backend:7s}{taken[0]:8.3f}{taken[1]:10.3f}"
                f"{state / 2**10:14.0f}{added[0] / 2**20:11.1f}{added[1] / 2**20:14.1f}"
            )
    return rows


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of numba and torch")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--duration", type=float, default=0.2, help="seconds a way and round")
    parser.add_argument("--quick", action="store_true", help="smallest cases, to see that it runs")
    parser.add_argument("--weigh", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    if arguments.weigh:
        weigh(arguments.weigh[0], *map(int, arguments.weigh[1:]))
        return
    found = origin()
    variables = {n: os.environ.get(n) for n in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    print(json.dumps({**found, **variables}, indent=1))
    quick, threads = arguments.quick, arguments.threads
    turns = (1, 0.0) if quick else (arguments.rounds, arguments.duration)
    cases = CASES[:1] if quick else CASES
    theirs = version()
    kinds = tuple(COLLISIONS) if theirs else ()
    sections: dict[str, Run] = {
        "memory": lambda: bandwidth(threads, 2**20 if quick else 2**26, *turns),
        "updates": lambda: updates(cases if quick else CASES + LARGE, threads, *turns),
        "steps": lambda: steps(cases, *turns),
        "lettuce": lambda: lettuce((10,) if quick else (10, 20, 80), kinds, *turns),
        "drag": lambda: drag(10, kinds, *((1, 1) if quick else (100, 40))),
        "gradient": lambda: gradient(WEIGHED[:1] if quick else WEIGHED, threads, *turns),
    }
    results: dict[str, Any] = {}
    for name in SECTIONS:
        if name in arguments.only:
            begin = time.perf_counter()
            with torch.no_grad():
                results[name] = sections[name]()
            print(f"({name} took {time.perf_counter() - begin:.0f} s)")
    results |= {"environment": variables, "lettuce_version": theirs}
    save(arguments.output, {**found, **results, "load_average_after": os.getloadavg()})


if __name__ == "__main__":
    main()

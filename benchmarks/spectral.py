"""Times the spectral environments beside those of others, their own transforms and plain numpy.

ks        env steps a second of the Kuramoto-Sivashinsky equation in controlgym's setting: period
          32 pi, 256 points, eight top hats held for 0.5. controlgym runs as shipped: 99 of its 100
          time steps of 0.005, as 0.5 // 0.005 is 99, and 256 numbers of process noise, drawn as one
          multivariate normal even where their variance is 0. First the errors after one control
          interval, from states of the attractor under constant forces, against the reference of
          spectral_numpy.py; from them the settings that are timed:
          "coarse"    the fewest time steps whose error is not larger than controlgym's as shipped
          "default"   the number of time steps of the registered environment
          "fine"      as many, on more points, as bring the error down to that of controlgym at the
                      time it really reaches. On 256 points the rule of two thirds leaves out waves
                      of the forces that controlgym keeps; 400 points keep all of its waves.
          Beside them, at the default time steps: `numpy`, `torch` (our reference backend) and
          exponax, whose flow is not forced.
flow      Kolmogorov flow on 64 x 64 points beside exponax, jax-cfd (which has a scheme of five
          stages, not four) and HydroGym: all by the time steps of the registered environment.
          HydroGym's step takes 10 units of time; its time is scaled to our control interval. The
          others evolve some waves that the rule of two thirds leaves out, and so differ a little.
floor     a time step of ETDRK4 over its eight real Fourier transforms alone, by the fastest of
          torch, scipy and numpy.
gradient  time, and growth of a fresh process, of the gradient of a return over 200 control
          intervals of 64 Kuramoto-Sivashinsky environments.
reset     what a reset costs beside a step, as starting states are left to settle.

The ways take turns in every round, so that all see the same load of the machine; tables give
medians. spectral_peers.py says how to install the others.

    python benchmarks/spectral.py --output docs/results/spectral.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import torch
from environments import highest
from harness import Run, measure, origin, save, use_threads
from spectral_ks import DTYPES, HATS, KS, POINTS, SETTING, ks
from spectral_peers import Others
from spectral_timing import Ways, show, stepping, timed

from separatrix.envs.core.registration import find, make_environment
from separatrix.envs.core.stream import Stream

FLOW = "separatrix/KolmogorovFlow-v0"
FLOW_BATCHES = (1, 16, 64)
WEIGHED, CONTROL_STEPS = 64, 200
SECTIONS = ("ks", "flow", "floor", "gradient", "reset")


def flow(others: Others, rounds: int, duration: float) -> dict[str, Any]:
    """Times Kolmogorov flow beside others, in float32."""
    options = find(FLOW).options
    substeps, interval = options["substeps"], options["control_interval"]
    setting = {
        "length": options["length"],
        "points": options["points"],
        "step": interval / substeps,
        "substeps": substeps,
        "viscosity": 1 / options["reynolds"],
        "dtype": "float32",
    }
    kinds = {"exponax": "exponax_flow", "jax-cfd": "jax_cfd_flow"}
    system = make_environment(FLOW, 4).system
    state = system.initial_state(Stream.start(torch.arange(4)))
    fields = state.field[:, 0].numpy()
    ours = system.free_flow(state.field, interval, substeps)[:, 0].numpy()
    difference = {}
    for name, kind in kinds.items():
        theirs = others.ask("jax", "advance", kind, fields, **setting)
        if theirs is not None:
            difference[name] = float(np.abs(theirs - ours).max())
    print(f"\nlargest difference of vorticity after a control interval: {difference}")
    columns = {}
    for batch in FLOW_BATCHES:
        ways: Ways = {}
        for name, backend in (("ours", "auto"), ("torch", "torch")):
            ways[name] = stepping(make_environment(FLOW, batch, backend=backend)), 1
        for name, kind in kinds.items():
            given = {**setting, "fields": fields[:1].tolist(), "batch": batch}
            others.add(ways, name, "jax", kind, **given)
        if batch == 1:
            step = setting["step"]
            given = {"step": step, "batch": 1, "dtype": "float32"}
            others.add(ways, "HydroGym", "hydrogym", "hydrogym_flow", **given)
            if "HydroGym" in ways:
                run, calls = ways["HydroGym"]
                # It makes ten times as many time steps as 1 // step says, a float division.
                ways["HydroGym"] = run, calls * 10 * int(1 // step) * step / interval
        columns[batch] = timed(ways, batch, rounds, duration)
    show("Kolmogorov env steps/s, float32", columns)
    others.close()
    return {"setting": setting, "difference": difference, "float32": columns}


def transforms(batch: int, points: int, dtype: str, threads: int) -> dict[str, Run]:
    """Eight real Fourier transforms of a batch, forth and back by turns."""
    field = np.random.default_rng(0).standard_normal((batch, points)).astype(dtype)
    spectrum = np.fft.rfft(field)
    tensor, modes = torch.from_numpy(field), torch.from_numpy(spectrum)
    back, forth = np.empty_like(field), np.empty_like(spectrum)

    def by_torch() -> None:
        for _ in range(4):
            torch.fft.rfft(tensor)
            torch.fft.irfft(modes, points)

    def by_scipy() -> None:
        for _ in range(4):
            scipy.fft.rfft(field, workers=threads)
            scipy.fft.irfft(spectrum, points, workers=threads)

    def by_numpy() -> None:
        for _ in range(4):
            np.fft.rfft(field, out=forth)
            np.fft.irfft(spectrum, points, out=back)

    return {"torch": by_torch, "scipy": by_scipy, "numpy": by_numpy}


def floor(rounds: int, duration: float, threads: int) -> list[dict[str, Any]]:
    """Times a time step over its transforms alone and prints a table."""
    print("\nmicroseconds of a time step     points  batch       step  transforms      ratio")
    rows = []
    for dtype in DTYPES:
        for points in (64, 256):
            for batch in (1, 64, 256, 1024):
                steps = 20
                options = SETTING | {"actuators": HATS, "points": points, "substeps": steps}
                environment = make_environment(KS, batch, dtype=dtype, **options)
                state, _ = environment.reset(0)
                control = torch.zeros((batch, HATS), dtype=environment.dtype)
                advance = partial(environment.system.advance, state, control)
                runs = {"step": advance, **transforms(batch, points, dtype, threads)}
                found = {k: v["median"] for k, v in measure(runs, rounds, duration).items()}
                ours = found.pop("step") / steps
                fastest = min(found, key=lambda name: found[name])
                ratio = ours / found[fastest]
                row = {"dtype": dtype, "points": points, "batch": batch, "step": ours}
                rows.append({**row, "transforms": found, "fastest": fastest, "ratio": ratio})
                print(
                    f"{dtype:30s}{points:8d}{batch:7d}{1e6 * ours:11.1f}"
                    f"{1e6 * found[fastest]:12.1f}{ratio:11.2f}  ({fastest})"
                )
    return rows


def weigh(backend: str) -> dict[str, Any]:
    """Weighs and times a gradient, in a process of its own: for the peak cannot be set back."""
    imported = highest()
    environment = make_environment(KS, WEIGHED, backend=backend)
    state, _ = environment.reset(0)
    ready = highest()
    action = torch.zeros((CONTROL_STEPS, WEIGHED, 4), requires_grad=True)
    begin = time.perf_counter()
    total = torch.zeros(())
    for row in action:
        transition = environment.step(state, row)
        state, total = transition.state, total + transition.reward.sum()
    forward = time.perf_counter()
    total.backward()
    end = time.perf_counter()
    assert action.grad is not None and action.grad.isfinite().all() and action.grad.any()
    return {
        "backend": backend,
        "made_and_reset": ready - imported,
        "growth": highest() - imported,
        "forward_seconds": forward - begin,
        "backward_seconds": end - forward,
    }


def gradient(threads: int) -> list[dict[str, Any]]:
    """Weighs gradients and prints a table."""
    print(f"\ngradient over {CONTROL_STEPS} control intervals of {WEIGHED} KS environments")
    print("backend   MiB beyond imports   of them when reset   forward s   backward s")
    rows = []
    for backend in ("numba", "torch"):
        command = [sys.executable, __file__, "--weigh", backend, "--threads", str(threads)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        row = json.loads(found.splitlines()[-1])
        rows.append(row)
        print(
            f"{backend:9s}{row['growth'] / 2**20:19.0f}{row['made_and_reset'] / 2**20:21.0f}"
            f"{row['forward_seconds']:12.2f}{row['backward_seconds']:13.2f}"
        )
    return rows


def reset(rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times resets beside steps and prints a table."""
    print("\nmilliseconds                      batch      reset       step      ratio")
    rows = []
    for title, name, batches, options in (
        ("KS, L = 22", KS, (1, 64, 1024), {}),
        ("KS, L = 32 pi", KS, (1, 64, 1024), SETTING | {"points": POINTS}),
        ("Kolmogorov flow", FLOW, FLOW_BATCHES, {}),
    ):
        for batch in batches:
            environment = make_environment(name, batch, **options)
            runs = {"reset": partial(environment.reset, 0), "step": stepping(environment)}
            found = {k: v["median"] for k, v in measure(runs, rounds, duration).items()}
            ratio = found["reset"] / found["step"]
            rows.append({"environment": title, "batch": batch, **found, "ratio": ratio})
            print(
                f"{title:30s}{batch:9d}{1e3 * found['reset']:11.2f}"
                f"{1e3 * found['step']:11.3f}{ratio:11.2f}"
            )
    return rows


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections")
    parser.add_argument("--threads", type=int, default=1, help="of numba, torch and each peer")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each comparison")
    parser.add_argument("--duration", type=float, default=0.05, help="seconds a way and round")
    parser.add_argument("--weigh", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    if arguments.weigh:
        print(json.dumps(weigh(arguments.weigh)))
        return
    found = origin(("scipy",))
    print(json.dumps(found, indent=1))
    others = Others(arguments.threads)
    rounds, duration = arguments.rounds, arguments.duration
    sections: dict[str, Run] = {
        "ks": lambda: ks(others, rounds, duration),
        "flow": lambda: flow(others, rounds, duration),
        "floor": lambda: floor(rounds, duration, arguments.threads),
        "gradient": lambda: gradient(arguments.threads),
        "reset": lambda: reset(rounds, duration),
    }
    results: dict[str, Any] = {}
    for name in SECTIONS:
        if name in arguments.only:
            with torch.no_grad():
                results[name] = sections[name]()
    results |= {"peers": others.versions, "missing": others.missing}
    save(arguments.output, {**found, **results, "load_average_after": os.getloadavg()})


if __name__ == "__main__":
    main()

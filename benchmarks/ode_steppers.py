"""Times the ODE stepper beside its reference, compiled torch, other solvers and a loop by hand.

One call is a control interval of the Lorenz system: ten RK4 steps of 0.005 time units in float32.

    fused         `OdeSystem.advance`: the generated kernel, from state to state, in torch tensors
    fused tsit5   the same with ten steps of Tsit5, which two of the other solvers take
    kernel        the generated kernel alone, from arrays to arrays that exist
    eager         the torch reference
    compiled      the reference's integration of the ten steps under torch.compile, one graph
    hand          RK4 of the Lorenz equations written by hand for numba, 32 systems at a time in
                  local arrays, likewise from arrays to arrays: what the generator has to match
    scipy         solve_ivp (RK45) in float64, one system after the other, at the tolerance that
                  gives the error of ten RK4 steps; measured for few systems only
    torchdiffeq, torchode, diffrax   see peers.py; left out where they are not installed

The ways take turns in every round, so that all see the same load of the machine; the table gives
the fastest and the median round. With one thread the ratios hardly depend on what else the machine
is doing; with more they do, as the waiting threads of torch and of numba get into each other's way.
JAX takes as many threads as it likes; `taskset -c 0` holds everything to one core.

    make bench
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from harness import Run, measure, origin, save, use_threads
from numba import njit, prange
from peers import LorenzField, installed
from scipy.integrate import solve_ivp

from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers.torch_backend import TorchStepper

INTERVAL, SUBSTEPS = 0.05, 10
SIGMA, RHO, BETA = 10.0, 28.0, 8 / 3
LANES = 32
SIZES = (1, 2**10, 2**14, 2**18)
SCIPY_SIZES = (1, 16)


@njit(fastmath={"contract"}, error_model="numpy", inline="always")
def _field(x: Any, y: Any, z: Any, u: Any) -> Any:
    sigma, rho, beta = np.float32(SIGMA), np.float32(RHO), np.float32(BETA)
    return sigma * (y - x), x * (rho - z) - y + u, x * y - beta * z


@njit(fastmath={"contract"}, error_model="numpy")
def _hand_blocks(first: int, last: int, values: Any, control: Any, result: Any) -> None:
    """Advances blocks of 32 systems; a whole number of blocks is assumed."""
    h = np.float32(INTERVAL / SUBSTEPS)
    half, sixth = np.float32(0.5) * h, h / np.float32(6)
    two = np.float32(2)
    x, y = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    z, u = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for block in range(first, last):
        for j in range(LANES):
            i = LANES * block + j
            x[j], y[j], z[j], u[j] = values[i, 0], values[i, 1], values[i, 2], control[i, 0]
        for _ in range(SUBSTEPS):
            for j in range(LANES):
                a1, b1, c1 = _field(x[j], y[j], z[j], u[j])
                a2, b2, c2 = _field(x[j] + half * a1, y[j] + half * b1, z[j] + half * c1, u[j])
                a3, b3, c3 = _field(x[j] + half * a2, y[j] + half * b2, z[j] + half * c2, u[j])
                a4, b4, c4 = _field(x[j] + h * a3, y[j] + h * b3, z[j] + h * c3, u[j])
                x[j] += sixth * (a1 + two * (a2 + a3) + a4)
                y[j] += sixth * (b1 + two * (b2 + b3) + b4)
                z[j] += sixth * (c1 + two * (c2 + c3) + c4)
        for j in range(LANES):
            i = LANES * block + j
            result[i, 0], result[i, 1], result[i, 2] = x[j], y[j], z[j]


@njit(parallel=True, fastmath={"contract"}, error_model="numpy")
def _hand_threaded(threads: int, values: Any, control: Any, result: Any) -> None:
    total = values.shape[0] // LANES
    for thread in prange(threads):
        first, last = total * thread // threads, total * (thread + 1) // threads
        _hand_blocks(first, last, values, control, result)


def hand(values: np.ndarray, control: np.ndarray) -> tuple[Run, np.ndarray]:
    """The hand-written stepper on a batch padded to whole blocks, and where its result appears."""
    count, padding = len(values), -len(values) % LANES
    values = np.concatenate([values, np.repeat(values[-1:], padding, 0)])
    control = np.concatenate([control, np.repeat(control[-1:], padding, 0)])
    result, blocks = np.empty_like(values), len(values) // LANES
    threads = numba.get_num_threads()
    if count >= 1024 and threads > 1:
        return lambda: _hand_threaded(threads, values, control, result), result[:count]
    return lambda: _hand_blocks(0, blocks, values, control, result), result[:count]


def kernel(system: Any, values: np.ndarray, control: np.ndarray) -> tuple[Run, np.ndarray]:
    """The generated kernel on a batch, and where its result appears."""
    stepper, count = system._stepper, len(values)
    result, empty = np.empty_like(values), np.empty((count, 0), np.float32)
    outputs = (result, empty, np.empty((1, count), np.float32), np.empty((2, count), np.bool_))
    parameters = system._parameter_rows.numpy()
    arguments = (values, control, parameters, *stepper._constants, *outputs)
    threads = numba.get_num_threads()
    if count >= 1024 and threads > 1:
        return lambda: stepper._kernel.threaded(threads, *arguments), result
    return lambda: stepper._kernel.serial(*arguments), result


def scipy_tolerance(values: np.ndarray) -> tuple[float, float]:
    """The largest tolerance at which RK45 errs no more than ten RK4 steps, and that error."""
    start = values.astype(np.float64)
    system = environment_of(len(start), "torch", "float64").system
    zero = torch.zeros((len(start), 1), dtype=torch.float64)
    state, _ = environment_of(len(start), "torch", "float64").reset(0)
    moved = type(state)(state.stream, state.interval, torch.from_numpy(start))
    fixed = system.advance(moved, zero).values.numpy()
    exact = np.array([solve(row, 1e-13) for row in start])
    error = float(np.abs(fixed - exact).max())
    tolerance = 1e-2
    while np.abs(np.array([solve(row, tolerance) for row in start]) - exact).max() > error:
        tolerance /= 2
    return tolerance, error


def solve(row: np.ndarray, tolerance: float) -> np.ndarray:
    """One system by scipy over one interval."""

    def field(_: float, state: np.ndarray) -> tuple[float, float, float]:
        x, y, z = state
        return SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z

    return solve_ivp(field, (0.0, INTERVAL), row, rtol=tolerance, atol=tolerance).y[:, -1]


def environment_of(count: int, backend: str, dtype: str = "float32", **options: Any) -> Any:
    """Lorenz, with the interval that is timed."""
    options = {"control_interval": INTERVAL, "substeps": SUBSTEPS, **options}
    return make_environment("Lorenz-v0", count, backend=backend, dtype=dtype, **options)


def contestants(count: int, tolerance: float) -> dict[str, Run]:
    """The ways to advance a batch by one interval, all from the same states."""
    fused, eager = (environment_of(count, backend).system for backend in ("numba", "torch"))
    tsit5 = environment_of(count, "numba", integrator="tsit5").system
    state, _ = environment_of(count, "torch").reset(0)
    control = torch.zeros((count, 1))
    values, pushes = state.values.numpy(), control.numpy()
    runs: dict[str, Run] = {
        "fused": lambda: fused.advance(state, control).values,
        "fused tsit5": lambda: tsit5.advance(state, control).values,
        "eager": lambda: eager.advance(state, control).values,
    }
    found: dict[str, np.ndarray] = {}
    runs["kernel"], found["kernel"] = kernel(fused, values, pushes)
    runs["hand"], found["hand"] = hand(values, pushes)
    reference: TorchStepper = eager._stepper
    integrate = torch.compile(reference._integrate, fullgraph=True, dynamic=False)
    x, u, parameters = state.values.T.contiguous(), control.T.contiguous(), eager._parameter_rows
    try:
        integrate(x, u, parameters)
        runs["compiled"] = lambda: integrate(x, u, parameters).T
    except torch._dynamo.exc.BackendCompilerFailed as error:
        print(f"compiled: left out ({str(error).splitlines()[0]})")
    if count in SCIPY_SIZES:
        start = values.astype(np.float64)
        runs["scipy"] = lambda: torch.from_numpy(np.array([solve(row, tolerance) for row in start]))
    for name, way in installed().items():
        field = LorenzField(SIGMA, RHO, BETA)
        runs[name], result = way(state.values, INTERVAL, SUBSTEPS, field)
        found[name] = result()
    expected = runs["eager"]()
    for name, run in runs.items():
        returned = run()
        result = torch.from_numpy(found[name]) if name in found else returned
        torch.testing.assert_close(result.float(), expected, rtol=1e-3, atol=1e-3, msg=name)
    return runs


def steppers(rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times the steppers at every size and prints a table."""
    state, _ = environment_of(16, "torch").reset(0)
    tolerance, error = scipy_tolerance(state.values.numpy())
    print(f"\nscipy: RK45 with rtol = atol = {tolerance:.1e}, error of ten RK4 steps {error:.1e}\n")
    print("          microseconds a call:                     ns a system")
    print("systems   way            fastest       median   and step, fastest  over fused")
    rows = []
    for count in sorted({*SIZES, *SCIPY_SIZES}):
        runs = contestants(count, tolerance)
        if count not in SIZES:
            runs = {name: runs[name] for name in ("fused", "scipy")}
        found = measure(runs, rounds, duration)
        for name, times in found.items():
            ratio = times["minimum"] / found["fused"]["minimum"]
            each = times["minimum"] / count / SUBSTEPS
            rows.append({"systems": count, "way": name, **times, "over_fused": ratio})
            fastest, median = 1e6 * times["minimum"], 1e6 * times["median"]
            print(
                f"{count:7d}   {name:12s} {fastest:12.1f} {median:12.1f} {1e9 * each:17.2f}"
                f" {ratio:11.2f}"
            )
    return rows


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of numba and torch")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison")
    parser.add_argument("--duration", type=float, default=0.05, help="seconds a way and round")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    found = origin([name for name in ("scipy", *installed())])
    print(json.dumps(found, indent=1))
    with torch.no_grad():
        rows = steppers(arguments.rounds, arguments.duration)
    save(arguments.output, {**found, "load_average_after": os.getloadavg(), "steppers": rows})


if __name__ == "__main__":
    main()

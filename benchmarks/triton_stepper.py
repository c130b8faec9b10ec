"""Times the Triton kernels on a GPU beside the torch reference, eager and compiled.

One call is a control interval of an environment as it is registered, in float32.

    triton     the stepper: allocates its results and launches one kernel
    graph      the same replayed as a CUDA graph: the GPU's own time, without Python's
    eager      the torch reference
    compiled   the reference's integration alone under torch.compile, one graph

The first batch, of one environment, shows what a launch costs; the others divide the time by
environments and sub-steps. Calls are timed in runs that end with a synchronisation. The ways take
turns in every round; the table gives the fastest round.

    python benchmarks/triton_stepper.py --output docs/results/triton_stepper.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import Run, measure, origin, save

from separatrix.envs.core.registration import make_environment

NAMES = ("Lorenz-v0", "Lorenz96-v0", "CartPoleSwingUp-v0")
SIZES = (1, *(2**power for power in range(13, 21)))
CALLS = 10
"""Calls between two synchronisations."""


def machine() -> dict[str, Any]:
    """The GPU and the software that drives it."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
    }


def replayed(call: Run) -> Run:
    """Captures a call as a CUDA graph."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def contestants(name: str, count: int) -> tuple[dict[str, Run], int]:
    """The ways to advance a batch by one interval, from the same states; and its sub-steps."""
    steppers: dict[str, Callable[..., Any]] = {}
    for backend in ("triton", "torch"):
        environment: Any = make_environment(name, count, device="cuda", backend=backend)
        steppers[backend] = environment._stepper
    state, _ = environment.reset(0)
    values, parameters = state.values, environment._parameters
    action = values.new_zeros((count, *environment.action_shape))
    fused, reference = steppers["triton"], environment._stepper
    x, p = values.T.contiguous(), parameters
    u = x.new_zeros((len(environment._program.control), count))
    torch.compiler.reset()  # sizes must not turn dynamic
    integrate = torch.compile(reference._integrate, fullgraph=True, dynamic=False)
    runs: dict[str, Run] = {
        "triton": lambda: fused(values, action, parameters),
        "graph": replayed(lambda: fused(values, action, parameters)),
        "eager": lambda: reference(values, action, parameters),
        "compiled": lambda: integrate(x, u, p),
    }
    found, expected = runs["triton"](), runs["eager"]()
    torch.testing.assert_close(found.next_values, expected.next_values, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.reward, expected.reward, rtol=1e-3, atol=1e-3)
    return runs, environment.system.interval.substeps


def repeated(call: Run) -> Run:
    """Some calls, and the wait for the last."""

    def run() -> None:
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize()

    return run


def compare(name: str, rounds: int, duration: float) -> list[dict[str, Any]]:
    """Times an environment at every size and prints a table."""
    print(f"\n{name}\n    batch   way       microseconds a call   ns an environment and sub-step")
    rows = []
    for count in SIZES:
        runs, substeps = contestants(name, count)
        times = measure({way: repeated(run) for way, run in runs.items()}, rounds, duration)
        for way, found in times.items():
            seconds = found["minimum"] / CALLS
            each = seconds / count / substeps
            row = {"environment": name, "batch": count, "way": way, "substeps": substeps}
            rows.append(row | {"seconds": seconds, "median": found["median"] / CALLS})
            print(f"{count:9d}   {way:9s} {1e6 * seconds:19.1f} {1e9 * each:32.4f}")
    return rows


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each comparison")
    parser.add_argument("--duration", type=float, default=0.1, help="seconds a way and round")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(f"needs a CUDA device: torch {torch.__version__} finds none")
    came_from = {**origin(["triton"]), "machine": machine()}
    print(json.dumps(came_from, indent=1))
    with torch.no_grad():
        rows = [
            row for name in NAMES for row in compare(name, arguments.rounds, arguments.duration)
        ]
    save(arguments.output, {**came_from, "steppers": rows})


if __name__ == "__main__":
    main()

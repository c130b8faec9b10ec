"""Sheds vortices from 64 cylinders at once: their frequency against the Reynolds number.

All cylinders stand in one batch, in the free stream of RotaryCylinder-v0, between Reynolds numbers
of 50 and 200. A short rotation breaks the symmetry; after a time for the wake to develop, the
frequency follows from the times at which the lift rises through its mean. It is compared with the
formula that C. H. K. Williamson (Phys. Fluids 31 (1988) 2742) fitted to measurements,

    St = -3.3265 / Re + 0.1816 + 1.6e-4 Re

    python benchmarks/strouhal.py --output docs/results/strouhal.json
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from harness import origin, save, use_threads

from separatrix.envs.core.stream import Stream
from separatrix.envs.fluid.cylinder import DOMAINS
from separatrix.envs.fluid.developed import impulsive
from separatrix.envs.steppers.lattice import Actuator
from separatrix.envs.steppers.lattice_system import LatticeState, LatticeSystem

LOWEST, HIGHEST = 50.0, 200.0
KICK, INTERVAL = 2.0, 0.1


def system_of(numbers: np.ndarray, resolution: int, speed: float, interval: float) -> LatticeSystem:
    """The cylinders, which can rotate."""
    return LatticeSystem(
        DOMAINS["free_stream"],
        [Actuator(0, 0)],
        numbers,
        impulsive,
        resolution=resolution,
        speed=speed,
        num_envs=len(numbers),
        control_interval=interval,
        smoothing_time=0.0,
        strongest=1.0,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def formula(reynolds: np.ndarray) -> np.ndarray:
    """Strouhal numbers after Williamson."""
    return np.asarray(-3.3265 / reynolds + 0.1816 + 1.6e-4 * reynolds)


def frequency(lift: np.ndarray) -> float:
    """Of a signal (time,), by the times at which it rises through its mean."""
    signal = lift - lift.mean()
    before = np.flatnonzero((signal[:-1] < 0) & (signal[1:] >= 0))
    rises = before + signal[before] / (signal[before] - signal[before + 1])
    return float((len(rises) - 1) / (rises[-1] - rises[0]) / INTERVAL)


def main() -> None:
    """Runs the benchmark and writes its numbers if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    parser.add_argument("--cylinders", type=int, default=64, help="size of the batch")
    parser.add_argument("--resolution", type=int, default=10, help="sites to a diameter")
    parser.add_argument("--speed", type=float, default=0.07, help="of the stream, links a step")
    parser.add_argument("--settling", type=float, default=60.0, help="time units before counting")
    parser.add_argument("--watched", type=float, default=40.0, help="time units of counting")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    numbers = np.linspace(LOWEST, HIGHEST, arguments.cylinders)

    def run(span: float, interval: float, state: LatticeState | None, control: float = 0.0):  # type: ignore[no-untyped-def]
        system = system_of(numbers, arguments.resolution, arguments.speed, interval)
        if state is None:
            state = system.initial_state(Stream.start(torch.arange(len(numbers))))
        forces = []
        for _ in range(round(span / interval)):
            state = system.advance(state, torch.full_like(state.control, control))
            forces.append(state.flow.force[:, 0].numpy())
        return state, np.stack(forces)

    begin = time.perf_counter()
    with torch.no_grad():
        state, _ = run(KICK, KICK, None, 1.0)
        state, _ = run(arguments.settling, 10.0, state)
        _, force = run(arguments.watched, INTERVAL, state)
    seconds = time.perf_counter() - begin
    found = np.array([frequency(lift) for lift in force[:, :, 1].T])
    expected = formula(numbers)
    rows = []
    print("   Re     St   formula  difference   mean drag   amplitude of lift")
    for i, reynolds in enumerate(numbers.tolist()):
        drag, amplitude = force[:, i, 0].mean(), np.ptp(force[:, i, 1]) / 2
        row = {"reynolds_number": reynolds, "strouhal": found[i], "formula": expected[i]}
        rows.append(row | {"mean_drag": float(drag), "lift_amplitude": float(amplitude)})
        difference = found[i] / expected[i] - 1
        print(
            f"{reynolds:6.1f} {found[i]:7.4f} {expected[i]:7.4f} {difference:+10.1%} "
            f"{drag:11.3f} {amplitude:15.3f}"
        )
    worst = float(np.abs(found / expected - 1).max())
    print(f"\nlargest difference {worst:.1%}; {seconds:.0f} s")
    settings = {k: v for k, v in vars(arguments).items() if k != "output"}
    content = {**origin(), "settings": settings, "seconds": seconds, "rows": rows}
    save(arguments.output, content | {"largest_difference": worst})


if __name__ == "__main__":
    main()

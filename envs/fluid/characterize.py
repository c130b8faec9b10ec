"""Computes the turbulence that the package ships: `python -m separatrix.envs.fluid.characterize`.

64 fields of random waves run freely for 150 time units at the default parameters of Kolmogorov
flow, on 64 x 64 points, in float32 and steps of 0.025. Statistics are steady after about 60. Of the
last fields the modes of up to 16 waves along each axis are written; beyond lies 1e-5 of the
enstrophy. It takes minutes, and other machines round to other fields of the same statistics.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from separatrix.envs.core.stream import Stream
from separatrix.envs.fluid.kolmogorov_flow import kolmogorov_flow
from separatrix.envs.fluid.starts import free_flow, random_waves
from separatrix.envs.steppers.spectral_system import SpectralSystem

SNAPSHOTS, POINTS, HIGHEST = 64, 64, 16
SETTLING_TIME, STEP = 150.0, 0.025


def main() -> None:
    """Computes the snapshots and writes the data file of the package."""
    system = SpectralSystem(
        kolmogorov_flow,
        {},
        lambda stream, system: random_waves(stream, system, waves=4, rms=2.0),
        torch.zeros((1, 1, POINTS, POINTS), dtype=torch.float64),
        points=POINTS,
        num_envs=SNAPSHOTS,
        control_interval=1.0,
        substeps=1,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backend="torch",
    )
    with torch.no_grad():
        field = system.initial_state(Stream.start(torch.arange(SNAPSHOTS))).field
        field = free_flow(field, system, SETTLING_TIME, STEP)
    spectrum = system.grid.transform(field[:, 0].double())
    numbers = torch.arange(-HIGHEST, HIGHEST + 1)
    modes = spectrum[:, numbers % POINTS, : HIGHEST + 1].to(torch.complex64)
    path = Path(__file__).parent / "data" / "kolmogorov_flow.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, modes=modes.numpy())
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

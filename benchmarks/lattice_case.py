"""The case of lattice.py: a cylinder in a channel, which rotates."""

from __future__ import annotations

from functools import partial

import torch
from harness import Run

from separatrix.envs.core.stream import Stream
from separatrix.envs.fluid.cylinder import DOMAINS
from separatrix.envs.fluid.developed import impulsive
from separatrix.envs.steppers.lattice import Actuator
from separatrix.envs.steppers.lattice_system import LatticeState, LatticeSystem

NAME = "separatrix/RotaryCylinder-v0"
SPEED, INTERVAL = 0.05, 0.25
"""Of the environment as it is registered."""
STEPS = 10
"""Time steps of a call where those of an interval would take long."""


def lattice(
    resolution: int, batch: int, backend: str, steps: int
) -> tuple[LatticeSystem, LatticeState]:
    """Returns the cylinder without a task, and the flow some time steps after its start."""
    system = LatticeSystem(
        DOMAINS["channel"],
        (Actuator(0, 0),),
        100.0,
        impulsive,
        resolution=resolution,
        speed=SPEED,
        num_envs=batch,
        control_interval=steps * SPEED / resolution,
        smoothing_time=0.1,
        strongest=1.0,
        device=torch.device("cpu"),
        dtype=torch.float32,
        backend=backend,
    )
    state = system.initial_state(Stream.start(torch.arange(batch)))
    return system, system.advance(state, torch.zeros_like(state.control))


def advancing(resolution: int, batch: int, backend: str, steps: int) -> Run:
    """Returns what advances a batch by some time steps."""
    system, state = lattice(resolution, batch, backend, steps)
    return partial(system.advance, state, torch.zeros_like(state.control))

"""Streams that tests of the lattice share: how to make, start and watch them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from separatrix.envs.core.stream import Stream
from separatrix.envs.fluid.developed import impulsive
from separatrix.envs.steppers.lattice import VELOCITIES, WEIGHTS, Actuator, Domain
from separatrix.envs.steppers.lattice_system import Flow, LatticeState, LatticeSystem

Fields = Callable[[np.ndarray, np.ndarray], tuple[Any, ...]]


def stream(
    domain: Domain,
    reynolds_number: float | Sequence[float],
    *,
    resolution: int = 10,
    speed: float = 0.05,
    interval: float = 0.05,
    members: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> LatticeSystem:
    """A stream whose bodies rotate, each by its own control, at once and up to velocity 1."""
    numbers = torch.as_tensor(reynolds_number, dtype=torch.float64)
    return LatticeSystem(
        domain,
        [Actuator(body, body) for body in range(len(domain.bodies))],
        numbers,
        impulsive,
        resolution=resolution,
        speed=speed,
        num_envs=members or numbers.numel(),
        control_interval=interval,
        smoothing_time=0.0,
        strongest=1.0,
        device=torch.device("cpu"),
        dtype=dtype,
    )


def places(system: LatticeSystem) -> tuple[np.ndarray, np.ndarray]:
    """Places x and y (row, column) of the sites, without ghosts."""
    program = system.program
    column, row = (np.arange(n) + 0.5 for n in (program.columns, program.rows))
    x, y = np.meshgrid(column / program.resolution, row / program.resolution)
    return x, y


def undisturbed(system: LatticeSystem) -> LatticeState:
    """The stream into which the bodies are put at once."""
    return system.initial_state(Stream.start(torch.arange(system.num_envs)))


def flow_of(system: LatticeSystem, fields: Fields) -> LatticeState:
    """The state, in equilibrium, whose velocities and pressure are functions of x and y."""
    speed = system.program.speed
    u, v, p = (np.broadcast_to(part, places(system)[0].shape) for part in fields(*places(system)))
    u, v, density = u * speed, v * speed, 3 * p * speed**2
    along = np.tensordot(VELOCITIES, np.stack([u, v]), 1)
    parts = WEIGHTS[:, None, None] * (density + 3 * along + 4.5 * along**2 - 1.5 * (u**2 + v**2))
    state = undisturbed(system)
    populations = torch.zeros_like(state.flow.populations)
    populations[:, :, 1:-1, 1:-1] = torch.from_numpy(parts).to(populations)
    zero = torch.zeros_like(state.flow.force)
    return LatticeState(state.stream, state.interval, Flow(populations, zero, zero), state.control)


def fields_of(system: LatticeSystem, state: LatticeState) -> tuple[np.ndarray, ...]:
    """Velocities and pressure (batch, row, column)."""
    found = system.fields(state.flow.populations[:, :, 1:-1, 1:-1])
    return tuple(part.double().numpy() for part in found)


def watch(
    system: LatticeSystem,
    state: LatticeState,
    time: float,
    control: float | Sequence[float] | Tensor = 0.0,
) -> tuple[LatticeState, np.ndarray]:
    """Advances by some time.

    Returns:
        The state, and drag and lift (interval, batch, body, 2).
    """
    target = torch.as_tensor(control).to(state.control).expand_as(state.control)
    forces = []
    with torch.no_grad():
        for _ in range(round(time / system.control_interval)):
            state = system.advance(state, target)
            forces.append(state.flow.force.double().numpy())
    return state, np.stack(forces)


def crossings(signal: np.ndarray) -> np.ndarray:
    """Where a signal (time,) rises through its mean, in samples."""
    signal = signal - signal.mean()
    before = np.flatnonzero((signal[:-1] < 0) & (signal[1:] >= 0))
    return before + signal[before] / (signal[before] - signal[before + 1])


def frequency(signal: np.ndarray, interval: float) -> float:
    """Of a periodic signal, by the times at which it rises through its mean."""
    found = crossings(signal)
    return float((len(found) - 1) / (found[-1] - found[0]) / interval)

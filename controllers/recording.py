"""Episodes kept for figures and videos."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.controllers.rollout import rollout
from separatrix.envs.core.environment import Environment
from separatrix.envs.steppers.lattice_system import LatticeState, LatticeSystem
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeState, OdeSystem
from separatrix.envs.steppers.spectral_system import FieldState


@dataclass(frozen=True)
class Trajectories:
    """States over time; of bodies in a stream forces and controls, else observations."""

    values: Float[np.ndarray, "time episodes component"]
    """One value for each control interval, before the step; NaN after an episode has ended."""

    names: tuple[str, ...]
    """Names of the components."""

    target: Float[np.ndarray, " component"] | None
    """The state that the task asks to hold in the first environment, where there is one."""


def record_trajectories(
    environment: Environment, controller: Controller, seeds: Int[Tensor, " episodes"]
) -> Trajectories:
    """Run one episode for each seed and keep the states.

    Args:
        environment: Environment, see `rollout`.
        controller: Controller that acts.
        seeds: One seed for each episode, int64.

    Returns:
        The trajectories.
    """
    rows = []
    for step in rollout(environment, controller, seeds):
        state = step.state.unwrapped
        values = step.observation
        if isinstance(state, OdeState):
            values = state.values
        elif isinstance(state, LatticeState):
            values = torch.cat([state.flow.force.mT.flatten(1), state.control], 1)
        values = values.flatten(1).double().cpu()
        rows.append(torch.where(step.alive.cpu()[:, None], values, torch.nan).numpy())
    physics, system = environment.unwrapped, environment.system
    if isinstance(physics, OdeEnvironment) and isinstance(system, OdeSystem):
        names = system.definition.state_names
        points = physics.task.target_points(system)
        target = points[0] if len(points) == 1 else None
    elif isinstance(system, LatticeSystem):
        bodies, controls = (
            range(1, 1 + count) for count in (system.program.bodies, system.program.controls)
        )
        names = (
            *(f"{name} {body}" for name in ("drag", "lift") for body in bodies),
            *(f"control {control}" for control in controls),
        )
        target = None
    else:
        names = tuple(f"observation {index}" for index in range(rows[0].shape[1]))
        target = None
    return Trajectories(np.stack(rows), names, target)


def record_fields(
    environment: Environment, controller: Controller, seeds: Int[Tensor, " episodes"]
) -> Float[np.ndarray, "time episodes *grid"] | None:
    """Run one episode of a PDE for each seed and keep its first field.

    Args:
        environment: Environment, see `rollout`.
        controller: Controller that acts.
        seeds: One seed for each episode, int64.

    Returns:
        The field before each step, float32; NaN after an episode has ended. None if the state of
        the environment is no field.
    """
    rows = []
    for step in rollout(environment, controller, seeds):
        state = step.state.unwrapped
        if not isinstance(state, FieldState):
            return None
        field = state.field[:, 0].float().cpu()
        alive = step.alive.cpu().view(-1, *[1] * (field.ndim - 1))
        rows.append(torch.where(alive, field, torch.nan).numpy())
    return np.stack(rows)


def record_frames(
    environment: Environment, controller: Controller, seed: int, limit: int = 200
) -> UInt8[np.ndarray, "time height width 3"]:
    """Run one episode and draw it.

    Args:
        environment: Environment of one row, or with shared parameters.
        controller: Controller that acts.
        seed: Seed of the episode.
        limit: Most frames; of a longer episode every second, third, ... step is drawn.

    Returns:
        The frames.
    """
    every = math.ceil(environment.horizon / limit)
    steps = rollout(environment, controller, torch.tensor([seed]))
    return np.stack(
        [environment.render(step.state) for count, step in enumerate(steps) if count % every == 0]
    )

"""Registering ODE systems and maps with component tasks.

Light: the heavy parts load when one is made.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import register, suggest
from separatrix.envs.steppers.component_task import ComponentTask
from separatrix.envs.steppers.ode import OdeDefinition

if TYPE_CHECKING:
    from separatrix.envs.steppers.ode_environment import Draw, OdeEnvironment


def register_ode(
    name: str,
    definition: OdeDefinition,
    tasks: Mapping[str, Any],
    *,
    control_interval: float,
    substeps: int,
    horizon: int,
    summary: str,
    draw: Draw,
    documented: type,
    integrator: str = "rk4",
) -> None:
    """Registers a system with its tasks under one id.

    The options of the id are the parameters of the system, the fields of its tasks, `task`,
    `control_interval`, `substeps` and `integrator`. Tasks may share a field, each with a default
    of its own.

    Args:
        name: Name with version, such as "Lorenz-v0".
        definition: The system.
        tasks: Component tasks by name; the first is the default.
        control_interval: Time during which a control is held.
        substeps: Integration steps in a control interval.
        horizon: Steps after which an episode is truncated.
        summary: One line.
        draw: Draws one environment.
        documented: The class whose docstring describes the environment.
        integrator: Name of the integration scheme.
    """
    stepping = {
        "control_interval": control_interval,
        "substeps": substeps,
        "integrator": integrator,
    }
    _register(name, definition, tasks, stepping, {}, horizon, summary, draw, documented)


def register_map(
    name: str,
    definition: OdeDefinition,
    tasks: Mapping[str, Any],
    *,
    horizon: int,
    summary: str,
    draw: Draw,
    documented: type,
) -> None:
    """Registers a map with its tasks under one id; a step is one iteration.

    The options of the id are the parameters of the map, the fields of its tasks, and `task`.

    Args:
        name: Name with version, such as "Henon-v0".
        definition: The map.
        tasks: Component tasks by name; the first is the default.
        horizon: Steps after which an episode is truncated.
        summary: One line.
        draw: Draws one environment.
        documented: The class whose docstring describes the environment.
    """
    fixed = {"control_interval": 1.0, "substeps": 1, "integrator": "map"}
    _register(name, definition, tasks, {}, fixed, horizon, summary, draw, documented)


def _register(
    name: str,
    definition: OdeDefinition,
    tasks: Mapping[str, Any],
    stepping: Mapping[str, Any],
    fixed: Mapping[str, Any],
    horizon: int,
    summary: str,
    draw: Draw,
    documented: type,
) -> None:
    """Registers a system whose time stepping is an option, `stepping`, or not, `fixed`."""
    settings = {"task": next(iter(tasks)), **stepping}
    task_options = {
        # An option of several tasks shows its value in the first of them.
        field.name: getattr(task, field.name)
        for task in reversed(list(tasks.values()))
        for field in fields(task)
    }

    def build(
        *, num_envs: int, device: Any, dtype: Any, backend: str, horizon: int, options: dict
    ) -> OdeEnvironment:
        from separatrix.envs.steppers.ode_environment import OdeEnvironment
        from separatrix.envs.steppers.ode_system import OdeSystem

        chosen = settings | dict(fixed) | {k: v for k, v in options.items() if k in settings}
        if not isinstance(chosen["task"], str) or chosen["task"] not in tasks:
            got = reprlib.repr(chosen["task"])
            raise ValueError(f"unknown task {got}; {suggest(chosen['task'], tasks)}")
        task: ComponentTask = tasks[chosen["task"]]
        own = {field.name for field in fields(task)}  # type: ignore[arg-type]
        foreign = sorted((options.keys() & task_options.keys()) - own)
        if foreign:
            raise ValueError(
                f"task {chosen['task']!r} has no option {foreign[0]!r}; {suggest(foreign[0], own)}"
            )
        system = OdeSystem(
            definition,
            {k: v for k, v in options.items() if k in definition.parameters},
            num_envs=num_envs,
            control_interval=chosen["control_interval"],
            substeps=chosen["substeps"],
            integrator=chosen["integrator"],
            device=device,
            dtype=dtype,
            backend=backend,
        )
        task = replace(task, **{k: v for k, v in options.items() if k in own})  # type: ignore[type-var]
        return OdeEnvironment(system, task, horizon, draw)

    register(
        name,
        build,
        horizon=horizon,
        summary=summary,
        options={**definition.parameters, **task_options, **settings},
        documented=documented,
        states=len(definition.state_names),
        controls=len(definition.control_names),
        backends=("numba", "triton", "torch"),
    )

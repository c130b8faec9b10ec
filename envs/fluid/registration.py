"""Registering PDEs with tasks on their fields. Light: the heavy parts load when one is made."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import is_positive, register, suggest
from separatrix.envs.fluid.actuators import Actuators, on_first_field
from separatrix.envs.fluid.objectives import Objective
from separatrix.envs.fluid.sensors import Sensors
from separatrix.envs.steppers.spectral import SpectralDefinition

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.core.environment import ComposedEnvironment
    from separatrix.envs.steppers.spectral_system import Start

Force = Callable[["Tensor", int], "Tensor"]
"""Turns the shapes (actuator, *grid) of actuators into forces (control, field, *grid)."""


def register_field(
    name: str,
    definition: SpectralDefinition,
    objectives: Mapping[str, Objective],
    start: Start,
    *,
    points: int,
    control_interval: float,
    substeps: int,
    horizon: int,
    authority: float,
    scale: tuple[float, ...],
    summary: str,
    documented: type,
    actuators: Actuators,
    sensors: Sensors,
    force: Force = on_first_field,
    controls: int | None = None,
    observed: tuple[int, ...] = (0,),
    integrator: str = "etdrk4",
) -> None:
    """Registers a PDE with its objectives under one id.

    The options of the id are the parameters of the PDE, those of its objectives, actuators and
    sensors, `task` (the name of an objective), `authority`, `points`, `control_interval`,
    `substeps` and `integrator`.

    Args:
        name: Name with version, such as "Burgers-v0".
        definition: The PDE.
        objectives: By name; the first is the default.
        start: Draws fields at the start of an episode.
        points: Points of the grid along each axis.
        control_interval: Time during which a control is held.
        substeps: Time steps in a control interval.
        horizon: Steps after which an episode is truncated.
        authority: Force of each control at action 1.
        scale: Size of each field, by which what is seen of it is divided.
        summary: One line.
        documented: The class whose docstring describes the environment.
        actuators: Where forces act.
        sensors: Where the fields are seen.
        force: What the actuators act on; by default on the first field.
        controls: Number of controls, where they are not as many as actuators.
        observed: Indices of the fields that are seen.
        integrator: Name of the time stepping scheme.
    """
    settings = {
        "task": next(iter(objectives)),
        "authority": authority,
        "points": points,
        "control_interval": control_interval,
        "substeps": substeps,
        "integrator": integrator,
    }
    task_options = {
        # An option of several objectives shows its value in the first of them.
        name: value
        for objective in reversed(list(objectives.values()))
        for name, value in _options(objective).items()
    }

    def build(
        *, num_envs: int, device: Any, dtype: Any, backend: str, horizon: int, options: dict
    ) -> ComposedEnvironment:
        from separatrix.envs.core.environment import ComposedEnvironment
        from separatrix.envs.fluid.field_task import FieldTask
        from separatrix.envs.fluid.pictures import draw_fields
        from separatrix.envs.steppers.spectral_system import SpectralSystem, check_grid

        chosen = settings | {k: v for k, v in options.items() if k in settings}
        objective = _objective(objectives, chosen["task"], options, task_options.keys())
        if not is_positive(chosen["authority"]):
            got = reprlib.repr(chosen["authority"])
            raise ValueError(f"authority: got {got}; allowed: a number > 0")
        grid = check_grid(chosen["points"], definition)
        shapes = _changed(actuators, options).shapes(grid)
        system = SpectralSystem(
            definition,
            {k: v for k, v in options.items() if k in definition.parameters},
            start,
            force(shapes, len(definition.fields)),
            points=chosen["points"],
            num_envs=num_envs,
            control_interval=chosen["control_interval"],
            substeps=chosen["substeps"],
            integrator=chosen["integrator"],
            device=device,
            dtype=dtype,
            backend=backend,
        )
        seen = _changed(sensors, options)
        task = FieldTask(system, seen, observed, scale, chosen["authority"], objective)
        return ComposedEnvironment(system, task, horizon, draw_fields)

    register(
        name,
        build,
        horizon=horizon,
        summary=summary,
        options={
            **definition.parameters,
            **task_options,
            **_options(actuators),
            **_options(sensors),
            **settings,
        },
        documented=documented,
        states=len(definition.fields) * points**definition.dimensions,
        controls=controls or actuators.count(definition.dimensions),
        backends=("numba", "torch"),
    )


def _options(found: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that are options: no functions, and no tables of them."""
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    return {
        name: value
        for name, value in values.items()
        if name != "name" and not callable(value) and not isinstance(value, Mapping)
    }


def _changed(found: Any, options: Mapping[str, Any]) -> Any:
    """Returns a dataclass with those of the options that are its own."""
    return replace(found, **{k: v for k, v in options.items() if k in _options(found)})


def _objective(
    objectives: Mapping[str, Objective], task: Any, options: Mapping[str, Any], known: Any
) -> Objective:
    if not isinstance(task, str) or task not in objectives:
        raise ValueError(f"unknown task {reprlib.repr(task)}; {suggest(task, objectives)}")
    own = _options(objectives[task]).keys()
    foreign = sorted((options.keys() & known) - own)
    if foreign:
        raise ValueError(f"task {task!r} has no option {foreign[0]!r}; {suggest(foreign[0], own)}")
    changed: Objective = _changed(objectives[task], options)
    return changed

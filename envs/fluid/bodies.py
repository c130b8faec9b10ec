"""Registering bodies in a stream. Light: the heavy parts load when an environment is made."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import is_positive, register, suggest
from separatrix.envs.steppers.lattice import Actuator, Disc, Domain

if TYPE_CHECKING:
    import numpy as np

    from separatrix.envs.core.environment import ComposedEnvironment

OBSERVED = ("forces", "probes")
STARTS = ("developed", "impulsive")


def free_stream(bodies: Sequence[Disc]) -> Domain:
    """Returns a box of 30 by 20 diameters with open sides.

    Args:
        bodies: With places from a point 8 diameters behind the inflow in the middle of the box.
    """
    placed = tuple(Disc(8 + body.x, 10 + body.y, body.radius) for body in bodies)
    return Domain(30.0, 20.0, "uniform", "open", placed)


def register_bodies(
    name: str,
    domains: Mapping[str, Domain],
    actuators: Callable[[Mapping[str, Any]], Sequence[Actuator]],
    sensors: Callable[[Domain], np.ndarray],
    *,
    reynolds_number: float,
    authority: float,
    observed: str,
    lift_weight: float,
    smoothing_time: float,
    horizon: int,
    summary: str,
    documented: type,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Registers bodies in a stream, with the task to lower their drag, under one id.

    Args:
        name: Name with version, such as "Pinball-v0".
        domains: Boxes by name; the first is the default.
        actuators: Makes the actuators of `options`.
        sensors: Places of the probes in a box, in diameters.
        reynolds_number: By default.
        authority: Velocity of a surface at action 1.
        observed: What is seen, of `OBSERVED`.
        lift_weight: Weight of the lift in the reward.
        smoothing_time: Time in which controls follow what is asked for.
        horizon: Steps after which an episode is truncated.
        summary: One line.
        documented: The class whose docstring describes the environment.
        options: Options of the actuators, and their default values.
    """
    own = dict(options or {})
    settings = {
        "reynolds_number": reynolds_number,
        **({"domain": next(iter(domains))} if len(domains) > 1 else {}),
        "observed": observed,
        "start": STARTS[0],
        "lift_weight": lift_weight,
        "authority": authority,
        "smoothing_time": smoothing_time,
        "resolution": 10,
        "speed": 0.05,
        "control_interval": 0.25,
        **own,
    }
    first = next(iter(domains.values()))
    controls = 1 + max(actuator.control for actuator in actuators(own))

    def build(
        *, num_envs: int, device: Any, dtype: Any, backend: str, horizon: int, options: dict
    ) -> ComposedEnvironment:
        import numpy as np

        from separatrix.envs.core.environment import ComposedEnvironment
        from separatrix.envs.fluid import developed
        from separatrix.envs.fluid.body_task import BodyTask
        from separatrix.envs.fluid.vorticity_pictures import draw_vorticity
        from separatrix.envs.steppers.lattice_system import LatticeSystem

        chosen = settings | options
        for key, allowed in (("observed", OBSERVED), ("start", STARTS), ("domain", domains)):
            value = chosen.get(key, next(iter(allowed)))
            if not isinstance(value, str) or value not in allowed:
                got = reprlib.repr(value)
                raise ValueError(f"{key}: got {got}; {suggest(value, allowed)}")
        for key in ("authority", *own):
            if not is_positive(chosen[key]):
                raise ValueError(f"{key}: got {reprlib.repr(chosen[key])}; allowed: a number > 0")
        weight = chosen["lift_weight"]
        if weight != 0 and not is_positive(weight):
            raise ValueError(f"lift_weight: got {reprlib.repr(weight)}; allowed: a number >= 0")
        domain = domains[chosen["domain"]] if "domain" in chosen else first
        starts = {"developed": developed.from_developed, "impulsive": developed.impulsive}
        system = LatticeSystem(
            domain,
            actuators(chosen),
            chosen["reynolds_number"],
            starts[chosen["start"]],
            resolution=chosen["resolution"],
            speed=chosen["speed"],
            num_envs=num_envs,
            control_interval=chosen["control_interval"],
            smoothing_time=chosen["smoothing_time"],
            strongest=chosen["authority"],
            device=device,
            dtype=dtype,
            backend=backend,
        )
        seen = sensors(domain) if chosen["observed"] == "probes" else np.zeros((0, 2))
        drag = developed.developed(system).mean_force[:, :, 0].sum(1)
        task = BodyTask(system, drag, seen, chosen["authority"], weight)
        return ComposedEnvironment(system, task, horizon, draw_vorticity)

    register(
        name,
        build,
        horizon=horizon,
        summary=summary,
        options=settings,
        documented=documented,
        states=9 * round(first.length * 10) * round(first.height * 10),
        controls=controls,
        backends=("numba", "triton", "torch"),
    )

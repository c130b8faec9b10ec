"""Every controller that needs no training, by name."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from separatrix.controllers.controller import Controller
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import suggest
from separatrix.envs.streams.environment import StreamEnvironment

CONTROLLERS = {
    "zero": "separatrix.controllers.open_loop:ZeroController",
    "random": "separatrix.controllers.open_loop:RandomController",
    "proportional": "separatrix.controllers.proportional:Proportional",
    "thermostat": "separatrix.controllers.thermostat:Thermostat",
    "lift_feedback": "separatrix.controllers.lift_feedback:LiftFeedback",
    "basal_bolus": "separatrix.controllers.glucose:BasalBolus",
    "glucose_pid": "separatrix.controllers.glucose:GlucosePID",
    "greedy_prompt": "separatrix.controllers.language.feedback:GreedyPrompt",
    "lqr": "separatrix.controllers.lqr:LQR",
    "lqg": "separatrix.controllers.lqg:LQG",
    "h2": "separatrix.controllers.robust:H2",
    "hinfinity": "separatrix.controllers.robust:HInfinity",
    "ogy": "separatrix.controllers.chaos_control.ogy:OGY",
    "delayed_feedback": "separatrix.controllers.chaos_control.delayed_feedback:DelayedFeedback",
    "random_shooting": "separatrix.controllers.planning.random_shooting:RandomShooting",
    "cem": "separatrix.controllers.planning.cem:CEM",
    "icem": "separatrix.controllers.planning.icem:ICEM",
    "mppi": "separatrix.controllers.planning.mppi:MPPI",
    "gradient_mpc": "separatrix.controllers.planning.gradient_mpc:GradientMPC",
}
"""Where the class of each name is, so that a package is loaded only when its controller is made."""


def make_controller(
    name: str, environment: Environment, *, seed: int = 0, **settings: Any
) -> Controller:
    """Makes a controller by name.

    Args:
        name: A name of `CONTROLLERS`.
        environment: Where it acts; for a planner the model, too.
        seed: Seed of controllers that draw random numbers.
        settings: Arguments of the controller's class.

    Raises:
        ValueError: The name or a setting is unknown, a setting that has no default is missing, or
            the controller refuses the environment or a value.
    """
    if name not in CONTROLLERS:
        raise ValueError(f"unknown controller {name!r}; {suggest(name, CONTROLLERS)}")
    if isinstance(environment, StreamEnvironment):  # states and observations are those of its base
        environment = environment.inner
    module, _, attribute = CONTROLLERS[name].partition(":")
    kind = getattr(import_module(module), attribute)
    _, *parameters = inspect.signature(kind).parameters.values()
    allowed = {parameter.name: parameter for parameter in parameters}
    for setting in settings:
        if setting not in allowed:
            raise ValueError(f"{name} has no setting {setting!r}; {suggest(setting, allowed)}")
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.name not in settings
    ]
    if missing:
        raise ValueError(f"{name} needs the settings {', '.join(missing)}")
    if "seed" in allowed:
        settings = {"seed": seed, **settings}
    controller: Controller = kind(environment, **settings)
    return controller

"""`separatrix control`: controllers that need no training, side by side."""

from typing import Annotated, Any, Literal

import tyro
import yaml
from rich.console import Console

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.strict_yaml import load_strictly
from separatrix.cli.errors import reported
from separatrix.cli.evaluate import episode_seeds
from separatrix.cli.options import parse_options
from separatrix.cli.tables import evaluation_table
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import find, make_environment

Name = Literal["zero", "random", "lqr"]


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(control, args=arguments, prog="separatrix control")


def control(
    controllers: Annotated[tuple[Name, ...], tyro.conf.Positional],
    environment: str,
    option: tuple[str, ...] = (),
    wrap: tuple[str, ...] = (),
    episodes: int = 128,
    seed: int = 0,
    device: str = "cpu",
) -> int:
    """Evaluate controllers on the same episodes.

    Args:
        controllers: Controllers to compare.
        environment: Id of the environment, such as Lorenz-v0.
        option: Parameters of the system and options of the task, as key=value.
        wrap: Wrappers in order, as in an experiment: "{kind: action_delay, steps: 2}".
        episodes: Episodes, run as one batch.
        seed: Seed of the episodes, and of the random controller.
        device: Device of the environment.
    """
    seeds = episode_seeds(seed, episodes)
    with reported(ValueError, yaml.YAMLError):
        id = find(environment).id
        options: dict[str, Any] = dict(parse_options(option))
        wrappers = [load_strictly(text) for text in wrap]
        made = make_environment(id, episodes, device=device, wrap=wrappers, **options)
    with reported(ValueError, TypeError):
        acting: dict[str, Controller] = {
            name: make_controller(name, made, seed) for name in controllers
        }
    evaluations = {name: evaluate(made, each, seeds) for name, each in acting.items()}
    title = " ".join([id, *option, *wrap]) + f", {episodes} episodes"
    Console().print(evaluation_table(evaluations, title))
    return 0


def make_controller(name: Name, environment: Environment, seed: int) -> Controller:
    """Make a controller.

    Args:
        name: Its name on the command line.
        environment: Where it acts.
        seed: Seed of the random controller.

    Returns:
        The controller.
    """
    match name:
        case "zero":
            return ZeroController(environment)
        case "random":
            return RandomController(environment, seed)
        case "lqr":
            return LQR(environment)

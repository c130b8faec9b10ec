"""`separatrix control`: controllers that need no training, side by side."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
import yaml
from rich.console import Console

import separatrix  # noqa: F401  (registers the environments)
from separatrix.agents.common.strict_yaml import load_strictly
from separatrix.cli.errors import reported
from separatrix.cli.evaluate import episode_seeds
from separatrix.cli.options import parse_options
from separatrix.cli.tables import evaluation_table
from separatrix.controllers.catalog import CONTROLLERS, make_controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import find, make_environment

if TYPE_CHECKING:
    Name = str
else:
    Name = Literal[tuple(CONTROLLERS)]


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(control, args=arguments, prog="separatrix control")


def control(
    controllers: Annotated[tuple[Name, ...], tyro.conf.Positional],
    environment: str,
    option: tuple[str, ...] = (),
    wrap: tuple[str, ...] = (),
    setting: tuple[str, ...] = (),
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
        setting: Settings of the controllers, as controller.setting=value: icem.population=128.
        episodes: Episodes, run as one batch.
        seed: Seed of the episodes, and of controllers that draw random numbers.
        device: Device of the environment.
    """
    seeds = episode_seeds(seed, episodes)
    with reported(ValueError, yaml.YAMLError):
        id = find(environment).id
        options: dict[str, Any] = dict(parse_options(option))
        wrappers = [load_strictly(text) for text in wrap]
        made = make_environment(id, episodes, device=device, wrap=wrappers, **options)
    with reported(ValueError, TypeError, ImportError):
        settings = read_settings(setting, controllers)
        acting = {
            name: make_controller(name, made, seed=seed, **settings[name]) for name in controllers
        }
    evaluations = {name: evaluate(made, each, seeds) for name, each in acting.items()}
    title = " ".join([id, *option, *wrap]) + f", {episodes} episodes"
    Console().print(evaluation_table(evaluations, title))
    return 0


def read_settings(
    settings: Sequence[str], controllers: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Read settings of controllers.

    Args:
        settings: Texts such as `icem.population=128`.
        controllers: Names of the controllers that are made.

    Returns:
        Settings of each controller, by name.

    Raises:
        ValueError: If a text is no setting, or its controller is not made.
    """
    read: dict[str, dict[str, Any]] = {name: {} for name in controllers}
    for key, value in parse_options(settings).items():
        name, _, setting = key.partition(".")
        if not setting or name not in read:
            raise ValueError(
                f"got setting {key!r}; allowed is controller.setting=value, such as "
                f"icem.population=128, of the controllers {', '.join(controllers)}"
            )
        read[name][setting] = value
    return read

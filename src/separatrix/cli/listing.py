"""`separatrix list`: the environments, and all about one."""

import inspect
import json as json_format
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

import separatrix  # noqa: F401  (registers the environments)
from separatrix.cli.errors import reported
from separatrix.envs.core.registration import REGISTRY, Registration, find


def run(arguments: list[str]) -> int:
    """Run the command, see `separatrix.cli.main.run`."""
    return tyro.cli(list_environments, args=arguments, prog="separatrix list")


def list_environments(
    environment: Annotated[str | None, tyro.conf.Positional] = None, json: bool = False
) -> int:
    """Show all environments, or the description and the options of one.

    Args:
        environment: Id, such as Lorenz-v0, that is to be described.
        json: Print JSON instead of a table; it always holds the options.
    """
    with reported(ValueError):
        entries = list(REGISTRY.values()) if environment is None else [find(environment)]
    if json:
        print(json_format.dumps([_describe(entry) for entry in entries], indent=2))
    else:
        console = Console()
        if environment is None:
            console.print(_overview(entries))
        else:
            console.print(Markdown(inspect.getdoc(entries[0].documented) or ""))
            console.print(_options(entries[0]))
    return 0


def _describe(entry: Registration) -> dict[str, Any]:
    return {
        "id": entry.id,
        "description": entry.summary,
        "states": entry.states,
        "controls": entry.controls,
        "horizon": entry.horizon,
        "options": dict(entry.options),
    }


def _overview(entries: list[Registration]) -> Table:
    table = Table(caption="separatrix list <environment> tells all about one")
    table.add_column("environment", no_wrap=True)
    table.add_column("description")
    for heading in ("states", "controls", "steps"):
        table.add_column(heading, justify="right")
    for entry in entries:
        numbers = (str(n) for n in (entry.states, entry.controls, entry.horizon))
        table.add_row(entry.id, entry.summary, *numbers)
    return table


def _options(entry: Registration) -> Table:
    table = Table(title=f"{entry.id}: {entry.summary}")
    table.add_column("option", no_wrap=True)
    table.add_column("default")
    for name, value in entry.options.items():
        table.add_row(name, str(value))
    return table

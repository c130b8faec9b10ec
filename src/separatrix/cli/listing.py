"""`separatrix list`: the environments, and the options of one."""

import json as json_format
from typing import Annotated, Any

import tyro
from rich.console import Console
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
    """Show all environments, or the options of one.

    Args:
        environment: Id, such as Lorenz-v0, whose options and their defaults are to be shown.
        json: Print JSON instead of a table; it always holds the options.
    """
    with reported(ValueError):
        entries = list(REGISTRY.values()) if environment is None else [find(environment)]
    if json:
        print(json_format.dumps([_describe(entry) for entry in entries], indent=2))
    else:
        Console().print(_overview(entries) if environment is None else _options(entries[0]))
    return 0


def _describe(entry: Registration) -> dict[str, Any]:
    return {
        "id": entry.id,
        "description": entry.summary,
        "horizon": entry.horizon,
        "options": dict(entry.options),
    }


def _overview(entries: list[Registration]) -> Table:
    table = Table(caption="separatrix list <environment> shows defaults", show_lines=True)
    table.add_column("environment", no_wrap=True)
    table.add_column("description")
    table.add_column("steps", justify="right")
    table.add_column("options", overflow="fold")
    for entry in entries:
        table.add_row(entry.id, entry.summary, str(entry.horizon), " ".join(entry.options))
    return table


def _options(entry: Registration) -> Table:
    table = Table(title=f"{entry.id}: {entry.summary}")
    table.add_column("option", no_wrap=True)
    table.add_column("default")
    for name, value in entry.options.items():
        table.add_row(name, str(value))
    return table

"""The console script `separatrix`: dispatches to one module for each subcommand.

A module is imported when its command is called: help and listings answer at once, without torch.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence

from separatrix import __version__
from separatrix.cli.errors import UserError
from separatrix.envs.core.registration import suggest

COMMANDS = {
    "list": ("listing", "show the environments and their options"),
    "train": ("train", "train an agent, or resume a run"),
    "evaluate": ("evaluate", "evaluate the last checkpoint of a run"),
    "distill": ("distill", "turn the policy of a SINDy-RL run into a formula"),
    "collect": ("collect", "record data sets for offline reinforcement learning"),
    "control": ("control", "evaluate controllers that need no training"),
    "doctor": ("doctor", "check this installation and measure its speed"),
    "demo": ("demo", "train and compare on the Lorenz system, in about a minute"),
}
"""Module and help of each subcommand; each module has `run(arguments) -> exit code`."""


def main() -> None:
    """Run the command line of this process and exit."""
    warnings.formatwarning = lambda message, *_: f"separatrix: warning: {message}\n"
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: Name of the subcommand and what follows.

    Returns:
        Exit code: 0, or 1 if a check failed, or 2 if the arguments are wrong, which is said in
        one line on stderr.
    """
    match list(arguments):
        case [] | ["-h" | "--help", *_]:
            print(usage())
            return 0
        case ["--version"]:
            print(__version__)
            return 0
        case [name, *rest] if name in COMMANDS:
            module = importlib.import_module(f"separatrix.cli.{COMMANDS[name][0]}")
            try:
                return module.run(rest)
            except UserError as error:
                print(f"separatrix {name}: {' '.join(str(error).split())}", file=sys.stderr)
                return 2
            except KeyboardInterrupt:
                print(f"separatrix {name}: interrupted", file=sys.stderr)
                return 130
        case [name, *_]:
            message = f"unknown command {name!r}; {suggest(name, COMMANDS)}"
            print(f"separatrix: {message}", file=sys.stderr)
            return 2
    raise AssertionError(arguments)


def usage() -> str:
    """Return the help of the command line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: separatrix <command> [arguments]",
            "",
            *lines,
            "",
            "separatrix <command> --help says more; separatrix --version prints the version.",
        ]
    )

"""What the documentation of all streams shares."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from separatrix.envs.core.registration import Registration

if TYPE_CHECKING:
    from separatrix.envs.streams.stream import TaskStream

SECTIONS = """\
The {tasks} tasks are {base} with another {options} each; equations, units and metrics are on that
page. Spaces and goal are the same in all, and so is a reward where it does not follow what varies.

## Action space
That of {base}.

## Observation space
That of {base}.

## Reward
That of {base}.

## Starting state
That of {base}.

## Episode end
Truncated after {horizon} steps{interval}. Terminated as {base} is.

## Arguments
`task` (0): position in the stream, 0 to {last}; or a list with one for each environment of a
batch.{fixed}

"""


def complete(documented: type, stream: TaskStream, base: Registration) -> None:
    """Puts the sections that all streams share into the docstring of a stream.

    Args:
        documented: Its docstring has a title, a section Description, which they follow, and a
            section References, which they precede.
        stream: The stream.
        base: The environment whose options vary.

    Raises:
        ValueError: The docstring has no section References.
    """
    own = inspect.getdoc(documented)
    if own is None:  # Python was told to drop docstrings
        return
    before, heading, after = own.partition("## References")
    if not heading:
        raise ValueError(f"{documented.__name__}: got no section References; allowed: one")
    name = base.id.rpartition("/")[2]
    interval = {**base.options, **stream.fixed}.get("control_interval")
    fixed = ", ".join(f"`{option}` {value}" for option, value in stream.fixed.items())
    sections = SECTIONS.format(
        tasks=len(stream),
        last=len(stream) - 1,
        base=f"[{name}]({name}.md)",
        options=" and ".join(f"`{option}`" for option in stream.parameters),
        horizon=stream.horizon,
        interval=f" of {interval}" if interval is not None else "",
        fixed=f" Of the base are set: {fixed}." if fixed else "",
    )
    documented.__doc__ = (
        f"{before}{sections}{heading}{after}\n\n## Version history\n- v0: first version.\n"
    )

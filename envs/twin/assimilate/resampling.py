"""Members of an ensemble that have diverged, replaced by others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from separatrix.envs.core.state import put, take
from separatrix.envs.core.system import System


def replaced_members(
    system: System, state: Any, generator: torch.Generator
) -> tuple[System, Any, int]:
    """Makes members outside the safe box copies of others, drawn at random.

    State and parameters are copied; random streams are not, so that process noise parts the copies.
    Without any, noise of observation and rotations do.

    Args:
        system: The physics of the members.
        state: Their states.
        generator: Draws which are copied.

    Returns:
        The system, the state, and how many members were replaced.

    Raises:
        RuntimeError: All members are outside.
    """
    inside = system.inside(state)
    lost, sound = ((~inside).nonzero().squeeze(1), inside.nonzero().squeeze(1))
    if not len(lost):
        return system, state, 0
    if not len(sound):
        raise RuntimeError(f"all {len(lost)} members have left the safe box")
    drawn = torch.randint(len(sound), (len(lost),), generator=generator)
    chosen = sound[drawn.to(sound.device)]
    copies = replace(put(state, lost, take(state, chosen)), stream=state.stream)
    rows = torch.arange(len(inside), device=lost.device).index_copy(0, lost, chosen)
    return system.select(rows), copies, len(lost)

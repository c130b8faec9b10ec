"""What a policy writes, as text."""

from __future__ import annotations

import torch

from separatrix.agents.common.seeding import evaluation_seed
from separatrix.controllers.controller import Controller
from separatrix.controllers.rollout import rollout
from separatrix.envs.language.language_environment import LanguageEnvironment

SHOWN = 8
"""Episodes."""


def transcripts(environment: LanguageEnvironment, controller: Controller, seed: int) -> str:
    """Returns how the first episodes of an evaluation end, a line each.

    What actions wrote stands in brackets.

    Args:
        environment: Of as many environments as an evaluation has episodes.
        controller: Who acts.
        seed: Seed of the evaluation.
    """
    seeds = torch.arange(environment.num_envs) + evaluation_seed(seed)
    lines = [""] * min(SHOWN, environment.num_envs)
    for step in rollout(environment, controller, seeds):
        state = step.transition.state
        for row in range(len(lines)):
            if step.alive[row]:
                parts = environment.parts(state, row)
                text = "".join(f"[{part}]" if written else part for part, written in parts)
                target = environment.system.model.decode(state.target[row].tolist())
                end = "hit" if step.transition.terminated[row] else "missed"
                lines[row] = f"{text!r} -> {target!r}: {end}"
    return "\n".join(lines)

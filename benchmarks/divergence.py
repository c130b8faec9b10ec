"""How often random actions drive an environment out of its safe box: 1000 episodes of every id.

    python benchmarks/divergence.py --output docs/results/divergence.json

Actions are uniform in [-1, 1], new in every step. Prints the share of episodes that end by
divergence, and their mean return.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import tyro
from harness import origin, save

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.open_loop import RandomController
from separatrix.envs.core.registration import REGISTRY, make_environment

ROWS = 250
"""Episodes at once."""


def measure(environment_id: str, episodes: int) -> dict[str, Any]:
    """Runs random episodes of an id."""
    diverged, returns = [], []
    for seeds in torch.arange(episodes).split(ROWS):
        environment = make_environment(environment_id, len(seeds))
        controller = RandomController(environment, seed=int(seeds[0]))
        found = evaluate(environment, controller, seeds)
        diverged.append(found.diverged)
        returns.append(found.returns)
    share, mean = torch.cat(diverged).double().mean().item(), torch.cat(returns).mean().item()
    print(f"{environment_id:45} {100 * share:6.2f} %   return {mean:10.4g}", flush=True)
    return {"environment": environment_id, "diverged": share, "return": mean}


def main(episodes: int = 1000, only: str = "", output: Path | None = None) -> None:
    """Measures all ids.

    Args:
        episodes: Episodes of each.
        only: Part of the names of the ids; empty for all.
        output: JSON file for the results.
    """
    rows = [measure(name, episodes) for name in REGISTRY if only in name]
    save(output, {**origin(), "episodes": episodes, "results": rows})


if __name__ == "__main__":
    tyro.cli(main)

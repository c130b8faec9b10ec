"""What the experiments on language models learn, beside random actions and a look ahead.

    python benchmarks/prompt_agents.py --output docs/results/prompt_agents.json

Trains every `configs/experiment/prompt_*.yaml` as `separatrix train` does, with one seed, and lets
the last policy act on episodes of its own, which nothing was chosen by. Runs stay in `--folder`; a
study that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads
from scipy.stats import binomtest

from separatrix.agents.catalog import load_policy, train
from separatrix.agents.common.configuration import load_experiment
from separatrix.agents.common.run import Run
from separatrix.controllers.catalog import make_controller
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.registration import make_environment

EXPERIMENTS = (
    "prompt_token_maskable_ppo",
    "prompt_token_group_relative",
    "prompt_edit_maskable_ppo",
    "prompt_dialogue_maskable_ppo",
    "prompt_soft_analytic_policy",
    "prompt_soft_sindy_rl",
)
TEST = 30_000
"""First seed of the episodes that count."""


def learned(experiment: str, folder: Path) -> tuple[Controller, int]:
    """Trains as an experiment has it, or goes on, and returns the last policy and its steps."""
    config, folder = load_experiment(experiment), folder / experiment
    started = sorted(folder.glob("*/*/*/config.yaml"))
    if started:
        run = Run.resume(started[-1].parent)
    else:
        run = Run.create(folder, config.environment.id, config.agent.algorithm, 0, config)
    with run:
        known = run.latest_checkpoint()
        if known is None or known.step < config.total_steps:
            train(config, run)
        checkpoint = run.latest_checkpoint()
    assert checkpoint is not None
    made = make_environment(config.environment.id, 1, **config.environment.arguments())
    return load_policy(config, checkpoint, made), checkpoint.step


def hits(controller: Controller, made: Any, seeds: torch.Tensor) -> dict[str, Any]:
    """Counts the episodes in which the target is hit, and the steps of all."""
    found = evaluate(made, controller, seeds)
    count = int((found.metrics["hit"] * found.lengths).round().sum())
    interval = binomtest(count, len(seeds)).proportion_ci(method="wilson")
    return {
        "hits": count,
        "interval": [interval.low, interval.high],
        "return": found.returns.mean().item(),
        "length": found.lengths.double().mean().item(),
    }


def main() -> None:
    """Trains, evaluates and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=Path("runs/prompt_agents"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    seeds, rows = TEST + torch.arange(arguments.episodes), list[dict[str, Any]]()
    for name in EXPERIMENTS:
        begin = time.perf_counter()
        policy, steps = learned(name, arguments.folder)
        seconds = time.perf_counter() - begin
        config = load_experiment(name).environment
        made = make_environment(config.id, len(seeds), **config.arguments())
        row: dict[str, Any] = {
            "experiment": name,
            "steps": steps,
            "seconds": seconds,
            "episodes": len(seeds),
        }
        row["policy"] = hits(policy, made, seeds)
        row["random"] = hits(make_controller("random", made), made, seeds)
        if "Token" in config.id or "Dialogue" in config.id:  # others have too many choices
            row["ahead"] = hits(make_controller("greedy_prompt", made), made, seeds)
        rows.append(row)
        print(row, flush=True)
    save(arguments.output, {**origin(), "rows": rows})


if __name__ == "__main__":
    main()

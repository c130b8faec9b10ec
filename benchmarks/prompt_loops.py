"""Closed loop against open loop: making a model that draws its tokens say a target.

    python benchmarks/prompt_loops.py --output docs/results/prompt_loops.json

The plant is the character model in `PromptDialogue-v0` at temperature 1, as in the experiment whose
policy takes part: texts of our sentences, one target for all, twelve steps in which the controller
writes or the model does. An open loop writes what a search found for the text before the first
draw, so many characters, and yields ever after. A closed loop sees what the model has drawn: the
one that looks a character ahead, and a policy of PPO with masks that sees five features. How many
characters the open loop writes, and the patience of the other, are chosen on episodes of their own.
Success is the share of episodes in which the model says the target, with Wilson's intervals of 95
%.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads
from prompt_agents import learned
from scipy.stats import binomtest

from separatrix.agents.common.configuration import load_experiment
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.controllers.language.feedback import GreedyPrompt, WrittenPrompt
from separatrix.controllers.language.problem import Problem
from separatrix.controllers.language.searches import grow
from separatrix.envs.core.registration import make_environment
from separatrix.envs.language.dialogue import DialogueEnvironment

EXPERIMENT = "prompt_dialogue_maskable_ppo"
WRITTEN, PATIENCE = (0, 1, 2, 3, 4, 6, 8), (1.0, 2.0, 4.0, 8.0)
CHOICE, TEST = 10_000, 20_000
"""First seeds of the episodes by which is chosen, and of those that count."""


def dialogue(num_envs: int) -> DialogueEnvironment:
    """Makes the environment of the experiment, but for its returns, which are 1 for success."""
    options = load_experiment(EXPERIMENT).environment.options | {"reward": "hit"}
    made = make_environment("PromptDialogue-v0", num_envs, **options)  # type: ignore[arg-type]
    assert isinstance(made, DialogueEnvironment)
    return made


def open_loop(environment: DialogueEnvironment, seeds: torch.Tensor, written: int) -> WrittenPrompt:
    """Searches what to write behind each text, at most so many characters."""
    state, _ = environment.reset(seeds)
    instances = environment.system.instances
    text = state.text[:, : instances.text_tokens]
    yields = len(environment.candidates)
    choices = torch.full((len(seeds), max(1, written)), yields)
    if written:
        found = grow(Problem(instances.arrangement, text, state.target), written)
        for row, prompt in enumerate(found.prompts):
            choices[row, : len(prompt)] = prompt
    return WrittenPrompt(choices, after=yields)


def success(controller: Controller, seeds: torch.Tensor) -> dict[str, Any]:
    """Evaluates a controller."""
    begin = time.perf_counter()
    found = evaluate(dialogue(len(seeds)), controller, seeds)
    hits = int(found.returns.sum())
    interval = binomtest(hits, len(seeds)).proportion_ci(method="wilson")
    return {
        "hits": hits,
        "episodes": len(seeds),
        "interval": [interval.low, interval.high],
        "written": (found.metrics["written"] * found.lengths).mean().item(),
        "length": found.lengths.double().mean().item(),
        "seconds": time.perf_counter() - begin,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--choose", type=int, default=128, help="episodes by which is chosen")
    parser.add_argument("--folder", type=Path, default=Path("runs/prompt_agents"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    chosen, seeds = CHOICE + torch.arange(arguments.choose), TEST + torch.arange(arguments.episodes)
    made, policy = dialogue(len(seeds)), learned(EXPERIMENT, arguments.folder)
    rows: list[dict[str, Any]] = []

    def add(name: str, controller: Controller, **more: Any) -> None:
        rows.append({"controller": name, **success(controller, seeds), **more})
        print(rows[-1], flush=True)

    add("nobody writes", open_loop(made, seeds, 0))
    tried = {n: success(open_loop(dialogue(len(chosen)), chosen, n), chosen) for n in WRITTEN}
    best = max(tried, key=lambda n: tried[n]["hits"])
    print({n: row["hits"] for n, row in tried.items()}, flush=True)
    add("open loop", open_loop(made, seeds, best), chosen=best)
    eager = dialogue(len(chosen))
    asked = {p: success(GreedyPrompt(eager, p), chosen) for p in PATIENCE}
    patience = max(asked, key=lambda p: asked[p]["hits"])
    print({p: row["hits"] for p, row in asked.items()}, flush=True)
    add("closed loop, a character ahead", GreedyPrompt(made, patience), chosen=patience)
    add("closed loop, PPO", policy[0], steps=policy[1])
    save(arguments.output, {**origin(), "rows": rows})


if __name__ == "__main__":
    main()

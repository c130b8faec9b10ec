"""The bound on what a prompt can do to an attention head, as corrected and as printed."""

import pytest
import torch

from separatrix.envs.language.attention_bound import Head, moved

WIDTH, SIZE, ROWS = 16, 8, 6


def random_heads(
    prompt: int, scale: float, count: int
) -> list[tuple[Head, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(int(100 * prompt + 10 * scale))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [
        (
            Head(*(normal(WIDTH, SIZE) / WIDTH**0.5 for _ in range(3))),
            scale * normal(prompt, WIDTH),
            normal(ROWS, WIDTH),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("prompt", [1, 3, 10])
def test_no_head_passes_the_corrected_bound(prompt: int, scale: float, causal: bool) -> None:
    largest = 0.0
    for head, before, text in random_heads(prompt, scale, 400):
        found = moved(head, before, text, causal=causal)
        largest = max(largest, (found.orthogonal / found.bound).max().item())
    assert 0.01 < largest <= 1.0


def test_the_printed_theorem_excludes_outputs_that_were_produced() -> None:
    violations = 0
    for head, before, text in random_heads(10, 3.0, 100):
        found = moved(head, before, text)
        violations += bool((found.away & (found.printed <= found.printed_bound)).any())
    assert violations > 50


def test_the_bound_is_small_for_a_small_prompt() -> None:
    (head, before, text), *_ = random_heads(1, 1.0, 1)
    bounds = [moved(head, size * before, text).bound for size in (1e-6, 1e-3, 1.0)]
    assert (bounds[0] < bounds[1]).all() and (bounds[1] < bounds[2]).all()
    assert (bounds[0] < 1e-5).all()

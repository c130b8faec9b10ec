import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separatrix.envs.core.philox import philox, philox_torch

WORD = 2**32
words = st.integers(0, WORD - 1)

# Random123, tests/kat_vectors, the lines of philox4x32 with 10 rounds: counter, key, output.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def parse(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def philox_of_integers(counter: list[int], key: list[int]) -> list[int]:
    """The generator in Python's unbounded integers, straight from the paper."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q // WORD) ^ b ^ k, q % WORD, (p // WORD) ^ d ^ m, p % WORD
        k, m = (k + 0x9E3779B9) % WORD, (m + 0xBB67AE85) % WORD
    return [a, b, c, d]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
@pytest.mark.parametrize("function", [philox, philox_torch])
def test_published_known_answers(
    function: Callable[[Tensor, Tensor], Tensor], counter: str, key: str, expected: str
) -> None:
    result = function(torch.tensor(parse(counter)), torch.tensor(parse(key)))
    assert result.tolist() == parse(expected)
    assert philox_of_integers(parse(counter), parse(key)) == parse(expected)


@settings(deadline=None)
@given(st.lists(st.lists(words, min_size=6, max_size=6), min_size=1, max_size=20))
def test_kernel_reference_and_integers_agree(rows: list[list[int]]) -> None:
    batch = torch.tensor(rows)
    counter, key = batch[:, :4], batch[:, 4:]
    expected = [philox_of_integers(row[:4], row[4:]) for row in rows]
    assert philox(counter, key).tolist() == expected
    assert philox_torch(counter, key).tolist() == expected


def test_agree_on_many_blocks_of_any_batch_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    counter = torch.randint(0, WORD, (7, 30, 50, 4), generator=generator)
    key = torch.randint(0, WORD, (7, 30, 50, 2), generator=generator)
    result = philox(counter, key)
    assert result.shape == counter.shape
    assert torch.equal(result, philox_torch(counter, key))
    assert torch.equal(result[3, :, ::2], philox(counter[3, :, ::2], key[3, :, ::2]))


def test_only_the_low_32_bits_count() -> None:
    counter, key = torch.tensor([1, 2, 3, 4]), torch.tensor([5, 6])
    expected = philox(counter, key)
    for function in (philox, philox_torch):
        assert torch.equal(function(counter + WORD, key - WORD), expected)


def test_one_changed_bit_of_the_input_changes_half_of_the_output() -> None:
    base = torch.zeros(192, 6, dtype=torch.int64)
    changed = base.clone()
    for bit in range(192):
        changed[bit, bit // 32] = 1 << (bit % 32)
    difference = philox(base[:, :4], base[:, 4:]) ^ philox(changed[:, :4], changed[:, 4:])
    flips = torch.stack([(difference >> bit) & 1 for bit in range(32)]).sum(dim=(0, 2)).double()
    # Binomial(128, 1/2): mean 64, standard deviation 5.66.
    assert abs(flips.mean() - 64) < 5 * 5.66 / 192**0.5
    assert flips.min() > 64 - 5 * 5.66 and flips.max() < 64 + 5 * 5.66


def test_numba_loads_on_first_use_only() -> None:
    code = """
import sys, torch
from separatrix.envs.core import philox, stream
assert "numba" not in sys.modules
philox.philox(torch.zeros(4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
assert "numba" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""Philox4x32-10: random words as a pure function of a counter and a key.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11 (2011),
section 3.3. One block maps a counter ``(c0, c1, c2, c3)`` and a key ``(k0, k1)`` of 32-bit words
to four random words through ten rounds. One round, with ``hi`` and ``lo`` the halves of a 64-bit
product, is

    c0' = hi(M1 c2) ^ c1 ^ k0        c1' = lo(M1 c2)
    c2' = hi(M0 c0) ^ c3 ^ k1        c3' = lo(M0 c0)

and between two rounds the key advances by the Weyl constants ``(W0, W1)`` modulo 2^32.

Words are held in int64 tensors, since torch has little arithmetic on uint32.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD_MASK = 0xFFFFFFFF


def philox(
    counter: Int64[Tensor, "*batch 4"], key: Int64[Tensor, "*batch 2"]
) -> Int64[Tensor, "*batch 4"]:
    """Return one block of four random words for every counter and key.

    A compiled kernel runs on the CPU, the torch reference elsewhere; they agree exactly.

    Args:
        counter: Counter words; only the low 32 bits of each entry count.
        key: Key words on the same device; only the low 32 bits of each entry count.

    Returns:
        Words in ``[0, 2**32)``.
    """
    if counter.device.type != "cpu":
        return philox_torch(counter, key)
    from separatrix.envs.core.stream_kernels import fill_blocks

    words = torch.empty(counter.shape, dtype=torch.int64)
    fill_blocks(
        counter.reshape(-1, 4).contiguous().numpy(),
        key.expand(*counter.shape[:-1], 2).reshape(-1, 2).contiguous().numpy(),
        words.view(-1, 4).numpy(),
    )
    return words


def philox_torch(
    counter: Int64[Tensor, "*batch 4"], key: Int64[Tensor, "*batch 2"]
) -> Int64[Tensor, "*batch 4"]:
    """Compute `philox` with torch operations: the reference, on any device."""
    c0, c1, c2, c3 = (counter & WORD_MASK).unbind(-1)
    k0, k1 = (key & WORD_MASK).unbind(-1)
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + WEYL[0]) & WORD_MASK, (k1 + WEYL[1]) & WORD_MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _multiply(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Return the high and low words of ``word * multiplier``.

    The word goes in 16-bit halves, so that nothing exceeds 2^49 and int64 never overflows.
    """
    bottom = (word & 0xFFFF) * multiplier
    middle = (word >> 16) * multiplier + (bottom >> 16)
    return middle >> 16, ((middle & 0xFFFF) << 16) | (bottom & 0xFFFF)

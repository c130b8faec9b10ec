"""Random streams: each environment of a batch draws from a stream of its own.

A `Stream` is the position of every environment in its stream, three integers each. Values are a
pure function of that position through Philox4x32-10, so an environment draws the same numbers
alone, in a batch of thousands and at any place in the batch:

    key     = (seed mod 2^32, seed div 2^32)
    counter = (block, draw, episode, purpose)

where ``block`` numbers the four-word blocks within one draw, ``draw`` the draws of this episode
and ``purpose`` what the numbers are for (`INITIAL_STATE`, `PROCESS_NOISE`, ...). A draw of n values
takes n / 4 blocks, rounded up. Draws and episodes repeat after 2^32 of them.

Uniform numbers and integers are the same bits on every device. Normal numbers are computed in
float64 from exactly rounded operations alone and agree across devices to the last unit or two:
only torch's square root is not exactly rounded everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from separatrix.envs.core.philox import WORD_MASK, philox_torch

INITIAL_STATE = 0
PROCESS_NOISE = 1
TARGET = 2
MEALS = 3
SENSOR = 4
DISTURBANCE = 5
OBSERVATION_NOISE = 2**16
"""Noise of a measurement; noise upon noise takes the purposes that follow."""
PARAMETERS = 2**17
"""Parameters that are not the nominal ones; change upon change takes the purposes that follow."""


@dataclass(frozen=True)
class Stream:
    """Positions of a batch of environments in their random streams.

    Methods that draw are pure: they return the values and the stream advanced by one draw.

    Attributes:
        seed: Non-negative seed of each environment.
        episode: Number of the episode.
        draw: Number of draws made so far in this episode.
    """

    seed: Int64[Tensor, "batch"]
    episode: Int64[Tensor, "batch"]
    draw: Int64[Tensor, "batch"]

    @classmethod
    def start(cls, seeds: Tensor, episode: int = 0) -> Self:
        """Return the streams of these seeds at the first draw of an episode.

        Args:
            seeds: int64 (batch,), the seed of each environment; the stream lives on its device.
            episode: Number of the episode, the same for all.

        Raises:
            ValueError: If the seeds are not a 1-D int64 tensor of non-negative numbers, or the
                episode is not in ``[0, 2**32)``.
        """
        if seeds.dtype != torch.int64 or seeds.ndim != 1:
            raise ValueError(
                f"got seeds of {seeds.dtype} and shape {tuple(seeds.shape)}; "
                "allowed are seeds of torch.int64 and shape (batch,)"
            )
        if (seeds < 0).any():
            row = int((seeds < 0).nonzero()[0, 0])
            raise ValueError(f"got seed {int(seeds[row])} at index {row}; allowed is 0 or more")
        if not 0 <= episode <= WORD_MASK:
            raise ValueError(f"got episode {episode}; allowed is 0 to 2**32 - 1")
        return cls(seeds.clone(), torch.full_like(seeds, episode), torch.zeros_like(seeds))

    def next_episode(self) -> Self:
        """Return the streams at the first draw of the following episode."""
        return type(self)(self.seed, self.episode + 1, torch.zeros_like(self.draw))

    def uniform(
        self, count: int, dtype: torch.dtype, purpose: int
    ) -> tuple[Float[Tensor, "batch count"], Self]:
        """Draw numbers uniform in [0, 1): multiples of 2^-24, the same in either dtype.

        Args:
            count: Numbers for each environment, at least 1.
            dtype: ``torch.float32`` or ``torch.float64``.
            purpose: What the numbers are for, a constant of this module.

        Raises:
            ValueError: If an argument is outside these limits.
        """
        _check(count, dtype, purpose)
        if self._compiled:
            from separatrix.envs.core.stream_kernels import fill_uniform

            values = torch.empty((self.seed.shape[0], count), dtype=dtype)
            return self._fill(fill_uniform, purpose, values), self._advanced()
        words = self._words(count, purpose)[:count].T.contiguous()
        return (words >> 8).to(dtype) * 2.0**-24, self._advanced()

    def normal(
        self, count: int, dtype: torch.dtype, purpose: int
    ) -> tuple[Float[Tensor, "batch count"], Self]:
        """Draw standard normal numbers, computed in float64 and then rounded to the dtype.

        They come from pairs of 32-bit words by the Box-Muller transform, so none exceeds 6.77 in
        magnitude (a true normal number does with probability 1.3e-11).

        Args:
            count: Numbers for each environment, at least 1.
            dtype: ``torch.float32`` or ``torch.float64``.
            purpose: What the numbers are for, a constant of this module.

        Raises:
            ValueError: If an argument is outside these limits.
        """
        _check(count, dtype, purpose)
        if self._compiled:
            from separatrix.envs.core.stream_kernels import fill_normal

            values = torch.empty((self.seed.shape[0], count), dtype=dtype)
            return self._fill(fill_normal, purpose, values), self._advanced()
        normals = _normals(self._words(count, purpose))[:count].T.contiguous()
        return normals.to(dtype), self._advanced()

    def integers(self, high: int, purpose: int) -> tuple[Int64[Tensor, "batch"], Self]:
        """Draw one integer in [0, high) for each environment.

        The integer is ``(word * high) >> 32`` of a 32-bit word, whose probabilities differ from
        ``1 / high`` by less than ``2**-32``, a relative bias below ``high / 2**32``.

        Args:
            high: Number of values, 1 to 2**31.
            purpose: What the numbers are for, a constant of this module.

        Raises:
            ValueError: If an argument is outside these limits.
        """
        if not 1 <= high <= 2**31:
            raise ValueError(f"got high {high}; allowed is 1 to 2**31")
        _check(1, torch.float64, purpose)
        return (self._words(1, purpose)[0] * high) >> 32, self._advanced()

    @property
    def _compiled(self) -> bool:
        """Whether compiled kernels draw the numbers, rather than torch operations."""
        return self.seed.device.type == "cpu"

    def _advanced(self) -> Self:
        return type(self)(self.seed, self.episode, self.draw + 1)

    def _fill(self, kernel: Callable[..., None], purpose: int, output: Tensor) -> Tensor:
        """Let a compiled kernel write one draw to the output, and return it."""
        kernel(
            # The kernels are compiled for contiguous arrays; an expanded tensor is not one.
            self.seed.contiguous().numpy(),
            self.episode.contiguous().numpy(),
            self.draw.contiguous().numpy(),
            purpose,
            output.numpy(),
        )
        return output

    def _words(self, count: int, purpose: int) -> Int64[Tensor, "words batch"]:
        """Return the words of all blocks that a draw of count values takes."""
        batch, blocks = self.seed.shape[0], -(-count // 4)
        if self._compiled:
            from separatrix.envs.core.stream_kernels import fill_words

            words = torch.empty((4 * blocks, batch), dtype=torch.int64)
            return self._fill(fill_words, purpose, words)
        block = torch.arange(blocks, device=self.seed.device)[:, None].expand(blocks, batch)
        counter = (block, self.draw.expand(blocks, batch), self.episode.expand(blocks, batch))
        key = torch.stack((self.seed & WORD_MASK, self.seed >> 32), dim=-1)
        words = philox_torch(
            torch.stack((*counter, torch.full_like(block, purpose)), dim=-1),
            key.expand(blocks, batch, 2),
        )
        return words.movedim(-1, 1).flatten(0, 1)


def _normals(words: Int64[Tensor, "words batch"]) -> Float64[Tensor, "words batch"]:
    """Turn pairs of words into pairs of standard normal numbers with torch operations."""
    from separatrix.envs.core.stream_kernels import SQRT_HALF_BITS, box_muller

    radius_words, angle_words = words[0::2], words[1::2]
    bits = ((radius_words.double() + 0.5) * 2.0**-32).view(torch.int64)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    mantissa = (bits - (exponent << 52)).view(torch.float64)
    quadrant = (angle_words + (1 << 29)) >> 30
    rest = (angle_words.double() + 0.5) * 2.0**-30 - quadrant
    square, cosine, sine = box_muller(exponent.double(), mantissa, quadrant, rest)
    radius = square.sqrt()
    return torch.stack((radius * cosine, radius * sine), dim=1).flatten(0, 1)


def _check(count: int, dtype: torch.dtype, purpose: int) -> None:
    if count < 1:
        raise ValueError(f"got count {count}; allowed is 1 or more")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"got dtype {dtype}; allowed are torch.float32 and torch.float64")
    if not 0 <= purpose <= WORD_MASK:
        raise ValueError(f"got purpose {purpose}; allowed is 0 to 2**32 - 1")

"""Sequences of parameters of which any first few cover their ranges."""

from __future__ import annotations


def spread(count: int, **ranges: tuple[float, float]) -> dict[str, tuple[float, ...]]:
    """Spreads parameters over their ranges, neighbours in the sequence far from each other.

    Value i of parameter k of d is the share (1/2 + i / g^(k+1)) mod 1 of its range, with g the
    positive root of g^(d+1) = g + 1: for one parameter the golden ratio, for two the plastic
    number (M. Roberts, The unreasonable effectiveness of quasirandom sequences, 2018). The first
    stands in the middle. Values are rounded to four digits.

    Args:
        count: Number of values.
        ranges: Lowest and highest value of each parameter.
    """
    ratio = 2.0
    for _ in range(100):  # each narrows the error to a third or less
        ratio = (1 + ratio) ** (1 / (len(ranges) + 1))
    return {
        name: tuple(
            float(f"{low + (high - low) * ((0.5 + i / ratio ** (k + 1)) % 1):.4g}")
            for i in range(count)
        )
        for k, (name, (low, high)) in enumerate(ranges.items())
    }

"""Options of environments that are one number each, the same for all rows of a batch."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any


def read_number_options(
    options: Mapping[str, Any], ranges: Mapping[str, tuple[float, float, float]]
) -> dict[str, Any]:
    """Returns the value of every option, given or by default.

    Args:
        options: The values given; others than those of `ranges` are left aside.
        ranges: Default, smallest and largest value by name.

    Raises:
        ValueError: A value is not a number, or outside its range.
    """
    chosen = {name: options.get(name, default) for name, (default, _, _) in ranges.items()}
    for name, value in chosen.items():
        _, low, high = ranges[name]
        if not (isinstance(value, int | float) and low <= value <= high):
            got = reprlib.repr(value)
            raise ValueError(f"{name}: got {got}; allowed: a number from {low:g} to {high:g}")
    return chosen

"""Meals of a day: how many, when and how large, drawn for every day of an episode.

Breakfast, lunch and dinner are taken with probability 0.95, three snacks with 0.3; times are normal
within bounds, as are sizes, as in the random scenario of simglucose (J. Xie, 2018).

| Meal      | Probability | Time (h) | Deviation (min) | Within (h) | Size (g) | Deviation (g) |
|-----------|-------------|----------|-----------------|------------|----------|---------------|
| breakfast | 0.95        | 7        | 60              | 5 - 9      | 45       | 10            |
| snack     | 0.3         | 9.5      | 30              | 9 - 10     | 10       | 5             |
| lunch     | 0.95        | 12       | 60              | 10 - 14    | 70       | 10            |
| snack     | 0.3         | 15       | 30              | 14 - 16    | 10       | 5             |
| dinner    | 0.95        | 18       | 60              | 16 - 20    | 80       | 10            |
| snack     | 0.3         | 21.5     | 30              | 20 - 23    | 10       | 5             |
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from separatrix.envs.core.stream import MEALS, Stream

DAY = 1440
"""Minutes."""
LARGEST_MEAL = 500.0
"""Carbohydrates in g."""
PROBABILITY = (0.95, 0.3, 0.95, 0.3, 0.95, 0.3)
TIME = (420.0, 570.0, 720.0, 900.0, 1080.0, 1290.0)
TIME_DEVIATION = (60.0, 30.0, 60.0, 30.0, 60.0, 30.0)
EARLIEST = (300.0, 540.0, 600.0, 840.0, 960.0, 1200.0)
LATEST = (540.0, 600.0, 840.0, 960.0, 1200.0, 1380.0)
SIZE = (45.0, 10.0, 70.0, 10.0, 80.0, 10.0)
SIZE_DEVIATION = (10.0, 5.0, 10.0, 5.0, 10.0, 5.0)

Meals = tuple[Float64[Tensor, "batch meal"], Float64[Tensor, "batch meal"]]
"""Minutes since the start, whole numbers; and carbohydrates in g, zero if the meal is left out."""


def draw_meals(stream: Stream, days: int, factor: float) -> Meals:
    """Draws the meals of some days from midnight on.

    Args:
        stream: Of the environments; the meals depend on its seed and episode alone.
        days: Number of days.
        factor: Multiplies all sizes.
    """
    slots = len(TIME)
    start = Stream(stream.seed, stream.episode, torch.zeros_like(stream.draw))
    uniform, _ = start.uniform(3 * slots * days, torch.float64, MEALS)
    chance, time, size = uniform.view(-1, 3, days, slots).unbind(1)

    def table(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=uniform.device)

    mean, deviation = table(TIME), table(TIME_DEVIATION)
    low, high = (
        torch.special.ndtr((table(bound) - mean) / deviation) for bound in (EARLIEST, LATEST)
    )
    minutes = mean + deviation * torch.special.ndtri(low + (high - low) * time)
    half = 2.0**-25  # the middle of the bins of a uniform number, none of which is 0 or 1
    grams = table(SIZE) + table(SIZE_DEVIATION) * torch.special.ndtri(size + half)
    grams = (factor * grams.round().clamp_min(0)).clamp(max=LARGEST_MEAL)
    minutes = minutes.round() + DAY * torch.arange(days, device=minutes.device)[:, None]
    return minutes.flatten(1), torch.where(chance < table(PROBABILITY), grams, 0.0).flatten(1)


def same_meals(schedule: Any, days: int, stream: Stream) -> Meals:
    """Returns the meals of a schedule that every day repeats.

    Args:
        schedule: Pairs of minutes after midnight and carbohydrates in g.
        days: Number of days.
        stream: Of the environments.
    """
    pairs = read_schedule(schedule) or [(0.0, 0.0)]
    table = torch.tensor(pairs, dtype=torch.float64, device=stream.seed.device).view(-1, 2)
    start = DAY * torch.arange(days, dtype=torch.float64, device=table.device)[:, None]
    minutes = (start + table[:, 0]).flatten().expand(len(stream.seed), -1)
    return minutes, table[:, 1].repeat(days).expand(len(stream.seed), -1)


def read_schedule(schedule: Any) -> list[tuple[float, float]]:
    """Checks a schedule of meals.

    Raises:
        ValueError: It is no list of pairs of a whole minute of the day and a size.
    """
    got = f"meals: got {reprlib.repr(schedule)}"
    allowed = (
        'allowed: "random", or pairs of a whole minute from 0 to 1439, each once, and of '
        f"carbohydrates from 0 to {LARGEST_MEAL:g} g, such as [(420, 45), (720, 70)]"
    )
    if isinstance(schedule, str) or not isinstance(schedule, Iterable):
        raise ValueError(f"{got}; {allowed}")
    try:
        pairs = [(float(minute), float(size)) for minute, size in schedule]
    except (TypeError, ValueError):
        raise ValueError(f"{got}; {allowed}") from None
    minutes = {minute for minute, _ in pairs}
    sound = all(m in range(DAY) and 0 <= size <= LARGEST_MEAL for m, size in pairs)
    if not sound or len(minutes) < len(pairs):
        raise ValueError(f"{got}; {allowed}")
    return pairs

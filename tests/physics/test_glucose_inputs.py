"""The sensor's error, the meals and the risk of Glucose-v0 against what they are drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from separatrix.envs.core.stream import Stream
from separatrix.envs.twin.glucose.meals import PROBABILITY, draw_meals
from separatrix.envs.twin.glucose.risk import kovatchev_risk, low_and_high_risk, magni_risk
from separatrix.envs.twin.glucose.sensor import (
    DELTA,
    GAMMA,
    LAMBDA,
    XI,
    advance_process,
    error,
    start_process,
)

NAME = "Glucose-v0"
Gate = Callable[..., None]


def stationary() -> tuple[float, float, float]:
    """Mean, standard deviation and correlation 15 minutes apart, of sinh of a normal variable."""
    variance = 0.49 / 0.51
    w, tilt = math.exp(variance / DELTA**2), -GAMMA / DELTA
    mean = XI + LAMBDA * math.sqrt(w) * math.sinh(tilt)
    spread = LAMBDA**2 / 2 * (w - 1) * (w * math.cosh(2 * tilt) + 1)
    # E sinh(a + x) sinh(a + y) of normal x, y with variance v, correlated by r.
    v, r = variance / DELTA**2, 0.7
    product = (math.cosh(2 * tilt) * math.exp(v * (1 + r)) - math.exp(v * (1 - r))) / 2
    covariance = LAMBDA**2 * product - (mean - XI) ** 2
    return mean, math.sqrt(spread), covariance / spread


def test_errors_of_the_sensor(gate: Gate) -> None:
    count = 200_000
    stream = Stream.start(torch.arange(count))
    minute = torch.zeros(count, dtype=torch.int64)
    first = start_process(stream)
    early = error(first, minute).numpy()
    process = first
    for start in range(0, 600, 15):
        process = advance_process(process, stream, minute + start, 15)
    now = error(process, minute + 600).numpy()
    later = error(advance_process(process, stream, minute + 600, 15), minute + 615).numpy()
    mean, deviation, correlation = stationary()
    exact = "moments of a Johnson SU variable"
    for when, sample in (("start", early), ("ten hours on", now)):
        gate(NAME, f"mean error of the sensor at the {when}, mg/dL", sample.mean(), mean,
             tolerance=4 * deviation / math.sqrt(count), source=exact)  # fmt: skip
        gate(NAME, f"its standard deviation at the {when}, mg/dL", sample.std(), deviation,
             tolerance=0.1, source=exact)  # fmt: skip
    found = np.corrcoef(now, later)[0, 1]
    gate(NAME, "its correlation 15 minutes apart", found, correlation, tolerance=0.01, source=exact)
    for share, expected in ((0.05, -16.0), (0.95, 21.0)):
        gate(NAME, f"its {share:.0%} quantile, mg/dL", np.quantile(now, share), expected,
             tolerance=0.5, source="noise of simglucose, simulated and rounded")  # fmt: skip


def test_meals_are_those_of_the_table(gate: Gate) -> None:
    minutes, grams = draw_meals(Stream.start(torch.arange(20_000)), 1, 1.0)
    taken = (grams > 0).double().mean(0)
    source = "random scenario of simglucose"
    for slot, name in enumerate(("breakfast", "snack", "lunch")):
        chosen = grams[:, slot] > 0
        size, bounds = ((45, 10), (300, 540)) if slot == 0 else ((10, 5), (540, 600))
        size, bounds = ((70, 10), (600, 840)) if slot == 2 else (size, bounds)
        missed = 0.5 * math.erfc((size[0] - 0.5) / size[1] / math.sqrt(2))  # rounded down to 0 g
        gate(NAME, f"probability of {name}", taken[slot], PROBABILITY[slot] * (1 - missed),
             tolerance=4 * math.sqrt(0.25 / 20_000), source=source)  # fmt: skip
        assert bounds[0] <= minutes[:, slot].min() and minutes[:, slot].max() <= bounds[1]
        middle = sum(bounds) / 2
        gate(NAME, f"mean time of {name}, minutes", minutes[chosen, slot].mean(), middle,
             tolerance=4 * 60 / math.sqrt(int(chosen.sum())), source=source)  # fmt: skip
        if slot != 1:  # snacks of 10 +- 5 g are cut at zero
            gate(NAME, f"mean size of {name}, g", grams[chosen, slot].mean(), size[0],
                 tolerance=4 * size[1] / math.sqrt(20_000), source=source)  # fmt: skip


def test_risks_are_those_of_the_literature(gate: Gate) -> None:
    glucose_of = torch.tensor([112.5, 20.0, 600.0, 70.0, 180.0], dtype=torch.float64)
    risk = kovatchev_risk(glucose_of)
    source = "Kovatchev et al., Diabetes Care 20 (1997) 1655"
    for value, expected in zip((112.5, 20, 600), (0, 100, 100), strict=True):
        found = risk[glucose_of == value][0]
        gate(NAME, f"risk at {value} mg/dL", found, expected, tolerance=0.1, source=source)
    gate(NAME, "risk at 180 mg/dL less that at 70", risk[4] - risk[3], 0.0, tolerance=0.2,
         source=source)  # fmt: skip
    low, high = low_and_high_risk(glucose_of)
    assert torch.equal(low + high, risk) and low[3] == risk[3] and high[4] == risk[4]
    fine = torch.linspace(100, 200, 10_001, dtype=torch.float64)
    lowest = fine[magni_risk(fine).argmin()]
    gate(NAME, "glucose of the least risk of Magni, mg/dL", lowest, 139.0, tolerance=1.0,
         source="Fox et al., Machine Learning for Healthcare (2020)")  # fmt: skip
    assert magni_risk(torch.tensor([40.0]))[0] > kovatchev_risk(torch.tensor([40.0]))[0]

"""Errors of a continuous glucose sensor: a Johnson SU variable of an autoregressive process.

Every 15 minutes e <- 0.7 (e + n) with a standard normal n, and the error is xi + lambda sinh((e -
gamma) / delta) in mg/dL; between these times a cubic goes through four neighbours. Its mean is 0.72,
its standard deviation 11.7 mg/dL, and 15 minutes apart errors correlate by 0.69. M. Breton,
B. Kovatchev, J. Diabetes Sci. Technol. 2 (2008) 853; numbers as in simglucose (J. Xie, 2018).
"""  # noqa: E501

from __future__ import annotations

import math

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from separatrix.envs.core.stream import SENSOR, Stream

PERIOD = 15
"""Minutes between the values of the process."""
MEMORY = 0.7
XI, LAMBDA, GAMMA, DELTA = -5.47, 15.9574, -0.5444, 1.6898
SMALLEST, LARGEST = 39.0, 600.0
"""What the sensor can show, mg/dL."""

Process = Float64[Tensor, "batch 4"]
"""Values of the autoregressive process around a time: of the period before it, of its beginning, of
its end, and of the period after."""


def start_process(stream: Stream) -> Process:
    """Draws the process about the start of an episode from its stationary distribution."""
    values = [_noise(stream, 0) * math.sqrt(MEMORY**2 / (1 - MEMORY**2))]
    for place in range(1, 4):
        values.append(_next(values[-1], stream, place))
    return torch.stack(values, 1)


def advance_process(
    process: Process, stream: Stream, minute: Int64[Tensor, " batch"], minutes: int
) -> Process:
    """Moves the process on.

    Args:
        process: Around a minute of the episode.
        stream: Of the environments.
        minute: That minute.
        minutes: By how many.
    """
    period, last = minute // PERIOD, (minute + minutes) // PERIOD
    for _ in range(-(-minutes // PERIOD)):
        moved = torch.cat((process[:, 1:], _next(process[:, 3], stream, period + 4)[:, None]), 1)
        process = torch.where((period < last)[:, None], moved, process)
        period = period + (period < last)
    return process


def _noise(stream: Stream, place: int | Int64[Tensor, " batch"]) -> Float64[Tensor, " batch"]:
    """Returns the normal number of a place in the process, a function of seed and episode alone."""
    draw = torch.zeros_like(stream.draw) + place
    found, _ = Stream(stream.seed, stream.episode, draw).normal(1, torch.float64, SENSOR)
    return found[:, 0]


def _next(
    value: Float64[Tensor, " batch"], stream: Stream, place: int | Int64[Tensor, " batch"]
) -> Float64[Tensor, " batch"]:
    return MEMORY * (value + _noise(stream, place))


def error(process: Process, minute: Int64[Tensor, " batch"]) -> Float64[Tensor, " batch"]:
    """Returns the error of a reading in mg/dL.

    Args:
        process: Around the time of the reading.
        minute: That time.
    """
    before, begin, end, after = (XI + LAMBDA * torch.sinh((process - GAMMA) / DELTA)).unbind(1)
    slope0, slope1 = (end - before) / 2, (after - begin) / 2
    t = (minute % PERIOD).double() / PERIOD
    return (
        (2 * t**3 - 3 * t**2 + 1) * begin
        + (t**3 - 2 * t**2 + t) * slope0
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * slope1
    )

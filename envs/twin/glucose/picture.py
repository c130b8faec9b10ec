"""A picture of the last readings of the sensor, over the range to be in."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.twin.glucose.risk import HIGH, LOW, SEVERE
from separatrix.envs.twin.glucose.system import GlucoseState, GlucoseSystem

WIDTH, HEIGHT, LOWEST, HIGHEST = 400, 240, 40.0, 320.0
BACKGROUND, RANGE, LINE, TEXT = "#f7f7f5", "#cfe8d5", "#2f3e4e", "#5b6470"
COLOURS = {"severe": "#9d1f1f", "low": "#d1603d", "good": "#2a9d4e", "high": "#d9a521"}


def draw_readings(
    state: GlucoseState, environment: ComposedEnvironment
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws one environment.

    Args:
        state: A batch of one, on the CPU.
        environment: A batch of one, too.
    """
    system = environment.system
    assert isinstance(system, GlucoseSystem)
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    canvas = ImageDraw.Draw(image)

    def place(glucose: float) -> float:
        return HEIGHT * (HIGHEST - min(max(glucose, LOWEST), HIGHEST)) / (HIGHEST - LOWEST)

    canvas.rectangle((0, place(HIGH), WIDTH, place(LOW)), RANGE)
    readings = state.readings[0].tolist()
    step = WIDTH / len(readings)
    points = [(step * (i + 0.5), place(reading)) for i, reading in enumerate(readings)]
    canvas.line(points, LINE, 1)
    for reading, (x, y) in zip(readings, points, strict=True):
        canvas.ellipse((x - 5, y - 5, x + 5, y + 5), COLOURS[_kind(reading)])
    clock = int(state.interval[0]) * system.minutes % 1440
    text = f"{clock // 60:02d}:{clock % 60:02d}   {readings[-1]:.0f} mg/dL"
    canvas.text((8, 6), f"{text}   {float(state.delivered[0]):.2f} U", TEXT)
    return np.asarray(image)


def _kind(reading: float) -> str:
    if reading < SEVERE:
        return "severe"
    if reading < LOW:
        return "low"
    return "good" if reading <= HIGH else "high"

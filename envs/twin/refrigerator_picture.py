"""A picture of a refrigerator: its door, and a thermometer with the set-point."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.twin.refrigerator_system import COLDEST, WARMEST, RefrigeratorState

WIDTH, HEIGHT = 240, 320
BACKGROUND, BODY, INSIDE, MARK, TEXT = "#f7f7f5", "#8fa3b5", "#e8f1f5", "#2a9d4e", "#2f3e4e"
COLD, WARM = "#3a6ea5", "#d1603d"
TOP, BOTTOM = 40, 290
"""Pixels of the thermometer's ends, from above."""


def draw_refrigerator(
    state: RefrigeratorState, environment: ComposedEnvironment
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws one environment: a white panel is an open door; green marks the set-point.

    Args:
        state: A batch of one, on the CPU.
        environment: A batch of one, too, of which nothing is needed.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    warm, wanted = float(state.temperature[0]), float(state.set_point[0])

    def place(temperature: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (temperature - COLDEST) / (WARMEST - COLDEST)

    canvas.rounded_rectangle((20, 30, 150, 300), 8, fill=BODY)
    if state.door[0] > 0.5:
        canvas.rectangle((30, 40, 140, 290), fill=INSIDE)
        canvas.polygon([(140, 40), (172, 25), (172, 305), (140, 290)], fill=BODY)
    else:
        canvas.line((132, 130, 132, 190), fill=TEXT, width=5)
    canvas.rectangle((196, TOP, 208, BOTTOM), fill=INSIDE, outline=BODY)
    canvas.rectangle((197, place(warm), 207, BOTTOM), fill=WARM if warm > wanted else COLD)
    canvas.line((188, place(wanted), 216, place(wanted)), fill=MARK, width=3)
    canvas.text((180, 10), f"{warm:+.1f} C", TEXT)
    return np.asarray(image)

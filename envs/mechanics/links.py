"""Pictures of pendulums."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

SIZE = 320
BACKGROUND, PIVOT, RODS = "#f7f7f5", "#9a9a9a", ("#30475e", "#d1603d")


def draw_links(
    angles: Float[np.ndarray, " links"], lengths: Sequence[float]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a chain of rods that hangs from a pivot in the middle of the picture.

    Args:
        angles: Angle of each rod from upright in rad, growing to the right.
        lengths: Length of each rod in m.
    """
    from PIL import Image, ImageDraw

    # Drawn at twice the size and halved to smooth edges.
    image = Image.new("RGB", (2 * SIZE, 2 * SIZE), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    scale = 0.88 * SIZE / sum(lengths)

    def disc(x: float, y: float, radius: float, colour: str) -> None:
        canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)

    x, y = float(SIZE), float(SIZE)
    disc(x, y, 14, PIVOT)
    for i, (angle, length) in enumerate(zip(angles.tolist(), lengths, strict=True)):
        end_x, end_y = x + scale * length * math.sin(angle), y - scale * length * math.cos(angle)
        canvas.line([x, y, end_x, end_y], fill=RODS[i % len(RODS)], width=14)
        disc(end_x, end_y, 22, RODS[i % len(RODS)])
        x, y = end_x, end_y
    return np.asarray(image.reduce(2))

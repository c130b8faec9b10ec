"""Pictures of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

SIZE = (240, 420)
"""Height and width."""
COLUMNS = 44
"""Characters of a line."""


def draw_text(
    parts: Sequence[tuple[str, bool]], target: str, probability: float
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a text, what was written into it in another colour, and how likely the target is.

    Args:
        parts: Pieces of the text, and whether actions wrote them.
        target: What is to follow.
        probability: That it does.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = SIZE
    image = Image.new("RGB", (width, height), "#f7f7f5")
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    advance = (width - 30) / COLUMNS
    x = y = 0
    for text, written in parts:
        for character in text:
            if character == "\n" or x >= COLUMNS:
                x, y = 0, y + 1
            shown = character if character.isprintable() else " "
            place = 15 + x * advance, 15 + 20 * y
            canvas.text(place, shown, fill="#d1603d" if written else "#333333", font=font)
            x += character != "\n"
    top = height - 52
    canvas.text((15, top), f"wanted next: {target!r}", fill="#333333", font=font)
    canvas.rectangle((15, top + 24, width - 15, top + 36), outline="#9a9a9a")
    filled = 15 + (width - 30) * probability
    canvas.rectangle((15, top + 24, filled, top + 36), fill="#3a526e")
    return np.asarray(image)

"""Pictures of bodies in an upright plane."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 400, 240
GROUND = 50
"""Height of the ground above the lower edge of the picture, in pixels."""
SKY, EARTH, MARK = "#e8f1f5", "#cbbfa8", "#9d9078"


def draw_capsules(
    coordinates: Float64[np.ndarray, " coordinate"],
    model: mujoco.MjModel,
    paint: Mapping[str, str],
    scale: int,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a body from the side, in the middle of a picture that moves along with it.

    The marks on the ground are 1 m apart; that at x = 0 is bolder.

    Args:
        coordinates: Positions, the first of which is x in m, and velocities, which are not drawn.
        model: The body.
        paint: Capsules by name and their colours, from the back to the front.
        scale: Pixels a metre.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = coordinates[: model.nq]
    mujoco.mj_kinematics(model, data)
    middle = coordinates[0]

    # Drawn at twice the size and halved to smooth edges.
    image = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), SKY)
    canvas = ImageDraw.Draw(image)
    horizon = 2 * (HEIGHT - GROUND)
    canvas.rectangle([0, horizon, 2 * WIDTH, 2 * HEIGHT], fill=EARTH)

    def pixel(x: float, z: float) -> np.ndarray:
        return np.array((WIDTH + 2 * scale * (x - middle), horizon - 2 * scale * z))

    reach = WIDTH / (2 * scale)
    for mark in range(int(np.ceil(middle - reach)), int(np.floor(middle + reach)) + 1):
        across = pixel(mark, 0.0)[0]
        width = 8 if mark == 0 else 3
        canvas.line([across, horizon, across, 2 * HEIGHT], fill=MARK, width=width)
    for name, colour in paint.items():
        geometry = model.geom(name)
        radius, half = geometry.size[:2]
        centre = data.geom_xpos[geometry.id][[0, 2]]
        axis = data.geom_xmat[geometry.id].reshape(3, 3)[[0, 2], 2]
        ends = [pixel(*(centre + side * half * axis)) for side in (-1, 1)]
        thick = 2 * scale * radius
        canvas.line(np.concatenate(ends).tolist(), fill=colour, width=round(2 * thick))
        for end in ends:
            canvas.ellipse([*(end - thick), *(end + thick)], fill=colour)
    return np.asarray(image.reduce(2))

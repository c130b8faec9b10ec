"""The model of the half-cheetah, with one of its parts of another size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw

from separatrix.envs.mechanics.half_cheetah import BODIES

MODEL = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"

WIDTH, HEIGHT = 400, 240
SCALE = 110
"""Pixels a metre."""
GROUND = 50
"""Height of the ground above the lower edge of the picture, in pixels."""
SKY, EARTH, MARK = "#e8f1f5", "#cbbfa8", "#9d9078"
PAINT = {
    **dict.fromkeys(("bthigh", "bshin", "bfoot"), "#6d8299"),
    **dict.fromkeys(("torso", "head"), "#30475e"),
    **dict.fromkeys(("fthigh", "fshin", "ffoot"), "#d1603d"),
}
"""Geometries and their colours, from the back to the front."""


@lru_cache(maxsize=256)
def half_cheetah_model(body: str, scale: float) -> mujoco.MjModel:
    """Compiles a model; the same one is returned again, so it is not to be changed.

    The lengths and radii of the capsules of a part are scaled, of the torso the radius alone, since
    the file gives its ends. MuJoCo computes masses and inertias from the geometries, and scales
    them all to the total mass of the file, 14 kg.

    Args:
        body: A name of `BODIES`.
        scale: Size of the part over that in the file.
    """
    specification = mujoco.MjSpec.from_file(str(MODEL))
    for name in BODIES[body]:
        geometry = specification.geom(name)
        geometry.size = geometry.size * scale
    # MuJoCo warns of the attribute for the total mass, and asks for these calls in its place. They
    # leave the means over the body as they were, by one of which the solver measures its progress.
    total = specification.compiler.settotalmass
    specification.compiler.settotalmass = -1
    model = specification.compile()
    mujoco.mj_setTotalmass(model, total)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    model.stat.meanmass = sum(model.body_mass[1:]) / (model.nbody - 1)
    model.stat.meaninertia = sum(model.dof_M0) / model.nv
    return model


def draw(
    coordinates: Float64[np.ndarray, " 18"], model: mujoco.MjModel
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the body from the side, in the middle of a picture that moves along with it.

    The marks on the ground are 1 m apart; that at x = 0 is bolder.

    Args:
        coordinates: Positions in m and rad, and velocities, which are not drawn.
        model: The body.
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
        return np.array((WIDTH + 2 * SCALE * (x - middle), horizon - 2 * SCALE * z))

    reach = WIDTH / (2 * SCALE)
    for mark in range(int(np.ceil(middle - reach)), int(np.floor(middle + reach)) + 1):
        across = pixel(mark, 0.0)[0]
        width = 8 if mark == 0 else 3
        canvas.line([across, horizon, across, 2 * HEIGHT], fill=MARK, width=width)
    for name, colour in PAINT.items():
        geometry = model.geom(name)
        radius, half = geometry.size[:2]
        centre = data.geom_xpos[geometry.id][[0, 2]]
        axis = data.geom_xmat[geometry.id].reshape(3, 3)[[0, 2], 2]
        ends = [pixel(*(centre + side * half * axis)) for side in (-1, 1)]
        thick = 2 * SCALE * radius
        canvas.line(np.concatenate(ends).tolist(), fill=colour, width=round(2 * thick))
        for end in ends:
            canvas.ellipse([*(end - thick), *(end + thick)], fill=colour)
    return np.asarray(image.reduce(2))

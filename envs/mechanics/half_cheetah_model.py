"""The model of the half-cheetah, with one of its parts of another size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from jaxtyping import Float64, UInt8

from separatrix.envs.mechanics.half_cheetah import BODIES
from separatrix.envs.mechanics.side_view import draw_capsules

MODEL = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"

SCALE = 110
"""Pixels a metre."""
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
    """Draws the body from the side, see `draw_capsules`.

    Args:
        coordinates: Positions in m and rad, and velocities, which are not drawn.
        model: The body.
    """
    return draw_capsules(coordinates, model, PAINT, SCALE)

"""Pictures of the vorticity behind bodies in a stream."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.fluid.pictures import colours
from separatrix.envs.steppers.lattice_system import LatticeState, LatticeSystem

WIDTH, SPAN = 720, 4.0
"""Of the picture in pixels, and half the range of vorticities that is shown, in U / D."""
BODY, MARK = "#5b6470", "#f7f7f5"


def vorticity(state: LatticeState, system: LatticeSystem) -> Float[np.ndarray, "row column"]:
    """Returns v_x - u_y of one environment, by central differences; zero inside bodies.

    Args:
        state: A batch of one.
        system: The physics.
    """
    u, v, _ = (part[0].double().cpu().numpy() for part in system.fields(state.flow.populations))
    program = system.program
    inner = np.s_[1:-1, 1:-1]
    found = (np.gradient(v, axis=1) - np.gradient(u, axis=0))[inner] * program.resolution
    near = np.zeros(u.shape, bool)  # of sites whose neighbours are no fluid the difference is none
    near.flat[program.solid] = True
    near[0], near[-1], near[:, 0], near[:, -1] = True, True, True, True
    for axis in (0, 1):
        near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
    found[near[inner]] = 0.0
    return found


def draw_vorticity(
    state: LatticeState, environment: ComposedEnvironment
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the vorticity of one environment, blue where it is negative and red where positive.

    A line on each body shows where its surface turns, at a right angle to the radius.

    Args:
        state: A batch of one, on the CPU.
        environment: A batch of one, too.
    """
    system = environment.system
    assert isinstance(system, LatticeSystem)
    domain, scale = system.domain, WIDTH / system.domain.length
    size = WIDTH, round(domain.height * scale / 2) * 2  # video encoders want even numbers
    picture = colours(vorticity(state, system).T / SPAN)
    image = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(image)
    for body in domain.bodies:
        x, y, r = body.x * scale, size[1] - body.y * scale, body.radius * scale
        canvas.ellipse((x - r, y - r, x + r, y + r), BODY)
    return np.asarray(image)

"""The model and the picture of the pusher."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw

HALF_WIDTH = 0.06
"""Half the width of the block, in m."""
TIP = 0.015
"""Radius of the tool's tip, in m."""
SPEED = 0.25
"""Of the tool at a full action, in m/s."""


# Tilting is left free, for it is what loads the feet, but damped, for contacts are soft: undamped
# rocking changes the friction of a sliding block by some 5 %. Yaw turns first: it is the heading.
MODEL = """
<mujoco model="pusher">
  <compiler angle="radian"/>
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <default>
    <geom contype="0" conaffinity="0"/>
    <pair condim="3" friction="{friction} {friction} 0 0 0"/>
    <default class="foot"><geom type="sphere" size="0.005" mass="0"/></default>
    <general ctrlrange="-1 1" forcerange="-10 10" gainprm="12.5" biastype="affine"
      biasprm="0 0 -50"/>
  </default>
  <worldbody>
    <geom name="table" type="plane" size="1 1 1"/>
    <body name="tool" pos="-0.27 0 0.035" gravcomp="1">
      <joint name="tool_x" type="slide" axis="1 0 0" ref="-0.27" limited="true" range="-0.4 0.4"/>
      <joint name="tool_y" type="slide" axis="0 1 0" limited="true" range="-0.4 0.4"/>
      <geom name="tip" type="sphere" size="0.015" mass="0.5"/>
    </body>
    <body name="block" pos="-0.15 0 0.035">
      <joint name="block_x" type="slide" axis="1 0 0" ref="-0.15"/>
      <joint name="block_y" type="slide" axis="0 1 0"/>
      <joint name="block_z" type="slide" axis="0 0 1"/>
      <joint name="yaw" type="hinge" axis="0 0 1"/>
      <joint name="pitch" type="hinge" axis="0 1 0" damping="0.01"/>
      <joint name="roll" type="hinge" axis="1 0 0" damping="0.01"/>
      <geom name="half_1" type="box" pos="0 -0.03 0" size="0.06 0.03 0.03" density="{density_1}"/>
      <geom name="half_2" type="box" pos="0 0.03 0" size="0.06 0.03 0.03" density="{density_2}"/>
      <geom name="shell" type="box" size="0.06 0.06 0.03" mass="0"/>
      <geom name="foot_1" class="foot" pos="-0.055 -0.055 -0.03"/>
      <geom name="foot_2" class="foot" pos="0.055 -0.055 -0.03"/>
      <geom name="foot_3" class="foot" pos="-0.055 0.055 -0.03"/>
      <geom name="foot_4" class="foot" pos="0.055 0.055 -0.03"/>
    </body>
  </worldbody>
  <contact>
    <pair geom1="tip" geom2="shell" friction="0.3 0.3 0 0 0"/>
    <pair geom1="foot_1" geom2="table"/>
    <pair geom1="foot_2" geom2="table"/>
    <pair geom1="foot_3" geom2="table"/>
    <pair geom1="foot_4" geom2="table"/>
  </contact>
  <actuator>
    <general name="tool_x" joint="tool_x"/>
    <general name="tool_y" joint="tool_y"/>
  </actuator>
</mujoco>
"""

SIZE, SCALE = 320, 380
"""Pixels of a picture, and pixels a metre."""
TABLE, BLOCK, TOOL, GOAL = "#e9e4da", "#b98b5e", "#30475e", "#2a9d4e"


def pusher_model(density_1: float, density_2: float, friction: float) -> mujoco.MjModel:
    """Returns the model of a block.

    Args:
        density_1: Density of its half to the right, in kg/m^3.
        density_2: Density of its half to the left.
        friction: Coefficient of friction of block and table.
    """
    text = MODEL.format(density_1=density_1, density_2=density_2, friction=friction)
    return mujoco.MjModel.from_xml_string(text)


def draw(
    coordinates: Float64[np.ndarray, " 16"], model: mujoco.MjModel
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws table, goal, block and tool from above, x to the right; a dot marks the centre of mass.

    Args:
        coordinates: Positions in m and rad, and velocities, which are not drawn.
        model: Tells where the centre of mass is.
    """
    # Drawn at twice the size and halved to smooth edges.
    image = Image.new("RGB", (2 * SIZE, 2 * SIZE), TABLE)
    canvas = ImageDraw.Draw(image)
    x, y, yaw = (float(coordinates[i]) for i in (2, 3, 5))

    def pixels(points: np.ndarray) -> list[float]:
        found: list[float] = (SIZE + 2 * SCALE * points * (1, -1)).ravel().tolist()
        return found

    def placed(points: Any) -> np.ndarray:
        turn = np.array(((math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))))
        moved: np.ndarray = np.array(points) @ turn + (x, y)
        return moved

    def disc(centre: np.ndarray, radius: float, colour: str) -> None:
        corner = np.array((radius, -radius))
        canvas.ellipse(pixels(np.stack((centre - corner, centre + corner))), fill=colour)

    a = HALF_WIDTH
    square = np.array(((-a, -a), (a, -a), (a, a), (-a, a)))
    canvas.polygon(pixels(placed(square)), fill=BLOCK)
    canvas.line(pixels(placed(((-a, 0.0), (a, 0.0)))), fill=TABLE, width=4)
    canvas.line(pixels(np.vstack((square, square[:1]))), fill=GOAL, width=6)
    centre = model.body("block").ipos[:2]
    disc(placed(centre), 0.008, TABLE)
    disc(coordinates[:2], TIP, TOOL)
    return np.asarray(image.reduce(2))

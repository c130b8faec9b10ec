"""The models and the picture of the doors."""

from __future__ import annotations

import math

import mujoco
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw

from separatrix.envs.mechanics.door import Handle

HINGE, STICK = 0.4, 0.06
"""Distance of the handle's axis from the hinge, and of its ball from the door, in m."""
HAND, BALL = 0.03, 0.025
"""Radii of the hand and of the handle's ball, in m."""
SPEED, TURN_SPEED = 0.3, 2.0
"""Of hand and wrist at a full action, in m/s and rad/s."""

MODEL = """
<mujoco model="door">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.005" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <default>
    <geom contype="0" conaffinity="0"/>
    <general ctrlrange="-1 1" biastype="affine"/>
    <default class="mover">
      <general forcerange="-40 40" gainprm="30" biasprm="0 0 -100"/>
    </default>
  </default>
  <worldbody>
    <geom name="frame" type="box" pos="0.03 {frame} 0" size="0.01 0.02 0.02"/>
    <body name="hand" pos="-0.25 0 0" gravcomp="1">
      <joint name="hand_x" type="slide" axis="1 0 0" ref="-0.25" range="-0.7 0"/>
      <joint name="hand_y" type="slide" axis="0 1 0" range="-0.7 0.7"/>
      <joint name="hand_z" type="slide" axis="0 0 1" range="-0.3 0.3"/>
      <joint name="wrist" type="hinge" axis="1 0 0" range="-2 2" armature="0.005"/>
      <geom name="hand" type="sphere" size="0.03" mass="0.5"/>
    </body>
    <body name="door" pos="0 {hinge} 0">
      <joint name="door" type="hinge" axis="0 0 1" range="{opening}" damping="0.5"/>
      <geom name="panel" type="box" pos="0 {middle} 0" size="0.015 0.25 0.3" mass="4"/>
      <body name="handle" pos="0 {axis} 0" gravcomp="1">
        <joint name="handle" type="hinge" axis="1 0 0" range="{turning}" damping="0.05"
          stiffness="0.3" armature="0.002"/>
        <geom name="bolt" type="capsule" fromto="0.05 0 0 0.05 {bolt} 0" size="0.008" mass="0.1"/>
        <geom name="ball" type="sphere" pos="-0.06 {reach} 0" size="0.025" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <contact>
    <pair geom1="hand" geom2="ball" condim="4" friction="1 1 0.05 0 0"/>
    {latch}
  </contact>
  <actuator>
    <general name="hand_x" joint="hand_x" class="mover"/>
    <general name="hand_y" joint="hand_y" class="mover"/>
    <general name="hand_z" joint="hand_z" class="mover"/>
    <general name="wrist" joint="wrist" forcerange="-3 3" gainprm="4" biasprm="0 0 -2"/>
    <general name="grip" body="hand" ctrlrange="0 1" biastype="none" gainprm="40"
      dyntype="filterexact" dynprm="0.1"/>
  </actuator>
</mujoco>
"""

SIZE, SCALE = 320, 280
"""Pixels of each of the two views of a picture, which are squares, and pixels a metre."""
WALL, PANEL, METAL, FREE, HOLDING = "#efece5", "#b98b5e", "#6c757d", "#30475e", "#d1603d"


def door_model(handle: Handle) -> mujoco.MjModel:
    """Returns the model of a door with a handle."""
    side, reach, turn = handle
    numbers = {
        "hinge": HINGE * side,
        "middle": -0.25 * side,
        "axis": -HINGE * side,
        "bolt": -0.08 * side,
        "frame": -0.08 * side,
        "reach": reach,
    }
    text = MODEL.format(
        **numbers,
        opening=f"{-math.pi / 2} 0" if side == 1 else f"0 {math.pi / 2}",
        turning={-1: "-1.2 0.02", 0: "-0.02 0.02", 1: "-0.02 1.2"}[turn],
        latch='<pair geom1="bolt" geom2="frame"/>' if turn else "",
    )
    return mujoco.MjModel.from_xml_string(text)


def draw(
    coordinates: Float64[np.ndarray, " 13"], model: mujoco.MjModel
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the door from above, the hand below it, and beside it as the hand sees it.

    Args:
        coordinates: Positions in m and rad, velocities, which are not drawn, and the grip.
        model: Of the door.
    """
    data = mujoco.MjData(model)
    data.qpos[:] = coordinates[:6]
    mujoco.mj_kinematics(model, data)
    panel, hinge = data.geom("panel"), data.body("door").xpos
    axis, ball, hand = data.body("handle").xpos, data.geom("ball").xpos, data.geom("hand").xpos
    edge = 2 * panel.xpos - hinge
    bend = axis - STICK * panel.xmat.reshape(3, 3)[:, 0]
    finger = hand + 0.06 * np.array((0.0, -math.sin(coordinates[3]), math.cos(coordinates[3])))
    tall = np.array((0.0, 0.0, 0.3))
    colour = HOLDING if coordinates[-1] > 0.5 else FREE

    above, front = (_View(axis, height) for axis, height in ((0, -0.3), (2, 0.0)))
    above.line(18, PANEL, hinge, edge)
    front.canvas.polygon(front.pixels(hinge - tall, edge - tall, edge + tall, hinge + tall), PANEL)
    for view in (above, front):
        view.line(18, METAL, axis, bend, ball)
        view.disc(BALL, METAL, ball)
        view.disc(HAND, colour, hand)
    front.line(10, colour, hand, finger)
    return np.concatenate([np.asarray(view.image.reduce(2)) for view in (above, front)], 1)


class _View:
    """One view, drawn at twice the size to be halved, which smooths edges; y is to the left.

    Args:
        axis: The coordinate that points up.
        height: Which value of it is in the middle, in m.
    """

    def __init__(self, axis: int, height: float) -> None:
        self.axis, self.height = axis, height
        self.image = Image.new("RGB", (2 * SIZE, 2 * SIZE), WALL)
        self.canvas = ImageDraw.Draw(self.image)

    def pixels(self, *points: np.ndarray) -> list[float]:
        flat = np.array([(-point[1], self.height - point[self.axis]) for point in points])
        found: list[float] = (SIZE + 2 * SCALE * flat).ravel().tolist()
        return found

    def line(self, width: int, colour: str, *points: np.ndarray) -> None:
        self.canvas.line(self.pixels(*points), colour, width, joint="curve")

    def disc(self, radius: float, colour: str, centre: np.ndarray) -> None:
        corner = np.array((0.0, radius, 0.0))
        corner[self.axis] = radius
        self.canvas.ellipse(self.pixels(centre + corner, centre - corner), colour)

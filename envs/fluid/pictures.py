"""Pictures of fields: curves over a line, images over a plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from separatrix.envs.core.environment import ComposedEnvironment
from separatrix.envs.fluid.field_task import FieldTask
from separatrix.envs.steppers.spectral_system import FieldState, SpectralSystem

SIZE = 320
SPAN = 3.0
"""Half the range of values that is shown, in units of the scale of a field."""

BACKGROUND, TARGET, CURVES = "#f7f7f5", "#2a9d4e", ("#d1603d", "#30475e")
# Of the value from -1 to 1: blue, white, red, as in vorticity plots.
COLOURS = np.array([[12, 44, 110], [66, 133, 190], [247, 247, 245], [214, 104, 70], [110, 16, 28]])


def draw_fields(
    state: FieldState, environment: ComposedEnvironment
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the fields of one environment.

    Fields on a line are curves, the target of the first in green. Fields on a plane are images side
    by side, blue below zero and red above; x points right and y up.

    Args:
        state: A batch of one, on the CPU.
        environment: A batch of one, too.
    """
    task, system = environment.task, environment.system
    assert isinstance(task, FieldTask) and isinstance(system, SpectralSystem)
    shape = (-1, *[1] * system.grid.dimensions)
    fields = state.field[0].double().numpy() / (SPAN * np.array(task.scale).reshape(shape))
    if system.grid.dimensions == 2:
        return np.concatenate([_enlarged(colours(field)) for field in fields], 1)
    target = task.target(state)
    curves = [(field, colour) for field, colour in zip(fields, CURVES, strict=False)]
    if target is not None:
        wanted = target[0, 0].double().cpu().numpy() / (SPAN * task.scale[0])
        curves.insert(0, (wanted, TARGET))
    return _profile(curves)


def colours(field: Float[np.ndarray, "x y"]) -> UInt8[np.ndarray, "y x 3"]:
    """Maps values from -1 to 1 to colours; y points up.

    Args:
        field: Values; what lies outside gets the outermost colour.
    """
    place = (np.clip(np.nan_to_num(field.T[::-1]), -1, 1) + 1) * (len(COLOURS) - 1) / 2
    steps = np.arange(len(COLOURS))
    channels = [np.interp(place, steps, channel) for channel in COLOURS.T]
    return np.stack(channels, -1).round().astype(np.uint8)


def _enlarged(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _profile(curves: Sequence[tuple[np.ndarray, str]]) -> UInt8[np.ndarray, "height width 3"]:
    image = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    canvas.line((0, SIZE / 2, SIZE, SIZE / 2), "#d8d8d2")
    for values, colour in curves:
        closed = np.append(values, values[0])  # the box is periodic
        across = np.linspace(0, SIZE, len(closed))
        height = SIZE * (1 - np.clip(closed, -1.1, 1.1)) / 2
        canvas.line(list(zip(across.tolist(), height.tolist(), strict=True)), colour, width=3)
    return np.asarray(image)

"""Pictures of chaotic systems: a phase portrait on its attractor, or a profile over the sites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from separatrix.envs.chaotic.attractor import attractor_of

if TYPE_CHECKING:
    from separatrix.envs.steppers.ode_environment import OdeEnvironment

SIZE = 320
BACKGROUND, CLOUD, TARGET, STATE = "#f7f7f5", "#8fa3b5", "#2a9d4e", "#d1603d"


@dataclass(frozen=True)
class PhasePortrait:
    """Draws a state on two of its axes, over points of the attractor, with the target in green.

    A target that is a state is a ring, and one that is an orbit a dotted curve.

    Attributes:
        horizontal: Index of the state on the horizontal axis.
        vertical: Index of the state on the vertical axis.
    """

    horizontal: int
    vertical: int

    def __call__(
        self, values: Float[np.ndarray, " state"], environment: OdeEnvironment
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Draws one state."""
        from PIL import Image, ImageDraw

        axes = [self.horizontal, self.vertical]
        image = Image.fromarray(self._cloud(environment))
        canvas = ImageDraw.Draw(image)
        targets = environment.task.target_points(environment.system)
        radius, fill = (8, None) if len(targets) == 1 else (1, TARGET)
        marks = [(point, TARGET, radius, fill) for point in targets]
        for point, colour, radius, fill in (*marks, (values, STATE, 6, STATE)):
            x, y = _pixels(point[None, axes], environment, axes)[0]
            box = [x - radius, y - radius, x + radius, y + radius]
            canvas.ellipse(box, outline=colour, fill=fill, width=3)
        return np.asarray(image)

    def _cloud(self, environment: OdeEnvironment) -> np.ndarray:
        from PIL import Image, ImageDraw

        axes = [self.horizontal, self.vertical]
        image = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
        points = attractor_of(environment.system).points()
        pixels = _pixels(points[:, axes], environment, axes)
        canvas = ImageDraw.Draw(image)
        for x, y in pixels.tolist():
            canvas.rectangle([x, y, x + 1, y + 1], fill=CLOUD)
        return np.asarray(image)


def _pixels(points: np.ndarray, environment: OdeEnvironment, axes: list[int]) -> np.ndarray:
    """Maps states to pixels; the picture shows the attractor with a margin of a fifth."""
    attractor = attractor_of(environment.system)
    low, high = (attractor.statistic(key)[axes] for key in ("low", "high"))
    place = 0.1 + 0.8 * (points - low) / (high - low)
    place[:, 1] = 1 - place[:, 1]
    return np.clip(place, -0.1, 1.1) * SIZE


@dataclass(frozen=True)
class Profile:
    """Draws the components of a state as a curve over their index, with the target dashed."""

    def __call__(
        self, values: Float[np.ndarray, " state"], environment: OdeEnvironment
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Draws one state."""
        from PIL import Image, ImageDraw

        attractor = attractor_of(environment.system)
        low = attractor.statistic("low").min()
        high = attractor.statistic("high").max()
        image = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
        canvas = ImageDraw.Draw(image)
        targets = environment.task.target_points(environment.system)
        for curve, colour in (*((target, TARGET) for target in targets), (values, STATE)):
            height = np.clip(0.9 - 0.8 * (curve - low) / (high - low), -0.1, 1.1) * SIZE
            across = np.linspace(0.05, 0.95, len(curve)) * SIZE
            canvas.line(list(zip(across.tolist(), height.tolist(), strict=True)), colour, width=3)
        return np.asarray(image)

"""Figures of evaluated policies, drawn without pyplot and so without its global state."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

SHOWN = 6  # components drawn over time; more would leave too little height for each
FIELDS = 4  # episodes whose fields are drawn


def phase_portrait(
    states: Float[np.ndarray, "time episodes state"],
    names: Sequence[str],
    interval: float,
    target: Float[np.ndarray, " state"] | None = None,
) -> Figure:
    """Draw trajectories: every component over time, and the projection onto the first and the last.

    Args:
        states: Trajectories; NaN after an episode has ended.
        names: Name of each component.
        interval: Time between two states.
        target: State the task asks for, marked in both views.

    Returns:
        The figure.
    """
    times = interval * np.arange(len(states))
    rows = min(len(names), SHOWN)
    figure = Figure(figsize=(10, max(3.5, 1.3 * rows)), layout="constrained")
    grid = figure.add_gridspec(rows, 2, width_ratios=(3, 2))
    style: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.7}
    for row in range(rows):
        axes = figure.add_subplot(grid[row, 0])
        axes.plot(times, states[:, :, row], **style)
        if target is not None:
            axes.axhline(target[row], color="black", linewidth=0.8, linestyle="--")
        axes.set_ylabel(names[row])
        axes.tick_params(labelbottom=row == rows - 1)
    axes.set_xlabel("time")

    axes = figure.add_subplot(grid[:, 1])
    axes.plot(states[:, :, 0], states[:, :, -1], **style)
    axes.plot(states[0, :, 0], states[0, :, -1], "o", color="black", markersize=3, label="start")
    if target is not None:
        axes.plot(target[0], target[-1], "k*", markersize=12, label="target")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[-1])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def space_time(field: Float[np.ndarray, "time episodes point"], interval: float) -> Figure:
    """Draw a field on a line over time and space, a row for each episode, in colours.

    Args:
        field: The field; NaN after an episode has ended.
        interval: Time between two of them.

    Returns:
        The figure.
    """
    episodes = min(field.shape[1], FIELDS)
    figure = Figure(figsize=(10, 1.0 + 1.6 * episodes), layout="constrained")
    limit = np.nanmax(np.abs(field))
    extent = (0.0, interval * len(field), 0.0, 1.0)
    rows = figure.subplots(episodes, 1, sharex=True, squeeze=False)[:, 0]
    for episode, axes in enumerate(rows):
        image = axes.imshow(
            field[:, episode].T,
            aspect="auto",
            origin="lower",
            extent=extent,
            vmin=-limit,
            vmax=limit,
            cmap="RdBu_r",
            interpolation="nearest",
        )
        axes.set_ylabel("x / length")
    rows[-1].set_xlabel("time")
    figure.colorbar(image, ax=rows)
    return figure


def snapshots(field: Float[np.ndarray, "time episodes x y"], interval: float) -> Figure:
    """Draw a field on a plane at equally spaced times, a row for each episode, in colours.

    Args:
        field: The field; NaN after an episode has ended.
        interval: Time between two of them.

    Returns:
        The figure.
    """
    episodes = min(field.shape[1], FIELDS)
    times = np.unique(np.linspace(0, len(field) - 1, SHOWN).round().astype(int))
    size = (1.7 * len(times) + 1.0, 1.7 * episodes + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    limit = np.nanmax(np.abs(field))
    places = figure.subplots(episodes, len(times), squeeze=False)
    for (episode, column), axes in np.ndenumerate(places):
        shown = field[times[column], episode].T
        image = axes.imshow(shown, origin="lower", vmin=-limit, vmax=limit, cmap="RdBu_r")
        axes.set_axis_off()
        if episode == 0:
            axes.set_title(f"t = {interval * times[column]:.4g}", fontsize="medium")
    figure.colorbar(image, ax=places)
    return figure

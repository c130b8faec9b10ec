"""Figures of continual learning, drawn without pyplot and so without its global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from scipy import stats
from scipy.spatial.distance import pdist
from torch import Tensor

NAMED = 10  # tasks with a name of their own in a legend; more get a scale of colours


def score_matrix(
    scores: Float[np.ndarray, "trained tasks"], labels: Sequence[str], title: str = "score"
) -> Figure:
    """Draws the scores of every task after every training, the forgetting matrix.

    Colours of scores run from 0 to 1, the numbers tell what lies outside; those of other quantities
    span what was measured. The frames on the diagonal mark the
    end of a task's own training: below is what was kept, above what was never trained.

    Args:
        scores: A row for each training; NaN where nothing was measured.
        labels: Name of each task.
        title: What the numbers are; anything but "score" has no scale of its own.

    Returns:
        The figure.
    """
    trained, tasks = scores.shape
    low, high = (0.0, 1.0) if title == "score" else (np.nanmin(scores), np.nanmax(scores))
    cell = min(0.62, 14.0 / tasks)
    size = (max(5.0, cell * tasks + 2.5), max(3.5, cell * trained + 2.0))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(scores, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, extend="both", label=title, aspect=30)
    font = min(9.0, 22 * cell)
    for (row, column), score in np.ndenumerate(scores):
        if np.isfinite(score):
            colour = "black" if score > low + 0.6 * (high - low) else "white"
            text = f"{score:.2f}" if abs(score) < 9.995 else f"{score:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=font)
    for task in range(trained):
        corner = (task - 0.5, task - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=1.2))
    small = max(5.0, min(9.0, 30 * cell))
    axes.set_xticks(np.arange(tasks), labels, rotation=90, fontsize=small)
    axes.set_yticks(np.arange(trained), labels[:trained], fontsize=small)
    axes.set_xlabel("task")
    axes.set_ylabel("trained up to")
    return figure


def task_curves(
    steps: Float[np.ndarray, " points"],
    scores: Float[np.ndarray, "points tasks"],
    boundaries: Sequence[float],
    labels: Sequence[str],
    title: str = "score",
) -> Figure:
    """Draws the score of every task over the whole stream.

    Args:
        steps: Environment steps of the whole stream.
        scores: Scores there; NaN where a task was not evaluated.
        boundaries: Steps at which each task began.
        labels: Name of each task.
        title: What the numbers are; scores have lines at 0 and 1.

    Returns:
        The figure; thick where a task is being trained, thin afterwards and before.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.add_subplot()
    ends = [*boundaries[1:], np.inf]
    colours = _colours(len(labels))
    for task, (begin, end) in enumerate(zip(boundaries, ends, strict=True)):
        measured = np.isfinite(scores[:, task])
        own = measured & (steps >= begin) & (steps <= end)
        style: dict[str, Any] = {"color": colours[task], "marker": ".", "markersize": 3}
        axes.plot(steps[measured], scores[measured, task], linewidth=0.7, alpha=0.7, **style)
        axes.plot(steps[own], scores[own, task], linewidth=2.2, label=labels[task], **style)
        axes.axvline(begin, color=colours[task], linewidth=0.6, linestyle=":")
    for level in (0.0, 1.0) if title == "score" else ():
        axes.axhline(level, color="black", linewidth=0.6, linestyle="--")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(title)
    if len(labels) <= NAMED:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    else:
        scale = ScalarMappable(Normalize(0, len(labels) - 1), "viridis")
        figure.colorbar(scale, ax=axes, label="task")
    return figure


def embedding_order(
    embeddings: Float[Tensor, "tasks size"], features: Float[Tensor, "tasks features"]
) -> float:
    """Tells whether tasks with similar physics have similar embeddings.

    Args:
        embeddings: Embedding of each task.
        features: Physical parameters of each task, each scaled alike.

    Returns:
        Spearman's rank correlation, over all pairs of tasks, of the distance between their
        embeddings and the distance between their features; 1 if both order the pairs alike, about 0
        if they have nothing to do with one another. NaN for less than three tasks, and if all pairs
        are equally far apart.
    """
    if len(embeddings) < 3:
        return float("nan")
    ranks = [
        stats.rankdata(pdist(values.detach().double().cpu().numpy()))
        for values in (embeddings, features)
    ]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def embedding_map(
    embeddings: Float[Tensor, "tasks size"],
    features: Float[Tensor, "tasks features"],
    labels: Sequence[str],
    feature: int = 0,
) -> Figure:
    """Draws the embeddings on their first two principal components.

    Args:
        embeddings: Embedding of each task.
        features: Physical parameters of each task, see `embedding_order`.
        labels: Name of each task, written beside it where there are few.
        feature: Column of the features that gives the colours.

    Returns:
        The figure.
    """
    values = embeddings.detach().double().cpu().numpy()
    centred = values - values.mean(0)
    directions, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(values), 2))
    shown = min(2, len(sizes))
    places[:, :shown] = directions[:, :shown] * sizes[:shown]
    shares = np.zeros(2)
    if sizes.any():
        shares[:shown] = sizes[:shown] ** 2 / (sizes**2).sum()

    figure = Figure(figsize=(6.5, 5), layout="constrained")
    axes = figure.add_subplot()
    colours = features[:, feature].double().cpu().numpy()
    dots = axes.scatter(places[:, 0], places[:, 1], c=colours, cmap="viridis")
    for place, label in zip(places, labels if len(labels) <= NAMED else (), strict=False):
        axes.annotate(label, tuple(place), (4, 4), textcoords="offset points", fontsize="x-small")
    figure.colorbar(dots, ax=axes, label=f"feature {feature}")
    axes.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance")
    axes.set_ylabel(f"second principal component, {shares[1]:.0%}")
    order = embedding_order(embeddings, features)
    axes.set_title(f"correlation of distances: {order:.2f}", fontsize="medium")
    return figure


class Growth(NamedTuple):
    """A straight line through the wall times of the tasks in their order."""

    first: float
    """Seconds of the first task on the line."""

    slope: float
    """Seconds that each further task takes longer."""

    low: float
    """Lower end of the slope's 95 % interval."""

    high: float
    """Upper end; where the interval holds zero the times may be flat."""


def growth(seconds: Float[np.ndarray, " tasks"]) -> Growth:
    """Fits a line through wall times by least squares.

    Args:
        seconds: Wall time of each task, in their order; NaN is left out.

    Returns:
        The line, with Student's interval of its slope; NaN for less than three times.
    """
    order = np.arange(len(seconds))
    known = np.isfinite(seconds)
    if known.sum() < 3:
        return Growth(*[float("nan")] * 4)
    line = stats.linregress(order[known], seconds[known])
    half = stats.t.ppf(0.975, known.sum() - 2) * line.stderr
    slope = float(line.slope)
    return Growth(float(line.intercept), slope, slope - float(half), slope + float(half))


def wall_times(seconds: Mapping[str, Float[np.ndarray, " tasks"]]) -> Figure:
    """Draws the wall time of every task for several methods, with lines through them.

    Args:
        seconds: Wall time of each task by method; NaN where it was not measured.

    Returns:
        The figure, with each line's slope and its 95 % interval.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for method, (name, times) in enumerate(seconds.items()):
        line, tasks = growth(times), np.arange(len(times))
        told = f"{name}: {line.slope:+.2g} s a task [{line.low:.2g}, {line.high:.2g}]"
        label = name if np.isnan(line.slope) else told
        colour = f"C{method % 10}"
        axes.plot(tasks + 1, times, "o", color=colour, markersize=4, label=label)
        axes.plot(tasks + 1, line.first + line.slope * tasks, color=colour, linewidth=1)
    longest = max(times[np.isfinite(times)].max(initial=0.0) for times in seconds.values())
    axes.set_ylim(0.0, 1.1 * longest or 1.0)
    axes.set_xlabel("task")
    axes.set_ylabel("seconds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


def _colours(count: int) -> np.ndarray:
    """Colours of tasks in their order."""
    if count <= NAMED:
        return np.asarray(colormaps["tab10"](np.arange(count)))
    return np.asarray(colormaps["viridis"](np.linspace(0, 1, count)))

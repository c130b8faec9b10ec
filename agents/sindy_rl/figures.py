"""Figures of what a model foretold and what happened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from separatrix.agents.common.figures import SHOWN
from separatrix.agents.common.replay import Transitions, windows
from separatrix.agents.sindy_rl.forecast import Dynamics

STEPS = 200
"""Steps that are shown, at most."""


@torch.no_grad()
def surrogate_figure(
    dynamics: Dynamics, transitions: Transitions, names: Sequence[str], interval: float
) -> Figure:
    """Draws the latest real rollout and that of the model under the same actions.

    The model starts where the real rollout did and sees nothing more of it.

    Args:
        dynamics: The model.
        transitions: (times, environments, ...) in the order of time.
        names: Names of the components of the observation.
        interval: Control interval.
    """
    length = min(STEPS, len(transitions.last))
    while len(starts := windows(transitions.last, length)) == 0:
        length = (length + 1) // 2
    start, column = (int(i) for i in starts[-1])
    real = transitions.observation[start : start + length, column]
    action = transitions.action[start : start + length, column]
    observation, foretold = real[:1], []
    for step in range(length):
        foretold.append(observation[0])
        observation = dynamics.forecast(observation, action[step : step + 1]).next_observation
    times = interval * np.arange(length)
    rows = min(len(names), SHOWN)
    figure = Figure(figsize=(8, max(3.0, 1.3 * rows)), layout="constrained")
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    limits = real.min(0).values, real.max(0).values
    for component, axes in enumerate(grid):
        axes.plot(times, real[:, component].cpu(), color="black", label="real")
        path = torch.stack(foretold)[:, component].cpu()
        axes.plot(times, path, color="tab:red", linestyle="--", label="surrogate")
        low, high = (float(limit[component]) for limit in limits)
        margin = 0.2 * (high - low) + 1e-6  # a diverging model must not hide the real rollout
        axes.set_ylim(low - margin, high + margin)
        axes.set_ylabel(names[component])
    grid[0].legend(loc="lower right", ncols=2, frameon=False)
    grid[-1].set_xlabel("time")
    return figure

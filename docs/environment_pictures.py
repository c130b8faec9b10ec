"""A picture of every registered environment: free, under feedback, and as it renders itself."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from separatrix.controllers.controller import Controller
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import Registration, make_environment
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.ode_system import OdeState

FINE = 4  # samples of a curve in a control interval
SPACE, LINES = 3, 8  # most states drawn as one curve in space, and as curves over time
NEAR = 0.02  # deviation of every observation where a start near the equilibrium is drawn
COLOURS = 160  # of the palette of the PNG
FREE, CONTROLLED, TARGET = "#8fa3b5", "#d1603d", "#2a9d4e"


@dataclass(frozen=True)
class Episode:
    """An episode of one environment.

    Attributes:
        states: `FINE` rows a control interval; of a map one.
        reward: Mean over the last tenth of the episode.
        end: The last state.
    """

    states: Float[np.ndarray, "time state"]
    reward: float
    end: OdeState


def draw(entry: Registration) -> bytes:
    """Draws an environment.

    Returns:
        Contents of a PNG file.
    """
    environment = _made(entry)
    state, _ = environment.reset(0)
    controller, name, target = _feedback(environment)
    controlled = _run(entry, controller, state)
    near = target is not None and controlled.reward < 0.9 * environment.reward_range[1]
    if near:
        linear = linearize(environment)
        beside = linear.c[0].pinverse() @ linear.c.new_full((linear.c.shape[1],), NEAR)
        state = replace(state, values=(linear.state + beside).to(environment.dtype))
        controlled = _run(entry, controller, state)
    free = _run(entry, ZeroController(environment), state)

    figure = Figure(figsize=(10.5, 3.5), dpi=80, layout="constrained")
    grid = figure.add_gridspec(1, 3, width_ratios=(3, 3, 2.4))
    both = np.concatenate((free.states, controlled.states))
    names, interval = environment.system.definition.state_names, environment.control_interval
    for i, title, episode, colour in (
        (0, "free", free, FREE),
        (1, name, controlled, CONTROLLED),
    ):
        axes: Any = figure.add_subplot(grid[i], projection="3d" if len(names) == SPACE else None)
        axes.set_title(title)
        if len(names) == SPACE:
            axes.set_box_aspect(None, zoom=0.86)  # else the last label is cut off
        if len(names) <= SPACE:
            line = " ." if environment.system.definition.discrete else "-"
            _orbit(axes, episode.states, target, names, colour, line)
            _limits(axes, episode.states if near else both)
        elif len(names) <= LINES:
            _lines(axes, episode.states, target, names, interval)
        else:
            _field(axes, episode.states, both, interval)
    axes = figure.add_subplot(grid[2])
    axes.imshow(environment.render(free.end))
    axes.set_axis_off()
    return _png(figure)


def _made(entry: Registration, **options: Any) -> OdeEnvironment:
    environment = make_environment(entry.id, **options)
    if not isinstance(environment, OdeEnvironment):
        raise TypeError(f"{entry.id} is no ODE environment; only these are drawn")
    return environment


def _feedback(environment: OdeEnvironment) -> tuple[Controller, str, np.ndarray | None]:
    """Returns a controller, its name, and the equilibrium it holds."""
    try:
        target = linearize(environment).state[0].numpy()
        return LQR(environment), "LQR", target
    except (NotImplementedError, TypeError, ValueError):
        return RandomController(environment, seed=0), "random actions", None


def _run(entry: Registration, controller: Controller, state: OdeState) -> Episode:
    environment = _made(entry)
    between_steps, fine = 0, environment
    if not environment.system.definition.discrete:
        between_steps = FINE - 1
        fine = _made(entry, control_interval=environment.control_interval / FINE)
    controller.reset(torch.ones(1, dtype=torch.bool))
    rows, rewards = [state.values], []
    with torch.no_grad():
        for _ in range(environment.horizon):
            action = controller.act(environment.observe(state), state)
            between = state
            for _ in range(between_steps):
                between = fine.step(between, action).state
                rows.append(between.values)
            transition = environment.step(state, action)
            state = transition.state
            rows.append(state.values)
            rewards.append(float(transition.reward))
            if transition.terminated:
                break
    last = max(1, len(rewards) // 10)
    return Episode(torch.cat(rows).double().numpy(), float(np.mean(rewards[-last:])), state)


def _orbit(
    axes: Any,
    states: np.ndarray,
    target: np.ndarray | None,
    names: Sequence[str],
    colour: str,
    line: str,
) -> None:
    """Draws a curve, or of a map its points, in the plane or space of the states."""
    axes.plot(*states.T, line, color=colour, linewidth=0.9, markersize=2)
    axes.plot(*states[:1].T, "o", color="black", markersize=4)
    if target is not None:
        axes.plot(*target[:, None], "*", color=TARGET, markersize=11)
    axes.locator_params(nbins=5)
    for axis, name in zip("xyz", names, strict=False):
        getattr(axes, f"set_{axis}label")(name)


def _limits(axes: Any, states: np.ndarray) -> None:
    """Makes room for all states, with a margin of a twentieth."""
    low, high = states.min(0), states.max(0)
    margin = 0.05 * (high - low)
    for axis, least, most in zip("xyz", low - margin, high + margin, strict=False):
        getattr(axes, f"set_{axis}lim")(least, most)


def _lines(
    axes: Axes, states: np.ndarray, target: np.ndarray | None, names: Sequence[str], interval: float
) -> None:
    """Draws every state over time."""
    time = interval / FINE * np.arange(len(states))
    for i, name in enumerate(names):
        (line,) = axes.plot(time, states[:, i], linewidth=0.9, label=name)
        if target is not None:
            axes.axhline(target[i], color=line.get_color(), linewidth=0.7, linestyle="--")
    axes.set_xlabel("time")
    axes.legend(fontsize="small")


def _field(axes: Axes, states: np.ndarray, both: np.ndarray, interval: float) -> None:
    """Draws the values of many alike states over time and index, in colours."""
    extent = (0.0, interval / FINE * len(states), -0.5, states.shape[1] - 0.5)
    low, high = both.min(), both.max()
    axes.imshow(
        states.T, aspect="auto", origin="lower", extent=extent, vmin=low, vmax=high, cmap="viridis"
    )
    axes.set_xlabel("time")
    axes.set_ylabel("index")


def _png(figure: Figure) -> bytes:
    """Draws a figure with few colours, so that the file is small."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    few = image.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

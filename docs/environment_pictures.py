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
from torch import Tensor

from separatrix.controllers.controller import Controller
from separatrix.controllers.glucose import BasalBolus
from separatrix.controllers.language.feedback import GreedyPrompt
from separatrix.controllers.lift_feedback import LiftFeedback
from separatrix.controllers.lqr import LQR
from separatrix.controllers.open_loop import RandomController, ZeroController
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.environment import Environment
from separatrix.envs.core.registration import Registration, make_environment
from separatrix.envs.fluid.pictures import SPAN, colours
from separatrix.envs.language.language_environment import LanguageEnvironment, TextSystem
from separatrix.envs.mechanics.mujoco_environment import MujocoEnvironment
from separatrix.envs.steppers.lattice_system import LatticeSystem
from separatrix.envs.steppers.ode_environment import OdeEnvironment
from separatrix.envs.steppers.spectral_system import FieldState, SpectralSystem
from separatrix.envs.streams.stream import STREAMS
from separatrix.envs.twin.glucose.system import GlucoseSystem
from separatrix.envs.twin.refrigerator_system import RefrigeratorSystem

FINE = 4  # samples of a curve in a control interval
SPACE, LINES = 3, 8  # most states drawn as one curve in space, and as curves over time
NEAR = 0.02  # deviation of every observation where a start near the equilibrium is drawn
COLOURS = (160, 64, 32)  # of the palette of the PNG, fewer where the file is large otherwise
LARGE = 60_000  # bytes
FREE, CONTROLLED, TARGET = "#8fa3b5", "#d1603d", "#2a9d4e"


@dataclass(frozen=True)
class Episode:
    """An episode of one environment.

    Attributes:
        states: `FINE` rows a control interval; of a map one. Of what is no ODE system the
            observations, one row a control interval.
        reward: Mean over the last tenth of the episode.
        end: The last state.
    """

    states: Float[np.ndarray, "time state"]
    reward: float
    end: Any


def draw(entry: Registration) -> bytes:
    """Draws an environment.

    Returns:
        Contents of a PNG file.
    """
    environment = _make(entry)
    state, _ = environment.reset(0)
    controller, name, target = _feedback(environment)
    controlled = _run(entry, controller, state)
    ode = isinstance(environment, OdeEnvironment)
    near = ode and target is not None and controlled.reward < 0.9 * environment.reward_range[1]
    if near:
        linear = linearize(environment)
        beside = linear.c[0].pinverse() @ linear.c.new_full((linear.c.shape[1],), NEAR)
        state = replace(state, values=(linear.state + beside).to(environment.dtype))
        controlled = _run(entry, controller, state)
    free = _run(entry, ZeroController(environment), state)

    figure = Figure(figsize=(10.5, 3.5), dpi=80, layout="constrained")
    grid = figure.add_gridspec(1, 3, width_ratios=(3, 3, 2.4))
    both = np.concatenate((free.states, controlled.states))
    names, spacing = _names(environment), environment.control_interval / _samples(environment)
    for i, title, episode, colour in (
        (0, "free", free, FREE),
        (1, name, controlled, CONTROLLED),
    ):
        axes: Any = figure.add_subplot(grid[i], projection="3d" if len(names) == SPACE else None)
        axes.set_title(title)
        if len(names) == SPACE:
            axes.set_box_aspect(None, zoom=0.86)  # else the last label is cut off
        if isinstance(environment.system, GlucoseSystem):
            _lines(axes, episode.states, target, names, spacing / 60)
            axes.set_xlabel("hour")
        elif isinstance(environment.system, RefrigeratorSystem | TextSystem):
            _lines(axes, episode.states, target, names, spacing)
        elif len(names) <= SPACE:
            line = "-" if _samples(environment) > 1 else " ."
            _orbit(axes, episode.states, target, names, colour, line)
            _limits(axes, episode.states if near else both)
        elif (
            isinstance(environment.system, SpectralSystem)
            and len(environment.system.grid.shape) > 1
        ):
            axes.imshow(colours(_last_field(environment, episode.end)))
            axes.set_axis_off()
        elif len(names) <= LINES:
            _lines(axes, episode.states, target, names, spacing)
        else:
            # Observations of a body are not of one kind: each in units of its largest value.
            bodies = isinstance(environment.unwrapped, MujocoEnvironment)
            units = np.maximum(np.abs(both).max(0), 1e-9) if bodies else 1.0
            _field(axes, episode.states / units, both / units, spacing)
    axes = figure.add_subplot(grid[2])
    axes.imshow(environment.render(free.end))
    axes.set_axis_off()
    return _png(figure)


def _make(entry: Registration, **options: Any) -> Environment:
    """Makes an environment; of a stream its first task."""
    stream = STREAMS.get(entry.id)
    if stream is None:
        return make_environment(entry.id, **options)
    return make_environment(stream.base, horizon=entry.horizon, **stream.options(0) | options)


def _samples(environment: Environment) -> int:
    """Returns how many samples of a curve a control interval has."""
    flow = isinstance(environment, OdeEnvironment) and not environment.system.definition.discrete
    return FINE if flow else 1


def _components(environment: Environment, state: Any) -> Float[Tensor, "1 component"]:
    """Returns what of a state is drawn."""
    if isinstance(environment, OdeEnvironment):
        return state.values
    if isinstance(state, FieldState):
        return state.field[:, 0].flatten(1)
    if isinstance(environment.system, TextSystem):
        return state.features[:, :1]
    if isinstance(environment.system, GlucoseSystem):
        return torch.stack((environment.system.glucose(state), state.readings[:, -1]), 1)
    if isinstance(environment.system, RefrigeratorSystem):
        return torch.stack((state.temperature, state.set_point), 1)
    return environment.observe(state)


def _last_field(environment: Environment, state: FieldState) -> Float[np.ndarray, "x y"]:
    """Returns the first field of a state in units of three times its size."""
    return (state.field[0, 0] / (SPAN * environment.task.scale[0])).double().numpy()  # type: ignore[attr-defined]


def _names(environment: Environment) -> Sequence[str]:
    if isinstance(environment, OdeEnvironment):
        return environment.system.definition.state_names
    if isinstance(environment.system, SpectralSystem):
        return [f"point {i}" for i in range(environment.system.grid.points)]
    if isinstance(environment.system, TextSystem):
        return ["log-probability of the target"]
    if isinstance(environment.system, GlucoseSystem):
        return ["glucose, mg/dL", "reading, mg/dL"]
    if isinstance(environment.system, RefrigeratorSystem):
        return ["temperature, C", "set-point, C"]
    return [f"observation {i}" for i in range(environment.observation_space.shape[0])]


def _feedback(environment: Environment) -> tuple[Controller, str, np.ndarray | None]:
    """Returns a controller, its name, and the equilibrium it holds."""
    if isinstance(environment, LanguageEnvironment):
        return GreedyPrompt(environment), "one token ahead", None
    if isinstance(environment.system, LatticeSystem):
        return LiftFeedback(environment), "feedback of the lift", None
    if isinstance(environment.system, GlucoseSystem):
        return BasalBolus(environment), "basal insulin and boluses", None
    try:
        controller = LQR(environment)
        fields = isinstance(environment.system, SpectralSystem)  # of them no target is drawn
        target = None if fields else linearize(environment).state[0].numpy()
        return controller, "LQR", target
    except (NotImplementedError, TypeError, ValueError):
        return RandomController(environment, seed=0), "random actions", None


def _run(entry: Registration, controller: Controller, state: Any) -> Episode:
    fine = environment = _make(entry)
    samples = _samples(environment)
    if samples > 1:
        fine = _make(entry, control_interval=environment.control_interval / samples)
    controller.reset(torch.ones(1, dtype=torch.bool))
    rows, rewards = [_components(environment, state)], []
    with torch.no_grad():
        for _ in range(environment.horizon):
            action = controller.act(environment.observe(state), state)
            between = state
            for _ in range(samples - 1):
                between = fine.step(between, action).state
                rows.append(_components(environment, between))
            transition = environment.step(state, action)
            state = transition.state
            rows.append(_components(environment, state))
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
    axes: Axes, states: np.ndarray, target: np.ndarray | None, names: Sequence[str], spacing: float
) -> None:
    """Draws every state over time."""
    time = spacing * np.arange(len(states))
    for i, name in enumerate(names):
        (line,) = axes.plot(time, states[:, i], linewidth=0.9, label=name)
        if target is not None:
            axes.axhline(target[i], color=line.get_color(), linewidth=0.7, linestyle="--")
    axes.set_xlabel("time")
    axes.legend(fontsize="small")


def _field(axes: Axes, states: np.ndarray, both: np.ndarray, spacing: float) -> None:
    """Draws the values of many alike states over time and index, in colours."""
    extent = (0.0, spacing * len(states), -0.5, states.shape[1] - 0.5)
    low, high = both.min(), both.max()
    axes.imshow(
        states.T, aspect="auto", origin="lower", extent=extent, vmin=low, vmax=high, cmap="viridis"
    )
    axes.set_xlabel("time")
    axes.set_ylabel("index")


def _png(figure: Figure) -> bytes:
    """Draws a figure with so few colours that the file is small."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    for number in COLOURS:
        buffer = io.BytesIO()
        image.quantize(number, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= LARGE:
            break
    return buffer.getvalue()

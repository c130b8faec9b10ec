"""Tables and curves of the benchmarks on fields, from the JSON files in `docs/results`."""

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from result_tables import lines, read

LEARNING = {"kuramoto_sivashinsky": 400, "burgers": 100, "rotary_cylinder": 20}
"""Problems with learning curves, and the largest return of each."""


def tables() -> dict[str, str]:
    """Returns a Markdown table for each block, by its name."""
    spectral = read("spectral")
    return {
        "field control": field_control(read("field_control")),
        "kuramoto-sivashinsky learning": learning(read("kuramoto_sivashinsky_learning")),
        "burgers learning": learning(read("burgers_learning")),
        "rotary cylinder learning": learning(read("rotary_cylinder_learning")),
        "field speed": speed(spectral, spectral["ks"]["float32"]),
        "field speed in float64": speed(spectral, spectral["ks"]["float64"]),
        "flow speed": speed(spectral, spectral["flow"]["float32"]),
        "field errors": errors(spectral),
        "field floor": floor(spectral),
        "field gradient": gradient(spectral),
        "divergence": divergence(read("divergence")),
    }


def learning(content: dict[str, Any]) -> str:
    """Real steps and seconds to a return, and final returns, over seeds."""

    def told(values: list[float | None]) -> str:
        middle, low, high = ("never" if v is None else f"{v:,.0f}" for v in values)
        return f"{middle} [{low}, {high}]"

    rows = []
    for row in content["results"]:
        final, bottom, top = row["return"]
        rows.append(
            [
                row["name"],
                str(row["seeds"]),
                str(row["failed"]),
                told(row["steps"]),
                told(row["seconds"]),
                f"{final:.0f} [{bottom:.0f}, {top:.0f}]",
                f"{row['total_steps']:,}",
            ]
        )
    threshold = content["results"][0]["threshold"]
    heading = (
        f"way | seeds: | failed: | real steps to {threshold:g}, median [quartiles]: | seconds: "
        "| final return: | real steps of a run:"
    )
    return lines(heading, rows, content)


def field_control(content: dict[str, Any]) -> str:
    """Share of starts that reach an equilibrium and stay."""
    rows = []
    for row in content["results"]:
        case = row["case"]
        low, high = row["interval"]
        held, time = row["energy_when_held"], row["median_time"]
        rows.append(
            [
                f"{case['target_name']}, {case.get('actuators', 4)} actuators",
                row["controller"],
                f"{row['success']:.2f} [{low:.2f}, {high:.2f}]",
                f"{row['energy']:.3f}",
                "" if held is None else f"{held:.1e}",
                "" if time is None else f"{time:.1f}",
                f"{row['milliseconds_a_decision']:.3g}",
            ]
        )
    heading = (
        "target | controller | success: | energy: | energy when held: | median time to it: "
        "| ms a decision, all starts in one batch:"
    )
    return lines(heading, rows, content)


def divergence(content: dict[str, Any]) -> str:
    """Ids of which some random episodes diverge."""
    found = [row for row in content["results"] if row["diverged"] > 0]
    rows = [[row["environment"], f"{100 * row['diverged']:.1f} %"] for row in found]
    others = len(content["results"]) - len(found)
    rows.append([f"the other {others} ids", "0 %"])
    return lines("id | random episodes that diverge:", rows, content)


def speed(content: dict[str, Any], columns: dict[str, dict[str, dict[str, float]]]) -> str:
    """Environment steps a second, a way a row and a batch a column."""
    names = list(dict.fromkeys(name for ways in columns.values() for name in ways))
    rows = []
    for name in names:
        found = [ways.get(name) for ways in columns.values()]
        rows.append(
            [name, *("" if way is None else f"{way['steps_a_second']:,.0f}" for way in found)]
        )
    heading = " | ".join(["env steps/s, batch of", *(f"{batch}:" for batch in columns)])
    return lines(heading, rows, content)


def errors(content: dict[str, Any]) -> str:
    """Errors after one control interval of half a unit of time."""
    found = content["ks"]["errors"]
    rows = [
        [f"ours, {grid}", count, f"{error:.2g}"]
        for grid, column in found["ours"].items()
        for count, error in column.items()
        if count in ("1", "2", "5", "10", "70")
    ]
    peer = found.get("controlgym")
    if peer is not None:
        rows.append(["controlgym as shipped", "99", f"{peer['as_shipped']:.2g}"])
        rows.append(
            ["controlgym, at the time it reaches", "99", f"{peer['at_the_time_it_reaches']:.2g}"]
        )
    return lines("solver | time steps: | relative error:", rows, content)


def floor(content: dict[str, Any]) -> str:
    """A time step over its Fourier transforms alone."""
    rows = [
        [
            row["dtype"],
            str(row["points"]),
            str(row["batch"]),
            f"{1e6 * row['step']:.1f}",
            f"{1e6 * row['transforms'][row['fastest']]:.1f} ({row['fastest']})",
            f"{row['ratio']:.2f}",
        ]
        for row in content["floor"]
    ]
    heading = "dtype | points: | batch: | step, us: | eight transforms alone, us: | ratio:"
    return lines(heading, rows, content)


def gradient(content: dict[str, Any]) -> str:
    """Memory and time of a gradient through 200 control steps of 64 environments."""
    rows = [
        [
            row["backend"],
            f"{row['growth'] / 2**20:.0f}",
            f"{row['forward_seconds']:.2f}",
            f"{row['backward_seconds']:.2f}",
        ]
        for row in content["gradient"]
    ]
    return lines("backend | MiB beyond imports: | forward, s: | backward, s:", rows, content)


def curves(name: str) -> bytes:
    """Draws the learning curves of a problem: medians over the seeds, and their range.

    Args:
        name: A name of `LEARNING`.

    Returns:
        Contents of a PNG file.
    """
    figure = Figure(figsize=(7, 4), dpi=90, layout="constrained")
    axes = figure.subplots()
    for row in read(f"{name}_learning")["results"]:
        runs = [np.array(curve) for curve in row["curves"].values()]
        steps = runs[0][:, 0]  # of all seeds the same
        returns = np.stack([np.interp(steps, *run.T) for run in runs])
        (line,) = axes.plot(steps, np.median(returns, 0), ".-", label=row["name"])
        axes.fill_between(
            steps, returns.min(0), returns.max(0), color=line.get_color(), alpha=0.2, linewidth=0
        )
    axes.set_xscale("log")
    axes.set_ylim(0, LEARNING[name])
    axes.set_xlabel("real steps")
    axes.set_ylabel("return of an evaluation episode")
    axes.legend(fontsize="small")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()

import subprocess
import sys

import numpy as np
import pytest

from separatrix.agents.common.figures import FIELDS, SHOWN, phase_portrait, snapshots, space_time
from separatrix.agents.common.tensorboard import encode_png

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("marked", [False, True])
def test_phase_portrait_shows_every_episode(size: int, marked: bool) -> None:
    states = np.random.default_rng(0).normal(size=(20, 5, size))
    states[10:, 2] = np.nan
    names = [f"x{i}" for i in range(size)]
    target = np.ones(size) if marked else None
    figure = phase_portrait(states, names, 0.05, target)
    *over_time, projection = figure.axes
    assert len(over_time) == min(size, SHOWN)
    for index, axes in enumerate(over_time):
        assert len(axes.lines) == 5 + marked
        assert np.asarray(axes.lines[0].get_xdata())[-1] == pytest.approx(19 * 0.05)
        np.testing.assert_array_equal(axes.lines[2].get_ydata(), states[:, 2, index])
    assert projection.get_xlabel() == "x0"
    assert projection.get_ylabel() == names[-1]
    legend = projection.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert ("target" in labels) == marked
    assert encode_png(figure).startswith(PNG)


@pytest.mark.parametrize("episodes", [1, 6])
def test_space_time_shows_the_first_episodes(episodes: int) -> None:
    field = np.random.default_rng(0).normal(size=(20, episodes, 16))
    field[10:, 0] = np.nan
    figure = space_time(field, 0.25)
    *rows, _ = figure.axes  # the last is the scale of colours
    assert len(rows) == min(episodes, FIELDS)
    for episode, axes in enumerate(rows):
        (image,) = axes.images
        np.testing.assert_array_equal(np.asarray(image.get_array()), field[:, episode].T)
        assert list(image.get_extent()) == [0.0, 5.0, 0.0, 1.0]
        assert image.get_clim() == (-np.nanmax(np.abs(field)), np.nanmax(np.abs(field)))
    assert encode_png(figure).startswith(PNG)


@pytest.mark.parametrize(("steps", "columns"), [(3, 3), (41, SHOWN)])
def test_snapshots_run_from_the_first_to_the_last(steps: int, columns: int) -> None:
    field = np.random.default_rng(0).normal(size=(steps, 2, 8, 8))
    figure = snapshots(field, 0.5)
    *places, _ = figure.axes
    assert len(places) == 2 * columns
    first, last = places[0], places[-1]
    np.testing.assert_array_equal(np.asarray(first.images[0].get_array()), field[0, 0].T)
    np.testing.assert_array_equal(np.asarray(last.images[0].get_array()), field[-1, 1].T)
    assert places[columns - 1].get_title() == f"t = {0.5 * (steps - 1):.4g}"
    assert encode_png(figure).startswith(PNG)


def test_figures_do_not_load_pyplot() -> None:
    script = (
        "import sys, numpy as np\n"
        "from separatrix.agents.common.figures import phase_portrait\n"
        "from separatrix.agents.common.tensorboard import encode_png\n"
        "encode_png(phase_portrait(np.zeros((2, 1, 1)), ['x'], 0.1))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

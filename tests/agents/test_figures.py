import subprocess
import sys

import numpy as np
import pytest

from separatrix.agents.common.figures import SHOWN, phase_portrait
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

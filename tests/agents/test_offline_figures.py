"""Figures of offline training."""

import numpy as np
import pytest

from separatrix.agents.common.tensorboard import encode_png
from separatrix.agents.offline.data.dataset import References
from separatrix.agents.offline.figures import return_histogram


@pytest.mark.parametrize("referenced", [False, True])
@pytest.mark.parametrize("episodes", [1, 300])
def test_the_policy_is_marked_among_recorded_returns(episodes: int, referenced: bool) -> None:
    returns = np.random.default_rng(0).normal(5, 1, episodes)
    references = References(-1.0, 9.0, 32, "somebody") if referenced else None
    figure = return_histogram(returns, 7.5, references)
    (axes,) = figure.axes
    assert sum(bar.get_height() for bar in axes.patches) == episodes  # type: ignore[attr-defined]
    lines = {line.get_label(): np.asarray(line.get_xdata())[0] for line in axes.lines}
    marked = {"policy, mean": 7.5} | ({"random": -1.0, "expert": 9.0} if referenced else {})
    assert lines == marked
    assert encode_png(figure).startswith(b"\x89PNG")

import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from separatrix.agents.common.tensorboard import encode_png
from separatrix.agents.hypercrl.figures import (
    NAMED,
    embedding_map,
    embedding_order,
    growth,
    score_matrix,
    task_curves,
    wall_times,
)

PNG = b"\x89PNG\r\n\x1a\n"
SIZES = [1, 2, 5, NAMED + 1, 50]


def names(count: int) -> list[str]:
    return [f"rho = {task}" for task in range(count)]


@pytest.mark.parametrize("tasks", SIZES)
def test_score_matrix_tells_every_number(tasks: int) -> None:
    scores = np.random.default_rng(0).normal(size=(tasks, tasks))
    scores[0, -1] = -123.4
    scores[np.triu_indices(tasks, 1)] = np.nan
    figure = score_matrix(scores, names(tasks))
    axes, _ = figure.axes
    (image,) = axes.images
    np.testing.assert_array_equal(np.asarray(image.get_array()), scores)
    assert image.get_clim() == (0, 1)
    told = [text.get_text() for text in axes.texts]
    expected = scores[np.isfinite(scores)]
    assert len(told) == len(expected) == tasks * (tasks + 1) // 2
    for text, score in zip(told, expected, strict=True):
        assert float(text) == pytest.approx(score, abs=0.0051 if abs(score) < 9 else 0.51)
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [frame.get_xy() for frame in frames] == [(i - 0.5, i - 0.5) for i in range(tasks)]
    assert encode_png(figure).startswith(PNG)


def test_score_matrix_of_a_run_that_goes_on() -> None:
    figure = score_matrix(np.full((2, 5), np.nan), names(5))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == names(5)[:2]
    assert encode_png(figure).startswith(PNG)


@pytest.mark.parametrize("tasks", SIZES)
def test_task_curves_are_thick_where_a_task_is_trained(tasks: int) -> None:
    steps = 10.0 * np.arange(4 * tasks)
    boundaries = [40.0 * task for task in range(tasks)]
    scores = np.random.default_rng(0).normal(size=(len(steps), tasks))
    scores[steps[:, None] < boundaries] = np.nan
    figure = task_curves(steps, scores, boundaries, names(tasks))
    axes = figure.axes[0]
    for task in range(tasks):
        whole, own, boundary = axes.lines[3 * task : 3 * task + 3]
        first, last = 4 * task, min(4 * task + 5, 4 * tasks)
        np.testing.assert_array_equal(whole.get_xdata(), steps[first:])
        np.testing.assert_array_equal(own.get_xdata(), steps[first:last])
        np.testing.assert_array_equal(own.get_ydata(), scores[first:last, task])
        assert np.asarray(boundary.get_xdata())[0] == boundaries[task]
    assert (axes.get_legend() is not None) == (tasks <= NAMED)
    assert encode_png(figure).startswith(PNG)


@pytest.mark.parametrize("tasks", SIZES)
@pytest.mark.parametrize("size", [1, 10])
def test_embedding_map_shows_every_task(tasks: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn((tasks, size), generator=generator)
    features = torch.randn((tasks, 2), generator=generator)
    figure = embedding_map(embeddings, features, names(tasks), feature=1)
    dots = figure.axes[0].collections[0]
    places = np.asarray(dots.get_offsets())
    np.testing.assert_allclose(np.asarray(dots.get_array()), features[:, 1].numpy(), rtol=1e-6)
    np.testing.assert_allclose(places.mean(0), 0.0, atol=1e-6)
    # The map keeps all of the variance where two components hold it.
    variance = embeddings.double().var(0, correction=0).sum().item()
    if size == 1 or tasks <= 2:
        assert places.var(0).sum() == pytest.approx(variance, abs=1e-9)
    else:
        assert 0 < places.var(0).sum() < variance
    assert len(figure.axes[0].texts) == (tasks if tasks <= NAMED else 0)
    assert encode_png(figure).startswith(PNG)


def test_embedding_order_of_a_line_and_of_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand((40, 1), generator=generator)
    turned = torch.linalg.qr(torch.randn((10, 10), generator=generator))[0][:1]
    assert embedding_order(3 * features @ turned + 1, features) == pytest.approx(1.0, abs=1e-3)
    chance = torch.randn((40, 10), generator=generator)
    assert abs(embedding_order(chance, features)) < 0.2
    with_noise = features @ turned + 0.02 * chance
    assert 0.5 < embedding_order(with_noise, features) < 0.999


def test_embedding_order_by_hand() -> None:
    # Distances between embeddings 1, 4, 3, between features 2, 3, 5: ranks 1 3 2 and 1 2 3.
    embeddings = torch.tensor([[0.0], [1.0], [4.0]])
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [-3.0, 0.0]])
    assert embedding_order(embeddings, features) == pytest.approx(0.5)
    assert np.isnan(embedding_order(embeddings[:2], features[:2]))
    assert np.isnan(embedding_order(embeddings, torch.zeros((3, 1))))


def test_growth_by_hand() -> None:
    line = growth(np.array([5.0, 7.0, np.nan, 11.0]))
    assert line == pytest.approx((5.0, 2.0, 2.0, 2.0))
    # Residuals -1/6, 1/3, -1/6: variance 1/6, standard error sqrt(1/12), one degree of freedom.
    line = growth(np.array([1.0, 2.0, 2.0]))
    half = np.sqrt(1 / 12) * 12.70620473617471
    assert line == pytest.approx((7 / 6, 0.5, 0.5 - half, 0.5 + half))
    assert np.isnan(growth(np.array([1.0, 2.0]))).all()


@pytest.mark.parametrize("tasks", SIZES)
def test_wall_times_tell_slopes(tasks: int) -> None:
    flat, rising = np.full(tasks, 3.0), 1.0 + 2.0 * np.arange(tasks)
    figure = wall_times({"flat": flat, "rising": rising, "nothing": np.full(tasks, np.nan)})
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert [label.partition(":")[0] for label in labels] == ["flat", "rising", "nothing"]
    assert axes.get_ylim()[1] > max(3.0, rising[-1])
    if tasks > 2:
        assert labels[1].startswith("rising: +2 s a task [2, 2]")
        np.testing.assert_allclose(np.asarray(axes.lines[3].get_ydata()), rising)
    assert encode_png(figure).startswith(PNG)


def test_figures_do_not_load_pyplot() -> None:
    script = (
        "import sys, numpy as np\n"
        "from separatrix.agents.hypercrl.figures import score_matrix\n"
        "from separatrix.agents.common.tensorboard import encode_png\n"
        "encode_png(score_matrix(np.zeros((1, 1)), ['x']))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

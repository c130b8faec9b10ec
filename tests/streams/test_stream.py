"""Streams as data: what their tasks are, as labels, numbers and scores, and how one is found."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch

import separatrix  # noqa: F401  (registers the streams)
from separatrix.envs.core.registration import REGISTRY
from separatrix.envs.streams import stream as stream_module
from separatrix.envs.streams.spread import spread
from separatrix.envs.streams.stream import STREAMS, TaskStream, find_stream, register_stream

every_stream = pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
SHORT = TaskStream(
    "separatrix/ShortStream-v0",
    "separatrix/Glucose-v0",
    {"patient": ("b", "a", "b", "c", "a"), "BW": (60.0, 80.0, 70.0, 65.0, 75.0)},
    horizon=10,
)


@every_stream
def test_a_stream_is_registered_with_tasks_that_differ(stream: TaskStream) -> None:
    entry = REGISTRY[stream.id]
    assert entry.options == {"task": 0} and entry.horizon == stream.horizon
    assert entry.backends == REGISTRY[stream.base].backends
    assert 5 <= len(stream) <= 50
    assert len(set(zip(*stream.parameters.values(), strict=True))) == len(stream)
    assert len(set(stream.labels)) == len(stream)


@every_stream
def test_features_are_scaled_and_tell_tasks_apart(stream: TaskStream) -> None:
    features = stream.features()
    assert features.dtype == torch.float64 and len(features) == len(stream)
    assert features.amin() >= -1 and features.amax() == 1
    assert len(features.unique(dim=0)) == len(stream)


def test_features_of_numbers_and_names_stand_in_order() -> None:
    expected = [
        [1, 0, 0, -1],
        [0, 1, 0, 1],
        [1, 0, 0, 0],
        [0, 0, 1, -0.5],
        [0, 1, 0, 0.5],
    ]
    assert torch.equal(SHORT.features(), torch.tensor(expected, dtype=torch.float64))
    assert SHORT.labels[:2] == ("b, BW = 60", "a, BW = 80")


def test_labels_name_parameters_and_patients() -> None:
    assert find_stream("LorenzStream-v0").labels[0] == "rho = 35"
    assert find_stream("CartPoleStream-v0").labels[0] == "pole_length = 1.2, pole_mass = 0.275"
    groups = [label.partition("#")[0] for label in find_stream("GlucoseStream-v0").labels]
    assert groups == ["adult", "adolescent", "child"] * 10


def test_first_values_of_a_spread_cover_the_range() -> None:
    """Of any first n, no gap is larger than the golden ratio's three distances allow: 2.62 / n."""
    values = torch.tensor(spread(50, rho=(0.0, 1.0))["rho"])
    for n in range(2, 51):
        gaps = torch.cat((torch.zeros(1), values[:n].sort()[0], torch.ones(1))).diff()
        assert gaps[1:-1].amax() <= 2.62 / n and gaps[[0, -1]].amax() <= 2.62 / n
    assert values.diff().abs().amin() > 0.35  # neighbours differ
    both = torch.tensor(list(spread(50, a=(0.0, 1.0), b=(0.0, 1.0)).values()))
    cells = (both * 4).long()
    assert len((cells[0] * 4 + cells[1]).unique()) == 16, "two parameters fill the square"


def scored(monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any]) -> TaskStream:
    monkeypatch.setattr(stream_module, "_references", lambda: {SHORT.id: found})
    return SHORT


def test_scores_are_zero_as_random_and_one_as_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = scored(monkeypatch, {"random": [10.0, -4.0], "reference": [30.0, 4.0]})
    returns = torch.tensor([[10.0, 4.0, 40.0], [20.0, -8.0, 30.0]])
    expected = torch.tensor([[0.0, 1.0, 1.5], [0.5, -0.5, 1.0]], dtype=torch.float64)
    assert torch.equal(stream.scores(returns, [0, 1, 0]), expected)
    assert torch.equal(stream.scores(returns, torch.tensor([0, 1, 0])), expected)
    assert stream.scores(torch.tensor([30.0]), [0]).tolist() == [1.0]


def test_scores_need_references(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = scored(monkeypatch, {"random": [10.0, -4.0], "reference": [30.0, 4.0]})
    with pytest.raises(ValueError, match=r"task 2 of .*ShortStream-v0 .* measured: 0 to 1 "):
        stream.scores(torch.zeros(2), [1, 2])
    with pytest.raises(ValueError, match=r"got 2 of .* one for each of 3"):
        stream.scores(torch.zeros(3), [1, 0])
    with pytest.raises(ValueError, match="from 0 to 4"):
        stream.scores(torch.zeros(1), [5])
    monkeypatch.undo()
    with pytest.raises(ValueError, match="measured: none"):
        SHORT.scores(torch.zeros(1), [0])


MEASURED = {"Lorenz": 50, "CartPole": 50, "KuramotoSivashinsky": 8, "Glucose": 30, "Pendulum": 50}


@pytest.mark.parametrize("name", MEASURED)
def test_references_of_a_stream_are_measured_and_above_random(name: str) -> None:
    stream = find_stream(f"{name}Stream-v0")
    found = stream.references
    count = MEASURED[name]
    assert len(found["random"]) == len(found["reference"]) == count
    tasks = range(count)
    reference = torch.tensor(found["reference"], dtype=torch.float64)
    assert stream.scores(reference, tasks).tolist() == [1.0] * count
    assert all(b > a for a, b in zip(found["random"], found["reference"], strict=True))
    assert {"command", "commit", "versions"} <= found["origin"].keys()


def test_a_stream_is_found_with_or_without_the_namespace() -> None:
    stream = find_stream("LorenzStream-v0")
    assert stream is find_stream("separatrix/LorenzStream-v0") is STREAMS[stream.id]


@pytest.mark.parametrize("name", ["LorentzStream-v0", "separatrix/LorenzStream-v1", "Lorenz-v0"])
def test_an_unknown_stream_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown stream .*did you mean 'separatrix/LorenzStream"):
        find_stream(name)


@pytest.mark.parametrize("name", ["", "/", "separatrix/", "?" * 1000])
def test_what_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown stream .*allowed: "):
        find_stream(name)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rho_": range(5)}, "unknown option 'rho_'.*did you mean 'rho'"),
        ({"rho": [1.0] * 4}, "got \\[4\\] values; allowed: .* 5 to 50"),
        ({"rho": [1.0] * 51}, "got \\[51\\] values"),
        ({"rho": [1.0] * 5, "beta": [1.0] * 6}, "as many of each"),
        ({"rho": [1.0, 2.0, "a", 3.0, 4.0]}, "all numbers or all names"),
        ({}, "5 to 50"),
    ],
)
def test_bad_parameters_are_refused(parameters: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_stream(
            "BadStream-v0", "Lorenz-v0", parameters, horizon=9, summary="", documented=object
        )
    assert "separatrix/BadStream-v0" not in REGISTRY


@every_stream
def test_the_page_names_base_horizon_and_last_task(stream: TaskStream) -> None:
    text = REGISTRY[stream.id].documented.__doc__ or ""
    base = stream.base.rpartition("/")[2]
    assert f"[{base}]({base}.md)" in text
    assert f"Truncated after {stream.horizon} steps" in text
    assert f"0 to {len(stream) - 1};" in text
    assert all(f"`{option}`" in text for option in (*stream.parameters, *stream.fixed))


def test_streams_are_there_without_torch() -> None:
    program = (
        "import sys, separatrix; from separatrix.envs.streams.stream import STREAMS; "
        "assert len(STREAMS) >= 5 and not {'torch', 'numba', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

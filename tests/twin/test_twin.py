"""Twins: what a cycle is, parameters, lost members, what-if, and the file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.stream import Stream
from separatrix.envs.core.system import System
from separatrix.envs.twin.assimilate.ensemble_kalman import ensemble_transform, inflate
from separatrix.envs.twin.assimilate.localization import line_weights
from separatrix.envs.twin.assimilate.twin import Twin
from separatrix.envs.twin.assimilate.uncertain import Uncertain

DOUBLE: dict[str, Any] = {"dtype": "float64"}
SITES = torch.arange(40.0).double()
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "perturbed": ("Lorenz-v0", {"method": "perturbed", "inflation": 1.04}),
    "transform": ("Lorenz-v0", {"inflation": 1.02, "observe": [0, 2]}),
    "matrix": ("Lorenz-v0", {"observe": [[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]], "rotation": False}),
    "local": (
        "Lorenz96-v0",
        {"method": "local", "weights": line_weights(SITES, SITES[::2], 6.0, 40.0),
         "observe": list(range(0, 40, 2))},
    ),
    "parameter": ("Lorenz-v0", {"uncertain": {"rho": 0.2}, "low": -80.0}),
    "field": ("KuramotoSivashinsky-v0", {"uncertain": {"length": Uncertain(0.01, floor=1e-3)}}),
}  # fmt: skip
EVERY = pytest.mark.parametrize("kind", METHODS)


def made(kind: str, members: int = 8, seed: int = 3, **changes: Any) -> Twin:
    name, settings = METHODS[kind]
    options = {**DOUBLE, **({"task": "regulate", "points": 32} if kind == "field" else {})}
    return Twin.of(name, members, seed=seed, options=options, **{**settings, **changes})


def nothing(twin: Twin) -> Tensor:
    """The control zero."""
    sizes = {"Lorenz-v0": 1, "Lorenz96-v0": 40, "KuramotoSivashinsky-v0": 4}
    assert twin._source is not None
    return torch.zeros(sizes[twin._source["environment"]])


def cycles(twin: Twin, count: int = 2) -> Twin:
    for i in range(count):
        twin.forecast(nothing(twin))
        observation = twin.observed.mean(0) + 0.3 * (i + 1)
        observation[0] = torch.nan if i == 1 else observation[0]
        twin.assimilate(observation, 0.5)
    return twin


def same(first: Twin, second: Twin) -> bool:
    parameters = zip(first.parameters.values(), second.parameters.values(), strict=True)
    return torch.equal(first.values, second.values) and all(torch.equal(*p) for p in parameters)


def test_a_cycle_is_the_system_and_the_filter() -> None:
    twin = made("transform", observe=None, rotation=False)
    system, state = twin.system, twin.state
    twin.forecast([2.0], steps=3)
    for _ in range(3):
        state = system.advance(state, torch.full((8, 1), 2.0).double())
    assert torch.equal(twin.values, system.values(state))
    assert twin.time == pytest.approx(0.15)
    observation, variance = torch.tensor([1.0, math.nan, 20.0]).double(), torch.ones(3).double()
    twin.assimilate(observation, 1.0)
    values = system.values(state)
    expected = inflate(ensemble_transform(values, values, observation, variance), 1.02)
    assert torch.equal(twin.values, expected)
    assert torch.equal(twin.mean, expected.mean(0)) and torch.equal(twin.spread, expected.std(0))
    ordered = expected.sort(0).values
    assert torch.equal(twin.quantiles(1 / 9, 8 / 9), ordered[[0, 7]])


@EVERY
def test_the_seed_determines_it(kind: str) -> None:
    assert same(cycles(made(kind)), cycles(made(kind)))
    assert not same(made(kind), made(kind, seed=4))


def test_members_do_not_start_where_an_environment_does() -> None:
    """A plant of the same seed would be one of the members."""
    plant, _ = make_environment("Lorenz-v0", 8, dtype="float64").reset(3)
    assert not torch.equal(plant.values, made("perturbed").values)


@EVERY
def test_a_fork_goes_on_by_itself(kind: str) -> None:
    twin = cycles(made(kind))
    before = twin.values.clone()
    fork = twin.fork()
    cycles(fork)
    assert torch.equal(twin.values, before)
    assert same(cycles(twin), fork)


@EVERY
def test_nothing_observed_changes_nothing(kind: str) -> None:
    twin = made(kind)
    before, drawn = twin.values.clone(), twin._generator.get_state()
    twin.assimilate(torch.full_like(twin.observed[0], torch.nan), 1.0)
    assert torch.equal(twin.values, before) and torch.equal(twin._generator.get_state(), drawn)


@EVERY
def test_an_exact_observation_is_taken_up(kind: str) -> None:
    """Of a truth from elsewhere, with hardly any error: the mean moves there, where it can."""
    twin, truth = made(kind, members=60), made(kind, seed=99).observed[0]
    for _ in range(3):
        twin.assimilate(truth, 1e-2)
    off = (twin.observed.mean(0) - truth).abs()
    assert off.max() < 0.3, off


def test_an_observation_function_sees_system_and_state() -> None:
    def ratio(system: System, state: Any) -> Tensor:
        return (system.values(state)[:, 0] / system.parameters["rho"])[:, None]

    twin = made("parameter", observe=ratio)
    assert torch.equal(twin.observed[:, 0], twin.values[:, 0] / twin.parameters["rho"])
    twin.assimilate([0.2], 0.01)
    assert abs(float(twin.observed.mean()) - 0.2) < 0.1


def test_a_wrong_parameter_is_found() -> None:
    """Truth rho = 31, twin rho = 28 +- 10 %, all three components seen with variance 2."""
    twin = Twin.of(
        "Lorenz-v0", 40, seed=0, inflation=1.02, options=DOUBLE,
        uncertain={"rho": Uncertain(0.1, floor=0.002)},
    )  # fmt: skip
    plant = make_environment("Lorenz-v0", 1, dtype="float64", rho=31.0).system
    state = plant.initial_state(Stream.start(torch.tensor([0])))
    noise = torch.Generator().manual_seed(1)
    for _ in range(150):
        state = plant.advance(state, torch.zeros(1, 1).double())
        twin.forecast([0.0])
        error = torch.randn(3, generator=noise, dtype=torch.float64) * math.sqrt(2)
        twin.assimilate(state.values[0] + error, 2.0)
    rho = twin.parameters["rho"]
    assert abs(float(rho.mean()) - 31.0) < 0.3
    assert float(rho.log().std()) == pytest.approx(0.002, rel=1e-6) or rho.log().std() > 0.002
    assert (twin.mean - state.values[0]).abs().max() < 1.5


def test_parameters_stay_within_their_bounds() -> None:
    twin = made("parameter", members=200,
                uncertain={"rho": Uncertain(0.5, low=20.0, high=30.0),
                           "sigma": Uncertain(2.0, logarithmic=False)})  # fmt: skip
    for _ in range(2):
        rho = twin.parameters["rho"]
        assert rho.min() == 20.0 and rho.max() == 30.0
        twin.forecast([0.0])
        twin.assimilate(twin.mean + 3.0, 1.0)
    assert float(made("parameter", members=4000).parameters["rho"].log().std()) == pytest.approx(
        0.2, rel=0.05
    )


def test_values_stay_within_theirs() -> None:
    twin = made("perturbed", low=[-1.0, -math.inf, 0.0], high=15.0)
    twin.assimilate([-5.0, 40.0, 20.0], 0.1)
    assert (twin.values[:, 0] >= -1).all() and (twin.values <= 15).all()
    assert twin.values[:, 1].max() == 15


@pytest.mark.parametrize("kind", ["perturbed", "parameter"])
def test_members_that_leave_the_safe_box_become_others(kind: str) -> None:
    twin = made(kind)
    values = twin.values.clone()
    values[2], values[5, 1] = torch.nan, 1e6
    twin.state = twin.system.with_values(twin.state, values)
    stream, rho = twin.state.stream, twin.system.parameters["rho"].expand(8)
    twin.forecast([0.0])
    assert twin.resampled == 2 and torch.equal(twin.state.stream.seed, stream.seed)
    for lost in (2, 5):
        parents = [
            i for i in range(8) if i != lost and torch.equal(twin.values[i], twin.values[lost])
        ]
        assert parents
        assert twin.system.parameters["rho"].expand(8)[lost] == rho[parents[0]]
    cycles(twin)
    assert twin.values.isfinite().all()


def test_all_members_lost_is_an_error_that_changes_nothing() -> None:
    twin = made("perturbed")
    before = (twin.values.clone(), twin._generator.get_state(), twin.time)
    with pytest.raises(RuntimeError, match="all 8 members have left the safe box"):
        twin.forecast([1e9], steps=2)
    with pytest.raises(RuntimeError, match="all 8 members have left the safe box"):
        twin.assimilate([1e9, 0.0, 0.0], 1e-3)
    assert torch.equal(twin.values, before[0]) and twin.time == before[2] and not twin.resampled
    assert torch.equal(twin._generator.get_state(), before[1])


@pytest.mark.parametrize("kind", ["perturbed", "parameter", "field"])
def test_what_if_is_each_fork_with_its_controls(kind: str) -> None:
    twin = cycles(made(kind))
    controls = torch.randn((3, 4, len(nothing(twin))), generator=torch.Generator().manual_seed(0))
    found = twin.what_if(controls)
    for branch in range(3):
        fork = twin.fork()
        for step in range(4):
            fork.forecast(controls[branch, step])
            torch.testing.assert_close(found[branch, step], fork.values, rtol=1e-9, atol=1e-9)
    assert same(twin, cycles(made(kind)))


def test_what_if_shows_who_is_lost() -> None:
    twin = made("perturbed")
    values = twin.values.clone()
    values[4] = 1e9
    twin.state = replace(twin.state, values=values)
    found = twin.what_if(torch.zeros(2, 3, 1))
    assert found[:, :, 4].isnan().all() and found[:, :, :4].isfinite().all()


@EVERY
def test_a_saved_twin_goes_on_as_it_would(kind: str, tmp_path: Path) -> None:
    twin = cycles(made(kind))
    twin.resampled, twin.notes = 3, {"stream": {"next": 7}}
    twin.save(tmp_path / "a.twin")
    loaded = Twin.load(tmp_path / "a.twin")
    assert [path.name for path in tmp_path.iterdir()] == ["a.twin"]
    assert same(loaded, twin) and loaded.resampled == 3 and loaded.time == twin.time
    assert loaded.notes == {"stream": {"next": 7}} and loaded.fork().notes is not loaded.notes
    assert same(cycles(loaded), cycles(twin))
    loaded.save(tmp_path / "a.twin")  # over what is there
    assert same(Twin.load(tmp_path / "a.twin"), twin)


def test_functions_are_handed_over_again(tmp_path: Path) -> None:
    def first(system: System, state: Any) -> Tensor:
        return system.values(state)[:, :1]

    path = tmp_path / "a.twin"
    twin = made("perturbed", observe=first)
    twin.save(path)
    with pytest.raises(ValueError, match=r"observe: got None .* the function it was made with"):
        Twin.load(path)
    loaded = Twin.load(path, observe=first)
    assert same(cycles(loaded), cycles(twin))
    made("perturbed").save(path)
    with pytest.raises(ValueError, match=r"observe: got .* allowed: None, it is in the file"):
        Twin.load(path, observe=first)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.twin"
    made("parameter").save(path)
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        damaged = bytearray(data)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.twin"):
            Twin.load(path)
    for size in (0, 5, 200, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"a\.twin is no file of a twin, or damaged"):
            Twin.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(3)}, path)
    with pytest.raises(ValueError, match=r"is no file of a twin; allowed: what Twin\.save"):
        Twin.load(path)
    with pytest.raises(FileNotFoundError):
        Twin.load(tmp_path / "none.twin")


def test_a_file_is_safetensors(tmp_path: Path) -> None:
    twin = made("parameter")
    twin.save(tmp_path / "a.twin")
    found = load_file(tmp_path / "a.twin")
    assert torch.equal(found["state.values"], twin.values)
    assert torch.equal(found["parameters.rho"], twin.parameters["rho"])


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.twin"
    twin = made("perturbed")
    twin.save(path)
    before = path.read_bytes()
    wrong = Twin.of("Lorenz-v0", 8, seed=0, options={"dtype": torch.float64})
    with pytest.raises(ValueError, match="a file of a twin holds numbers, texts"):
        wrong.save(path)
    own = Twin(twin.system, twin.state, seed=0)
    with pytest.raises(ValueError, match=r"only twins of Twin\.of are saved"):
        own.save(path)
    assert path.read_bytes() == before
    with pytest.raises(OSError):
        twin.save(tmp_path / "missing" / "a.twin")


Change = Callable[[Twin], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assimilate([1.0], 1.0), r"observation: got shape \(1,\); allowed: \(3,\)"),
        (lambda t: t.assimilate([1.0, math.inf, 0], 1.0), "observation: got infinity"),
        (lambda t: t.assimilate("abc", 1.0), "observation: got .*; allowed: real numbers"),
        (lambda t: t.assimilate([0, 0, 0], [1.0, 2.0]), r"variance: got shape \(2,\)"),
        (lambda t: t.assimilate([0, 0, 0], math.nan), "variance: got NaN"),
        (lambda t: t.assimilate([0, 0, 0], 0.0), "variance: got .* allowed: finite numbers > 0"),
        (lambda t: t.forecast([[0.0]]), r"control: got shape \(1, 1\); allowed: \(control,\) or"),
        (lambda t: t.forecast([0.0], steps=0), "steps: got 0; allowed: an integer >= 1"),
        (lambda t: t.what_if([[0.0]]), r"controls: got shape .*; allowed: \(branch, step, con"),
        (lambda t: t.quantiles(2.0), "probability: got 2.0"),
    ],
)  # fmt: skip
def test_wrong_inputs_change_nothing(
    change: Change, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # as users run it
    twin, untouched = made("perturbed"), made("perturbed")
    with pytest.raises(ValueError, match=message):
        change(twin)
    assert same(cycles(twin), cycles(untouched))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "locale"}, "method: got 'locale'; did you mean 'local'"),
        ({"method": "local"}, "weights: got none; allowed: with the method 'local'"),
        ({"weights": torch.ones(3, 3)}, "weights: got some for 'transform'"),
        ({"method": "local", "weights": torch.ones(3, 2)}, r"weights: got shape \(3, 2\)"),
        ({"inflation": 0.0}, "inflation: got 0.0; allowed: a number > 0"),
        ({"observe": [3]}, "observe: got .* indices from 0 to 2"),
        ({"observe": [0.5]}, "observe: got .* indices from 0 to 2"),
        ({"observe": torch.ones(2, 4)}, r"observe: got .* finite matrix \(observation, 3\)"),
        ({"uncertain": {"roh": 0.1}}, "unknown parameter 'roh'; did you mean 'rho'"),
        ({"uncertain": {"rho": -0.1}}, "spread: got -0.1; allowed: finite numbers >= 0"),
        ({"low": [0.0]}, r"low: got shape \(1,\); allowed: one number, or shape \(3,\)"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_wrong_settings(
    settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)  # as users run it
    with pytest.raises(ValueError, match=message):
        Twin.of("Lorenz-v0", 4, **{"seed": 0, **settings})


def test_more_wrong_settings() -> None:
    with pytest.raises(ValueError, match="members: got 1; allowed: 2 or more"):
        Twin.of("Lorenz-v0", 1, seed=0)
    with pytest.raises(ValueError, match="unknown environment"):
        Twin.of("Lorentz-v0", 8, seed=0)
    with pytest.raises(ValueError, match=r"parameter 'rho': got \[-1\.0\]; allowed: numbers > 0"):
        Twin.of("Lorenz-v0", 8, seed=0, options={"rho": -1.0}, uncertain={"rho": 0.1})
    with pytest.raises(ValueError, match=r"low, high: got 2\.0, 1\.0; allowed: low <= high"):
        Uncertain(0.1, low=2.0, high=1.0)

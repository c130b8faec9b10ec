"""An environment's numbers do not depend on its neighbours, its place, or the number of threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.steppers import numba_backend

ODE_IDS = [
    name
    for name, entry in REGISTRY.items()
    if isinstance(entry.options.get("task"), str) and "points" not in entry.options
]
QUICK_IDS = ("separatrix/Lorenz-v0", "separatrix/CartPoleSwingUp-v0")  # without and with sin, cos
names = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK_IDS else [pytest.mark.slow]) for n in ODE_IDS],
)

LARGEST = 4096
STEPS = 30
SERIAL, THREADED = 10**18, 0


@cache
def actions(name: str) -> np.ndarray:
    """The actions of every environment of the largest batch, (step, environment, action)."""
    size = make_environment(name, backend="torch").action_shape[0]
    generator = np.random.Generator(np.random.Philox(3))
    return generator.uniform(-1.0, 1.0, (STEPS, LARGEST, size)).astype(np.float32)


@cache
def own_parameters(name: str) -> dict[str, np.ndarray]:
    """A different value of every parameter for each environment of the largest batch."""
    defaults = make_environment(name, backend="torch").system.definition.parameters  # type: ignore[attr-defined]
    spread = np.random.Generator(np.random.Philox(4)).uniform(0.98, 1.02, LARGEST)
    return {key: value * spread for key, value in defaults.items()}


def trajectory(name: str, members: Sequence[int], own: bool = False, **options: Any) -> Tensor:
    """Everything that some environments of the largest batch show, (step, environment, number)."""
    rows = np.array(members)
    if own:
        options |= {key: values[rows] for key, values in own_parameters(name).items()}
    environment = make_environment(name, len(members), **options)
    state, observation = environment.reset(torch.from_numpy(rows))
    shown = [torch.cat([state.values, observation], 1)]
    for action in actions(name):
        state, observation, reward, terminated, info = environment.step(
            state, torch.from_numpy(action[rows])
        )
        scalars = torch.stack([reward, terminated, *info.values()], 1)
        shown.append(torch.cat([state.values, observation, scalars], 1).to(observation.dtype))
    width = max(tensor.shape[1] for tensor in shown)
    padded = [torch.nn.functional.pad(tensor, (0, width - tensor.shape[1])) for tensor in shown]
    return torch.stack(padded)


@pytest.fixture
def threads() -> Any:
    """Sets numba's number of threads for a test."""
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@names
def test_numba_is_bitwise_invariant(name: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_backend, "THREADED_FROM", SERIAL)
    everybody = trajectory(name, range(LARGEST), own, backend="numba")
    assert everybody.isfinite().all()
    assert len(everybody[-1].unique(dim=0)) == LARGEST  # no two environments are alike
    for member in (0, 1, 31, 32, 33, 512, LARGEST - 1):
        alone = trajectory(name, [member], own, backend="numba")
        assert torch.equal(alone[:, 0], everybody[:, member]), f"environment {member} alone"
    for threshold in (SERIAL, THREADED):
        monkeypatch.setattr(numba_backend, "THREADED_FROM", threshold)
        for size in (2, 31, 32, 33, 513, LARGEST):
            found = trajectory(name, range(size), own, backend="numba")
            assert torch.equal(found, everybody[:, :size]), f"batch of {size}, from {threshold}"


@names
def test_numba_is_bitwise_invariant_under_permutation(name: str) -> None:
    order = np.random.Generator(np.random.Philox(5)).permutation(513).tolist()
    found = trajectory(name, order, own=True, backend="numba")
    expected = trajectory(name, range(513), own=True, backend="numba")
    assert torch.equal(found, expected[:, order])


@pytest.mark.parametrize("chunks", [2, 3, 7])
def test_numba_is_bitwise_invariant_in_the_number_of_chunks(
    chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many chunks as on a machine with that many threads, whatever this one has."""
    expected = trajectory(QUICK_IDS[0], range(200), backend="numba")
    monkeypatch.setattr(numba_backend, "THREADED_FROM", THREADED)
    monkeypatch.setattr(numba, "get_num_threads", lambda: chunks)
    for size in (1, 65, 200):
        found = trajectory(QUICK_IDS[0], range(size), backend="numba")
        assert torch.equal(found, expected[:, :size])


def test_numba_is_bitwise_invariant_in_the_number_of_threads(
    threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba_backend, "THREADED_FROM", THREADED)
    found = []
    for count in range(1, numba.get_num_threads() + 1):
        threads(count)
        found.append(trajectory(QUICK_IDS[0], range(700), backend="numba"))
    assert all(torch.equal(trajectories, found[0]) for trajectories in found)


LYAPUNOV_EXPONENTS = {
    "separatrix/Lorenz-v0": 0.906,
    "separatrix/Rossler-v0": 0.0714,
    "separatrix/Lorenz96-v0": 1.7,
}


@pytest.mark.parametrize("name", LYAPUNOV_EXPONENTS)
def test_torch_agrees_over_one_lyapunov_time(name: str) -> None:
    """Torch may round differently in another batch; the difference stays near rounding.

    One rounding an operation, as a random walk, growing by e over the time, and by ten more for
    the growth at its fastest (that of Lorenz at C+ is 10 times its mean).
    """
    environment: Any = make_environment(name, 65, backend="torch", dtype="float64")
    steps = math.ceil(1 / (LYAPUNOV_EXPONENTS[name] * environment.control_interval))
    state, _ = environment.reset(0)
    alone, _ = environment.reset(torch.tensor([64]))
    control = torch.zeros((65, *environment.action_shape), dtype=torch.float64)
    for _ in range(steps):
        state = environment.step(state, control).state
        alone = environment.step(alone, control[:1]).state
    operations = steps * environment.system.interval.substeps * 4 * 12
    size = float(state.values.abs().max())
    tolerance = 10 * math.e * math.sqrt(operations) * torch.finfo(torch.float64).eps * size
    assert tolerance < 1e-10 * size
    torch.testing.assert_close(state.values[64:], alone.values, rtol=0, atol=tolerance)

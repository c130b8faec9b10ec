"""Triton kernels in Triton's interpreter; `test_triton.py` runs this with TRITON_INTERPRET=1."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.steppers import functions
from separatrix.envs.steppers.ode_system import choose_backend, make_stepper
from separatrix.envs.steppers.symbolic import Program, symbols
from separatrix.envs.steppers.torch_backend import Interval
from separatrix.envs.steppers.triton_functions import INTERPRETED

CPU = torch.device("cpu")
NAMES = ("Lorenz-v0", "CartPoleSwingUp-v0")  # without and with sin, cos and exp
LARGEST = 131  # two full blocks and a part of one


def shown(name: str, rows: list[int], own: bool) -> Tensor:
    """All that some environments of the largest batch show in two steps."""
    generator = np.random.default_rng(6)
    options: dict[str, Any] = {"backend": "triton", "dtype": "float32"}
    actions = generator.uniform(-1, 1, (2, LARGEST, 1)).astype(np.float32)[:, rows]
    spread = generator.uniform(0.98, 1.02, LARGEST)[rows]
    if own:
        system: Any = make_environment(name, backend="torch").system
        options |= {key: value * spread for key, value in system.definition.parameters.items()}
    environment = make_environment(name, len(rows), **options)
    state, _ = environment.reset(torch.tensor(rows))
    found = []
    for action in torch.from_numpy(actions):
        state, observation, reward, terminated, info = environment.step(state, action)
        scalars = torch.stack([reward, terminated, *info.values()], 1)
        found += [state.values, observation, scalars]
    return torch.cat(found, 1)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("name", NAMES)
def test_triton_is_bitwise_invariant(name: str, own: bool) -> None:
    everybody = shown(name, list(range(LARGEST)), own)
    assert everybody.isfinite().all()
    assert len(everybody.unique(dim=0)) == LARGEST  # no two environments are alike
    for rows in ([0], [130], list(range(64)), list(range(65)), [130, 2, 70]):
        assert torch.equal(shown(name, rows, own), everybody[rows]), f"environments {rows}"


@pytest.mark.parametrize("name", NAMES)
def test_states_that_are_no_numbers_or_outside(name: str) -> None:
    """Component by component: the environment is held, its neighbours are as without it."""
    fused, reference = (make_environment(name, 70, backend=b) for b in ("triton", "torch"))
    state, _ = fused.reset(0)
    action = torch.zeros((70, 1))
    sound = fused.step(state, action)
    assert not sound.info["diverged"].any()
    bad = (math.nan, math.inf, -math.inf, 1e30, -1e30)
    values = state.values.clone()
    lost: list[int] = []
    for component in range(values.shape[1]):
        for number in bad:
            lost.append(3 * len(lost) + 2)
            values[lost[-1], component] = number
    moved: Any = replace(state, values=values)
    found, expected = (environment.step(moved, action) for environment in (fused, reference))
    assert found.info["diverged"].nonzero().flatten().tolist() == lost
    assert found.terminated[lost].all()
    assert (found.reward[lost] == fused.reward_range[0]).all()
    held = found.state.values[lost]
    torch.testing.assert_close(held, values[lost], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.info["diverged"], expected.info["diverged"])
    assert torch.equal(found.observation.isnan(), expected.observation.isnan())
    others = torch.ones(70, dtype=torch.bool)
    others[lost] = False
    for one, other in zip(found[1:4], sound[1:4], strict=True):
        assert torch.equal(one[others], other[others])
    assert torch.equal(found.state.values[others], sound.state.values[others])


def test_nan_action_reaches_the_state() -> None:
    """As in the reference: clipping must not turn it into a number."""
    environment = make_environment("Lorenz-v0", 3, backend="triton")
    state, _ = environment.reset(0)
    result = environment.step(state, torch.tensor([[0.0], [math.nan], [2.0]]))
    assert result.info["diverged"].tolist() == [False, True, False]


def test_empty_batch() -> None:
    environment: Any = make_environment("Lorenz-v0", backend="triton")
    result = environment._stepper(torch.empty(0, 3), torch.empty(0, 1), environment._parameters)
    assert result.next_values.shape == (0, 3)
    assert result.diverged.shape == (0,)


def values_of(expression: Any, points: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A function of one state, by a kernel that observes it."""
    (x,), (y,) = symbols("x", ["a"]), symbols("y", ["a"])
    program = Program((x,), (), (y,), (), (), (), (sympy.S.Zero,), (expression(y),))
    interval = Interval(1.0, 1, np.full(1, -np.inf), np.full(1, np.inf))
    stepper = make_stepper(program, "euler", interval, "triton", dtype, CPU)
    return stepper.observe(points[:, None], points.new_zeros((0, 1)))[:, 0].numpy()


def ulps(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units in the last place of the exact value, given in a longer format."""
    spacing = np.spacing(np.abs(exact).astype(found.dtype))
    return np.abs(found.astype(exact.dtype) - exact) / spacing.astype(exact.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_tanh_is_accurate(dtype: torch.dtype) -> None:
    """Near 0, about the change of formulas at 0.55, and where it becomes 1."""
    generator = np.random.default_rng(4)
    points = np.concatenate(
        [
            generator.uniform(-1, 1, 1_500),
            generator.uniform(-25, 25, 1_500),
            0.55 + generator.uniform(-1e-4, 1e-4, 500),
            10.0 ** generator.uniform(-300 if dtype == torch.float64 else -37, 0, 500),
        ]
    )
    x = torch.from_numpy(points).to(dtype)
    exact = np.tanh(x.numpy().astype(np.longdouble))
    assert ulps(values_of(functions.tanh, x, dtype), exact).max() < 2
    special = torch.tensor([0.0, math.inf, -math.inf, math.nan, 1e30, -1e30], dtype=dtype)
    expected = np.array([0.0, 1.0, -1.0, math.nan, 1.0, -1.0])
    np.testing.assert_array_equal(values_of(functions.tanh, special, dtype), expected)


def test_exp_is_accurate_in_float32() -> None:
    """Over the whole range, subnormal results included."""
    generator = np.random.default_rng(5)
    x = torch.from_numpy(generator.uniform(-104, 88.7, 4_000).astype(np.float32))
    exact = np.exp(x.numpy().astype(np.float64))
    assert ulps(values_of(functions.exp, x, torch.float32), exact).max() < 1
    special = torch.tensor([0.0, math.inf, -math.inf, math.nan, 89.0, -104.5, 1e30, -1e30])
    expected = np.array([1.0, math.inf, 0.0, math.nan, math.inf, 0.0, math.inf, 0.0])
    np.testing.assert_array_equal(values_of(functions.exp, special, torch.float32), expected)


def test_change_of_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert INTERPRETED.value
    assert choose_backend("triton", CPU) == "triton"
    assert choose_backend("auto", CPU) == "numba"
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match="runs on device 'cuda', got 'cpu'"):
        choose_backend("triton", CPU)
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET: got 0 after kernels were made with"):
        values_of(functions.exp, torch.zeros(1), torch.float32)

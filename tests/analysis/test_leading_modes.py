"""The slowest modes of large fields, found without the matrix of the step."""

from typing import Any

import numpy as np
import pytest
import torch

from separatrix.controllers import lqr
from separatrix.controllers.lqr import LQR
from separatrix.envs.analysis.leading_modes import leading_modes
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.core.registration import make_environment

SMALL = {"points": 24, "waves": 2.0, "reynolds": 20.0, "actuators": 4}
"""A flow on a plane whose matrix can still be made."""


def make(**options: Any) -> Any:
    chosen: dict[str, Any] = {"num_envs": 1, **SMALL, **options}
    return make_environment("KolmogorovFlow-v0", backend="torch", **chosen)


def test_leading_modes_are_those_of_the_matrix() -> None:
    environment = make()
    modes = leading_modes(environment)
    dense = linearize(environment)
    count = len(modes.a)
    assert 40 <= count <= 96
    found = np.sort(np.abs(np.linalg.eigvals(modes.a)))[::-1]
    expected = np.sort(np.abs(np.linalg.eigvals(dense.a[0].numpy())))[::-1]
    conserved = 1  # the mean of vorticity
    np.testing.assert_allclose(found, _without_conserved(expected, conserved)[:count], atol=1e-7)
    left, right = modes.reduction
    np.testing.assert_allclose(left.T @ right, np.eye(count), atol=1e-9)
    np.testing.assert_allclose(left.T @ dense.a[0].numpy(), modes.a @ left.T, atol=1e-7)
    np.testing.assert_allclose(left.T @ dense.b[0].numpy(), modes.b, atol=1e-9)
    torch.testing.assert_close(modes.target.flatten(1), dense.state)


def _without_conserved(values: np.ndarray, count: int) -> np.ndarray:
    nearest = np.argsort(np.abs(values - 1.0))[:count]
    return np.delete(values, nearest)


def test_regulator_of_leading_modes_holds_the_whole_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = make()
    monkeypatch.setattr(lqr, "LARGE", 100)
    gain = LQR(environment).gain[0].numpy()
    model = linearize(environment)
    a, b = model.a[0].numpy(), model.b[0].numpy()
    grown, held = (np.sort(np.abs(np.linalg.eigvals(m)))[::-1] for m in (a, a - b @ gain))
    assert grown[0] > 1.01
    assert held[0] == pytest.approx(1.0, abs=1e-6) and held[1] < 1  # the mean stays


def test_parameters_of_each_environment_are_refused() -> None:
    environment = make(num_envs=2, reynolds=[20.0, 21.0])
    with pytest.raises(ValueError, match="shared parameters"):
        leading_modes(environment)

"""Controllability and observability of systems that are small enough to know."""

import numpy as np
import pytest
import torch
from torch import Tensor

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.analysis.controllability import controllability
from separatrix.envs.analysis.linearization import StateSpace, linearize
from separatrix.envs.core.registration import make_environment


def model(a: list, b: list, c: list, interval: float | None = None) -> StateSpace:
    n, m, p = len(a), len(b[0]), len(c)

    def zeros(*shape: int) -> Tensor:
        return torch.zeros((1, *shape), dtype=torch.float64)

    return StateSpace(
        a=torch.tensor([a], dtype=torch.float64),
        b=torch.tensor([b], dtype=torch.float64),
        c=torch.tensor([c], dtype=torch.float64),
        d=zeros(p, m),
        state=zeros(n),
        action=zeros(m),
        drift=zeros(n),
        observation=zeros(p),
        interval=interval,
    )


def test_an_unstable_mode_that_no_action_moves() -> None:
    found = controllability(model([[1.0, 0.0], [0.0, -2.0]], [[0.0], [1.0]], [[1.0, 0.0]]))
    unstable, stable = found.modes
    assert unstable.eigenvalue == 1 and unstable.unstable and not unstable.controllable
    assert unstable.observable and stable.controllable and not stable.observable
    assert not found.stabilizable and found.detectable
    assert found.controllability_rank == 1 == found.observability_rank
    assert found.controllability_gramian is None
    assert "not stabilizable, detectable" in str(found) and "not controllable" in str(found)


def test_gramians_solve_their_equations() -> None:
    a, b, c = [[-1.0, 0.3], [0.0, -2.0]], [[1.0], [1.0]], [[1.0, 0.0]]
    found = controllability(model(a, b, c))
    x, source = found.controllability_gramian, np.array(b) @ np.array(b).T
    assert x is not None
    np.testing.assert_allclose(np.array(a) @ x + x @ np.array(a).T, -source, atol=1e-14)
    scalar = controllability(model([[0.5]], [[2.0]], [[1.0]], interval=1.0))
    assert scalar.controllability_gramian is not None and scalar.observability_gramian is not None
    assert scalar.controllability_gramian[0, 0] == pytest.approx(4 / (1 - 0.25))
    assert scalar.observability_gramian[0, 0] == pytest.approx(1 / (1 - 0.25))


@pytest.mark.parametrize("name", ["Lorenz-v0", "CartPoleSwingUp-v0", "Henon-v0"])
def test_tasks_with_lqr_can_be_stabilized(name: str) -> None:
    found = controllability(linearize(make_environment(name)))
    assert found.stabilizable and found.detectable and any(mode.unstable for mode in found.modes)
    size = len(found.modes)
    assert found.controllability_matrix.shape[0] == size == found.controllability_rank


def test_lorenz_at_the_origin_cannot_steer_the_vertical_mode() -> None:
    """There z decouples from x, y and the heating; it decays with beta by itself."""
    environment = make_environment("Lorenz-v0")
    found = controllability(linearize(environment, torch.zeros((1, 3)), time="continuous"))
    hidden = [mode for mode in found.modes if not mode.controllable]
    assert [mode.eigenvalue for mode in hidden] == [pytest.approx(-8 / 3)]
    assert found.stabilizable and not found.controllable and found.controllability_rank == 2

"""Tangents and Lyapunov exponents where they are known: linear systems, maps, fixed points."""

import math
from typing import Any

import pytest
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.controllers.lqr import LQR
from separatrix.envs.analysis.linearization import linearize
from separatrix.envs.analysis.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from separatrix.envs.analysis.tangent import (
    act_with_tangents,
    advance_tangents,
    step_jacobian,
)
from separatrix.envs.core.registration import make_environment
from separatrix.envs.core.wrappers import ActionDelay, ObservationNoise


def environment_of(name: str, num_envs: int = 1, **options: Any) -> Any:
    return make_environment(name, num_envs, dtype="float64", **options)


@pytest.mark.parametrize("name", ["Lorenz-v0", "CartPoleSwingUp-v0", "Henon-v0"])
def test_variational_equation_and_automatic_differentiation_agree(name: str) -> None:
    environment = environment_of(name)
    state, _ = environment.reset(torch.arange(4))
    action = torch.full((4, *environment.action_shape), 0.3).double()
    n, m = state.values.shape[1], action.shape[1]
    directions = torch.eye(n + m).double().repeat(4, 1, 1)
    following, carried = advance_tangents(
        environment, state, action, directions[:, :n], directions[:, n:]
    )
    other, inside, by_state, by_action = step_jacobian(environment, state, action)
    assert inside.all()
    torch.testing.assert_close(following.values, other.values, rtol=1e-13, atol=1e-13)
    expected = torch.cat((by_state, by_action), 2)
    torch.testing.assert_close(carried, expected, rtol=1e-11, atol=1e-11)


def test_a_diverging_row_is_nan_and_disturbs_no_other() -> None:
    environment = environment_of("Lorenz-v0")
    state, _ = environment.reset(torch.arange(3))
    action, tangents = torch.zeros((3, 1)).double(), torch.eye(3).double().repeat(3, 1, 1)
    sound, expected = advance_tangents(environment, state, action, tangents)
    state.values[1] = 1e4
    following, carried = advance_tangents(environment, state, action, tangents)
    assert carried[1].isnan().all() and torch.equal(following.values[1], state.values[1])
    assert torch.equal(carried[[0, 2]], expected[[0, 2]])
    assert torch.equal(following.values[[0, 2]], sound.values[[0, 2]])


def test_tangents_of_a_linear_policy_are_its_gain() -> None:
    environment = environment_of("Lorenz-v0")
    controller = LQR(environment)
    state, _ = environment.reset(torch.arange(2))
    state.values[0] = linearize(environment).state[0] + 1e-3
    state.values[1] = torch.tensor([-15.0, -20.0, 30.0])  # far enough to saturate
    tangents = torch.eye(3).double().repeat(2, 1, 1)
    action, varied = act_with_tangents(environment, controller, state, tangents)
    torch.testing.assert_close(varied[0], -controller.gain[0])
    assert action[1].abs() == 1 and not varied[1].any()


def test_exponents_of_henon_sum_to_the_logarithm_of_its_contraction() -> None:
    environment = environment_of("Henon-v0")
    state, _ = environment.reset(torch.arange(64))
    found = lyapunov_spectrum(environment, state, duration=300, transient=20)
    assert float(found.exponents.sum()) == pytest.approx(math.log(0.3), abs=1e-12)
    # The largest: Sprott (2003), 0.41922 (the second is then -1.62319).
    assert abs(found.exponents[0] - 0.41922) < 4 * found.standard_error[0] < 0.02
    first = lyapunov_spectrum(environment, state, duration=300, transient=20, exponents=1)
    torch.testing.assert_close(first.exponents, found.exponents[:1], rtol=0, atol=0.01)
    assert math.isnan(first.kaplan_yorke_dimension) and not first.complete
    assert "Kaplan-Yorke dimension 1.2" in str(found)


def test_at_rest_they_are_the_logarithms_of_the_eigenvalues() -> None:
    environment = environment_of("DampedPendulum-v0")
    state, _ = environment.reset(torch.zeros(2, dtype=torch.int64))
    state.values[:] = 0.0
    found = lyapunov_spectrum(environment, state, duration=2, transient=6)
    expected = linearize(environment).eigenvalues()[0].abs().log() / environment.control_interval
    torch.testing.assert_close(found.exponents, expected, rtol=0, atol=1e-9)
    assert found.standard_error.max() < 1e-12


def test_any_environment_has_exponents_and_memory_has_its_own() -> None:
    """A queue of actions forgets: its exponents are minus infinity, or as low as rounding."""
    bare = environment_of("VanDerPol-v0")
    delayed = environment_of("VanDerPol-v0", wrap=[ObservationNoise(0.1), ActionDelay(2)])
    found = []
    for environment in (bare, delayed):
        state, _ = environment.reset(torch.arange(2))
        found.append(lyapunov_spectrum(environment, state, duration=5, transient=1))
    torch.testing.assert_close(found[1].exponents[:2], found[0].exponents, rtol=0, atol=1e-9)
    assert len(found[1].exponents) == 4 and (found[1].exponents[2:] < -100).all()


def test_members_that_leave_the_box_are_left_out() -> None:
    environment = environment_of("Henon-v0")
    state, _ = environment.reset(torch.arange(4))
    state.values[2] = torch.tensor([2.0, 1.0])  # escapes
    found = lyapunov_spectrum(environment, state, duration=20, transient=0)
    assert found.members.isnan().all(1).tolist() == [False, False, True, False]
    assert found.exponents.isfinite().all()
    state.values[:] = torch.tensor([2.0, 1.0])
    with pytest.raises(ValueError, match="got 0 members that stayed in the safe box, of 4"):
        lyapunov_spectrum(environment, state, duration=20, transient=0)


def test_the_same_seed_gives_the_same_delays() -> None:
    environment = environment_of("Henon-v0")
    state, _ = environment.reset(torch.arange(4))
    members = [
        lyapunov_spectrum(environment, state, duration=10, transient=0, delay=9, seed=seed).members
        for seed in (0, 0, 1)
    ]
    assert torch.equal(members[0], members[1]) and not torch.equal(members[0], members[2])


@pytest.mark.parametrize(
    ("exponents", "complete", "dimension"),
    [
        ([0.5, 0.0, -2.0], True, 2.25),
        ([-1.0, -2.0], True, 0.0),
        ([0.5, -0.5], True, 2.0),
        ([0.5, 0.1], False, math.nan),
        ([0.5, -1.0], False, 1.5),
    ],
)
def test_kaplan_yorke_dimension(exponents: list, complete: bool, dimension: float) -> None:
    values = torch.tensor(exponents).double()
    spectrum = LyapunovSpectrum(values, torch.zeros_like(values), values[None], complete)
    assert spectrum.kaplan_yorke_dimension == pytest.approx(dimension, nan_ok=True)


def test_bad_arguments_are_refused() -> None:
    environment = environment_of("Henon-v0")
    state, _ = environment.reset(torch.arange(2))
    with pytest.raises(ValueError, match="exponents: got 3; allowed: 1 to 2"):
        lyapunov_spectrum(environment, state, duration=9, transient=0, exponents=3)
    with pytest.raises(ValueError, match=r"got 0.2, 0, 0.0; allowed: a duration of at least 1.0"):
        lyapunov_spectrum(environment, state, duration=0.2, transient=0)
    one, _ = environment.reset(torch.arange(1))
    with pytest.raises(ValueError, match="state: got 1 members; allowed: 2 or more"):
        lyapunov_spectrum(environment, one, duration=9, transient=0)

"""Sparse models of the dynamics: recovery, forms of the target, uncertainty, bad data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from separatrix.agents.common.projections import unit_circle, wrap_angles
from separatrix.agents.common.replay import Transitions
from separatrix.agents.common.sparse.model import SparseModel
from separatrix.agents.sindy_rl.config import SparseModelConfig
from separatrix.agents.sindy_rl.sparse_dynamics import (
    FitReport,
    SparseDynamics,
    fit_sparse_dynamics,
)
from separatrix.agents.sindy_rl.validation import (
    lyapunov_exponent,
    rollout_errors,
    trusted_steps,
)
from separatrix.envs.core.registration import make_environment

INTERVAL = 0.1


def transitions(observation: Tensor, action: Tensor, following: Tensor) -> Transitions:
    """Rows, each an episode of its own, with the reward x0^2 - u of what follows."""
    no = torch.zeros(len(action), dtype=torch.bool)
    reward = following[:, 0] ** 2 - action[:, 0]
    return Transitions(observation, action, reward, following, no, ~no)


def quadratic(rows: int = 400, seed: int = 0) -> Transitions:
    """x0' = x0 + 0.2 x1, x1' = x1 - 0.3 x0 x1 + 0.5 x0 u: five terms of a quadratic library."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((rows, 2), generator=generator, dtype=torch.float64) * 2 - 1
    u = torch.rand((rows, 1), generator=generator, dtype=torch.float64) * 2 - 1
    change = torch.stack((0.2 * x[:, 1], -0.3 * x[:, 0] * x[:, 1] + 0.5 * x[:, 0] * u[:, 0]), 1)
    return transitions(x, u, x + change)


def same(observation: Tensor) -> Tensor:
    return observation


def fit(
    data: Transitions, config: SparseModelConfig | None = None
) -> tuple[SparseDynamics, FitReport]:
    config = config or SparseModelConfig()
    return fit_sparse_dynamics(data, config, interval=INTERVAL, project=same)


def test_a_sparse_map_is_found_exactly() -> None:
    dynamics, report = fit(quadratic())
    assert report.terms == 3 and report.trimmed == 0
    assert dynamics.equations().splitlines() == [
        "change_of_x0 = 0.2 x1",
        "change_of_x1 = -0.3 x0 x1 + 0.5 u x0",
    ]
    new = quadratic(seed=1)
    found = dynamics.forecast(new.observation, new.action)
    torch.testing.assert_close(found.next_observation, new.next_observation, rtol=0, atol=1e-10)
    assert found.deviation.max() < 1e-8 and found.reward is None


def test_absolute_targets_describe_the_same_map() -> None:
    dynamics, report = fit(quadratic(), SparseModelConfig(target="next"))
    assert report.terms == 5
    assert dynamics.equations().splitlines()[0] == "next_x0 = 1 x0 + 0.2 x1"
    new = quadratic(seed=1)
    found = dynamics.forecast(new.observation, new.action).next_observation
    torch.testing.assert_close(found, new.next_observation, rtol=0, atol=1e-10)


def test_derivatives_are_those_of_the_differential_equations() -> None:
    environment = make_environment("Lorenz-v0", 64, dtype="float64", control_interval=0.01)
    state, observation = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    parts = []
    for _ in range(40):
        action = torch.rand((64, 1), generator=generator, dtype=torch.float64) * 2 - 1
        found = environment.step(state, action)
        parts.append((observation, action, found.observation))
        state, observation = found.state, found.observation
    rows = [torch.cat(part) for part in zip(*parts, strict=True)]
    config = SparseModelConfig(target="derivative", influence_degree=0, trim=0.0)
    dynamics, report = fit_sparse_dynamics(transitions(*rows), config, interval=0.01, project=same)
    # The first equation, sigma (y - x), in units of the attractor's deviations.
    first = dynamics.model.coefficients[0]
    names = dynamics.model.library.feature_names
    assert abs(first[names.index("x0")] + 10) < 0.1
    error = dynamics.forecast(rows[0], rows[1]).next_observation - rows[2]
    # The trapezoidal form errs by (rate * interval)^2 / 12, and the fastest rate is about 20.
    assert error.abs().max() < 0.2**2 / 12 * (rows[2] - rows[0]).abs().max()
    assert 7 <= report.terms <= 20


def test_angles_get_sines_and_wrapped_changes() -> None:
    generator = torch.Generator().manual_seed(0)
    angle = (torch.rand((500, 1), generator=generator, dtype=torch.float64) * 2 - 1) * torch.pi
    action = torch.rand((500, 1), generator=generator, dtype=torch.float64)
    wrap = wrap_angles(0)
    following = wrap(angle + 0.4 * angle.sin() + 0.3 * action)
    dynamics, report = fit_sparse_dynamics(
        transitions(angle, action, following),
        SparseModelConfig(degree=1, influence_degree=0, angles=(0,)),
        interval=INTERVAL,
        project=wrap,
        difference=wrap,
    )
    assert report.terms == 2
    found = dynamics.forecast(angle, action).next_observation
    assert wrap(found - following).abs().max() < 1e-9


def test_on_a_circle_no_feature_has_the_square_of_the_sine() -> None:
    angle = torch.linspace(0, 6, 300, dtype=torch.float64)
    observation = torch.stack((angle.cos(), angle.sin()), 1)
    following = torch.stack(((angle + 0.1).cos(), (angle + 0.1).sin()), 1)
    action = angle[:, None].cos() * angle[:, None] / 6
    dynamics, report = fit_sparse_dynamics(
        transitions(observation, action, following),
        SparseModelConfig(degree=2, influence_degree=0),
        interval=INTERVAL,
        project=unit_circle((0, 1)),
        circles=((0, 1),),
    )
    assert "x1^2" not in dynamics.model.library.feature_names
    assert "x0^2" in dynamics.model.library.feature_names
    assert report.condition < 1e3
    found = dynamics.forecast(observation, action).next_observation
    torch.testing.assert_close(found, following, rtol=0, atol=1e-8)


def test_a_learned_reward_is_that_of_next_observation_and_action() -> None:
    dynamics, _ = fit(quadratic(), SparseModelConfig(reward="learned"))
    assert dynamics.equations().splitlines()[-1] == "reward = -1 u + 1 x0^2"
    new = quadratic(seed=1)
    found = dynamics.forecast(new.observation, new.action).reward
    assert found is not None
    torch.testing.assert_close(found, new.reward, rtol=0, atol=1e-9)


def test_jumps_are_trimmed_and_do_not_spoil_the_rest() -> None:
    data = quadratic(1000)
    jumped = data.next_observation.clone()
    jumped[::50] += 3.0
    data = replace(data, next_observation=jumped)
    trimmed, report = fit(data)
    assert report.trimmed == 20 and report.transitions == 980 and report.terms == 3
    spoiled, report = fit(data, SparseModelConfig(trim=0.0))
    assert report.trimmed == 0
    new = quadratic(seed=1)
    errors = [
        (dynamics.forecast(new.observation, new.action).next_observation - new.next_observation)
        .abs()
        .max()
        for dynamics in (trimmed, spoiled)
    ]
    assert errors[0] < 1e-9 < 1e-3 < errors[1]


def test_the_leverage_is_one_on_average_and_grows_outside_the_data() -> None:
    data = quadratic()
    dynamics, _ = fit(data)
    inside = dynamics.forecast(data.observation, data.action).leverage
    assert abs(inside.mean().item() - 1) < 1e-6
    outside = dynamics.forecast(3 * data.observation, data.action).leverage
    assert (outside / inside).median() > 10


def test_the_deviation_is_that_of_the_members() -> None:
    data = quadratic()
    noise = torch.randn(data.next_observation.shape, generator=torch.Generator().manual_seed(1))
    data = replace(data, next_observation=data.next_observation + 0.05 * noise)
    dynamics, _ = fit(data, SparseModelConfig(threshold=0.0))
    inputs = torch.cat((data.observation, data.action), -1)
    unit = (data.next_observation - data.observation).square().mean(0).sqrt()
    expected = (dynamics.model.predict_members(inputs) / unit).var(0, correction=0).mean(1).sqrt()
    found = dynamics.forecast(data.observation, data.action).deviation
    torch.testing.assert_close(found, expected)
    assert found.min() > 1e-4


def test_where_the_members_agree_the_deviation_has_no_gradient() -> None:
    data = quadratic()
    dynamics, _ = fit(data, SparseModelConfig(members=1))
    action = data.action.clone().requires_grad_()
    deviation = dynamics.forecast(data.observation, action).deviation
    (gradient,) = torch.autograd.grad(deviation.sum(), action)
    assert (gradient == 0).all() and deviation.max() < 1e-100


def test_a_seed_determines_the_fit_and_json_holds_it() -> None:
    data = quadratic()
    config = SparseModelConfig(threshold=0.0, reward="learned")
    first, second = (fit(data, config)[0] for _ in range(2))
    assert torch.equal(first.model.members, second.model.members)
    parts = json.loads(first.to_json())
    again = SparseModel.from_json(json.dumps(parts["dynamics"]))
    assert torch.equal(again.members, first.model.members) and parts["target"] == "change"
    assert SparseModel.from_json(json.dumps(parts["reward"])).targets == ("reward",)


def test_too_few_transitions_are_refused() -> None:
    with pytest.raises(ValueError, match="got 5 transitions for a library of 12 features; collect"):
        fit(quadratic(5))


def test_rows_that_are_not_finite_are_named() -> None:
    data = quadratic()
    broken = data.observation.clone()
    broken[7, 0] = torch.nan
    with pytest.raises(ValueError, match=r"hold NaN or infinity \(first: 7\)"):
        fit(replace(data, observation=broken))


def test_a_collinear_library_is_told() -> None:
    data = quadratic()
    observation = data.observation[:, :1].expand(-1, 2).clone()
    with pytest.warns(RuntimeWarning, match="12 features, of which the data determine only"):
        fit(replace(data, observation=observation))


def test_an_empty_support_is_told() -> None:
    with pytest.warns(RuntimeWarning, match="no feature is left in change_of_x0, change_of_x1"):
        fit(quadratic(), SparseModelConfig(threshold=10.0))


def test_a_wrong_number_of_names_is_refused() -> None:
    with pytest.raises(ValueError, match="got 3 names; allowed: 2"):
        fit(quadratic(), SparseModelConfig(names=("a", "b", "c")))


def episodes(times: int = 60) -> Transitions:
    """Two environments under x' = 0.9 x + u in their first and 1.1 x + u in their second row."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros((1, 2, 1), dtype=torch.float64)
    states, actions = [x[0]], []
    for _ in range(times):
        actions.append(torch.randn((2, 1), generator=generator, dtype=torch.float64))
        states.append(0.9 * states[-1] + actions[-1])
    observation = torch.stack(states)
    no = torch.zeros((times, 2), dtype=torch.bool)
    last = no.clone()
    last[29] = True
    reward = torch.zeros((times, 2), dtype=torch.float64)
    return Transitions(observation[:-1], torch.stack(actions), reward, observation[1:], no, last)


def test_rollout_errors_grow_by_what_the_model_misses_each_step() -> None:
    data = episodes()
    rows = data[torch.ones_like(data.last)]
    config = SparseModelConfig(degree=1, influence_degree=0, trim=0.0)
    exact, _ = fit(rows, config)
    unit = torch.ones(1, dtype=torch.float64)
    assert rollout_errors(exact, data, 20, unit).max() < 1e-9
    shifted = replace(rows, next_observation=rows.next_observation + 0.1)
    biased, _ = fit(shifted, config)
    errors = rollout_errors(biased, data, 20, unit)
    expected = 0.1 * torch.cumsum(0.9 ** torch.arange(20, dtype=torch.float64), 0)
    torch.testing.assert_close(errors, expected, rtol=1e-6, atol=1e-9)
    assert trusted_steps(errors, 0.25) == 2 and trusted_steps(errors, 9.0) == 20
    assert trusted_steps(errors, 0.0) == 1
    assert len(rollout_errors(exact, data, 1000, unit)) <= 30  # no episode is longer


@pytest.mark.parametrize(("factor", "expected"), [(0.5, -0.6931), (1.25, 0.2231)])
def test_the_lyapunov_exponent_of_a_linear_map(factor: float, expected: float) -> None:
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    action = (3 * x).cos()
    data = transitions(x, action, factor * x + action)
    dynamics, _ = fit(data, SparseModelConfig(degree=1, influence_degree=0))
    unit = torch.ones(1, dtype=torch.float64)
    found = lyapunov_exponent(dynamics, x[::10], 1, unit, steps=50)
    assert abs(found - expected) < 1e-3


def test_the_lyapunov_exponent_of_the_henon_map() -> None:
    environment = make_environment("Henon-v0", 64, dtype="float64")
    state, observation = environment.reset(0)
    generator = torch.Generator().manual_seed(0)
    parts = []
    for _ in range(100):
        action = 0.1 * torch.randn((64, 1), generator=generator, dtype=torch.float64).clamp(-3, 3)
        found = environment.step(state, action)
        parts.append((observation, action, found.observation, found.info["diverged"]))
        state, observation = found.state, found.observation
    rows = [torch.cat(part) for part in zip(*parts, strict=True)]
    good = ~rows.pop()
    config = SparseModelConfig(influence_degree=0)
    dynamics, _ = fit(transitions(*(row[good] for row in rows)), config)
    start = parts[-1][2]
    exponent = lyapunov_exponent(dynamics, start, 1, start.std(0), steps=2000)
    assert abs(exponent - 0.419) < 0.02  # of the map itself, see docs/validation.md

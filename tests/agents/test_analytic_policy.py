from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are
from torch import Tensor

from separatrix.agents.common.analytic_policy.config import AnalyticPolicyConfig
from separatrix.agents.common.analytic_policy.learner import AnalyticPolicyLearner
from separatrix.agents.common.analytic_policy.policy import GaussianPolicy, make_analytic_policy
from separatrix.controllers.controller import Controller
from separatrix.controllers.evaluation import evaluate
from separatrix.envs.core.environment import (
    ComposedEnvironment,
)
from separatrix.envs.core.registration import make_environment
from tests.agents.linear_environments import (
    Linear,
    Point,
    Quadratic,
    Trap,
    Unguarded,
    double_integrator,
    episodes_of,
    learner_of,
)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_training_goes_on_where_rows_turn_nan_or_diverge() -> None:
    learner = learner_of()
    trapped = learner.train(double_integrator(32, task=Trap(2, 1)), 32 * 40)
    assert 0 < trapped["train/dropped_rows"] < 32 * 5
    unstable = Linear([[2.0, 0.0], [0.0, 2.0]], [[0.0], [0.1]], 32, torch.float32)
    diverged = learner.train(ComposedEnvironment(unstable, Quadratic(2, 1), 40), 32 * 40)
    assert diverged["train/dropped_rows"] == 0
    assert all(np.isfinite(value) for value in (trapped | diverged).values())
    assert all(tensor.isfinite().all() for tensor in learner.state_dict()[0].values())


def test_nothing_is_learned_where_every_row_is_left_out() -> None:
    learner = learner_of()
    before = learner.state_dict()[0]
    environment = double_integrator(4)
    environment.task.reward = lambda *_: torch.full((4,), torch.nan)  # type: ignore[method-assign]
    environment.system.advance = lambda state, control: replace(  # type: ignore[method-assign]
        state, values=state.values + control, interval=state.interval + 1
    )
    assert learner.train(environment, 4 * 8)["train/dropped_rows"] == 4
    after = learner.state_dict()[0]
    before.pop("generator"), after.pop("generator")
    assert same(before, after)


# Learning


def test_it_learns_to_regulate_a_linear_system_as_well_as_lqr() -> None:
    guarded = double_integrator(64)
    environment = Unguarded(guarded.system, guarded.task, guarded.horizon)
    system: Any = environment.system
    learner = learner_of(
        seed=3, gamma=0.95, initial_log_std=-2.0, critic_learning_rate=3e-3, critic_epochs=2
    )
    seeds = torch.arange(10_000, 10_064)

    def cost() -> float:
        return -evaluate(environment, learner.controller(), seeds).returns.mean().item()

    # The law that is best for the discounted cost, but for the limits of actions.
    a, b = system.a.double().numpy() * 0.95**0.5, system.b.double().numpy() * 0.95**0.5
    p = solve_discrete_are(a, b, np.eye(2), 0.1 * np.eye(1))
    gain = torch.from_numpy(np.linalg.solve(0.1 + b.T @ p @ b, b.T @ p @ a)).float()

    class Clipped(Controller):
        def act(self, observation: Tensor, state: Any) -> Tensor:
            return (-observation @ gain.T).clamp(-1, 1)

    best = -evaluate(environment, Clipped(), seeds).returns.mean().item()

    assert cost() > 50 * best
    found = learner.train(environment, 64 * 8 * 100)
    assert cost() < 1.1 * best
    assert found["train/critic_loss"] < 0.01


def test_it_trains_in_a_registered_environment() -> None:
    environment = make_environment("DampedPendulum-v0", 4, backend="torch")
    config = AnalyticPolicyConfig(window=4)
    learner = AnalyticPolicyLearner(3, 1, config, 0, environment.device, 32)
    before = learner.state_dict()[0]["policy.log_std"]
    scalars = learner.train(environment, 4 * 4 * 2)
    assert scalars["train/reward"] == pytest.approx(np.exp(-2), abs=0.1)
    assert not torch.equal(learner.state_dict()[0]["policy.log_std"], before)


# Interface


def test_it_takes_at_least_the_steps_that_are_asked_for_and_never_repeats_a_stream() -> None:
    learner, environment = learner_of(seed=5), double_integrator(4, horizon=10)
    system: Any = environment.system
    taken: list[int] = []
    advance = system.advance

    def counted(state: Point, control: Tensor) -> Point:
        taken.append(len(control))
        return advance(state, control)

    system.advance = counted
    for steps, expected in ((1, 32), (64, 64), (100, 128)):
        taken.clear()
        scalars = learner.train(environment, steps)
        assert sum(taken) == expected
    assert scalars["train/return"] < 0  # of 32 steps of episodes of 10, some are whole
    assert len(set(system.started)) == len(system.started) > 4 * 3
    assert min(system.started)[0] == 5 * 2**32


def test_the_first_episodes_end_at_different_times() -> None:
    ends = episodes_of(double_integrator(400, horizon=40))._limit
    assert set(ends.tolist()) == set(range(1, 41))


def test_a_resumed_training_is_the_same_bit_for_bit() -> None:
    through, first, resumed = learner_of(), learner_of(), learner_of(seed=9)
    for learner in (through, first):
        learner.train(double_integrator(8), 300)
    tensors, state = first.state_dict()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    resumed.load_state_dict(tensors, json.loads(json.dumps(state)))
    resumed._episode_seed = first._episode_seed
    through.train(double_integrator(8), 300)
    resumed.train(double_integrator(8), 300)
    assert same(through.state_dict()[0], resumed.state_dict()[0])
    assert through.state_dict()[1] == resumed.state_dict()[1]
    assert same(tensors, before)  # training must not go on in the snapshot's memory


def test_a_policy_is_taken_over_without_the_random_streams() -> None:
    one, other = learner_of(seed=1), learner_of(seed=2)
    one.train(double_integrator(8), 100)
    generator = other.state_dict()[0]["generator"]
    other.take_policy(one.state_dict())
    expected = {k: v for k, v in one.state_dict()[0].items() if k != "generator"}
    assert same(other.state_dict()[0], {"generator": generator} | expected)
    assert other.state_dict()[1] == {"episode": 0, "steps": 0}


def test_a_linear_learning_rate_falls_to_zero() -> None:
    learner = learner_of(total_steps=3 * 32, learning_rate_schedule="linear")
    rates, weights = [], []
    for _ in range(4):
        learner.train(double_integrator(4), 32)
        rates.append([o.param_groups[0]["lr"] for o in learner._optimizers.values()])
        weights.append(learner.state_dict()[0]["policy.mean.0.weight"])
    expected = [[1e-2 * left, 1e-3 * left] for left in (1, 2 / 3, 1 / 3, 0)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert not torch.equal(weights[1], weights[2])
    assert torch.equal(weights[2], weights[3])


def test_a_seed_fixes_the_training_and_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    runs = []
    for seed in (1, 1, 2):
        learner = learner_of(seed)
        learner.train(double_integrator(8), 300)
        runs.append(learner.state_dict()[0])
    assert same(runs[0], runs[1])
    assert not torch.equal(runs[0]["policy.mean.0.weight"], runs[2]["policy.mean.0.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_controller_is_the_policy_without_noise() -> None:
    learner, environment = learner_of(), double_integrator(8)
    learner.train(environment, 200)
    state, observation = environment.reset(0)
    action = learner.controller().act(observation.double(), state)
    expected = torch.tanh(learner.policy.mean(observation))
    assert action.dtype == torch.float64
    torch.testing.assert_close(action, expected.double())
    weights = {
        name.removeprefix("policy."): tensor
        for name, tensor in learner.state_dict()[0].items()
        if name.startswith("policy.")
    }
    loaded = make_analytic_policy(learner.config, weights, environment)
    assert torch.equal(loaded.act(observation.double(), state), action)
    assert not loaded.act(observation, state).requires_grad


def test_the_noise_is_reparameterised() -> None:
    policy = GaussianPolicy(2, 3, AnalyticPolicyConfig(), torch.Generator().manual_seed(0))
    observation, noise = torch.zeros(4, 2), torch.ones(4, 3)
    action = policy(observation, noise)
    torch.testing.assert_close(
        action, torch.tanh(policy.mean(observation) + np.exp(-1.0)), rtol=1e-6, atol=1e-6
    )
    action.sum().backward()
    assert policy.log_std.grad is not None
    assert (policy.log_std.grad > 0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 0),
        ("gamma", 1.0),
        ("gamma", -0.1),
        ("td_lambda", 1.1),
        ("policy_learning_rate", 0.0),
        ("critic_learning_rate", -1e-3),
        ("adam_betas", (0.9, 1.0)),
        ("critic_epochs", 0),
        ("critic_batches", 0),
        ("target_rate", 0.0),
        ("target_rate", 1.5),
        ("max_gradient_norm", 0.0),
        ("policy_layers", (64, 0)),
        ("critic_layers", (-1,)),
    ],
)
def test_bad_values_are_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"got {name} = .*allowed is"):
        AnalyticPolicyConfig(**options)
